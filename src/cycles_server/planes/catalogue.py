"""Every plane, by the name that the command line takes."""

from __future__ import annotations

from cycles_server.planes.admin import ADMIN
from cycles_server.planes.plane import Plane
from cycles_server.planes.runtime import RUNTIME

PLANES: dict[str, Plane] = {plane.name: plane for plane in (RUNTIME, ADMIN)}
DEFAULT = RUNTIME

"""The admin plane beside the runtime plane, on one store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.operator import Operator
from support.redis import RedisServer
from support.server import PATIENT, CyclesServer


@pytest.fixture(scope="session")
def admin(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CyclesServer]:
    log = tmp_path_factory.mktemp("admin") / "log"
    server = CyclesServer(store.url, log, arguments=("admin",), settings=PATIENT)
    yield server
    server.stop()


@pytest.fixture
def operator(admin: CyclesServer, store: RedisServer) -> Operator:
    return Operator(store.client, admin.url)

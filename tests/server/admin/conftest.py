"""The admin plane beside the runtime plane, on one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def mortal(store: RedisServer, tmp_path: Path) -> Iterator[CyclesServer]:
    """An admin plane that may die."""
    one = CyclesServer(store.url, tmp_path / "log", arguments=("admin",))
    yield one
    one.stop()

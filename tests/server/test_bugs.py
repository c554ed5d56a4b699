"""A bug in a script of the server's own: what the client is told, and what the log says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.catalogue import Change, Edit, build_copy
from support.redis import RedisServer
from support.running import Running
from support.server import CyclesServer
from support.tenants import Tenant, error_of


@pytest.fixture(scope="module")
def buggy(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose reserve stumbles before it writes."""
    place = "-- 2. May it be held?"
    bug = Edit("lua/reserve.lua", place, f"{place}\nlocal nothing = nil\nnothing.at_all()")
    change = Change("bug", "ledger", "reserve has a bug", "createReservation", (bug,))
    folder = tmp_path_factory.mktemp("buggy")
    copy = build_copy(folder / "copy", change)
    server = CyclesServer(store.url, folder / "log", folder=copy)
    yield Running(server, store)
    server.stop()


def test_a_bug_of_the_server_is_answered_and_logged_as_one(buggy: Running) -> None:
    tenant = Tenant(buggy.redis, buggy.url)
    tenant.budget()
    answer = tenant.reserve()
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    assert answer.json()["message"].startswith("The server failed")
    assert "retry-after" not in answer.headers
    log = buggy.server.log.read_text()
    (line,) = [line for line in log.splitlines() if answer.json()["request_id"] in line]
    assert "attempt to index" in line
    assert "record" not in line
    # A key that was revoked meanwhile learns nothing of it.
    tenant.write_key(status="REVOKED")
    assert error_of(tenant.reserve()) == (401, "UNAUTHORIZED")

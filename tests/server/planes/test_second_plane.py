"""Two planes beside each other, on one store: each has its own contract, handlers, callers,
statuses, headers and jobs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.running import Running
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import Tenant

from planes.second.plane import ORIGIN

TESTS = Path(__file__).parents[1]
KEY = {"X-Notes-Key": ADMIN_KEY}


@pytest.fixture(scope="module")
def second(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CyclesServer]:
    log = tmp_path_factory.mktemp("second") / "log"
    server = CyclesServer(running.store.url, log, module="planes.second", folder=TESTS)
    yield server
    server.stop()


def test_one_path_and_one_name_in_both(second: CyclesServer, tenant: Tenant) -> None:
    ours = tenant.http.get("/v1/balances", params={"tenant": tenant.name})
    assert ours.status_code == 200
    assert "balances" in ours.json()
    theirs = httpx.get(f"{second.url}/v1/balances", headers=KEY)
    assert (theirs.status_code, theirs.json()) == (200, {"notes": 0})


@pytest.mark.parametrize(
    ("share", "status"),
    [
        *((text, 200) for text in ("0", "1", "0.25", "1e-3", "-0")),
        *((text, 400) for text in ("nan", "inf", "1_0", "0x1", ".5", "1.", "01", " 1", "")),
        *((text, 400) for text in ("1.5", "-0.1", "1e999")),
    ],
)
def test_a_number_in_a_query(second: CyclesServer, share: str, status: int) -> None:
    answer = httpx.get(f"{second.url}/v1/balances", params={"share": share}, headers=KEY)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["message"].startswith("share: ")


def test_each_has_callers_of_its_own(second: CyclesServer, tenant: Tenant) -> None:
    keys = {"X-Cycles-API-Key": tenant.secret, "X-Admin-API-Key": ADMIN_KEY}
    refused = httpx.get(f"{second.url}/v1/balances", headers=keys)
    assert (refused.status_code, refused.json()["error"]) == (401, "UNAUTHORIZED")
    wrong = httpx.get(f"{second.url}/v1/balances", headers={"X-Notes-Key": "wrong"})
    assert wrong.status_code == 401
    assert httpx.get(f"{tenant.http.base_url}/v1/balances?tenant=x", headers=KEY).status_code == 401


def test_a_caller_that_no_script_has_confirmed_gets_nothing(second: CyclesServer) -> None:
    claimed = httpx.get(f"{second.url}/v1/claims", headers=KEY)
    assert (claimed.status_code, claimed.json()["error"]) == (500, "INTERNAL_ERROR")
    assert "no script has confirmed" in second.log.read_text()


def test_each_has_paths_statuses_and_headers_of_its_own(
    second: CyclesServer, running: Running
) -> None:
    assert httpx.post(f"{second.url}/v1/reservations", headers=KEY, json={}).status_code == 404
    gone = httpx.delete(f"{second.url}/v1/notes/nothing", headers=KEY)
    assert (gone.status_code, gone.json()["error"]) == (410, "NOTE_GONE")
    assert gone.headers["x-notes"] == "yes"
    assert "x-ratelimit-remaining" not in gone.headers
    assert "x-notes" not in httpx.get(f"{running.url}/v1/decide").headers


def test_an_answer_without_a_body_has_none(second: CyclesServer) -> None:
    """By hand, because a client may hide what stands behind an answer."""
    lines = f"PUT /v1/notes/one HTTP/1.1\r\nHost: x\r\nX-Notes-Key: {ADMIN_KEY}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", second.port), timeout=30) as wire:
        answers = wire.makefile("rb")
        for _ in range(2):  # twice: the second one would meet the first one's body
            wire.sendall(lines.encode())
            assert answers.readline() == b"HTTP/1.1 204 No Content\r\n"
            names = []
            while (line := answers.readline()) != b"\r\n":
                names.append(line.partition(b":")[0].lower())
            assert b"x-request-id" in names
            assert b"content-length" not in names
            assert b"content-type" not in names
            assert b"transfer-encoding" not in names
    empty = httpx.get(f"{second.url}/v1/greeting")
    assert (empty.status_code, empty.content) == (200, b"")
    assert empty.headers["content-length"] == "0"
    assert "content-type" not in empty.headers


def test_delete_is_a_method_like_any_other(second: CyclesServer) -> None:
    path = f"{second.url}/v1/notes/two"
    assert httpx.put(path, headers=KEY).status_code == 204
    assert httpx.delete(path, headers=KEY).status_code == 204
    assert httpx.delete(path, headers=KEY).status_code == 410
    wrong = httpx.delete(f"{second.url}/v1/notes/2", headers=KEY)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "INVALID_REQUEST")
    other = httpx.post(path, headers=KEY)
    assert (other.status_code, other.headers["allow"]) == (405, "DELETE, PUT")


def test_a_page_of_the_one_origin_may_call(second: CyclesServer, running: Running) -> None:
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
    preflight = httpx.options(f"{second.url}/v1/notes/one", headers=asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    refused = httpx.get(f"{second.url}/v1/balances", headers={"Origin": ORIGIN})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert refused.headers["access-control-expose-headers"] == "X-Request-Id"
    other = httpx.get(f"{second.url}/v1/balances", headers={"Origin": "https://x.example", **KEY})
    assert "access-control-allow-origin" not in other.headers
    for answer in (
        httpx.options(f"{running.url}/v1/decide", headers=asks),
        httpx.get(f"{running.url}/v1/decide", headers={"Origin": ORIGIN}),
    ):
        assert "access-control-allow-origin" not in answer.headers


def test_each_has_jobs_and_metrics_of_its_own(second: CyclesServer, running: Running) -> None:
    def metrics(url: str) -> str:
        admin = {"X-Admin-API-Key": ADMIN_KEY}
        return httpx.get(f"{url}/actuator/prometheus", headers=admin).text

    run = 'cycles_maintenance_runs_total{job="count-notes",outcome="success"}'
    deadline = time.monotonic() + 10
    while run not in (told := metrics(second.url)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run in told
    assert "cycles_reservations" not in told
    assert "count-notes" not in metrics(running.url)

"""The conformance kit against this server: every case of both planes, every property, and the
fuzzer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.running import Running, StartServer
from support.server import ADMIN_KEY, CyclesServer

MUTATIONS = {
    *("createTenant", "updateTenant", "bulkActionTenants"),
    *("createApiKey", "updateApiKey", "revokeApiKey"),
    *("createBudget", "updateBudget", "freezeBudget", "unfreezeBudget"),
    *("fundBudget", "bulkActionBudgets", "createPolicy", "updatePolicy"),
}
EXAMPLES = os.environ.get("CYCLES_FUZZ_EXAMPLES", "25")


THROUGH_THE_API = ("authentication", "closed-tenant", "overage", "release", "tenancy")
"""Areas that between them ask a provisioner for all that it can make. A key that the API makes
takes half a second of both planes' time, so not all of them."""


def kit(
    running: Running, folder: Path, *arguments: str, redis: bool = True
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "cycles_conformance", arguments[0],
        "--url", running.url,
        *(("--redis-url", running.store.url) if redis else ()),
        "--admin-key", ADMIN_KEY,
        *arguments[1:],
    ]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=800)


AdminOf = Callable[[Running], CyclesServer]


@pytest.fixture
def admin_of(tmp_path: Path) -> Iterator[AdminOf]:
    """Starts the admin plane beside a runtime plane, on its store."""
    with ExitStack() as stack:

        def begin(running: Running) -> CyclesServer:
            admin = CyclesServer(running.store.url, tmp_path / "admin.log", arguments=("admin",))
            stack.callback(admin.stop)
            return admin

        yield begin


def results_of(run: subprocess.CompletedProcess[str], folder: Path) -> list[dict[str, Any]]:
    """What came of each case of a run that has to be conformant."""
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    results: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["results"]
    return results


def test_conformant_with_nothing_left_out(
    start: StartServer, admin_of: AdminOf, tmp_path: Path
) -> None:
    # The usual limit on public operations: cases about throttling run into it on purpose.
    running = start(CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE="300")
    admin = admin_of(running)
    options = ("--admin-url", admin.url, "--level", "MAY", "--report", "report.json")
    results = results_of(kit(running, tmp_path, "run", *options), tmp_path)
    assert len(results) >= 1600
    assert len([one for one in results if one["area"].startswith("admin-")]) >= 300
    left_out = {one["reason"] for one in results if one["verdict"] == "not run"}
    assert left_out <= {"the server sends no evidence references"}


def test_conformant_when_the_admin_plane_provisions(
    start: StartServer, admin_of: AdminOf, tmp_path: Path
) -> None:
    running = start()
    admin = admin_of(running)
    areas = [option for area in THROUGH_THE_API for option in ("--only", area)]
    options = ("--admin-url", admin.url, *areas, "--level", "MAY", "--report", "report.json")
    results = results_of(kit(running, tmp_path, "run", *options, redis=False), tmp_path)
    passed = [one for one in results if one["verdict"] == "passed"]
    assert len(passed) >= 100
    left_out = {one["reason"] for one in results if one["verdict"] == "not run"}
    assert all(
        reason.startswith("the admin API cannot ")
        or reason == "the server sends no evidence references"
        for reason in left_out
    ), left_out


def test_nothing_found_by_fuzzing(start: StartServer, tmp_path: Path) -> None:
    running = start()
    arguments = ("--max-examples", EXAMPLES, "--seed", "1", "--", "--no-color")
    run = kit(running, tmp_path, "fuzz", *arguments)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    # A run that never got through would find nothing either.
    assert "Stateful" in run.stdout
    assert spent(running.redis) > 0, "no commit or event of the fuzzer ever succeeded"


def test_nothing_found_by_fuzzing_the_admin_plane(start: StartServer, tmp_path: Path) -> None:
    running = start(arguments=("admin",))
    command = [
        sys.executable, "-m", "cycles_conformance", "fuzz", "--plane", "admin",
        "--admin-url", running.url,
        "--admin-key", ADMIN_KEY,
        "--max-examples", EXAMPLES, "--seed", "1", "--", "--no-color",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    done = {
        entry["operation"]
        for entry in map(json.loads, map(running.redis.get, running.redis.keys("audit:log:*")))
        if entry["status"] < 300
    }
    assert done >= MUTATIONS, f"never succeeded: {MUTATIONS - done}"


def spent(redis: Redis[Any]) -> int:  # type: ignore[type-arg]
    """What all budgets together have spent."""
    return sum(int(redis.hget(key, "spent") or 0) for key in redis.scan_iter("budget:*"))


@pytest.fixture(autouse=True)
def _no_target_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CYCLES_")]:
        monkeypatch.delenv(name)

"""The conformance kit against this server: every case, every property, and the fuzzer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.running import Running, StartServer
from support.server import ADMIN_KEY

MUTATIONS = {
    *("createTenant", "updateTenant", "bulkActionTenants"),
    *("createApiKey", "updateApiKey", "revokeApiKey"),
    *("createBudget", "updateBudget", "freezeBudget", "unfreezeBudget"),
    *("fundBudget", "bulkActionBudgets", "createPolicy", "updatePolicy"),
}
EXAMPLES = os.environ.get("CYCLES_FUZZ_EXAMPLES", "25")


def kit(running: Running, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "cycles_conformance", arguments[0],
        "--url", running.url,
        "--redis-url", running.store.url,
        "--admin-key", ADMIN_KEY,
        *arguments[1:],
    ]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_conformant_with_nothing_left_out(start: StartServer, tmp_path: Path) -> None:
    # The usual limit on public operations: cases about throttling run into it on purpose.
    running = start(CYCLES_PUBLIC_RATE_LIMIT_REQUESTS_PER_MINUTE="300")
    run = kit(running, tmp_path, "run", "--level", "MAY", "--report", "report.json")
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    results: list[dict[str, Any]] = json.loads((tmp_path / "report.json").read_text())["results"]
    assert len(results) >= 400
    left_out = {result["reason"] for result in results if result["verdict"] == "not run"}
    assert left_out <= {"the server sends no evidence references"}


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
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
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

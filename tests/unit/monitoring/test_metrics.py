"""What is counted, under which names, and that several workers count as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cycles_server.monitoring.metrics import LedgerMetrics

Samples = dict[str, list[tuple[dict[str, str], float]]]


def scrape(metrics: LedgerMetrics) -> Samples:
    text = generate_latest(metrics.registry).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (
            lambda m: m.reserve("acme", "ALLOW", "OK", "DEFAULT"),
            "cycles_reservations_reserve_total",
            {"tenant": "acme", "decision": "ALLOW", "reason": "OK", "overage_policy": "DEFAULT"},
            1,
        ),
        (
            lambda m: m.commit("acme", "DENY", "BUDGET_EXCEEDED"),
            "cycles_reservations_commit_total",
            {
                "tenant": "acme",
                "decision": "DENY",
                "reason": "BUDGET_EXCEEDED",
                "overage_policy": "UNKNOWN",
            },
            1,
        ),
        (
            lambda m: m.release("acme", "admin_on_behalf_of", "RELEASED", "OK"),
            "cycles_reservations_release_total",
            {
                "tenant": "acme",
                "actor_type": "admin_on_behalf_of",
                "decision": "RELEASED",
                "reason": "OK",
            },
            1,
        ),
        (
            lambda m: m.extend("acme", "ACTIVE", "OK"),
            "cycles_reservations_extend_total",
            {"tenant": "acme", "decision": "ACTIVE", "reason": "OK"},
            1,
        ),
        (
            lambda m: m.event("acme", "APPLIED", "OK", "REJECT"),
            "cycles_events_total",
            {"tenant": "acme", "decision": "APPLIED", "reason": "OK", "overage_policy": "REJECT"},
            1,
        ),
        (
            lambda m: m.expired("acme", 7),
            "cycles_reservations_expired_total",
            {"tenant": "acme"},
            7,
        ),
        (
            lambda m: m.quarantined("acme", "MISSING_SCOPES"),
            "cycles_reservations_quarantined_total",
            {"tenant": "acme", "reason": "MISSING_SCOPES"},
            1,
        ),
        (
            lambda m: m.overdraft_incurred("acme"),
            "cycles_overdraft_incurred_total",
            {"tenant": "acme"},
            1,
        ),
        (
            lambda m: m.maintenance("sweep", "success", 0.25),
            "cycles_maintenance_runs_total",
            {"job": "sweep", "outcome": "success"},
            1,
        ),
        (
            lambda m: m.maintenance("sweep", "success", 0.25),
            "cycles_maintenance_duration_seconds_sum",
            {"job": "sweep", "outcome": "success"},
            0.25,
        ),
        (
            lambda m: m.response_violation("createReservation", 200),
            "cycles_response_violations_total",
            {"operation_id": "createReservation", "status": "200"},
            1,
        ),
        (
            lambda m: m.request("POST", "/v1/reservations", 200, 0.5),
            "http_server_requests_seconds_sum",
            {
                "method": "POST",
                "uri": "/v1/reservations",
                "status": "200",
                "outcome": "SUCCESS",
            },
            0.5,
        ),
    ],
)
def test_one_call_moves_one_series(
    count: Callable[[LedgerMetrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = LedgerMetrics()
    count(metrics)
    assert scrape(metrics)[name] == [(labels, value)]
    count(metrics)
    assert scrape(metrics)[name] == [(labels, 2 * value)]

    untagged = LedgerMetrics(tenant_label=False)
    count(untagged)
    expected = {label: text for label, text in labels.items() if label != "tenant"}
    assert scrape(untagged)[name] == [(expected, value)]


def test_tenants_are_one_series_without_the_label() -> None:
    metrics = LedgerMetrics(tenant_label=False)
    for tenant in ("acme", "globex"):
        metrics.extend(tenant, "ACTIVE", "OK")
        metrics.overdraft_incurred(tenant)
    samples = scrape(metrics)
    assert samples["cycles_reservations_extend_total"] == [
        ({"decision": "ACTIVE", "reason": "OK"}, 2)
    ]
    assert samples["cycles_overdraft_incurred_total"] == [({}, 2)]


def test_no_created_series() -> None:
    metrics = LedgerMetrics()
    metrics.extend("acme", "ACTIVE", "OK")
    metrics.request("GET", "/v1/balances", 200, 0.01)
    assert not [name for name in scrape(metrics) if name.endswith("_created")]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (101, "INFORMATIONAL"),
        (204, "SUCCESS"),
        (304, "REDIRECTION"),
        (409, "CLIENT_ERROR"),
        (500, "SERVER_ERROR"),
        (0, "UNKNOWN"),
    ],
)
def test_outcome_of_a_status(status: int, outcome: str) -> None:
    metrics = LedgerMetrics()
    metrics.request("GET", "UNKNOWN", status, 0.001)
    [(labels, count)] = scrape(metrics)["http_server_requests_seconds_count"]
    assert (labels["status"], labels["outcome"], count) == (str(status), outcome, 1)


def test_invented_methods_share_one_series() -> None:
    metrics = LedgerMetrics()
    for number in range(50):
        metrics.request(f"FOO{number}", "UNKNOWN", 405, 0.001)
    metrics.request("get", "UNKNOWN", 405, 0.001)
    [(labels, count)] = scrape(metrics)["http_server_requests_seconds_count"]
    assert (labels["method"], count) == ("OTHER", 51)


# -- several workers -----------------------------------------------------------------------------

WORKER = """
import json, sys
from pathlib import Path
from prometheus_client import generate_latest
from cycles_server.monitoring.metrics import LedgerMetrics
from cycles_server.monitoring.workers import join_multiprocess, render_registry

directory = Path(sys.argv[1]) if sys.argv[1] else None
slot = join_multiprocess(directory)
metrics = LedgerMetrics()
registry = render_registry(directory, metrics.registry)
print(json.dumps(slot), flush=True)
for line in sys.stdin:
    command, _, number = line.strip().partition(" ")
    if command == "count":
        for _ in range(int(number)):
            metrics.reserve("acme", "ALLOW", "OK", "DEFAULT")
            metrics.request("POST", "/v1/reservations", 200, 0.002)
        print("null", flush=True)
    elif command == "flood":
        done = 0
        while True:
            metrics.reserve("acme", "ALLOW", "OK", "DEFAULT")
            done += 1
            if done % 100 == 0:
                print(done, flush=True)
    else:
        print(json.dumps(generate_latest(registry).decode()), flush=True)
"""

SERVER = """
import sys
from pathlib import Path
from cycles_server.monitoring.workers import prepare_multiprocess
prepare_multiprocess(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


class Process:
    """A real process that talks by lines."""

    def __init__(self, code: str, directory: Path | str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.popen.stdout is not None
        self.first = self.popen.stdout.readline().strip()

    def kill(self) -> str:
        """kill -9; what it had still written."""
        self.popen.kill()
        return self.popen.communicate()[0]

    def ask(self, command: str) -> Any:
        self.send(command)
        return json.loads(self.read())

    def send(self, command: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(command + "\n")
        self.popen.stdin.flush()

    def read(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()


class Fleet:
    """Processes over one directory, as a server and its workers are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[Process] = []

    def server(self) -> Process:
        return self._start(SERVER)

    def worker(self) -> Process:
        return self._start(WORKER)

    def _start(self, code: str) -> Process:
        process = Process(code, self.directory)
        self.processes.append(process)
        return process


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "metrics")
    yield fleet
    for process in fleet.processes:
        if process.popen.poll() is None:
            process.kill()


def value(text: str, name: str) -> float:
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]
    assert len(samples) <= 1, f"{name} is told by worker"
    return samples[0].value if samples else 0.0


def reserves(worker: Process) -> float:
    return value(worker.ask("scrape"), "cycles_reservations_reserve_total")


def test_every_worker_tells_the_same_sum(fleet: Fleet) -> None:
    fleet.server()
    workers = [fleet.worker() for _ in range(3)]
    assert [worker.first for worker in workers] == ["0", "1", "2"]
    for number, worker in enumerate(workers):
        worker.ask(f"count {number + 1}")
    texts = [worker.ask("scrape") for worker in workers]
    assert [value(text, "cycles_reservations_reserve_total") for text in texts] == [6, 6, 6]
    assert [value(text, "http_server_requests_seconds_count") for text in texts] == [6, 6, 6]
    # The same names and types as one worker alone would tell.
    assert "# TYPE cycles_reservations_reserve_total counter\n" in texts[0]
    assert "# TYPE http_server_requests_seconds histogram\n" in texts[0]
    assert "pid=" not in texts[0]


def test_the_sum_outlives_a_killed_worker_and_its_replacement_goes_on(fleet: Fleet) -> None:
    fleet.server()
    witness, victim = fleet.worker(), fleet.worker()
    witness.ask("count 5")
    victim.send("flood")
    last = 0.0
    for _ in range(20):
        victim.read()
        now = reserves(witness)
        assert now >= last
        last = now
    written = victim.kill().split("\n")
    done = int(written[-2]) if len(written) > 1 else 0

    after = reserves(witness)
    assert after >= max(last, 5 + done)
    replacement = fleet.worker()
    assert replacement.first == victim.first
    assert reserves(witness) == reserves(replacement) == after
    replacement.ask("count 10")
    assert reserves(witness) == reserves(replacement) == after + 10


def test_restarts_leave_nothing_behind(fleet: Fleet) -> None:
    fleet.server()
    witness = fleet.worker()
    witness.ask("count 1")
    sizes = []
    for _ in range(10):
        worker = fleet.worker()
        worker.ask("count 1")
        worker.kill()
        sizes.append({file.name: file.stat().st_size for file in fleet.directory.iterdir()})
        assert all(size == sizes[0] for size in sizes)
    assert reserves(witness) == 11


def test_a_new_run_counts_from_zero(fleet: Fleet) -> None:
    server = fleet.server()
    worker = fleet.worker()
    worker.ask("count 3")
    worker.kill()
    server.kill()

    fleet.server()
    worker = fleet.worker()
    assert worker.first == "0"
    assert reserves(worker) == 0
    worker.ask("count 1")
    assert reserves(worker) == 1


def test_a_worker_left_over_from_the_last_run_does_not_count_in_the_new_one(fleet: Fleet) -> None:
    server = fleet.server()
    orphan = fleet.worker()
    orphan.ask("count 3")
    server.kill()

    fleet.server()
    worker = fleet.worker()
    assert worker.first != orphan.first
    orphan.ask("count 4")
    worker.ask("count 1")
    assert reserves(worker) == 1


def test_two_running_servers_do_not_share_a_directory(fleet: Fleet) -> None:
    fleet.server()
    worker = fleet.worker()
    worker.ask("count 2")
    second = fleet.server()
    _, errors = second.popen.communicate()
    assert second.popen.returncode != 0
    assert f"another running server keeps its metrics in {fleet.directory}" in errors
    assert reserves(worker) == 2


def test_a_new_run_removes_only_metric_files(fleet: Fleet) -> None:
    fleet.directory.mkdir()
    for name in ("notes.db", "counter_9.db"):
        fleet.directory.joinpath(name).write_bytes(b"")
    fleet.server()
    assert fleet.directory.joinpath("notes.db").exists()
    assert not fleet.directory.joinpath("counter_9.db").exists()


def test_a_file_not_yet_written_does_not_fail_the_scrape(fleet: Fleet) -> None:
    fleet.server()
    worker = fleet.worker()
    worker.ask("count 1")
    fleet.directory.joinpath("counter_7.db").touch()
    assert reserves(worker) == 1


def test_one_worker_keeps_no_files_whatever_the_environment_says(tmp_path: Path) -> None:
    worker = Process(WORKER, "", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    try:
        worker.ask("count 2")
        assert reserves(worker) == 2
        assert list(tmp_path.iterdir()) == []
    finally:
        worker.kill()

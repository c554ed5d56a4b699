"""Runs that meet trouble on their way: a server that dies, is away or slow, a user who has seen
enough. What came until then is told, and no case counts as failed because of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import INTERRUPTIBLE, cli, many_cases, pool
from cycles_conformance import runner
from fake_cycles import Reply, Request, granted, serving

GATEWAY = Reply(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"})

MORTAL = """
import os, threading
from fake_cycles import granted, serving

left, lock = [40], threading.Lock()

def script(request):
    with lock:
        left[0] -= 1
        if left[0] < 0:
            os._exit(1)
    return granted()

with serving(script) as server:
    print(server.url, flush=True)
    threading.Event().wait()
"""


@pytest.fixture(autouse=True)
def _no_target_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CYCLES_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Reports:
    """The three kinds of them."""

    def __init__(self, folder: Path) -> None:
        self._paths = {kind: folder / f"report.{kind}" for kind in ("json", "xml", "html")}
        self.options = [part for path in self._paths.values() for part in ("--report", str(path))]

    @property
    def written(self) -> bool:
        return any(path.exists() for path in self._paths.values())

    @property
    def json(self) -> Any:
        return json.loads(self._paths["json"].read_text())

    def assert_incomplete(self, why: str) -> None:
        """Each says so, and why, and what was not reached."""
        told = self.json
        assert told["incomplete"].startswith(why)
        assert told["conformant"] is False
        assert told["verdict"].startswith(f"INCOMPLETE: {told['incomplete']}: ")
        assert told["levels"]["MUST"]["state"] in ("clean", "not run")
        assert told["totals"]["failed"] == 0
        assert list(told["not_run"]) == [told["incomplete"]]
        assert told["totals"]["not_run"] == len(told["not_run"][told["incomplete"]]) > 0
        root = ET.fromstring(self._paths["xml"].read_text())
        assert root.find(".//failure") is None
        assert [error.get("message") for error in root.iter("error")] == [told["incomplete"]]
        assert {skipped.get("message") for skipped in root.iter("skipped")} == {told["incomplete"]}
        page = self._paths["html"].read_text()
        assert "<h1>Incomplete</h1>" in page
        assert why in page


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, reports: Reports) -> Run:
    """``run`` with many small cases, several at a time, and all reports."""

    def against(
        url: str, *arguments: str, count: int = 60, jobs: int = 4, steps: str = "- do: reserve"
    ) -> Result:
        return cli(
            "run", "--url", url, "--cases", many_cases(tmp_path / "cases", count, steps),
            "--fixtures", pool(tmp_path / "pool.json"), "--jobs", str(jobs),
            *reports.options, *arguments,
        )  # fmt: skip

    return against


# -- a server that is lost ------------------------------------------------------------------------


def test_a_server_that_dies(run: Run, reports: Reports) -> None:
    command = [sys.executable, "-c", MORTAL]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=here) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            result = run(url)
        finally:
            server.kill()
    assert result.exit_code == 2
    why = f"the server was lost: {url} cannot be reached: no answer: "
    reports.assert_incomplete(why)
    assert reports.json["totals"]["passed"] > 0
    assert "✗" not in result.output
    assert f"\nINCOMPLETE: {why}" in result.output
    assert result.output.rstrip().split("\n")[-1].startswith(f"Error: {why}")


def test_a_gateway_whose_server_is_gone(run: Run, reports: Reports) -> None:
    with serving(after(40, lambda request: GATEWAY)) as server:
        result = run(server.url)
    assert result.exit_code == 2
    reports.assert_incomplete(f"the server was lost: {server.url} answers 502")
    assert reports.json["totals"]["passed"] > 0


def test_a_gateway_without_a_server_from_the_start(run: Run, reports: Reports) -> None:
    with serving(lambda request: GATEWAY) as server:
        result = run(server.url)
    assert result.exit_code == 2
    says = f"Error: {server.url} answers 502: is there no server behind its gateway?\n"
    assert result.output == says
    assert not reports.written


def test_a_server_that_never_answers_again_with_one_job_left(run: Run, reports: Reports) -> None:
    over = threading.Event()

    def nothing(request: Request) -> Reply:
        over.wait(60)
        return granted()

    with serving(after(40, nothing)) as server:
        result = run(server.url, "--timeout", "0.5")
        over.set()
    assert result.exit_code == 2
    reports.assert_incomplete(f"the server was lost: {server.url} cannot be reached")
    assert "! the server is slow: 2 side by side from here" in result.output
    assert "! the server is slow: 1 side by side from here" in result.output


# -- a server that is not -------------------------------------------------------------------------


def test_a_server_that_is_started_again(run: Run, reports: Reports) -> None:
    asked = threading.Semaphore(3)

    def away(request: Request) -> Reply:
        if "x-cycles-api-key" in request.headers:
            return GATEWAY if asked._value else granted()
        return GATEWAY if asked.acquire(blocking=False) else granted()

    with serving(after(40, away)) as server:
        result = run(server.url)
    assert result.exit_code == 0, result.output
    assert reports.json["totals"]["passed"] == 61
    [note] = reports.json["notes"]
    assert note.endswith("tried again with nothing beside them")
    assert note in result.output


def test_a_server_too_slow_for_so_many(run: Run, reports: Reports) -> None:
    under_way: set[int] = set()

    def slow(request: Request) -> Reply:
        under_way.add(threading.get_ident())
        time.sleep(0.3 * len(under_way))
        under_way.discard(threading.get_ident())
        return granted()

    with serving(slow) as server:
        result = run(server.url, "--timeout", "2", count=16, jobs=12)
    assert result.exit_code == 0, result.output
    assert reports.json["totals"]["passed"] == 17
    assert reports.json["incomplete"] == ""
    assert any(note.startswith("the server was slow") for note in reports.json["notes"])
    assert "! the server is slow: 6 side by side from here" in result.output


def test_a_request_that_is_never_answered_is_a_failure(run: Run, reports: Reports) -> None:
    over = threading.Event()

    def script(request: Request) -> Reply:
        if request.path.endswith("commit"):
            over.wait(60)
        return granted()

    with serving(script) as server:
        result = run(server.url, "--timeout", "0.5", count=12, steps="- do: reserve\n- do: commit")
        commits = [request for request in server.requests if request.path.endswith("commit")]
        over.set()
    assert result.exit_code == 1, result.output
    assert reports.json["totals"]["failed"] == 12
    assert reports.json["incomplete"] == ""
    # The first of them were tried alone, and it was no better.
    assert len(commits) == 12 + runner.ENOUGH


def test_a_refusal_of_the_servers_own_is_a_failure(run: Run, reports: Reports) -> None:
    """503 from one operation, while the others answer, is no gateway's."""

    def script(request: Request) -> Reply:
        return Reply(503, b"{}", {}) if request.path.endswith("commit") else granted()

    with serving(script) as server:
        result = run(server.url, count=6, steps="- do: reserve\n- do: commit")
    assert result.exit_code == 1, result.output
    assert reports.json["totals"]["failed"] == 6


# -- a user who has seen enough -------------------------------------------------------------------


@contextmanager
def interruptible(
    folder: Path, url: str, *arguments: str, steps: str = "- do: reserve", before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    cases = many_cases(folder / "cases", 60, steps)
    with subprocess.Popen(
        [sys.executable, "-c", before + INTERRUPTIBLE, "run", "--url", url, "--cases", str(cases),
         "--fixtures", str(pool(folder / "pool.json")), "--jobs", "4", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("steps", ["- do: reserve", "- do: reserve\n- wait: 30"])
def test_ctrl_c(tmp_path: Path, reports: Reports, steps: str) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(request: Request) -> Reply:
        reached.set()
        if "wait" not in steps:
            over.wait(60)
        return granted()

    # The first questions of a run are ten at the most.
    with serving(after(20 if "wait" not in steps else 10, hold)) as server:
        arguments = [*reports.options, "--timeout", "60"]
        with interruptible(tmp_path, server.url, *arguments, steps=steps) as process:
            assert reached.wait(60)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        over.set()
    # 1 would say that the server is at fault.
    assert process.returncode == 130, output
    reports.assert_incomplete("interrupted")
    assert "\nINCOMPLETE: interrupted: " in output
    assert "Traceback" not in output


def test_ctrl_c_after_answers_that_are_not_as_declared(tmp_path: Path, reports: Reports) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(request: Request) -> Reply:
        reached.set()
        over.wait(60)
        return granted()

    well = after(20, hold)

    def script(request: Request) -> Reply:
        answer = well(request)
        return granted(surprise=1) if answer.body == granted().body else answer

    with serving(script) as server:
        arguments = [*reports.options, "--timeout", "60"]
        with interruptible(tmp_path, server.url, *arguments) as process:
            assert reached.wait(60)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        over.set()
    assert process.returncode == 130, output
    [declared] = [one for one in reports.json["results"] if one["case"] == "answers-as-declared"]
    assert declared["verdict"] == "failed"
    assert "'surprise' was unexpected" in declared["problems"][0]["message"]


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, reports: Reports) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(request: Request) -> Reply:
        reached.set()
        over.wait(60)
        return granted()

    patient = "from cycles_conformance import runner\nrunner.GRACE = 600\n"
    with serving(after(20, hold)) as server:
        arguments = [*reports.options, "--timeout", "600"]
        with interruptible(tmp_path, server.url, *arguments, before=patient) as process:
            assert reached.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        over.set()
    assert process.returncode == 130
    assert "INCOMPLETE" not in output
    assert not reports.written


def test_ctrl_c_before_the_first_case(tmp_path: Path, reports: Reports) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(request: Request) -> Reply:
        reached.set()
        over.wait(60)
        return granted()

    with serving(hold) as server:
        with interruptible(tmp_path, server.url, *reports.options) as process:
            assert reached.wait(60)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        over.set()
    assert (process.returncode, output) == (130, "Error: interrupted\n")


def after(count: int, then: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """A server that answers well so many times."""
    left, lock = [count], threading.Lock()

    def script(request: Request) -> Reply:
        with lock:
            left[0] -= 1
            well = left[0] >= 0
        return granted() if well else then(request)

    return script

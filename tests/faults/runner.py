"""Does the conformance kit find each fault?

For every fault a copy of the server that has it is started with a Redis of its own, and the kit
is run against it from outside, as anybody would. The kit must find at least 95 % of them, and
nothing in the server as it is::

    python tests/faults/runner.py [--only ID] [--jobs 2] [--table docs/conformance.md]
    python tests/faults/runner.py --check

``--check`` leaves the kit out: it only shows that every faulty server starts and answers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from support.redis import RedisServer
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import Tenant

from faults.catalogue import Fault, FaultError, build_copy, load_faults

FOUND_AT_LEAST = 0.95
KIT_SECONDS = 900
MARKS = ("<!-- faults -->", "<!-- /faults -->")

# A faulty answer must reach the kit as it is, and expiries must not take long.
SETTINGS = {"CYCLES_RESPONSE_VALIDATION": "report", "CYCLES_EXPIRY_INTERVAL_MS": "300"}


def kit_command(url: str, redis_url: str, report: Path) -> list[str]:
    return [
        sys.executable, "-m", "cycles_conformance", "run",
        "--url", url,
        "--redis-url", redis_url,
        "--admin-key", ADMIN_KEY,
        "--level", "SHOULD",
        "--no-throttle",  # no fault is about it, and it takes its time
        "--fail-fast",
        "--seed", "1",
        "--report", str(report),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one server: ``failed`` are cases that the kit found against it until it
    stopped, ``error`` says why it could not be judged."""

    fault: Fault | None
    failed: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return "the server as it is" if self.fault is None else self.fault.id

    @property
    def verdict(self) -> str:
        if self.error:
            return f"[red]error[/]: {escape(self.error)}"
        if self.failed:
            return f"found by {escape(self.failed[0])}"
        return "nothing found"


Judge = Callable[[CyclesServer, RedisServer, Path], tuple[str, ...]]


def judged(fault: Fault | None, judge: Judge) -> Outcome:
    """Run a copy with the fault (None: without any) and have it judged."""
    started = time.monotonic()
    failed: tuple[str, ...] = ()
    error = ""
    # A short name: the path of a Unix socket has few characters.
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        folder = Path(name)
        try:
            with running(folder, fault) as (server, store):
                failed = judge(server, store, folder)
        except (FaultError, RunError) as problem:
            error = str(problem)
        except AssertionError as problem:  # the server's or store's log, where it did not start
            error = "did not start: " + (str(problem).strip().splitlines() or ["no log"])[-1]
    return Outcome(fault, failed, error, time.monotonic() - started)


class RunError(Exception):
    """The run itself went wrong; nothing is known about the fault."""


@contextmanager
def running(folder: Path, fault: Fault | None) -> Iterator[tuple[CyclesServer, RedisServer]]:
    copy = build_copy(folder / "copy", fault)
    store = RedisServer(folder / "redis", fsync="no")
    try:
        server = CyclesServer(store.url, folder / "log", settings=SETTINGS, folder=copy)
        try:
            yield server, store
        finally:
            server.kill()
    finally:
        store.stop()


def judge_by_kit(server: CyclesServer, store: RedisServer, folder: Path) -> tuple[str, ...]:
    """The cases that the kit found against the server.

    Raises:
        RunError: the kit could not run to its end.
    """
    report = folder / "report.json"
    # The kit takes options from the environment too: none but those above.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CYCLES_")
    }
    try:
        kit = subprocess.run(
            kit_command(server.url, store.url, report),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=KIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"the kit took more than {KIT_SECONDS} s") from None
    if kit.returncode not in (0, 1) or not report.exists():
        said = (kit.stderr or kit.stdout).strip().splitlines() or ["nothing"]
        raise RunError(f"the kit ended with {kit.returncode} and said: {said[-1]}")
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    failed = tuple(result["case"] for result in results if result["verdict"] == "failed")
    if kit.returncode == 1 and not failed:
        raise RunError("the kit ended with 1 and names no case")
    return failed if kit.returncode == 1 else ()


def judge_by_one_reserve(server: CyclesServer, store: RedisServer, folder: Path) -> tuple[str, ...]:
    """Whether a reserve is answered at all; how, is the fault's business."""
    tenant = Tenant(store.client, server.url)
    tenant.budget()
    try:
        answer = tenant.reserve()
    finally:
        tenant.http.close()
    return (f"a reserve was answered {answer.status_code}",)


def run_all(
    faults: Sequence[Fault | None], judge: Judge, jobs: int, console: Console
) -> list[Outcome]:
    def run_one(fault: Fault | None) -> Outcome:
        outcome = judged(fault, judge)
        console.print(f"{outcome.name}: {outcome.verdict} ({outcome.seconds:.0f} s)")
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run_one, faults))


def table_of(outcomes: Sequence[Outcome]) -> Table:
    table = Table()
    for heading in ("Fault", "What it breaks", "Caught by"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        fault = outcome.fault
        assert fault is not None
        first = escape(outcome.failed[0]) if outcome.failed else f"[red]{outcome.verdict}[/]"
        table.add_row(fault.id, fault.breaks, first)
    return table


def write_table(document: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the outcomes between the two marks of a Markdown document.

    Raises:
        RunError: the document does not have the marks.
    """
    found = sum(bool(outcome.failed) for outcome in outcomes)
    lines = [
        f"{found} of {len(outcomes)} faults are found.",
        "",
        "| Fault | What a client sees of it | Breaks | Caught by |",
        "|---|---|---|---|",
    ]
    for outcome in outcomes:
        fault = outcome.fault
        assert fault is not None
        about = fault.about.replace("|", "\\|")
        first = f"`{outcome.failed[0]}`" if outcome.failed else "not found"
        lines.append(f"| `{fault.id}` | {about} | {fault.breaks} | {first} |")
    begin, end = MARKS
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = document.read_text(encoding="utf-8")
    if len(between.findall(text)) != 1:
        raise RunError(f"{document} has to have {begin} and {end}, once")
    table = "\n".join((begin, "", *lines, "", end))
    document.write_text(between.sub(lambda _: table, text), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="ID", help="a fault, or a whole area")
    parser.add_argument("--jobs", type=int, default=2, help="how many servers at the same time")
    parser.add_argument("--table", type=Path, metavar="FILE", help="document to write a table into")
    parser.add_argument("--check", action="store_true", help="only start every faulty server")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)

    try:
        faults = load_faults()
    except FaultError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    if options.only:
        known = {name for fault in faults for name in (fault.id, fault.area)}
        unknown = [name for name in options.only if name not in known]
        if unknown:
            parser.error(f"no such fault or area: {', '.join(unknown)}")
        faults = [item for item in faults if item.id in options.only or item.area in options.only]

    if options.check:
        outcomes = run_all(faults, judge_by_one_reserve, options.jobs, console)
        wrong = [outcome for outcome in outcomes if outcome.error]
        console.print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} start and answer")
        return 1 if wrong else 0

    [sound] = run_all([None], judge_by_kit, 1, console)
    if sound.error or sound.failed:
        console.print("[red]the kit has to find nothing there[/]: " + ", ".join(sound.failed))
        return 2
    outcomes = run_all(faults, judge_by_kit, options.jobs, console)
    console.print(table_of(outcomes))
    found = sum(bool(outcome.failed) for outcome in outcomes)
    console.print(f"{found} of {len(outcomes)} faults found")
    if options.table:
        try:
            write_table(options.table, outcomes)
        except (RunError, OSError) as error:
            console.print(f"[red]{escape(str(error))}[/]")
            return 2
    return 0 if found >= FOUND_AT_LEAST * len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

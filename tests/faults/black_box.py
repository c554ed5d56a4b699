"""Changed copies of the server, and what the conformance kit says of them from outside."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from support.redis import RedisServer
from support.server import ADMIN_KEY, CyclesServer

from faults.catalogue import ADMIN, Change, FaultError, build_copy

KIT_SECONDS = 900

# A faulty answer must reach the kit as it is, and expiries must not take long.
SETTINGS = {"CYCLES_RESPONSE_VALIDATION": "report", "CYCLES_EXPIRY_INTERVAL_MS": "300"}


class RunError(Exception):
    """The run itself went wrong; nothing is known about the change."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A case that failed, and the first thing it had to say."""

    case: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one server (``change`` None: as it is); ``error`` says why it could not be
    judged."""

    change: Change | None
    complaints: tuple[Complaint, ...]
    error: str
    seconds: float

    @property
    def name(self) -> str:
        return "the server as it is" if self.change is None else self.change.id


class Subject(NamedTuple):
    """A changed server that runs; ``admin`` is its admin plane, where that matters."""

    runtime: CyclesServer
    admin: CyclesServer | None
    store: RedisServer


Judge = Callable[[Subject, Path], tuple[Complaint, ...]]


def kit(*options: str) -> Judge:
    """Judges by the conformance kit, run with these options. It raises RunError when the kit could
    not run to its end."""
    return partial(_judge_by_kit, options)


def judge_all(
    changes: Sequence[Change | None],
    judge: Callable[[Change | None], Judge],
    jobs: int,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Judge each server, ``jobs`` at a time; ``judge`` names the judge of each, ``tell`` hears of
    each outcome as it comes."""

    def one(change: Change | None) -> Outcome:
        outcome = _judged(change, judge(change))
        tell(outcome)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, changes))


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both runners have."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--only", action="append", metavar="ID", help="one of them, or an area")
    options.add_argument("--jobs", type=int, default=2, help="how many servers at the same time")
    return options


def chosen(changes: list[Change], only: Sequence[str] | None) -> list[Change]:
    """Those that ``--only`` names, by id or area.

    Raises:
        FaultError: a name is neither.
    """
    if not only:
        return changes
    known = {name for change in changes for name in (change.id, change.area)}
    if unknown := [name for name in only if name not in known]:
        raise FaultError(f"nothing and no area is called {', '.join(unknown)}")
    return [change for change in changes if change.id in only or change.area in only]


def _judged(change: Change | None, judge: Judge) -> Outcome:
    started = time.monotonic()
    complaints: tuple[Complaint, ...] = ()
    error = ""
    # A short name: the path of a Unix socket has few characters.
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        folder = Path(name)
        try:
            with _running(folder, change) as subject:
                complaints = judge(subject, folder)
        except (FaultError, RunError) as problem:
            error = str(problem)
        except AssertionError as problem:  # the server's or store's log, where it did not start
            error = "did not start: " + (str(problem).strip().splitlines() or ["no log"])[-1]
    return Outcome(change, complaints, error, time.monotonic() - started)


@contextmanager
def _running(folder: Path, change: Change | None) -> Iterator[Subject]:
    copy = build_copy(folder / "copy", change)
    with ExitStack() as stack:
        store = RedisServer(folder / "redis", fsync="no")
        stack.callback(store.stop, look=False)  # what a fault leaves behind is not its verdict

        def begun(*arguments: str) -> CyclesServer:
            server = CyclesServer(
                store.url, folder / "log", arguments=arguments, settings=SETTINGS, folder=copy
            )
            stack.callback(server.kill)
            return server

        with_admin = change is None or change.plane == ADMIN
        yield Subject(begun(), begun(ADMIN) if with_admin else None, store)


def _judge_by_kit(options: Sequence[str], subject: Subject, folder: Path) -> tuple[Complaint, ...]:
    report = folder / "report.json"
    command = [
        sys.executable, "-m", "cycles_conformance", "run",
        "--url", subject.runtime.url,
        *(("--admin-url", subject.admin.url) if subject.admin else ()),
        "--redis-url", subject.store.url,
        "--admin-key", ADMIN_KEY,
        "--no-rate-limit",  # no change is about it, and it takes its time
        "--seed", "1",
        "--report", str(report),
        *options,
    ]  # fmt: skip
    # The kit takes options from the environment too: none but those above.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CYCLES_")
    }
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=KIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"the kit took more than {KIT_SECONDS} s") from None
    if run.returncode not in (0, 1) or not report.exists():
        said = (run.stderr or run.stdout).strip().splitlines() or ["nothing"]
        raise RunError(f"the kit ended with {run.returncode} and said: {said[-1]}")
    if run.returncode == 0:
        return ()
    complaints = tuple(
        Complaint(result["case"], f"{problem['step']}: {problem['message']}")
        for result in json.loads(report.read_text(encoding="utf-8"))["results"]
        if result["verdict"] == "failed"
        for problem in result["problems"][:1]
    )
    if not complaints:
        raise RunError("the kit ended with 1 and names no case")
    return complaints

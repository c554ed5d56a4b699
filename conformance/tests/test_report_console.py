"""What the console shows, on a terminal and elsewhere."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from cycles_conformance.report.console import Live, listing, summary
from cycles_conformance.results import RunResult
from report_samples import KEY, case, failing, hostile_run, mixed_run, passing_run, run_of
from rich.console import Console


@dataclass(frozen=True)
class Listed:
    id: str = "commit-returns-the-rest"
    level: str = "MUST"
    area: str = "commit"
    clauses: tuple[str, ...] = ("commit.returns-rest", "commit.charges")
    why: str = "Budget must be\nspendable [again]."


def console(*, terminal: bool = False, encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=file, force_terminal=terminal, width=100, _environ={"TERM": "xterm"}), raw


def summarised(run: RunResult, *, terminal: bool = False, encoding: str = "utf-8") -> str:
    shown, raw = console(terminal=terminal, encoding=encoding)
    summary(run, shown)
    return raw.getvalue().decode(encoding)


def test_summary() -> None:
    text = summarised(mixed_run())
    for told in (
        "Cycles conformance of http://127.0.0.1:7878",
        "any debt blocks new work  passes, passes-too",
        "   2  no evidence is sent  untried, untried-2",
        "getEvidence: 404 NOT_FOUND",
        "✗ MUST fails-at-must  commit",
        "MUST in step 2 (commit): body /amount: expected 250, got 240",
        "POST http://127.0.0.1:7878/v1/reservations/r-1/commit -> 200 OK (12 ms)",
        'curl -sS -i -X POST http://127.0.0.1:7878/v1/reservations/r-1/commit -H "x-cycles-API-key',
    ):
        assert told in text, told
    assert "\x1b" not in text
    assert text.splitlines()[-1] == (
        "NOT CONFORMANT at MUST: 1 of 3 cases failed, 1 of 1 at SHOULD, "
        "3 not run (1 could not be set up)"
    )


def test_summary_of_a_conformant_run() -> None:
    text = summarised(passing_run())
    assert text.splitlines()[-1] == "CONFORMANT at SHOULD: 2 cases passed, 1 not run"
    assert "Failures" not in text


def test_summary_of_nothing() -> None:
    assert summarised(run_of()).splitlines()[-1] == "NO VERDICT: no case was run"


def test_summary_tells_failures_below_the_level_asked_for() -> None:
    text = summarised(run_of(case(), failing("MAY")))
    assert text.splitlines()[-1] == "CONFORMANT at SHOULD: 1 case passed, 1 failed at MAY"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_summary_of_hostile_answers(encoding: str) -> None:
    text = summarised(hostile_run(), encoding=encoding)
    assert not set(text) & {"\x00", "\x07", "\x1b", "\x9b", "\r", "\u202e"}
    assert "[bold red]markup[/]" in text
    assert KEY not in text
    assert "THE END" not in text
    assert "more characters" in text
    assert len(text) < 20_000


def test_summary_colours_terminals_only() -> None:
    assert "\x1b[" in summarised(mixed_run(), terminal=True)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.StringIO()
    shown = Console(file=raw, force_terminal=True, width=100, _environ={"NO_COLOR": "1"})
    summary(mixed_run(), shown)
    assert "\x1b[31m" not in raw.getvalue()
    assert "\x1b[1;31m" not in raw.getvalue()


def test_live_elsewhere_writes_plain_lines() -> None:
    shown, raw = console()
    with Live(40, shown) as live:
        for i in range(40):
            live.started(f"case-{i}", "commit")
            live.finished(failing("SHOULD", "got\n500") if i == 7 else case(case=f"case-{i}"))
    lines = raw.getvalue().decode().splitlines()
    assert "✗ SHOULD fails-at-should  got 500" in lines
    progress = [line for line in lines if "%" in line]
    assert len(progress) == 10
    assert progress[0].startswith(" 10 %  4 of 40 cases: 4 passed, 0 failed, 0 not run, ")
    assert progress[-1].startswith("100 %  40 of 40 cases: 39 passed, 1 failed, 0 not run, ")
    assert "\x1b" not in raw.getvalue().decode()


def test_live_masks_and_defuses_what_it_prints() -> None:
    shown, raw = console()
    with Live(2, shown) as live:
        for result in hostile_run().results:
            live.finished(result)
    text = raw.getvalue().decode()
    assert KEY not in text
    assert "\x1b" not in text
    assert "(and 3 more)" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_live_from_many_threads(terminal: bool) -> None:
    shown, raw = console(terminal=terminal)
    gate = threading.Barrier(8)

    def work(worker: int) -> None:
        gate.wait(10)
        for i in range(50):
            name = f"case-{worker}-{i}"
            live.started(name, "commit")
            live.finished(failing() if i % 10 == 0 else case(case=name))

    with Live(400, shown) as live, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, worker) for worker in range(8)]:
            done.result(60)
    text = raw.getvalue().decode()
    assert text.count("fails-at-must") == 40
    assert ("\x1b" in text) == terminal


def test_live_without_cases() -> None:
    for terminal in (True, False):
        with Live(0, console(terminal=terminal)[0]):
            pass


def test_listing_elsewhere_is_a_line_each() -> None:
    shown, raw = console()
    listing([Listed(), Listed(id="other\x1b[0m", level="MAY")], shown)
    assert raw.getvalue().decode().splitlines() == [
        "commit-returns-the-rest\tMUST\tcommit\tcommit.returns-rest, commit.charges\t"
        "Budget must be spendable [again].",
        "other\\x1b[0m\tMAY\tcommit\tcommit.returns-rest, commit.charges\t"
        "Budget must be spendable [again].",
    ]


def test_listing_on_a_terminal_is_a_table() -> None:
    shown, raw = console(terminal=True)
    listing([Listed()] * 3, shown)
    text = raw.getvalue().decode()
    assert "Clauses" in text
    assert "3 cases" in text

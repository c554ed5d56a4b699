"""A run on the console: progress while it goes on, and what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cycles_conformance.report import tally
from cycles_conformance.report.causes import causes
from cycles_conformance.report.curl import curl
from cycles_conformance.report.mask import masked, masked_case
from cycles_conformance.report.text import (
    LIMIT,
    duration,
    one_line,
    shortened,
    status_line,
    visible,
)
from cycles_conformance.report.text import cases as plural
from cycles_conformance.results import LEVELS, CaseResult, Exchange, Level, Problem, RunResult

_BODY_LIMIT = 1_000
_KIT = "bold magenta"
_NAMES_SHOWN = 6

Part = str | tuple[str, str]
"""A text, or a text and its style."""

_LEVEL_STYLE: dict[Level, str] = {"MUST": "red", "SHOULD": "yellow", "MAY": "cyan"}


class Live:
    """Progress of a run, as a context manager; every method may be called from any thread.

    On a terminal: a bar at the bottom, failures above it as they come. Elsewhere (CI, a file):
    a line for each failure and about every tenth of the run, without control characters.
    """

    def __init__(self, total: int, console: Console) -> None:
        self._total = total
        self._console = console
        self._counts = {"passed": 0, "failed": 0, "not run": 0}
        self._now: dict[str, str] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._bar: RichLive | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._bar = RichLive(
                get_renderable=self._render,
                console=console,
                refresh_per_second=8,
                transient=True,
            )

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def remark(self, text: str) -> None:
        """Something about the run as a whole."""
        with self._lock:
            _say(self._console, ("! ", "bold yellow"), text)

    def started(self, case_id: str, area: str) -> None:
        """A thread begins with this case."""
        with self._lock:
            self._now[case_id] = area

    def finished(self, result: CaseResult) -> None:
        """A case came to its end."""
        with self._lock:
            self._now.pop(result.case, None)
            before = self._done
            self._counts[result.verdict] = self._counts.get(result.verdict, 0) + 1
            if result.kit_failure:
                _kit_failed(self._console, masked_case(result))
            if result.problems or result.verdict == "failed":
                _say(self._console, *_headline(masked_case(result)))
            total = max(self._total, 1)
            if not self._bar and self._done * 10 // total > before * 10 // total:
                _say(self._console, self._progress_line())

    @property
    def _done(self) -> int:
        return sum(self._counts.values())

    def _progress_line(self) -> str:
        percent = self._done * 100 // max(self._total, 1)
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self._counts.items())
        elapsed = duration(time.monotonic() - self._began)
        return f"{percent:3} %  {self._done} of {self._total} cases: {counts}, {elapsed}"

    def _render(self) -> RenderableType:
        # Rich's refresh thread holds its own lock here and `finished` prints while it holds ours:
        # taking ours too could lock the two up, so this reads what it can without.
        counts = dict(self._counts)
        done = sum(counts.values())
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=max(self._total, 1), completed=done, width=30),
            Text(f"{done}/{self._total}"),
            _counts_text(counts),
            Text(duration(time.monotonic() - self._began), style="dim"),
        )
        current = " · ".join(list(self._now))
        width = max(self._console.width - 1, 10)
        return Group(line, Text(_plain(self._console, one_line(current, width)), style="dim"))


def _counts_text(counts: dict[str, int]) -> Text:
    styles = {"passed": "green", "failed": "bold red", "not run": "dim", "kit failed": _KIT}
    return Text("  ").join(
        Text(f"{count} {verdict}", style=styles[verdict] if count else "dim")
        for verdict, count in counts.items()
    )


def summary(run: RunResult, console: Console, *, verbose: bool = False) -> None:
    """Print what came of the run; the last line is the verdict. ``verbose`` adds the tracebacks of
    the kit's own mistakes."""
    run = masked(run)
    _say(console)
    _say(console, (f"Cycles conformance of {run.target}", "bold"))
    about = (
        f"{run.contract}, kit {run.kit_version}, seed {run.seed}, "
        f"provisioned by {run.provisioning}, {duration(run.seconds)}"
    )
    _say(console, (about, "dim"))
    for name, plane in run.planes.items():
        _say(console, (f"{name} plane: {plane.target}, {plane.contract}", "dim"))
    for note in run.notes:
        _say(console, (note, "dim"))
    _say(console)
    if run.results:
        console.print(_areas(run, console))
    _grouped(console, "Readings of the contract seen", tally.readings(run))
    _grouped(console, "Not run", tally.not_run(run), counted=True)
    if run.not_offered:
        _heading(console, "Optional operations not offered")
        for operation, answer in run.not_offered.items():
            _say(console, f"  {operation}: {one_line(answer, 200)}")
    against = tally.failures(run)
    if len(against) > 1:
        groups = {f"{one.level}  {one.what}": one.cases for one in causes(run)}
        _grouped(console, "Causes of failures", groups, counted=True)
    if against:
        _heading(console, "Failures")
        for case in against:
            _failure(console, case)
    if run.kit_failures:
        _heading(console, "The kit's own mistakes: they say nothing of the server")
        for line, failure in tally.kit_failures(run):
            _say(console, f"  {line}")
            if verbose:
                _say(console, (f"    {_indented(failure.traceback.rstrip(), 4)}", "dim"))
    if run.kit_failures or not against:
        _say(console)
    _say(console, (tally.verdict_line(run), "bold green" if run.conformant else "bold red"))


class Listed(Protocol):
    """What a listing needs to know of a case."""

    @property
    def id(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def area(self) -> str: ...
    @property
    def clauses(self) -> Sequence[str]: ...
    @property
    def why(self) -> str: ...


def listing(cases: Iterable[Listed], console: Console) -> None:
    """Print the cases: a table on a terminal, elsewhere a line each with tabs between.

    Columns: id, level, area, clauses, why.
    """
    rows = [
        (case.id, case.level, case.area, ", ".join(case.clauses), " ".join(case.why.split()))
        for case in cases
    ]
    if not console.is_terminal:
        for row in rows:
            # Not through Rich, which would turn the tabs into spaces.
            console.file.write("\t".join(_plain(console, cell) for cell in row) + "\n")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title, ratio in (("Case", 3), ("Level", None), ("Area", 1), ("Clauses", 2), ("Why", 4)):
        table.add_column(title, overflow="fold", ratio=ratio, no_wrap=ratio is None)
    styles = {str(level): style for level, style in _LEVEL_STYLE.items()}
    for name, level, area, clauses, why in rows:
        table.add_row(
            Text(_plain(console, name), style="bold"),
            Text(level, style=styles.get(level, "")),
            Text(_plain(console, area)),
            Text(_plain(console, clauses), style="dim"),
            Text(_plain(console, why)),
        )
    console.print(table)
    _say(console, (plural(len(rows)), "dim"))


def _areas(run: RunResult, console: Console) -> Table:
    levels = [level for level in LEVELS if run.at(level)]
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("Area", overflow="fold")
    for level in levels:
        table.add_column(level)
    for area, counts in tally.by_area_and_level(run).items():
        table.add_row(Text(_plain(console, area)), *(_cell(counts[level]) for level in levels))
    totals = [_cell(tally.tally(run.at(level))) for level in levels]
    table.add_row(Text("all areas", style="bold"), *totals)
    return table


def _cell(counts: tally.Tally) -> Text:
    if not counts.total:
        return Text("-", style="dim")
    parts = [Text(f"{counts.passed} passed", style="green" if counts.passed else "dim")]
    if counts.failed:
        parts.append(Text(f"{counts.failed} failed", style="bold red"))
    if counts.not_run:
        parts.append(Text(f"{counts.not_run} not run", style="dim"))
    if counts.kit_failed:
        parts.append(Text(f"{counts.kit_failed} kit failed", style=_KIT))
    return Text(", ").join(parts)


def _grouped(
    console: Console, title: str, groups: dict[str, list[str]], *, counted: bool = False
) -> None:
    if not groups:
        return
    _heading(console, title)
    for what, names in groups.items():
        count = f"{len(names):4}  " if counted else "  "
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        shown = ", ".join(names[:_NAMES_SHOWN]) + more
        _say(console, f"{count}{one_line(what, 300)}", (f"  {shown}", "dim"))


def _failure(console: Console, case: CaseResult) -> None:
    _say(console, *_title(case), (f"  {case.area}", "dim"))
    _say(console, (f"  {case.why}", "dim"))
    if case.clauses:
        _say(console, (f"  Clauses: {', '.join(case.clauses)}", "dim"))
    if case.replay:
        _say(console, ("  Replay: ", "dim"), (case.replay, "cyan"))
    shown = None
    for problem in tally.problems(case):
        _problem(console, problem)
        if problem.exchange is not None and problem.exchange != shown:
            shown = problem.exchange
            _exchange(console, shown)
    _say(console)


def _problem(console: Console, problem: Problem) -> None:
    place = f" in {problem.step}" if problem.step else ""
    message = _indented(shortened(problem.message, _BODY_LIMIT), 2)
    _say(console, (f"  {problem.level}", _LEVEL_STYLE[problem.level]), f"{place}: {message}")


def _exchange(console: Console, exchange: Exchange) -> None:
    answer = f"{one_line(status_line(exchange), 200)} ({exchange.milliseconds:.0f} ms)"
    _say(console, f"  {exchange.method} {one_line(exchange.url, 300)} -> {answer}")
    for mark, body in (("  > ", exchange.request_body), ("  < ", exchange.response_body)):
        if body:
            _say(console, (f"{mark}{_indented(shortened(body, _BODY_LIMIT), 4)}", "dim"))
    line = curl(exchange)
    if len(line) <= LIMIT:
        _say(console, (f"  {line}", "cyan"))
    else:
        _say(console, ("  (too long to repeat here; a JSON report has the curl line)", "dim"))


def _indented(text: str, by: int) -> str:
    return text.replace("\n", "\n" + " " * by)


def _kit_failed(console: Console, case: CaseResult) -> None:
    assert case.kit_failure is not None
    said = one_line(f"{case.kit_failure.step}: {case.kit_failure.error}", 200)
    _say(console, ("! the kit failed", _KIT), f" {case.case} {said}")


def _headline(case: CaseResult) -> list[Part]:
    found = tally.problems(case)
    message = one_line(found[0].message, 200) if found else "failed"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return [*_title(case), f"  {message}{more}"]


def _title(case: CaseResult) -> list[Part]:
    level = tally.gravest(case)
    return [("✗ ", "bold red"), (level, _LEVEL_STYLE[level]), (f" {case.case}", "bold")]


def _heading(console: Console, title: str) -> None:
    _say(console)
    _say(console, (title, "bold"))


def _say(console: Console, *parts: Part) -> None:
    """Print a line of parts, made harmless; the terminal wraps it, so that it can be copied."""
    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(_plain(console, text), style=style)
    console.print(line, soft_wrap=True, highlight=False)


def _plain(console: Console, text: str) -> str:
    """The text without control characters, and with escapes for what the output cannot encode."""
    encoding = console.encoding
    return visible(text).encode(encoding, "backslashreplace").decode(encoding)

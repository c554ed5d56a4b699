"""Does the conformance kit find each fault?

For every fault a copy of the server that has it is started with a Redis of its own, and the kit
is run against it from outside, as anybody would. The kit must find at least 95 % of them, and
nothing in the server as it is::

    python tests/faults/runner.py [--only ID] [--jobs 2] [--table docs/conformance.md]
    python tests/faults/runner.py --check

``--check`` leaves the kit out: it only shows that every faulty server starts and answers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape
from support.tenants import Tenant

from faults.black_box import (
    Complaint,
    Judge,
    Outcome,
    RunError,
    Subject,
    chosen,
    judge_all,
    kit,
    parser,
)
from faults.catalogue import ADMIN, Change, FaultError, load_faults

FOUND_AT_LEAST = 0.95
MARKS = ("<!-- faults -->", "<!-- /faults -->")


def judge_by_one_request(subject: Subject, folder: Path) -> tuple[Complaint, ...]:
    """Whether a request is answered at all; how, is the fault's business."""
    server = subject.admin or subject.runtime
    tenant = Tenant(subject.store.client, server.url)
    tenant.budget()
    try:
        answer = tenant.http.get("/v1/balances") if subject.admin else tenant.reserve()
    finally:
        tenant.http.close()
    return (Complaint("a request", f"was answered {answer.status_code}"),)


def judge_of(change: Change | None) -> Judge:
    """The kit: of a fault in the admin plane, with the cases of that plane alone."""
    of_admin = change is not None and change.plane == ADMIN
    cases = ("--only", "admin-*") if of_admin else ()
    return kit("--level", "SHOULD", "--fail-fast", *cases)


def write_table(document: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the outcomes between the two marks of a Markdown document.

    Raises:
        RunError: the document does not have the marks.
    """
    found = sum(bool(outcome.complaints) for outcome in outcomes)
    lines = [
        f"{found} of {len(outcomes)} faults are found.",
        "",
        "| Fault | What a client sees of it | Breaks | Caught by |",
        "|---|---|---|---|",
    ]
    for outcome in outcomes:
        fault = outcome.change
        assert fault is not None
        about = fault.about.replace("|", "\\|")
        first = f"`{outcome.complaints[0].case}`" if outcome.complaints else "not found"
        lines.append(f"| `{fault.id}` | {about} | {fault.place} | {first} |")
    begin, end = MARKS
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = document.read_text(encoding="utf-8")
    if len(between.findall(text)) != 1:
        raise RunError(f"{document} has to have {begin} and {end}, once")
    table = "\n".join((begin, "", *lines, "", end))
    document.write_text(between.sub(lambda _: table, text), encoding="utf-8")


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--table", type=Path, metavar="FILE", help="write a table into it")
    arguments.add_argument("--check", action="store_true", help="only start every faulty server")
    options = arguments.parse_args()
    console = Console(highlight=False, soft_wrap=True)

    def tell(outcome: Outcome) -> None:
        verdict = "nothing found"
        if outcome.complaints:
            verdict = f"found by {outcome.complaints[0].case}"
        if outcome.error:
            verdict = f"error: {escape(outcome.error)}"
        console.print(f"{outcome.name}: {verdict} ({outcome.seconds:.0f} s)")

    try:
        faults = chosen(load_faults(), options.only)
    except FaultError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    if options.check:
        outcomes = judge_all(faults, lambda _: judge_by_one_request, options.jobs, tell)
        wrong = [outcome for outcome in outcomes if outcome.error]
        console.print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} start and answer")
        return 1 if wrong else 0

    [sound] = judge_all([None], judge_of, 1, tell)
    if sound.error or sound.complaints:
        console.print("[red]the kit has to find nothing in the server as it is[/]")
        return 2
    outcomes = judge_all(faults, judge_of, options.jobs, tell)
    found = sum(bool(outcome.complaints) for outcome in outcomes)
    missed = [outcome.name for outcome in outcomes if not outcome.complaints]
    console.print(f"{found} of {len(outcomes)} faults found")
    if missed:
        console.print(f"[red]not found[/]: {', '.join(missed)}")
    if options.table:
        try:
            write_table(options.table, outcomes)
        except (RunError, OSError) as error:
            console.print(f"[red]{escape(str(error))}[/]")
            return 2
    return 0 if found >= FOUND_AT_LEAST * len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

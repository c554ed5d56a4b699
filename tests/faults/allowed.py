"""Does the conformance kit leave alone what the contract allows?

The contract leaves much to a server: members that may be absent, orders that it does not fix,
sentences that can be read in two ways. ``allowed/`` holds variants of this server that use such
room. The kit must find nothing in any of them, or it would fail servers that are conformant::

    python tests/faults/allowed.py [--only ID] [--jobs 2] [--cases PATTERN]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape

from faults.black_box import Judge, Outcome, chosen, judge_all, kit, parser
from faults.catalogue import Change, FaultError, load_variants


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--cases", action="append", default=[], metavar="PATTERN", help="only these cases or areas"
    )
    options = arguments.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        variants = chosen(load_variants(), options.only)
    except FaultError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    patterns = [word for pattern in options.cases for word in ("--only", pattern)]

    def judge(variant: Change | None) -> Judge:
        assert variant is not None
        return kit("--level", variant.level, *patterns)

    def tell(outcome: Outcome) -> None:
        verdict = f"{len(outcome.complaints)} complaints" if outcome.complaints else "left alone"
        if outcome.error:
            verdict = f"error: {escape(outcome.error)}"
        lines = [f"{outcome.name}: {verdict} ({outcome.seconds:.0f} s)"]
        lines += [f"    {one.case}: {escape(one.message)}" for one in outcome.complaints]
        console.print("\n".join(lines))

    outcomes = judge_all(variants, judge, options.jobs, tell)
    alone = sum(not outcome.error and not outcome.complaints for outcome in outcomes)
    console.print(f"{alone} of {len(outcomes)} variants left alone")
    return 0 if alone == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

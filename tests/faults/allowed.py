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
        verdict = "left alone" if _as_it_should_be(outcome) else "not left alone"
        if outcome.error:
            verdict = f"error: {escape(outcome.error)}"
        lines = [f"{outcome.name}: {verdict} ({outcome.seconds:.0f} s)"]
        assert outcome.change is not None
        if outcome.change.but:
            lines[0] += f", but for {outcome.change.but}"
        lines += [
            f"    {one.case}: {escape(one.message)}"
            for one in outcome.complaints
            if one.case != outcome.change.but
        ]
        console.print("\n".join(lines))

    outcomes = judge_all(variants, judge, options.jobs, tell)
    alone = sum(map(_as_it_should_be, outcomes))
    console.print(f"{alone} of {len(outcomes)} variants left alone")
    return 0 if alone == len(outcomes) else 1


def _as_it_should_be(outcome: Outcome) -> bool:
    """Whether no case complained but the one that has to."""
    assert outcome.change is not None
    wanted = [outcome.change.but] if outcome.change.but else []
    return not outcome.error and [one.case for one in outcome.complaints] == wanted


if __name__ == "__main__":
    sys.exit(main())

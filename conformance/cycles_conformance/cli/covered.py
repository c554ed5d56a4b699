"""What ``cycles-conformance coverage`` prints."""

from __future__ import annotations

import itertools
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.cli.options import could_not_run
from cycles_conformance.cli.target import contracts_of
from cycles_conformance.coverage import Coverage, measure
from cycles_conformance.planes import RUNTIME
from cycles_conformance.properties import PROPERTIES


def show_coverage(
    spec: Path | None, admin_spec: Path | None, cases: Path | None, *, unclaimed: bool
) -> None:
    """Raises click.ClickException (exit code 2)."""
    contracts = contracts_of(spec, admin_spec)
    try:
        collection = load(cases)
    except CaseFileError as error:
        raise could_not_run(str(error)) from error
    console = Console(highlight=False)
    for contract in contracts.values():
        if contract.plane != RUNTIME:
            console.print(Text(f"\n{contract.title}", style="bold"))
        found = measure(collection, contract, PROPERTIES if cases is None else ())
        checking = [case for case in collection.cases if contract.plane in case.planes]
        _show(found, len(checking), unclaimed, console)


def _show(found: Coverage, cases: int, unclaimed: bool, console: Console) -> None:
    _claimed(found, console)
    _gaps(found, console)
    if unclaimed:
        _unclaimed(found, console)
    said = [sentence for sentence in found.claimed if not sentence.declared]
    console.print(
        f"{cases} cases check {len(said)} sentences of the contract and "
        f"{len(found.claimed) - len(said)} declared rules; {len(found.unclaimed)} normative "
        "sentences are claimed by none (--unclaimed prints them: many bind clients or operators)",
        soft_wrap=True,
    )
    for clause in found.misquoted:
        what = clause.says or f"[{clause.declares}]"
        # As Text: brackets in a quotation are no markup.
        line = Text(f"clause {clause.clause_id}: {clause.at!r} does not say: {what}", style="red")
        console.print(line, soft_wrap=True)


def _claimed(found: Coverage, console: Console) -> None:
    # Stable: within a place, the contract's order.
    ordered = sorted(found.claimed, key=lambda sentence: sentence.at)
    for at, group in itertools.groupby(ordered, key=lambda sentence: sentence.at):
        console.print(Text(f"\n{at}", style="bold"))
        for sentence in group:
            text = f"[{sentence.text}]" if sentence.declared else sentence.text
            console.print(Padding(Text(text), (0, 0, 0, 2)))
            names = ", ".join(sentence.cases)
            console.print(Padding(Text(names, style="dim"), (0, 0, 0, 6)))


def _gaps(found: Coverage, console: Console) -> None:
    console.print(Text("\nNot reached by any case", style="bold"))
    gaps = [
        *(f"{name}: {', '.join(codes)}" for name, codes in found.operations.items()),
        *(f"error code {code}" for code in found.errors),
        *(f"reason code {code}" for code in found.reasons),
    ]
    for gap in gaps or ["nothing: every operation, status, error code and reason code is reached"]:
        console.print(Padding(Text(gap), (0, 0, 0, 2)))
    console.print()


def _unclaimed(found: Coverage, console: Console) -> None:
    console.print(Text("Normative sentences that no case claims", style="bold"))
    for at, group in itertools.groupby(found.unclaimed, key=lambda sentence: sentence.at):
        console.print(Text(f"  {at}", style="bold"))
        for sentence in group:
            console.print(Padding(Text(f"- {sentence.text}"), (0, 0, 0, 4)))
    console.print()

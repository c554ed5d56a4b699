"""The steps of a case, in order, until the first problem."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cycles_conformance.execution.balances import run_ledger
from cycles_conformance.execution.changes import run_change
from cycles_conformance.execution.context import CaseContext
from cycles_conformance.execution.pages import run_pages
from cycles_conformance.execution.parallel import run_parallel
from cycles_conformance.execution.request import run_request


def run_steps(context: CaseContext, steps: Any, prefix: str = "") -> None:
    """Carry them out; ``prefix`` is the number of the step that they follow, as in ``2.``. Raises
    CaseEnded, CaseUnjudged, UnusableAnswer, ProvisioningError, TargetLost, and KitFailed for
    whatever else goes wrong."""
    for number, step in enumerate(steps, 1):
        where = f"{prefix}{number}"
        label = f"step {where} ({_kind(step)})"
        with context.within(label):
            if "wait" in step:
                context.target.pause(context.patience.seconds(step["wait"]))
            elif "provision" in step:
                run_change(context, step)
            elif "ledger" in step:
                run_ledger(context, step, label)
            elif "pages" in step:
                run_pages(context, step, label)
            elif "parallel" in step:
                run_parallel(context, step, label)
            else:
                then = partial(run_steps, context, prefix=f"{where}.")
                run_request(context, step, label, then)


def _kind(step: Mapping[str, Any]) -> str:
    """What a step does, for its label: ``reserve``, ``GET /v1/x``, ``pages list``, ``ledger``."""
    if "pages" in step:
        return f"pages {step['pages']}"
    others = (kind for kind in ("wait", "provision", "ledger", "parallel") if kind in step)
    return step.get("do") or step.get("send") or next(others)

"""Runs cases side by side and gathers what they found."""

from __future__ import annotations

import concurrent.futures
import datetime
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from cycles_conformance import __version__
from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.casefiles.case import Case
from cycles_conformance.client import TargetLost
from cycles_conformance.execution.context import CaseContext, CaseEnded, CaseUnjudged
from cycles_conformance.execution.patience import ATTEMPTS, TooSlow
from cycles_conformance.execution.steps import run_steps
from cycles_conformance.failures import KitFailed, UnusableAnswer, described
from cycles_conformance.planes import URL_OPTIONS, OperationRef
from cycles_conformance.provisioners import Given, ProvisioningError
from cycles_conformance.results import (
    CaseResult,
    KitFailure,
    Level,
    PlaneResult,
    Problem,
    RunResult,
)
from cycles_conformance.target import ALONE, QUIET, Target


class Check(Protocol):
    """What can be run: a case of the files, or a property check."""

    id: str
    area: str
    level: Level
    clauses: tuple[str, ...]
    why: str
    requires: tuple[str, ...]
    given: Given
    operations: frozenset[OperationRef]
    planes: frozenset[str]


class Watcher(Protocol):
    """Is told of progress, from several threads."""

    def started(self, case_id: str, area: str) -> None: ...

    def finished(self, result: CaseResult) -> None: ...


def run(
    target: Target,
    checks: Sequence[Check],
    execute: Callable[[Target, Check, CaseResult], None],
    watcher: Watcher,
    *,
    level: Level,
    seed: int,
    jobs: int,
    fail_fast: bool = False,
) -> RunResult:
    """Run the checks, ``jobs`` at a time; with ``fail_fast`` begin none after one has failed. A
    mistake of the kit itself is noted in the result of its check, and the others go on. Raises
    TargetLost when the server stops answering."""
    begun = time.monotonic()
    outcome = RunResult(
        target=target.runtime.client.url,
        contract=target.runtime.contract.title,
        contract_sha256=target.runtime.contract.sha256,
        kit_version=__version__,
        level=level,
        seed=seed,
        provisioning=target.provisioner.name,
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        not_offered={ref.name: why for ref, why in target.not_offered.items()},
        planes=_planes(target) if len(target.planes) > 1 else {},
    )
    stopped = threading.Event()

    def one(check: Check) -> CaseResult:
        if stopped.is_set():
            return _result(check, "the run was stopped before it")
        watcher.started(check.id, check.area)
        try:
            result = _run_check(target, check, execute)
        except TargetLost:
            stopped.set()
            raise
        watcher.finished(result)
        if fail_fast and (result.verdict == "failed" or target.breaches.any):
            stopped.set()
        return result

    tried = [check for check in checks if check.id != AS_DECLARED.id]
    early = [check for check in tried if not _alone(check)]
    late = sorted((check for check in tried if _alone(check)), key=_alone)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = {result.case: result for result in pool.map(one, early)}
    for check in late:
        results[check.id] = one(check)
    if len(tried) < len(checks):
        results[AS_DECLARED.id] = target.breaches.result()
        watcher.finished(results[AS_DECLARED.id])
    outcome.results = [results[check.id] for check in checks]
    outcome.seconds = time.monotonic() - begun
    return outcome


def execute_case(target: Target, case: Case, result: CaseResult) -> None:
    """The steps of one case of the files."""
    for attempt in range(ATTEMPTS):
        context = CaseContext(target, case, target.prepare(case.given), result, attempt)
        try:
            return run_steps(context, case.steps)
        except TooSlow:
            # What was seen so far belongs to this attempt.
            result.readings.clear()
    raise CaseUnjudged(f"the wire is too slow: a lease lapsed before it could be used, {ATTEMPTS}x")


def _run_check(
    target: Target, check: Check, execute: Callable[[Target, Check, CaseResult], None]
) -> CaseResult:
    reason = _why_not(target, check)
    if reason:
        return _result(check, reason)
    result = _result(check, "")
    begun = time.monotonic()
    try:
        execute(target, check, result)
    except CaseEnded:
        pass
    except CaseUnjudged as error:
        result.verdict, result.reason = "not run", str(error)
    except ProvisioningError as error:
        result.verdict, result.reason = "not run", f"setup failed: {error}"
        result.setup_failed = True
    except UnusableAnswer as error:
        message = f"the answers make no sense together: {error}"
        last = result.exchanges[-1] if result.exchanges else None
        result.problems.append(Problem("MUST", message, "the case", last))
    except TargetLost:
        raise
    except KitFailed as error:
        result.kit_failure = _kit_failure(error.step, error.__cause__ or error)
    except Exception as error:
        result.kit_failure = _kit_failure("given", error)
    if result.problems:
        result.verdict = "failed"
    elif result.kit_failure:
        result.verdict = "kit failed"
    result.seconds = time.monotonic() - begun
    return result


def _alone(check: Check) -> list[int]:
    """Where a check stands among those that run alone; empty for others."""
    return [place for place, feature in enumerate(ALONE) if feature in check.requires]


def _planes(target: Target) -> dict[str, PlaneResult]:
    return {
        name: PlaneResult(plane.client.url, plane.contract.title, plane.contract.sha256)
        for name, plane in target.planes.items()
    }


def _kit_failure(step: str, error: BaseException) -> KitFailure:
    return KitFailure(step, described(error), "".join(traceback.format_exception(error)))


def _why_not(target: Target, check: Check) -> str:
    """Why a check cannot be run against this target; empty if it can."""
    for feature in check.requires:
        if feature not in (QUIET, *target.features):
            return {
                "admin_key": "no X-Admin-API-Key for the runtime plane was given",
                "evidence": "the server sends no evidence references",
                "rate_limit": "--no-rate-limit was given",
            }[feature]
    for plane in sorted(check.planes - target.planes.keys()):
        return f"no URL of the {plane} plane was given ({URL_OPTIONS[plane]})"
    for ref in sorted(check.operations):
        if ref in target.not_offered:
            return f"the server does not offer {ref.name}"
        if ref.operation_id not in target.planes[ref.plane].contract.operations:
            return f"the contract has no operation {ref.name}"
    return target.provisioner.lacks(check.given) or ""


def _result(check: Check, reason: str) -> CaseResult:
    return CaseResult(
        case=check.id,
        area=check.area,
        level=check.level,
        why=check.why,
        clauses=check.clauses,
        verdict="not run" if reason else "passed",
        reason=reason,
    )

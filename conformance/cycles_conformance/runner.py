"""Runs cases side by side and gathers what they found."""

from __future__ import annotations

import concurrent.futures
import datetime
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cycles_conformance import __version__
from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.casefiles.case import Case
from cycles_conformance.client import RunEnded, TargetLost
from cycles_conformance.execution.context import CaseContext, CaseEnded, CaseUnjudged
from cycles_conformance.execution.patience import ATTEMPTS, TooSlow
from cycles_conformance.execution.steps import run_steps
from cycles_conformance.failures import KitFailed, UnusableAnswer, described
from cycles_conformance.jobs import Jobs
from cycles_conformance.planes import ADMIN, URL_OPTIONS, OperationRef
from cycles_conformance.provisioners import Given, ProvisioningError
from cycles_conformance.results import (
    CaseResult,
    KitFailure,
    Level,
    PlaneResult,
    Problem,
    RunResult,
)
from cycles_conformance.target import ALONE, API_KEY, GATEWAY, OPERATOR, QUIET, Target, any_answer


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

    def remark(self, text: str) -> None: ...


Execute = Callable[[Target, Any, CaseResult], None]

INTERRUPTED = "interrupted"
"""Why a run is incomplete that its user has ended with Ctrl-C."""
AWAY = 5.0
"""Seconds for which the server may be away, as while it is started again, before it is lost."""
ASKED_EVERY = 0.5
ENOUGH = 3
"""So many cases in a row that get no answer even alone, and it is not the others' fault."""
GRACE = 2.0
"""Seconds that an interrupted run waits for the cases under way."""


def run(
    target: Target,
    checks: Sequence[Check],
    execute: Execute,
    watcher: Watcher,
    *,
    level: Level,
    seed: int,
    jobs: int,
    fail_fast: bool = False,
) -> RunResult:
    """Run the checks, ``jobs`` at a time; with ``fail_fast`` begin none after one has failed. A
    mistake of the kit itself is noted in the result of its check, and the others go on. When the
    server stops answering, or the user presses Ctrl-C, what came until then is returned, marked
    incomplete; a second Ctrl-C ends the process at once."""
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
    under_way = _UnderWay(target, execute, watcher, jobs, fail_fast=fail_fast)
    # In a thread of its own, for this one is where Ctrl-C arrives.
    conductor = concurrent.futures.ThreadPoolExecutor(1)
    done = conductor.submit(under_way.conduct, checks)
    try:
        done.result()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        under_way.end(INTERRUPTED)
        watcher.remark("interrupted: the reports follow (Ctrl-C once more ends at once)")
        concurrent.futures.wait([done], GRACE)
    conductor.shutdown(wait=False)
    outcome.results = [under_way.result_of(check) for check in checks]
    outcome.incomplete = target.ended
    outcome.notes = under_way.notes()
    outcome.seconds = time.monotonic() - begun
    return outcome


class _UnderWay:
    """A run while it goes on. Its methods may be called from several threads."""

    def __init__(
        self, target: Target, execute: Execute, watcher: Watcher, jobs: int, *, fail_fast: bool
    ) -> None:
        self._target = target
        self._execute = execute
        self._watcher = watcher
        self._asked_jobs = jobs
        self._jobs = Jobs(jobs)
        self._fail_fast = fail_fast
        self._results: dict[str, CaseResult] = {}
        self._again: dict[str, CaseResult] = {}
        """What came, the first time, of those that are to be run once more, alone."""
        self._stopped = ""
        """Why no further case is begun; empty while there are."""
        self._asking = threading.Lock()
        for plane in target.planes.values():
            plane.client.on_slow = self._halve

    def conduct(self, checks: Sequence[Check]) -> None:
        """Run them all, as far as it goes."""
        tried = [check for check in checks if check.id != AS_DECLARED.id]
        early = [check for check in tried if not _alone(check)]
        late = sorted((check for check in tried if _alone(check)), key=_alone)
        with concurrent.futures.ThreadPoolExecutor(self._asked_jobs) as pool:
            for _ in pool.map(self._begin, early):
                pass
        self._once_more([check for check in early if check.id in self._again])
        for check in late:
            if result := self._carried_out(check):
                self._settle(result)
        if len(tried) < len(checks):
            self._settle(self._declared())

    def end(self, why: str) -> None:
        """Begin nothing more, and let what is under way come to its end."""
        if not self._target.ended:
            self._stopped = why
            self._target.end(why)

    def result_of(self, check: Check) -> CaseResult:
        found = self._results.get(check.id)
        if check.id == AS_DECLARED.id:
            # Told also of a run that was broken off before it came to this.
            return found or self._declared()
        return found or _result(check, self._stopped or "the run ended before it")

    def _declared(self) -> CaseResult:
        """What the answers so far amount to."""
        breaches = self._target.breaches
        why_not = self._stopped or "no case had an answer to hold against it"
        result = _result(AS_DECLARED, "" if breaches.heard else why_not)
        result.problems = breaches.problems()
        if result.problems:
            result.verdict = "failed"
        return result

    def notes(self) -> list[str]:
        notes = []
        if self._jobs.limit < self._asked_jobs:
            notes.append(f"the server was slow: {self._jobs.limit} of {self._asked_jobs} jobs left")
        if self._again:
            notes.append(
                f"{len(self._again)} case(s) got no answer, or a slow one, and were tried again "
                "with nothing beside them"
            )
        return notes

    def _begin(self, check: Check) -> None:
        """One of the cases that run side by side. A failure that others may have brought about is
        put off."""
        with self._jobs:
            alone = self._jobs.limit == 1
            result = self._carried_out(check)
        if result is None:
            return
        if self._in_trouble(result) and not alone:
            self._again[check.id] = result
        else:
            self._settle(result)

    def _once_more(self, checks: Sequence[Check]) -> None:
        """Run these with nothing beside them: what the other cases do to a server must not count
        against it. Where being alone is of no help, what came the first time stands."""
        in_vain = 0
        for check in checks:
            first = self._again[check.id]
            result = first if in_vain == ENOUGH else self._carried_out(check)
            if result is None:
                return
            if in_vain < ENOUGH:
                in_vain = in_vain + 1 if self._in_trouble(result) else 0
            # Of the fixtures, none may be left.
            self._settle(first if result.verdict == "not run" else result)

    def _carried_out(self, check: Check) -> CaseResult | None:
        """What came of it; None when the run is over. Ends the run if the server was lost."""
        if self._stopped:
            return None
        self._watcher.started(check.id, check.area)
        try:
            result = _run_check(self._target, check, self._execute)
            self._note_keys(result)
            if self._in_trouble(result):
                self._wait_for_the_server()
        except TargetLost as error:
            self.end(str(error))
            return None
        return result

    def _settle(self, result: CaseResult) -> None:
        self._results[result.case] = result
        if not self._target.ended:
            self._watcher.finished(result)
        wrong = result.verdict == "failed" or self._target.breaches.any
        if self._fail_fast and wrong and not self._stopped:
            self._stopped = "the run was stopped before it"

    def _in_trouble(self, result: CaseResult) -> bool:
        """Whether the case failed where the server gave no answer, or was near to giving none."""
        slow = self._target.runtime.client.slow
        return result.setup_failed or (
            result.verdict == "failed"
            and any(
                exchange.status is None or exchange.status in GATEWAY or slow(exchange.milliseconds)
                for exchange in result.exchanges
            )
        )

    def _note_keys(self, result: CaseResult) -> None:
        """Raises TargetLost when the server knows no key, which was not seen before the cases if
        no shared tenant could be made."""
        if self._target.knows_a_key:
            return
        wrong = [problem.exchange for problem in result.problems if problem.exchange]
        for exchange in [*result.exchanges, *wrong]:
            expected = exchange not in wrong and exchange.status == 401
            if API_KEY in exchange.request_headers and exchange.status and not expected:
                self._target.note_answer(exchange.status)

    def _wait_for_the_server(self) -> None:
        """Raises TargetLost when it is away for too long, or does not answer with one job left."""
        with self._asking:
            for plane in self._target.planes.values():
                deadline = time.monotonic() + AWAY
                while True:
                    began = time.monotonic()
                    try:
                        any_answer(plane.client)
                        break
                    except RunEnded:
                        raise
                    except TargetLost as error:
                        now = time.monotonic()
                        if plane.client.slow((now - began) * 1000) and self._jobs.limit > 1:
                            self._halve(began)
                            deadline = now + AWAY
                        elif now > deadline:
                            raise TargetLost(f"the server was lost: {error}") from error
                    self._target.pause(ASKED_EVERY)

    def _halve(self, began: float) -> bool:
        halved = self._jobs.halve(began)
        if halved:
            self._watcher.remark(f"the server is slow: {self._jobs.limit} side by side from here")
        return halved


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


def _run_check(target: Target, check: Check, execute: Execute) -> CaseResult:
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
                OPERATOR: "the runtime plane does not know the operator's key (401 to --admin-key)"
                if target.admin_key
                else "no X-Admin-API-Key for the runtime plane was given",
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
    if ADMIN in check.planes and not target.admin_key:
        return "no key of the admin plane was given (--admin-key)"
    if not check.given.tenants:
        return ""
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

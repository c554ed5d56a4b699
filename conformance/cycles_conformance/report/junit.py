"""A run as JUnit XML, for the test pages of CI systems."""

from __future__ import annotations

import io
from dataclasses import asdict

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from cycles_conformance.report import tally
from cycles_conformance.report.causes import cause_of
from cycles_conformance.report.curl import curl
from cycles_conformance.report.mask import masked
from cycles_conformance.report.text import LIMIT, exchange_text, one_line, shortened, visible
from cycles_conformance.results import CaseResult, KitFailure, RunResult


def render(run: RunResult) -> bytes:
    """The run as JUnit XML in UTF-8: a suite for each area, a test for each case.

    A case that was not run is skipped, with the reason; it is an ``error`` if it could not be set
    up, or if the kit made a mistake in it. A failed one has one ``failure`` that tells all its
    problems, because most readers of JUnit XML show only the first. A run that was broken off has
    a suite more, with an ``error`` that says why.
    """
    run = masked(run)
    report = JUnitXml("Cycles conformance")
    for area, cases in tally.by_area(run).items():
        suite = TestSuite(visible(area))
        suite.timestamp = visible(run.started_at)
        for name, value in _properties(run).items():
            suite.add_property(name, visible(value))
        for case in cases:
            suite.add_testcase(_testcase(case))
        report.add_testsuite(suite)
    if run.incomplete:
        report.add_testsuite(_broken_off(run))
    report.update_statistics()  # type: ignore[no-untyped-call]
    # Cases run side by side: their sum is not how long the run took.
    report.time = run.seconds
    out = io.BytesIO()
    report.write(out)
    return out.getvalue()


def _broken_off(run: RunResult) -> TestSuite:
    """Most readers look at the tests alone, and skipped ones are no alarm to them."""
    test = TestCase("the run comes to its end", "run", 0)
    test.result = [Error(visible(run.incomplete), "incomplete")]
    suite = TestSuite("run")
    suite.add_testcase(test)
    return suite


def _properties(run: RunResult) -> dict[str, str]:
    planes = {
        f"{name}.{member}": value
        for name, plane in run.planes.items()
        for member, value in asdict(plane).items()
    }
    return {
        "target": run.target,
        "contract": run.contract,
        "contract_sha256": run.contract_sha256,
        **planes,
        "kit_version": run.kit_version,
        "level": run.level,
        "seed": str(run.seed),
        "provisioning": run.provisioning,
        "verdict": tally.verdict_line(run),
        "incomplete": run.incomplete,
    }


def _testcase(case: CaseResult) -> TestCase:
    test = TestCase(visible(case.case), visible(case.area), round(case.seconds, 3))
    if case.problems or case.verdict == "failed":
        test.result = [_failure(case)]
    elif case.verdict == "not run":
        outcome = Error if case.setup_failed else Skipped
        test.result = [outcome(visible(case.reason) or "no reason given")]
    if case.kit_failure:
        test.result = [*test.result, _kit_failed(case, case.kit_failure)]
    return test


def _kit_failed(case: CaseResult, failure: KitFailure) -> Error:
    line = f"the kit failed: {case.case} {failure.step}: {failure.error}"
    error = Error(visible(one_line(line, 500)), "kit failed")
    error.text = visible(failure.traceback)
    return error


def _failure(case: CaseResult) -> Failure:
    problems = tally.problems(case)
    message = one_line(problems[0].message, 500) if problems else "failed"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    failure = Failure(visible(message), tally.gravest(case))
    told = [case.why, f"Cause: {cause_of(case)}"]
    if case.clauses:
        told.append(f"Clauses: {', '.join(case.clauses)}")
    if case.replay:
        told.append(f"Replay: {case.replay}")
    for problem in problems:
        told.append(f"{problem.level} {problem.step}: {shortened(problem.message)}")
        if problem.exchange is not None:
            told.append(exchange_text(problem.exchange))
            line = curl(problem.exchange)
            if len(line) <= LIMIT:
                told.append(line)
    failure.text = visible("\n\n".join(told))
    return failure

"""Failures grouped by what is behind them."""

from __future__ import annotations

import json

import pytest
from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.report import html, json_report, junit
from cycles_conformance.report.causes import Cause, cause_of, causes
from cycles_conformance.results import CaseResult, Level, Problem
from report_samples import case, run_of


def failed(
    name: str, message: str, step: str = "step 2 (commit)", level: Level = "MUST"
) -> CaseResult:
    return case(case=name, problems=[Problem(level, message, step)])


@pytest.mark.parametrize(
    ("step", "message", "cause"),
    [
        (
            "step 2.11 (GET /v1/x)",
            "status 409 BUDGET_EXCEEDED, expected status [200, 410]",
            "GET /v1/x: status 409 BUDGET_EXCEEDED, expected status [200, 410]",
        ),
        (
            "step 3 (ledger)",
            "tenant:ck-6f4d06d2bf35/agent:bot in TOKENS: remaining is -880, expected 1000",
            "ledger: tenant:… in TOKENS: remaining is …, expected …",
        ),
        (
            "step 1 (get)",
            'body /reservations/12/status is "ACTIVE", expected one of ["EXPIRED", {"a": [1]}]',
            "get: body /reservations/…/status is …, expected one of …",
        ),
        ("property", "no balance for tenant:ck-1/agent:a", "no balance for tenant:…"),
    ],
)
def test_a_cause_has_no_values(step: str, message: str, cause: str) -> None:
    assert cause_of(failed("a", message, step)) == cause


def test_every_failed_case_is_under_one_cause() -> None:
    run = run_of(
        failed("a", "status 500 INTERNAL_ERROR, expected status 200", level="SHOULD"),
        failed("b", "body /amount is 1, expected 2"),
        case(case="passes"),
        failed("c", "body /amount is 3, expected 4", "step 7 (commit)"),
        failed("d", "body /amount is 3, expected 4", "step 7 (release)"),
        case(
            case=AS_DECLARED.id,
            problems=[Problem("MUST", "contract: x", "step 1 (get)") for _ in range(3)],
        ),
    )
    assert causes(run) == [
        Cause("MUST", "commit: body /amount is …, expected …", ["b", "c"]),
        Cause("MUST", "answers are not as the contract declares them: 3 kinds", [AS_DECLARED.id]),
        Cause("MUST", "release: body /amount is …, expected …", ["d"]),
        Cause("SHOULD", "commit: status 500 INTERNAL_ERROR, expected status 200", ["a"]),
    ]
    told = json.loads(json_report.render(run))["causes"]
    assert told[0] == {"level": "MUST", "what": causes(run)[0].what, "cases": ["b", "c"]}
    assert "Cause: commit: body /amount is …, expected …" in junit.render(run).decode()
    page = html.render(run).decode()
    assert page.index("commit: body /amount is …, expected …") < page.index("What was run")
    assert '<a href="#failure-1"><code>b</code></a>' in page

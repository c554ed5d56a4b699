"""Hand-made runs for the tests of reports."""

from __future__ import annotations

from typing import Any

from cycles_conformance.results import CaseResult, Exchange, KitFailure, Problem, Reading, RunResult

KEY = "cyc_live_0123456789abcdef"
HUGE = "9007199254740993" + "0" * 20
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&]]>--> {{ 7*7 }} "
    "\x00\x07\x1b[31m\x9b\r\u202e\ufffe\ud800 \ufffd [bold red]markup[/] https://evil.example/x.js"
)


def exchange(**changes: Any) -> Exchange:
    values: dict[str, Any] = {
        "step": "step 2 (commit)",
        "method": "POST",
        "url": "http://127.0.0.1:7878/v1/reservations/r-1/commit",
        "request_headers": {"x-cycles-API-key": KEY, "Content-Type": "application/json"},
        "request_body": '{"actual":{"unit":"TOKENS","amount":150}}',
        "status": 200,
        "response_headers": {"content-type": "application/json"},
        "response_body": '{"released":{"unit":"TOKENS","amount":' + HUGE + "}}",
        "milliseconds": 12.5,
    }
    return Exchange(**(values | changes))


def case(**changes: Any) -> CaseResult:
    values: dict[str, Any] = {
        "case": "commit-returns-the-rest",
        "area": "commit",
        "level": "MUST",
        "why": "Budget that was held must be spendable again.",
        "clauses": ("commit.returns-rest",),
        "verdict": "failed" if changes.get("problems") else "passed",
        "seconds": 0.25,
    }
    return CaseResult(**(values | changes))


def run_of(*results: CaseResult, **changes: Any) -> RunResult:
    values: dict[str, Any] = {
        "target": "http://127.0.0.1:7878",
        "contract": "Cycles runtime API 0.1.25.16",
        "contract_sha256": "9f86d081" * 8,
        "kit_version": "1.0.0",
        "level": "SHOULD",
        "seed": 4242,
        "provisioning": "redis",
        "started_at": "2026-03-14T09:26:53Z",
        "seconds": 83.2,
        "results": list(results),
    }
    return RunResult(**(values | changes))


def failing(
    level: Any = "MUST", message: str = "body /amount: expected 250, got 240"
) -> CaseResult:
    shown = exchange()
    return case(
        case=f"fails-at-{level.lower()}",
        level=level,
        problems=[Problem(level, message, "step 2 (commit)", shown)],
        exchanges=[shown],
    )


def mixed_run(**changes: Any) -> RunResult:
    """Three areas, all verdicts, readings, and what is not offered."""
    return run_of(
        failing("MUST"),
        case(case="passes", readings=[Reading("step 1", "any debt blocks new work")]),
        case(case="passes-too", readings=[Reading("step 1", "any debt blocks new work")]),
        failing("SHOULD"),
        case(case="untried", area="evidence", verdict="not run", reason="no evidence is sent"),
        case(case="untried-2", area="evidence", verdict="not run", reason="no evidence is sent"),
        case(
            case="unprepared",
            area="balances",
            level="MAY",
            verdict="not run",
            reason="the budget could not be made",
            setup_failed=True,
        ),
        not_offered={"getEvidence": "404 NOT_FOUND"},
        **changes,
    )


def passing_run(**changes: Any) -> RunResult:
    return run_of(
        case(case="one"),
        case(case="two", level="SHOULD"),
        case(case="three", verdict="not run", reason="no admin key"),
        **changes,
    )


def hostile_run() -> RunResult:
    """Everything that a server can say is meant to do harm, and very long too."""
    shown = exchange(
        url=f"http://127.0.0.1:7878/v1/x?{KEY}",
        response_headers={"X-Evil": HOSTILE},
        response_body=HOSTILE + "x" * 20_000 + "THE END",
        request_body="y" * 20_000,
    )
    dead = exchange(status=None, failure=HOSTILE, response_headers={}, response_body="")
    return run_of(
        case(
            case="hostile",
            area=HOSTILE,
            problems=[
                Problem("SHOULD", HOSTILE, HOSTILE, dead),
                Problem("MUST", HOSTILE + KEY, HOSTILE, shown),
                Problem("MUST", "again", "step 3", shown),
                Problem("MAY", "without an exchange", "step 4"),
            ],
            exchanges=[dead, shown],
            readings=[Reading(HOSTILE, HOSTILE)],
            kit_failure=KitFailure(HOSTILE, HOSTILE + KEY, HOSTILE + KEY),
            seed=77,
            replay="cycles-conformance run --only x --seed 77",
        ),
        case(case="skipped", verdict="not run", reason=HOSTILE),
        not_offered={"getEvidence": HOSTILE},
    )

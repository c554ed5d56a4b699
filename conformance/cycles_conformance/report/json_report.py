"""A run as JSON.

Everything that the run holds, with secrets masked and nothing cut::

    {
      "format": 1,                        # raised when a member is renamed or removed
      "target": "http://127.0.0.1:7878",
      "contract": "Cycles runtime API 0.1.25.16",
      "contract_sha256": "…",
      "planes": {                         # only where there was more than the runtime
        "admin": {"target": "http://127.0.0.1:7979", "contract": "…", "contract_sha256": "…"}
      },
      "kit_version": "1.0.0",
      "level": "SHOULD",                  # the level that was asked for
      "seed": 7,
      "provisioning": "redis",
      "started_at": "2026-01-31T12:00:00Z",
      "seconds": 71.4,                    # of the whole run
      "conformant": false,
      "verdict": "NOT CONFORMANT at MUST: 4 of 300 cases failed",
      "incomplete": "",                   # or why the run was broken off: "interrupted", …
      "notes": [],                        # how the run went, such as that the server was slow
      "totals": {"passed": 408, "failed": 4, "not_run": 3, "kit_failed": 0, "setup_failed": 0},
      "levels": {
        "MUST": {                         # and SHOULD, MAY
          "state": "failed",              # conformant, clean (a stricter level failed, or the
                                          # run is incomplete), failed,
                                          # not run
          "failed": 4,                    # cases that show a problem of this level
          "tried": 300,
          "not_run": 2
        }
      },
      "areas": {                          # levels that have no case in the run are left out
        "commit": {"MUST": {"passed": 20, "failed": 1, "not_run": 0, "kit_failed": 0}}
      },
      "causes": [                         # every failed case under one of them
        {"level": "MUST", "what": "commit: status 500 INTERNAL_ERROR, expected status 200",
         "cases": ["commit-charges-actual"]}
      ],
      "readings": {"any debt blocks new work": ["debt-blocks-reserve"]},
      "not_run": {"no admin key was given": ["admin-lists-for-tenant"]},
      "not_offered": {"getEvidence": "404"},   # plane.operationId beside the runtime
      "results": [
        {
          "case": "commit-charges-actual", "area": "commit", "level": "MUST",
          "why": "…", "clauses": ["commit.charges"],
          "verdict": "failed",            # passed, failed, not run, kit failed
          "reason": "",                   # why it was not run
          "setup_failed": false,          # not run because setting it up went wrong
          "kit_failure": null,            # or {"step", "error", "traceback"}: a mistake of the
                                          # kit, which says nothing of the server
          "problems": [
            {"level": "MUST", "message": "…", "step": "…", "exchange": EXCHANGE or null,
             "curl": "curl …" or null}
          ],
          "readings": [{"step": "…", "saw": "…"}],
          "exchanges": [EXCHANGE],
          "seconds": 0.31,
          "seed": null,                   # for property checks: what the choices begin with
          "replay": ""                    # for property checks: the command that runs it again
        }
      ]
    }

An EXCHANGE has ``step``, ``method``, ``url``, ``request_headers``, ``request_body`` (or null),
``status`` (null when no answer came), ``response_headers``, ``response_body``, ``milliseconds``
and ``failure`` (null, or why no answer came). Bodies are texts, as sent and received.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cycles_conformance.report import tally
from cycles_conformance.report.causes import causes
from cycles_conformance.report.curl import curl
from cycles_conformance.report.mask import masked
from cycles_conformance.results import CaseResult, RunResult

FORMAT = 1


def render(run: RunResult) -> bytes:
    """The run as JSON in UTF-8; its shape is told above."""
    run = masked(run)
    levels = {one.level: asdict(one) for one in tally.verdicts(run)}
    for one in levels.values():
        del one["level"]
    report = {
        "format": FORMAT,
        "target": run.target,
        "contract": run.contract,
        "contract_sha256": run.contract_sha256,
        **(
            {"planes": {name: asdict(one) for name, one in run.planes.items()}}
            if run.planes
            else {}
        ),
        "kit_version": run.kit_version,
        "level": run.level,
        "seed": run.seed,
        "provisioning": run.provisioning,
        "started_at": run.started_at,
        "seconds": run.seconds,
        "conformant": run.conformant,
        "verdict": tally.verdict_line(run),
        "incomplete": run.incomplete,
        "notes": run.notes,
        "totals": {
            **asdict(tally.tally(run.results)),
            "setup_failed": tally.setup_failed(run),
        },
        "levels": levels,
        "areas": {
            area: {level: asdict(counts) for level, counts in by_level.items() if counts.total}
            for area, by_level in tally.by_area_and_level(run).items()
        },
        "causes": [asdict(cause) for cause in causes(run)],
        "readings": tally.readings(run),
        "not_run": tally.not_run(run),
        "not_offered": run.not_offered,
        "results": [_case(case) for case in run.results],
    }
    # A lone surrogate has no UTF-8; written as a backslash escape it is JSON all the same.
    text = json.dumps(report, ensure_ascii=False, indent=1)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _case(case: CaseResult) -> dict[str, Any]:
    plain = asdict(case)
    for problem, shown in zip(case.problems, plain["problems"], strict=True):
        shown["curl"] = problem.exchange and curl(problem.exchange)
    return plain

"""The steps of a case against a small server with scripted answers."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cycles_conformance.planes import OperationRef
from cycles_conformance.provisioners import Change
from cycles_conformance.results import CaseResult
from fake_cycles import (
    CLOSED,
    TENANT,
    TRACE_ID,
    FakeProvisioner,
    FakeServer,
    Reply,
    Request,
    balance,
    balances,
    collected,
    committed,
    granted,
    in_turn,
    outcomes,
    refusal,
    reply,
    reservation,
    serving,
)

Play = Callable[..., tuple[CaseResult, FakeServer]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs steps against a server that gives the answers in turn (or those of a function): what
    came of them, or with ``declared=True`` of the check of all answers. The question whether the
    server is there at all, which follows a missing answer, is no part of them."""

    def played(
        steps: str, *replies: Reply | Callable[[Request], Reply], **options: Any
    ) -> tuple[CaseResult, FakeServer]:
        first = replies[0]
        steps_get = in_turn(*replies) if isinstance(first, Reply) else first  # type: ignore[arg-type]

        def script(request: Request) -> Reply:
            return refusal(401, "UNAUTHORIZED") if is_anyone_there(request) else steps_get(request)

        head, level = options.pop("head", ""), options.pop("level", "MUST")
        declared = options.pop("declared", False)
        with serving(script) as server:
            cases = collected(tmp_path / "cases", steps, head=head, level=level)
            result = outcomes(cases, server.url, **options)[declared]
        server.requests = [one for one in server.requests if not is_anyone_there(one)]
        return result, server

    return played


def is_anyone_there(request: Request) -> bool:
    asked = (request.method, request.path) == ("GET", "/v1/reservations?limit=1")
    return asked and "x-cycles-api-key" not in request.headers


def messages(result: CaseResult) -> list[str]:
    return [problem.message for problem in result.problems]


def query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.path).query, keep_blank_values=True)


# -- what is sent ---------------------------------------------------------------------------------


def test_a_template_and_what_a_step_changes_in_it(play: Play) -> None:
    result, server = play(
        """
- do: reserve
  body:
    estimate: {amount: {$sum: [40, 2]}}
    ttl_ms: null
    subject: {agent: bot}
    metadata: {for: "${tenant}"}
  headers: {x-cycles-api-key: "Bearer ${key:tenant}", X-Extra: 7}
  query: {a: "x y&z", b: [1, two, true], c: null, d: ""}
- {do: commit, as: nobody, body: {idempotency_key: "same"}}
- {do: release, as: admin}
- {do: get, path: {reservation_id: "a/b"}, as: reader}
""",
        granted(7),
        committed(),
        reply(200, {"status": "RELEASED", "released": {"unit": "TOKENS", "amount": 1}}),
        refusal(404, "NOT_FOUND"),
        head="given: {keys: {reader: {}}}",
        admin_key="root-key",
    )
    reserve, commit, release, get = server.requests
    body = reserve.body
    assert body.pop("idempotency_key").startswith("k-")
    assert body == {
        "subject": {"tenant": TENANT, "agent": "bot"},
        "action": {"kind": "llm.completion", "name": "provider:model"},
        "estimate": {"unit": "TOKENS", "amount": 42},
        "metadata": {"for": TENANT},
    }
    assert reserve.method == "POST"
    assert reserve.path == "/v1/reservations?a=x%20y%26z&b=1&b=two&b=true&d="
    # The header that the step sets takes the place of the usual one, whatever its case.
    assert reserve.headers["x-cycles-api-key"] == "Bearer secret-tenant"
    assert reserve.headers["x-extra"] == "7"
    assert reserve.headers["content-type"] == "application/json"
    assert commit.path == "/v1/reservations/rsv-7/commit"
    assert commit.body["idempotency_key"] == "same"
    assert "x-cycles-api-key" not in commit.headers
    assert release.headers["x-admin-api-key"] == "root-key"
    assert "x-cycles-api-key" not in release.headers
    assert get.path == "/v1/reservations/a%2Fb"
    assert get.headers["x-cycles-api-key"] == "secret-reader"
    assert (get.text, "content-type" in get.headers) == ("", False)
    assert messages(result) == ["status 404 NOT_FOUND, expected status 2xx"]


def test_bodies_that_are_sent_as_they_are(play: Play) -> None:
    result, server = play(
        """
- {do: reserve, body_exact: {a: null, big: 9223372036854775808, l: []}}
- {do: reserve, body_exact: null}
- {do: reserve, raw: '{"a": 1,, ü', headers: {Content-Type: text/plain}}
- {do: reserve, raw: "", headers: {content-type: null, X-Cycles-API-Key: null}}
- {send: PUT /v1/nowhere?x=1, body_exact: [1], query: {y: 2}, expect: {status: 200}}
""",
        granted(),
    )
    assert result.verdict == "passed"
    exact, null, raw, empty, sent = server.requests
    assert exact.body == {"a": None, "big": 2**63, "l": []}
    assert null.text == "null"
    assert (raw.text, raw.headers["content-type"]) == ('{"a": 1,, ü', "text/plain")
    assert empty.text == ""
    assert "content-type" not in empty.headers
    assert "x-cycles-api-key" not in empty.headers
    assert (sent.method, sent.path, sent.text) == ("PUT", "/v1/nowhere?x=1&y=2", "[1]")


def test_values_from_one_step_to_the_next(play: Play) -> None:
    result, server = play(
        """
- {do: reserve, save: {expires: /expires_at_ms, id: header X-Request-Id}}
- do: list
  query:
    a: "${id}-${extra}"
    b: {$sum: ["${expires}", 1]}
    c: {$iso: "${expires}"}
    d: "${self} ${tenant} ${other}"
    e: "${long:5}"
  as: other
- {do: list, query: {a: "${extra}", k: "${key:other}"}}
""",
        granted(),
        reply(200, {"reservations": []}),
        head='vars: {extra: "${new}"}\ngiven: {tenants: {tenant: {}, other: {}}}',
    )
    assert result.verdict == "passed"
    first, second = query(server.requests[1]), query(server.requests[2])
    # A variable is computed once.
    assert first["a"] == [f"r-1-{second['a'][0]}"]
    assert first["b"] == ["2000000000001"]
    assert first["c"] == ["2033-05-18T03:33:20.000Z"]
    assert first["d"] == ["t-other t-tenant t-other"]
    assert first["e"] == ["xxxxx"]
    assert second["k"] == ["secret-other"]


# -- what is expected -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("{status: 200}", None),
        ("{status: [201, 200]}", None),
        ("{status: 2xx}", None),
        ("{status: 4xx}", "status 200, expected status 4xx"),
        ("{status: [409, 410]}", "status 200, expected status [409, 410]"),
        ("{body: {decision: ALLOW, reason_code: {$absent: true}}}", None),
        ("{body: {decision: DENY}}", 'body /decision is "ALLOW", expected "DENY"'),
        ("{body: {reserved: {amount: 1}}}", "body /reserved/amount is 100, expected 1"),
        ("{body: {reserved: {unit: '${unit}'}}}", None),
        ("{headers: {X-REQUEST-ID: r-1, X-None: {$absent: true}}}", None),
        ("{headers: {X-None: a}}", 'header X-None is missing, expected "a"'),
        (
            "{headers: {X-Request-Id: {$matches: ^q}}}",
            'header X-Request-Id is "r-1", expected matches "^q"',
        ),
        ('{text: {$matches: \'"decision": "ALLOW"\'}}', None),
        ("{text: {$matches: 'nowhere'}}", 'expected matches "nowhere"'),
        ("{error: BUDGET_EXCEEDED}", 'error is null, expected "BUDGET_EXCEEDED"'),
        ("{body: {$schema: ReservationCreateResponse}}", None),
        ("{body: {$schema: Amount}}", "body /: /: 'unit' is a required property"),
    ],
)
def test_expectations(play: Play, expect: str, says: str | None) -> None:
    result, _ = play(f"- {{do: reserve, expect: {expect}}}", granted())
    if says is None:
        assert (result.verdict, messages(result)) == ("passed", [])
    else:
        assert result.verdict == "failed"
        assert any(says in message for message in messages(result)), messages(result)
        assert all(problem.step == "step 1 (reserve)" for problem in result.problems)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("BUDGET_EXCEEDED", None),
        ("[BUDGET_FROZEN, BUDGET_EXCEEDED]", None),
        ("BUDGET_FROZEN", 'error is "BUDGET_EXCEEDED", expected "BUDGET_FROZEN"'),
        ("[A, B]", 'error is "BUDGET_EXCEEDED", expected ["A", "B"]'),
    ],
)
def test_error_codes(play: Play, error: str, says: str | None) -> None:
    steps = f"- {{do: reserve, expect: {{status: 409, error: {error}}}}}"
    result, _ = play(steps, refusal(409, "BUDGET_EXCEEDED"))
    assert messages(result) == ([] if says is None else [says])


def test_without_an_expectation_a_request_must_succeed(play: Play) -> None:
    result, server = play("- do: reserve\n- do: commit", refusal(409, "BUDGET_EXCEEDED"))
    assert messages(result) == ["status 409 BUDGET_EXCEEDED, expected status 2xx"]
    assert len(server.requests) == 1, "the first problem ends the case"


def test_same_as(play: Play) -> None:
    steps = """
- {do: reserve, name: first}
- {do: reserve, expect: {same_as: %s}}
"""
    differing = [granted(remaining_ttl_ms=5), granted(remaining_ttl_ms=4)]
    result, _ = play(steps % "first", granted(), granted())
    assert result.verdict == "passed"
    result, _ = play(steps % "{step: first, except: [/remaining_ttl_ms]}", *differing)
    assert result.verdict == "passed"
    result, _ = play(steps % "first", *differing)
    [message] = messages(result)
    assert message.startswith("the body differs from that of first: ")
    result, _ = play(steps % "first", granted(), refusal(409, "BUDGET_EXCEEDED"))
    assert messages(result) == ["status 409 BUDGET_EXCEEDED, expected the same as first: 200"]


def test_an_answer_without_what_is_saved(play: Play) -> None:
    result, _ = play("- {do: reserve, save: {x: /caps/max_tokens}}", granted())
    assert messages(result) == ["status 200 has no /caps/max_tokens, which a later step needs"]
    result, _ = play("- {do: reserve, save: {x: header X-None}}", granted())
    assert messages(result) == ["status 200 has no header X-None, which a later step needs"]


def test_a_case_that_needs_what_may_be_left_out_is_not_run(play: Play) -> None:
    bare = {"decision": "ALLOW", "reservation_id": "rsv-1", "affected_scopes": []}
    result, _ = play("- {do: reserve, save: {x: /expires_at_ms}}", reply(200, bare))
    assert (result.verdict, result.problems) == ("not run", [])
    assert result.reason == "the server does not tell /expires_at_ms, which is optional there"


# -- a server with a rate limit, and a connection that breaks -----------------------------------

RATE_LIMITED = reply(
    429,
    {"error": "LIMIT_EXCEEDED", "message": "no", "request_id": "r-1", "trace_id": TRACE_ID},
    retry_after="0",
)


def test_a_rate_limited_request_is_sent_again(play: Play) -> None:
    result, server = play("- {do: reserve}", *(3 * [RATE_LIMITED]), granted())
    assert result.verdict == "passed"
    assert len(server.requests) == 4


def test_rate_limited_requests_at_the_same_time_are_sent_again(play: Play) -> None:
    result, server = play(
        """
- parallel:
    - {do: reserve, times: 3}
  outcomes:
    - {status: 200, count: 3}
""",
        *(4 * [RATE_LIMITED]),
        granted(),
    )
    assert result.verdict == "passed"
    assert len(server.requests) == 7


def test_a_rate_limited_request_is_not_sent_again_where_that_is_the_matter(play: Play) -> None:
    result, server = play("- {do: jwks, expect: {status: [404, 429]}}", RATE_LIMITED)
    assert result.verdict == "passed"
    assert len(server.requests) == 1


def test_a_request_whose_connection_was_closed_is_sent_once_more(play: Play) -> None:
    result, server = play("- {do: reserve}", CLOSED, granted())
    assert result.verdict == "passed"
    first, second = server.requests
    assert first.text == second.text
    result, server = play("- {do: reserve}", CLOSED, CLOSED, granted())
    assert result.verdict == "failed"
    assert len(server.requests) == 2


def test_an_answer_that_breaks_off_is_a_failure(play: Play) -> None:
    broken = dataclasses.replace(granted(), declared_length=10_000)
    result, server = play("- {do: reserve}", broken, granted())
    assert result.verdict == "failed"
    assert len(server.requests) == 1


# -- the contract, whatever the case says ---------------------------------------------------------


def test_no_case_ends_on_a_breach(play: Play) -> None:
    steps = "- {do: reserve}\n- {do: reserve, expect: {body: {decision: DENY}}}"
    result, server = play(steps, granted(surprise=1), level="MAY")
    assert [(problem.level, problem.message) for problem in result.problems] == [
        ("MAY", 'body /decision is "ALLOW", expected "DENY"'),
    ]
    assert len(server.requests) == 2


def test_a_kind_of_breach_is_said_once_and_is_a_must(play: Play) -> None:
    steps = "- {do: reserve, times: 3}\n- {do: balances, times: 2}"
    result, _ = play(
        steps,
        granted(surprise=1, decision="MAYBE"),
        granted(surprise=2, decision="PERHAPS"),
        granted(),
        balances(balance(remaining=1), {**balance(remaining=1), "debt": None}),
        balances({**balance(remaining=1), "debt": None, "spent": None}),
        level="MAY",
        declared=True,
    )
    assert (result.level, result.verdict) == ("MUST", "failed")
    assert [problem.message for problem in result.problems] == [
        "contract: body /: Additional properties are not allowed ('surprise' was unexpected): "
        "2 answers of createReservation, first in the-case",
        "contract: body /balances/1/debt: null is not of type 'object': 2 answers of getBalances, "
        "first in the-case",
        "contract: body /balances/0/spent: null is not of type 'object': 1 answer of getBalances, "
        "first in the-case",
        "contract: body /decision: 'MAYBE' is not one of ['ALLOW', 'ALLOW_WITH_CAPS', 'DENY']: "
        "2 answers of createReservation, first in the-case",
    ]
    first = result.problems[0].exchange
    assert first is not None and '"surprise": 1' in first.response_body
    assert {problem.level for problem in result.problems} == {"MUST"}


def test_what_is_null_and_may_not_be_counts_as_absent(play: Play) -> None:
    steps = """
- {do: reserve, expect: {body: {caps: {$absent: true}, decision: ALLOW}}}
- {pages: list, rows: []}
- {ledger: [{remaining: 5, debt: 0}]}
- {do: reserve, expect: {body: {reserved: {$present: true}}}}
"""
    result, _ = play(
        steps,
        granted(caps=None),
        reply(200, {"reservations": [], "next_cursor": None, "has_more": None}),
        balances({**balance(allocated=5, remaining=5), "debt": None, "is_over_limit": None}),
        granted(reserved=None),
    )
    assert messages(result) == ['body /reserved is missing, expected {"$present": true}']


def test_an_undeclared_status_is_a_breach_unless_the_step_names_it(play: Play) -> None:
    answer = refusal(404, "NOT_FOUND")
    result, _ = play("- {do: balances, expect: {status: 4xx}}", answer, declared=True)
    [message] = messages(result)
    assert message.startswith("contract: status 404 is not declared for getBalances: 1 answer")
    result, _ = play("- {do: balances, expect: {status: 404}}", answer, declared=True)
    assert result.verdict == "passed"
    readings = "- {do: balances, readings: [{saw: a, status: 200}, {saw: b, status: [403, 404]}]}"
    result, _ = play(readings, answer, declared=True)
    assert result.verdict == "passed"


def test_a_request_of_no_template_is_free_of_the_contract(play: Play) -> None:
    result, _ = play(
        "- {send: GET /, expect: {status: 418, text: {$matches: teapot}}}",
        Reply(418, b"<teapot>", {}),
    )
    assert result.verdict == "passed"


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"\xff\xfe", {"content-type": "application/json"}),
        Reply(200, b"[" * 50_000, {}),
        Reply(200, b"{}", {"content-type": "application/json", "content-encoding": "gzip"}),
        Reply(200, b"null", {"content-type": "application/json"}),
        Reply(200, b"[1, 2]", {}),
        Reply(204, b"", {}),
        Reply(200, b"9" * 10_000, {}),
    ],
)
@pytest.mark.parametrize(
    "step",
    [
        "{do: reserve, save: {x: /a/0}}",
        "{pages: list}",
        "{ledger: [{remaining: 1}]}",
        "{parallel: [{do: reserve, times: 2}], outcomes: [{status: 200, count: 2}], same: []}",
    ],
)
def test_answers_that_are_nonsense(play: Play, step: str, answer: Reply) -> None:
    result, _ = play(f"- {step}", answer)
    assert result.kit_failure is None
    assert result.exchanges
    declared, _ = play(f"- {step}", answer, declared=True)
    assert "failed" in (result.verdict, declared.verdict)
    assert all(problem.level == "MUST" for problem in (*result.problems, *declared.problems))


def test_a_valid_answer_that_a_later_step_cannot_work_with(play: Play) -> None:
    result, _ = play(
        "- {do: reserve, save: {t: /expires_at_ms}}\n- {do: list, query: {from: {$iso: '${t}'}}}",
        granted(expires_at_ms=2**63 - 1),
    )
    assert messages(result) == [
        "the answers make no sense together: 9223372036854775807 ms is a time that no calendar has"
    ]
    assert result.problems[0].exchange is not None


def test_a_value_that_nothing_has_set(play: Play) -> None:
    # Whether it is set depends on the answer: only the run can tell.
    result, server = play(
        """
- {do: reserve, expect: {status: 409}}
- do: commit
""",
        refusal(409, "BUDGET_EXCEEDED"),
    )
    # The case's own mistake: the server answered as it should.
    assert (result.verdict, result.problems) == ("kit failed", [])
    assert result.kit_failure is not None
    assert result.kit_failure.error == "UnknownValue: nothing has set ${reservation}"
    assert len(server.requests) == 1


# -- readings -------------------------------------------------------------------------------------

READINGS = """
- do: reserve
  readings:
    - saw: it is granted
      status: 200
      save: {seen: /reservation_id}
      then:
        - {do: commit, path: {reservation_id: "${seen}"}}
    - saw: it is refused
      status: 409
      error: DEBT_OUTSTANDING
- {do: list, query: {later: "${seen}"}}
"""


def test_the_reading_that_is_seen(play: Play) -> None:
    result, server = play(READINGS, granted(3), committed(), reply(200, {"reservations": []}))
    assert result.verdict == "passed"
    assert [(reading.step, reading.saw) for reading in result.readings] == [
        ("step 1 (reserve)", "it is granted")
    ]
    assert [request.path for request in server.requests] == [
        "/v1/reservations",
        "/v1/reservations/rsv-3/commit",
        "/v1/reservations?later=rsv-3",
    ]
    assert [exchange.step for exchange in result.exchanges] == [
        "step 1 (reserve)",
        "step 1.1 (commit)",
        "step 2 (list)",
    ]


def test_the_steps_of_another_reading_are_not_done(play: Play) -> None:
    result, server = play(READINGS, refusal(409, "DEBT_OUTSTANDING"))
    assert [reading.saw for reading in result.readings] == ["it is refused"]
    assert len(server.requests) == 1


def test_no_reading_fits(play: Play) -> None:
    result, _ = play(READINGS, refusal(409, "BUDGET_EXCEEDED"))
    assert messages(result) == [
        "status 409 BUDGET_EXCEEDED fits none of the answers that are allowed: "
        "it is granted; it is refused"
    ]
    assert result.readings == []


def test_a_reading_is_told_once_though_its_values_change(play: Play) -> None:
    # `new` is another text each time it is read: the choice must not be made twice.
    steps = """
- do: list
  readings:
    - {saw: never, body: {next_cursor: "${new}"}}
    - {saw: always, status: 200}
"""
    result, _ = play(steps, reply(200, {"reservations": []}))
    assert [reading.saw for reading in result.readings] == ["always"]


# -- the same request again -----------------------------------------------------------------------


def test_times(play: Play) -> None:
    result, server = play("- {do: reserve, times: 3}", granted())
    assert result.verdict == "passed"
    assert len({request.body["idempotency_key"] for request in server.requests}) == 3
    result, server = play(
        "- {do: reserve, times: 5}", granted(), granted(), refusal(409, "BUDGET_EXCEEDED")
    )
    assert result.verdict == "failed"
    assert len(server.requests) == 3


def test_until(play: Play) -> None:
    steps = "- {do: get, path: {reservation_id: r}, until: %s, expect: {status: 404}}"
    busy = refusal(500, "INTERNAL_ERROR")
    result, server = play(steps % 20, busy, busy, refusal(404, "NOT_FOUND"))
    assert result.verdict == "passed"
    assert len(server.requests) == 3
    result, server = play(steps % 0.001, busy)
    assert messages(result) == ["status 500 INTERNAL_ERROR, expected status 404"]
    # Once more after the time is up, in case the last try was a while ago.
    assert len(server.requests) <= 2


# -- at the same time -----------------------------------------------------------------------------

RACE = """
- parallel:
    - {do: reserve, times: 4}
    - {do: list, as: nobody}
  outcomes:
    - {status: 200, count: %s}
    - {status: 409, error: BUDGET_EXCEEDED, count: {$range: [0, 2]}}
    - {status: 401, count: 1}
"""


def together(*granting: Reply) -> Callable[[Request], Reply]:
    """Answers only when all five requests are there: they must be sent at the same time."""
    everyone = threading.Barrier(5, timeout=20)
    next_grant = in_turn(*granting)

    def script(request: Request) -> Reply:
        everyone.wait()
        return refusal(401, "UNAUTHORIZED") if request.method == "GET" else next_grant(request)

    return script


def test_outcomes_are_counted(play: Play) -> None:
    refused = refusal(409, "BUDGET_EXCEEDED")
    script = together(granted(), granted(), refused, refused)
    result, server = play(RACE % 2, script)
    assert (result.verdict, messages(result)) == ("passed", [])
    assert len({r.body["idempotency_key"] for r in server.requests if r.text}) == 4


def test_a_wrong_count(play: Play) -> None:
    refused = refusal(409, "BUDGET_EXCEEDED")
    result, _ = play(RACE % 3, together(granted(), refused, refused, refused))
    assert messages(result) == [
        '1 of 5 answers are {"status": 200}, expected 3',
        '3 of 5 answers are {"status": 409, "error": "BUDGET_EXCEEDED"}, '
        'expected {"$range": [0, 2]}',
    ]


def test_an_answer_that_is_no_outcome(play: Play) -> None:
    odd = refusal(409, "BUDGET_FROZEN")
    result, _ = play(RACE % 3, together(odd, granted(), granted(), granted()))
    assert messages(result) == [
        "status 409 BUDGET_FROZEN fits none of the outcomes that are allowed"
    ]
    assert result.problems[0].exchange is not None
    assert result.problems[0].exchange.status == 409


def test_breaches_count_at_the_same_time_as_well(play: Play) -> None:
    result, _ = play(RACE % 4, together(granted(surprise=1)), level="MAY", declared=True)
    assert [": 4 answers of createReservation" in message for message in messages(result)] == [True]


@pytest.mark.parametrize(("same", "fits"), [("[/remaining_ttl_ms]", True), ("[]", False)])
def test_answers_that_must_be_the_same(play: Play, same: str, fits: bool) -> None:
    steps = f"""
- parallel: [{{do: reserve, times: 2}}]
  outcomes: [{{status: 200, count: 2}}]
  same: {same}
"""
    result, _ = play(steps, granted(remaining_ttl_ms=1), granted(remaining_ttl_ms=2))
    assert [message[:19] for message in messages(result)] == (
        [] if fits else ["two answers differ:"]
    )


# -- short leases ---------------------------------------------------------------------------------

IN_TIME = """
- {do: reserve, body: {ttl_ms: "${lease:100}", grace_period_ms: 0}}
- {do: get, in_time: true, expect: {body: {status: ACTIVE}}}
- {wait: {lease: 100, more: 1}}
- {do: get}
"""


def late(*seconds: float) -> Callable[[Request], Reply]:
    """Answers each look at a reservation so many seconds late, in turn; the last one repeats."""
    left = list(seconds)

    def answer(request: Request) -> Reply:
        if request.method == "POST":
            return granted()
        time.sleep(left.pop(0) if len(left) > 1 else left[0])
        return reply(200, reservation(1))

    return answer


def test_a_case_that_was_too_slow_begins_again_with_a_longer_lease(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cycles_conformance.execution.patience._MORE_MS", 500)
    result, server = play(IN_TIME, late(0.4, 0))
    assert (result.verdict, messages(result)) == ("passed", [])
    asked = [request.body["ttl_ms"] for request in server.requests if request.method == "POST"]
    assert len(server.requests) == 5
    assert 100 <= asked[0] < 400
    assert asked[1] >= 600


def test_a_wire_too_slow_for_a_case_is_no_verdict(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cycles_conformance.execution.patience._MORE_MS", 0)
    monkeypatch.setattr("cycles_conformance.execution.patience._ROUND_TRIPS", 0)
    result, server = play(IN_TIME, late(0.2))
    assert result.verdict == "not run"
    assert result.reason.startswith("the wire is too slow")
    assert len(server.requests) == 8


def test_what_is_wrong_in_time_is_wrong(play: Play) -> None:
    result, server = play(IN_TIME.replace("ACTIVE", "COMMITTED"), late(0))
    assert messages(result) == ['body /status is "ACTIVE", expected "COMMITTED"']
    assert len(server.requests) == 2


# -- pages ----------------------------------------------------------------------------------------


def page(*numbers: int, cursor: str | None = None, **members: Any) -> Reply:
    body = {"reservations": [reservation(number) for number in numbers], **members}
    return reply(200, body if cursor is None else {**body, "next_cursor": cursor})


def test_pages_are_read_to_the_end(play: Play) -> None:
    result, server = play(
        """
- pages: list
  query: {limit: 2, status: ACTIVE}
  rows: {$set: [{reservation_id: rsv-2}, {reservation_id: rsv-1}, {reservation_id: rsv-3}]}
  save: {first: /0/reservation_id}
- {do: get, path: {reservation_id: "${first}"}, expect: {status: 404}}
""",
        page(1, 2, cursor="c&1", has_more=True),
        page(3, has_more=False),
        refusal(404, "NOT_FOUND"),
    )
    assert (result.verdict, messages(result)) == ("passed", [])
    first, second, get = server.requests
    assert query(first) == {"limit": ["2"], "status": ["ACTIVE"]}
    assert query(second) == {"limit": ["2"], "status": ["ACTIVE"], "cursor": ["c&1"]}
    assert get.path == "/v1/reservations/rsv-1"


def test_a_row_that_comes_again_counts_once_where_no_order_is_asked_for(play: Play) -> None:
    replies = page(1, 2, cursor="c"), page(2, 1, cursor="d"), page(3)
    result, _ = play("- {pages: list, rows: {$length: 3}}", *replies)
    assert messages(result) == []
    result, _ = play("- {pages: list, repeats: false}", *replies)
    assert [message[-11:] for message in messages(result)] == ["comes twice"]


@pytest.mark.parametrize(
    ("members", "replies", "says"),
    [
        (
            "query: {limit: 1}",
            [page(1, 2)],
            "2 rows on a page with limit 1",
        ),
        ("", [page(1, has_more=True)], "has_more is true and next_cursor null"),
        (
            "",
            [page(1, cursor="c", has_more=False)],
            'has_more is false and next_cursor "c"',
        ),
        (
            "",
            [
                page(1, cursor="c"),
                reply(200, {"reservations": [{**reservation(1), "status": "RELEASED"}]}),
            ],
            'rows / has "rsv-1" at /reservation_id twice',
        ),
        ("repeats: false", [page(1, cursor="c"), page(1)], '{"reservation_id": "rsv-1"'),
        ("query: {sort_by: status}", [page(1, cursor="c"), page(1)], '{"reservation_id": "rsv-1"'),
        ("rows: {$length: 2}", [page(1)], "rows / has length 1, expected 2"),
        ("rows: [{status: COMMITTED}]", [page(1)], 'rows /0/status is "ACTIVE", expected "COMMIT'),
        ("save: {x: /5/a}", [page(1)], "the rows have no /5/a, which a later step needs"),
        (
            "most: 3",
            [page(n, cursor="more") for n in range(9)],
            "the list goes on after 3 pages and 3 rows",
        ),
        ("", [refusal(400, "INVALID_REQUEST")], "status 400 INVALID_REQUEST, expected status 2xx"),
    ],
)
def test_pages_with_a_fault(play: Play, members: str, replies: list[Reply], says: str) -> None:
    result, _ = play(f"- pages: list\n  {members}", *replies)
    [message] = messages(result)
    assert message.startswith(says)
    assert result.problems[0].exchange is not None


# -- the ledger -----------------------------------------------------------------------------------

LEDGER = """
- ledger:
    - {remaining: 850, spent: 150, reserved: 0, debt: 0, over: false}
    - {scope: "agent:bot", unit: CREDITS, allocated: {$range: [1, 9]}}
"""


def test_the_ledger(play: Play) -> None:
    rows = [
        balance(allocated=1000, remaining=850, spent=150, reserved=0),
        # What is not told, and may be left out, is passed over.
        balance(f"tenant:{TENANT}/agent:bot", "CREDITS", remaining=5),
        balance(f"tenant:{TENANT}/agent:bot", "TOKENS", remaining=5),
    ]
    script = in_turn(balances(*rows[:2], next_cursor="more"), balances(rows[2]))
    result, server = play(LEDGER, script)
    assert (result.verdict, messages(result)) == ("passed", [])
    assert [query(request) for request in server.requests] == [
        {"tenant": [TENANT], "limit": ["200"]},
        {"tenant": [TENANT], "limit": ["200"], "cursor": ["more"]},
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [balance(remaining=849, spent=150)],
            ["tenant:t-tenant in TOKENS: remaining is 849, expected 850"],
        ),
        (
            [balance(remaining=850, debt=3) | {"is_over_limit": True}],
            [
                "tenant:t-tenant in TOKENS: debt is 3, expected 0",
                "tenant:t-tenant in TOKENS: is_over_limit is true, expected false",
            ],
        ),
        ([], ["0 balances for tenant:t-tenant in TOKENS, expected one"]),
        (
            [balance(remaining=850), balance(remaining=850, spent=150, allocated=1000)],
            ["2 balances for tenant:t-tenant in TOKENS, expected one"],
        ),
        (
            [balance(allocated=1000, remaining=850, spent=100, reserved=0, debt=0)],
            [
                "tenant:t-tenant: remaining is 850, and allocated - spent - reserved - debt is "
                "1000 - 100 - 0 - 0",
                "tenant:t-tenant in TOKENS: spent is 100, expected 150",
            ],
        ),
        (
            [balance(remaining=850) | {"spent": {"unit": "CREDITS", "amount": 150}}],
            ["tenant:t-tenant: a balance in several units: ['CREDITS', 'TOKENS']"],
        ),
    ],
)
def test_a_ledger_that_is_wrong(play: Play, rows: list[Any], says: list[str]) -> None:
    steps = "- ledger: [{remaining: 850, spent: 150, debt: 0, over: false}]"
    result, _ = play(steps, balances(*rows))
    assert messages(result) == says
    assert result.problems[0].step == "step 1 (ledger)"
    assert result.problems[0].exchange is not None


def test_a_ledger_that_becomes_right(play: Play) -> None:
    result, server = play(
        "- {ledger: [{reserved: 0}], within: 20}",
        balances(balance(remaining=5, reserved=1)),
        balances(balance(remaining=5, reserved=0)),
    )
    assert result.verdict == "passed"
    assert len(server.requests) == 2


def test_the_ledgers_of_two_tenants(play: Play) -> None:
    def script(request: Request) -> Reply:
        tenant = query(request)["tenant"][0]
        assert request.headers["x-cycles-api-key"] == tenant.replace("t-", "secret-")
        return balances(balance(f"tenant:{tenant}", remaining=1 if tenant == TENANT else 2))

    result, _ = play(
        "- ledger: [{remaining: 1}, {tenant: other, remaining: 3}]",
        script,
        head="given: {tenants: {tenant: {}, other: {}}}",
    )
    assert messages(result) == ["tenant:t-other in TOKENS: remaining is 2, expected 3"]


# -- provisioning ---------------------------------------------------------------------------------


def test_changes(play: Play) -> None:
    provisioner = FakeProvisioner()
    result, _ = play(
        """
- provision: {freeze: "agent:a"}
- provision: {unfreeze: {tenant: other, scope: "agent:${tenant}", unit: TOKENS}}
- provision: {fund: {amount: 5}}
- provision: {suspend_tenant: other}
- provision: {revoke: reader}
- {wait: 0.001}
""",
        granted(),
        provisioner=provisioner,
        head="""vars: {unit: CREDITS}
given: {tenants: {tenant: {}, other: {}}, keys: {reader: {}}}""",
    )
    assert result.verdict == "passed"
    assert provisioner.changes == [
        Change("freeze", scope="agent:a", unit="CREDITS"),
        Change("unfreeze", tenant="other", scope=f"agent:{TENANT}", unit="TOKENS"),
        Change("fund", unit="CREDITS", amount=5),
        Change("suspend_tenant", tenant="other"),
        Change("revoke", key="reader"),
    ]


def test_provisioning_that_fails(play: Play) -> None:
    result, server = play(
        "- do: reserve", granted(), provisioner=FakeProvisioner(failure="no database")
    )
    assert (result.verdict, result.setup_failed) == ("not run", True)
    assert result.reason == "setup failed: no database"
    assert result.problems == []
    assert server.requests == []


# -- what is not run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "no X-Admin-API-Key for the runtime plane was given"),
        (
            {
                "features": frozenset({"admin_key"}),
                "not_offered": {OperationRef("runtime", "getBalances"): "status 404"},
            },
            "the server does not offer getBalances",
        ),
    ],
)
def test_cases_that_are_not_run(play: Play, options: dict[str, Any], reason: str) -> None:
    result, server = play(
        "- ledger: [{spent: 0}]", balances(), head="requires: [admin_key]", **options
    )
    assert (result.verdict, result.reason) == ("not run", reason)
    assert not result.setup_failed
    assert server.requests == []


def test_a_case_about_capitals_is_not_run_where_there_are_none(play: Play) -> None:
    result, _ = play('- {do: reserve, body: {subject: {tenant: "${upper:tenant}"}}}', granted(),
                     head='vars: {tenant: "0815"}')  # fmt: skip
    assert (result.verdict, result.problems) == ("not run", [])
    assert result.reason == "tenant is '0815', which capitals leave as it is"


# -- exchanges ------------------------------------------------------------------------------------


def test_exchanges_are_kept(play: Play) -> None:
    steps = "- {do: reserve, times: 60}\n- {do: commit, expect: {status: 404}}"
    result, server = play(steps, granted())
    assert result.verdict == "failed"
    assert len(server.requests) == 61
    # The last ones are kept, both sides as they were.
    assert len(result.exchanges) == 50
    last = result.exchanges[-1]
    assert result.problems[0].exchange is last
    assert (last.method, last.status, last.step) == ("POST", 200, "step 2 (commit)")
    assert last.url == f"{server.url}/v1/reservations/rsv-1/commit"
    assert last.request_body == server.requests[-1].text
    assert last.request_headers["X-Cycles-API-Key"] == "secret-tenant"
    assert last.response_body.encode() == granted().body
    assert last.response_headers["x-request-id"] == "r-1"


def test_a_huge_body_is_judged_whole_and_kept_in_part(play: Play) -> None:
    filler = "x" * 2_000_000
    answer = reply(200, {"reservations": [{**reservation(1), "metadata": {"a": filler}}]})
    result, _ = play(f"- {{do: list, expect: {{text: {{$length: {len(answer.body)}}}}}}}", answer)
    assert result.verdict == "passed"
    kept = result.exchanges[0].response_body
    assert len(kept) < 300_000
    assert re.search(r"… \(and \d+ characters more\)$", kept)


def test_bytes_that_are_no_text_can_be_reported(play: Play) -> None:
    result, _ = play("- {send: GET /, expect: {status: 200}}", Reply(200, b"a\xff\xfeb", {}))
    assert result.verdict == "passed"
    result.exchanges[0].response_body.encode()


def test_an_answer_that_breaks_off(play: Play) -> None:
    result, _ = play("- do: reserve", Reply(200, b'{"decision"', {}, declared_length=500))
    [problem] = result.problems
    assert problem.level == "MUST"
    assert problem.message.startswith("no answer: ")
    assert problem.exchange is not None
    assert problem.exchange.status is None

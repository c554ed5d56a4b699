"""What the contract finds wrong with an answer, and which documents are no contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cycles_conformance.contract import Contract, ContractError
from fake_cycles import CONTRACT, TRACE_ID, Reply, balance, balances, granted, refusal, reply

REPOSITORY_COPY = Path(__file__).parents[2] / "openapi" / "cycles-protocol-v0.yaml"


def found(operation: str, answer: Reply, named: tuple[int, ...] = ()) -> list[str]:
    checked = CONTRACT.check_answer(
        CONTRACT.operations[operation],
        answer.status,
        answer.headers,
        answer.body.decode("utf-8", "surrogateescape"),
        named,
    )
    return [breach.message for breach in checked.breaches]


def test_the_bundled_contract() -> None:
    assert CONTRACT.operations["commitReservation"].method == "POST"
    assert (
        CONTRACT.operations["commitReservation"].path == "/v1/reservations/{reservation_id}/commit"
    )
    assert "BUDGET_EXCEEDED" in CONTRACT.enum("ErrorCode")
    assert CONTRACT.enum("NoSuchSchema") == []
    # Read from a file it is checked more closely, and is the same.
    read = Contract.load(REPOSITORY_COPY)
    assert read.sha256 == CONTRACT.sha256
    assert read.title == CONTRACT.title


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("createReservation", granted()),
        ("createReservation", refusal(409, "BUDGET_EXCEEDED")),
        ("getBalances", balances(balance(remaining=-(2**63)))),
        ("getBalances", balances(balance(remaining=2**63 - 1))),
        ("getBalances", reply(200, {"balances": []}, content_type="Application/JSON; charset=x")),
        ("decide", reply(200, {"decision": "ALLOW"}, x_ratelimit_remaining="0")),
    ],
)
def test_answers_that_keep_the_contract(operation: str, answer: Reply) -> None:
    assert found(operation, answer) == []


def test_any_call_may_be_throttled() -> None:
    """It is said of all, and declared for some."""
    throttled = refusal(429, "LIMIT_EXCEEDED")
    assert "429" not in CONTRACT.operations["commitReservation"].responses
    assert found("commitReservation", throttled) == []
    wrong = found("commitReservation", reply(429, {"error": "LIMIT_EXCEEDED"}))
    assert any("message" in one for one in wrong)
    assert found("commitReservation", refusal(418, "LIMIT_EXCEEDED"))


def raw(body: bytes) -> Reply:
    return Reply(200, body, reply(200, {}).headers)


@pytest.mark.parametrize(
    ("operation", "answer", "says"),
    [
        ("createReservation", reply(201, {}), "status 201 is not declared for createReservation"),
        ("getBalances", refusal(404, "NOT_FOUND"), "status 404 is not declared for getBalances"),
        (
            "getBalances",
            reply(200, {"balances": []}, content_type="text/plain"),
            "content type is text/plain, expected application/json",
        ),
        (
            "getBalances",
            reply(200, {"balances": []}, content_type=None),
            "content type is absent, expected application/json",
        ),
        ("getBalances", raw(b"<html>"), "the body is not JSON"),
        ("getBalances", raw(b""), "the body is not JSON"),
        ("getBalances", raw(b'{"balances": NaN}'), "NaN is no number of JSON"),
        ("getBalances", raw(b"[" * 100_000), "the body is not JSON (nested too deep)"),
        ("getBalances", raw(b'{"balances": [], "x": "\xff"}'), "not JSON (not UTF-8)"),
        ("getBalances", raw(b'\xef\xbb\xbf{"balances": []}'), "the body is not JSON"),
        ("getBalances", reply(200, {}), "body /: 'balances' is a required property"),
        ("getBalances", reply(200, []), "body /: [] is not of type 'object'"),
        (
            "getBalances",
            balances(balance(remaining=2**63)),
            "body /balances/0/remaining/amount: 9223372036854775808 is not a 'int64'",
        ),
        (
            "getBalances",
            balances(balance(remaining=-(2**63) - 1)),
            "body /balances/0/remaining/amount: -9223372036854775809 is not a 'int64'",
        ),
        (
            "getBalances",
            raw(
                b'{"balances": [{"scope": "a", "scope_path": "a", '
                b'"remaining": {"unit": "TOKENS", "amount": 1e30}}]}'
            ),
            "body /balances/0/remaining/amount: 1e+30 is not a 'int64'",
        ),
        (
            "createReservation",
            granted(decision="PERHAPS"),
            "body /decision: 'PERHAPS' is not one of",
        ),
        ("createReservation", granted(surprise=1), "'surprise' was unexpected"),
        (
            "createReservation",
            refusal(409, "NO_SUCH_CODE"),
            "body /error: 'NO_SUCH_CODE' is not one of",
        ),
        (
            "getBalances",
            reply(200, {"balances": []}, x_cycles_trace_id=None),
            "header X-Cycles-Trace-Id is missing",
        ),
        (
            "getBalances",
            reply(200, {"balances": []}, x_request_id=None),
            "header X-Request-Id is missing",
        ),
        (
            "createReservation",
            refusal(409, "BUDGET_EXCEEDED", request_id="r-2"),
            "body /request_id is 'r-2', the header 'r-1'",
        ),
        (
            "createReservation",
            refusal(409, "BUDGET_EXCEEDED", trace_id="f" * 32),
            f"body /trace_id is '{'f' * 32}', the header '{TRACE_ID}'",
        ),
        (
            "decide",
            reply(200, {"decision": "ALLOW"}, x_ratelimit_remaining="many"),
            "header X-RateLimit-Remaining is 'many', expected an integer",
        ),
        # Python would take it for a number.
        (
            "decide",
            reply(200, {"decision": "ALLOW"}, x_ratelimit_remaining="1_000"),
            "header X-RateLimit-Remaining is '1_000', expected an integer",
        ),
        (
            "decide",
            reply(200, {"decision": "ALLOW"}, x_ratelimit_reset=str(2**63)),
            "header X-RateLimit-Reset: 9223372036854775808 is not a 'int64'",
        ),
    ],
)
def test_one_breach(operation: str, answer: Reply, says: str) -> None:
    [problem] = found(operation, answer)
    assert says in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "trace_id", ["0" * 32, TRACE_ID.upper(), TRACE_ID[:-1], TRACE_ID + "0", "x"]
)
def test_trace_ids_that_are_none(trace_id: str) -> None:
    problems = found("getBalances", reply(200, {"balances": []}, x_cycles_trace_id=trace_id))
    assert (
        f"header X-Cycles-Trace-Id is {trace_id!r}, expected 32 lower-case hex digits" in problems
    )


def test_an_error_body_without_trace_id() -> None:
    answer = refusal(409, "BUDGET_EXCEEDED")
    body = json.loads(answer.body)
    del body["trace_id"]
    [problem] = found("createReservation", reply(409, body))
    assert problem == f"body /trace_id is None, the header '{TRACE_ID}'"


def test_a_status_that_the_step_names() -> None:
    assert found("getBalances", refusal(404, "NOT_FOUND"), (404,)) == []
    # What holds for every answer still holds.
    other = refusal(404, "NOT_FOUND", request_id="r-2")
    assert found("getBalances", other, (404,)) == ["body /request_id is 'r-2', the header 'r-1'"]


def test_schemas_by_name() -> None:
    assert CONTRACT.check_schema("Amount", {"unit": "TOKENS", "amount": 5}) == []
    [problem] = CONTRACT.check_schema("Amount", {"unit": "TOKENS", "amount": -1})
    assert problem == "/amount: -1 is less than the minimum of 0"
    with pytest.raises(KeyError):
        CONTRACT.check_schema("NoSuchSchema", {})


# -- documents that are no contract ---------------------------------------------------------------


def changed(change: Any) -> str:
    """The contract with something done to it."""
    document = copy.deepcopy(CONTRACT.document)
    change(document)
    # JSON is YAML as well, and much quicker to write.
    return json.dumps(document)


def dangle(document: Any) -> None:
    document["components"]["schemas"]["Amount"] = {"$ref": "#/components/schemas/Nowhere"}


def point_out(document: Any) -> None:
    document["components"]["schemas"]["Amount"] = {"$ref": "other.yaml#/Amount"}


def spoil(document: Any) -> None:
    document["components"]["schemas"]["Amount"]["type"] = "money"


def spoil_inline(document: Any) -> None:
    content = document["paths"]["/v1/decide"]["post"]["responses"]["200"]["content"]
    content["application/json"]["schema"] = {"minimum": "one"}


def petstore(document: Any) -> None:
    document["paths"] = {"/pets": {"get": {"operationId": "listPets", "responses": {}}}}


def null_responses(document: Any) -> None:
    document["paths"]["/v1/decide"]["post"]["responses"] = None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an OpenAPI document: it has no paths"),
        ("just words", "is not an OpenAPI document: it has no paths"),
        ("{paths: []}", "is not an OpenAPI document: it has no paths"),
        ("openapi: 3.1.0\npaths: {\n", "is not YAML: line"),
        ("a: 1\na: 2\n", "is not YAML: line 2, column 1: the name 'a' comes twice"),
        ("a: !!int x\n", "is not YAML: "),
        ("a: !!python/object:os.system {}\n", "is not YAML: line 1, column 4: could not determine"),
        ("paths: &p {/x: *p}", "is not YAML: it holds itself, or is nested too deep"),
        ("{paths: {/x: 1}}", "is not an OpenAPI document: paths: /x is no object"),
        ("{info: 1, paths: {}}", "is not an OpenAPI document: info is no object"),
        ("{paths: {}}", "it has no operation createReservation"),
        (changed(petstore), "it has no operation createReservation"),
        (changed(null_responses), "paths: /v1/decide: post: responses is no object"),
        (changed(dangle), "$ref #/components/schemas/Nowhere leads nowhere in this document"),
        (changed(point_out), "$ref other.yaml#/Amount leads nowhere in this document"),
        (changed(spoil), "/components/schemas/Amount is no schema: 'money' is not"),
        (
            changed(spoil_inline),
            "/paths/~1v1~1decide/post/responses/200/content/application~1json/schema is no schema",
        ),
    ],
)
def test_other_documents(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ContractError) as failure:
        Contract.load(path)
    assert says in str(failure.value)
    assert str(failure.value).startswith(str(path))
    assert "\n" not in str(failure.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none\.yaml cannot be read: No such file"):
        Contract.load(tmp_path / "none.yaml")
    with pytest.raises(ContractError, match="cannot be read: Is a directory"):
        Contract.load(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractError, match="cannot be read: it is not UTF-8"):
        Contract.load(binary)

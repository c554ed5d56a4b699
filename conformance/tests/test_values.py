"""Values that a case computes, JSON pointers and merge patches."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from cycles_conformance.client import path_of
from cycles_conformance.values import (
    NoCapitals,
    UnknownValue,
    Values,
    at_pointer,
    iso,
    merge_patch,
    names_in,
    parse_json,
    without,
)

KNOWN = {"tenant": "t-1", "amount": 2**63 + 1, "list": [1, None], "unit": "TOKENS"}
VALUES = Values(KNOWN, {"reader": "s3cret"})


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("${tenant}", "t-1"),
        ("tenant:${tenant}/agent:${tenant}", "tenant:t-1/agent:t-1"),
        # Alone it keeps its type, within a text it becomes part of it.
        ("${amount}", 2**63 + 1),
        ("a${amount}", f"a{2**63 + 1}"),
        ("${list}", [1, None]),
        ({"${tenant}": ["${amount}", True, None, 1.5]}, {"t-1": [2**63 + 1, True, None, 1.5]}),
        ("${key:reader}", "s3cret"),
        ("${long:3}", "xxx"),
        ("${long:0}", ""),
        ("${upper:tenant}", "T-1"),
        ({"$sum": ["${amount}", -1, {"$sum": [1, 1]}]}, 2**63 + 2),
        ({"a": {"$iso": {"$sum": [0, 1]}}}, {"a": "1970-01-01T00:00:00.001Z"}),
        # Only alone in its object is it a sum.
        ({"$sum": [1], "b": 2}, {"$sum": [1], "b": 2}),
        ("$tenant {tenant} $ {", "$tenant {tenant} $ {"),
    ],
)
def test_what_stands_for_what(written: Any, resolved: Any) -> None:
    assert VALUES.resolve(written) == resolved


@pytest.mark.parametrize("name", ["unset", "", "key:nobody", "long:x", "now*2", "now+"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnknownValue, match=re.escape(f"nothing has set ${{{name}}}")):
        VALUES.resolve({"deep": [f"${{{name}}}"]})


def test_what_has_no_letter_has_no_capitals() -> None:
    with pytest.raises(NoCapitals, match="amount is '9223372036854775809', which capitals leave"):
        VALUES.resolve("${upper:amount}")
    with pytest.raises(UnknownValue, match=re.escape("nothing has set ${unset}")):
        VALUES.resolve("${upper:unset}")
    assert names_in("${upper:tenant} ${new}") == {"tenant", "new"}


def test_new_is_new_each_time() -> None:
    many = VALUES.resolve(["${new}"] * 100)
    assert len(set(many)) == 100


def test_now_is_this_clock() -> None:
    before = time.time_ns() // 1_000_000
    now, later, earlier = VALUES.resolve(["${now}", "${now+5000}", "${now-5000}"])
    after = time.time_ns() // 1_000_000
    assert before <= now <= after
    assert before + 5000 <= later <= after + 5000
    assert before - 5000 <= earlier <= after - 5000


def test_names_in_whatever_is_nested() -> None:
    assert names_in({"${a}": ["x${b}y${c}", {"$sum": ["${d}", 1]}], "e": 5}) == set("abcd")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_as_rfc_3339(milliseconds: int, text: str) -> None:
    assert iso(milliseconds) == text


@pytest.mark.parametrize("milliseconds", [2**63 - 1, -(2**63), 10**30])
def test_a_time_beyond_the_calendar(milliseconds: int) -> None:
    with pytest.raises(ValueError, match="no calendar has"):
        iso(milliseconds)


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        # The appendix of RFC 7396.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, merged: Any) -> None:
    before = repr(target)
    assert merge_patch(target, patch) == merged
    assert repr(target) == before, "templates are shared: the target must not change"


DOCUMENT = {"a": [{"b": 1}, None], "x/y": {"m~n": 2}, "": 3}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT),
        ("/", 3),
        ("/a/0/b", 1),
        ("/a/1", None),
        ("/x~1y/m~0n", 2),
    ],
)
def test_pointers(pointer: str, value: Any) -> None:
    assert at_pointer(DOCUMENT, pointer) == value


@pytest.mark.parametrize(
    "pointer", ["/b", "/a/2", "/a/-1", "/a/-", "/a/00", "/a/b", "/a/0/b/c", "/a/1/x"]
)
def test_pointers_that_lead_nowhere(pointer: str) -> None:
    with pytest.raises(KeyError):
        at_pointer(DOCUMENT, pointer)


def test_without_some_members() -> None:
    document = {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}], "s/t": 4}
    pointers = ["/a", "/b/c", "/l/0/x", "/s~1t", "/not/there"]
    assert without(document, pointers) == {"b": {"d": 3}, "l": [{"y": 2}]}
    assert document["a"] == 1
    assert without(document, []) == document
    assert without("text", ["/a"]) == "text"


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "-Infinity", "\ufeff{}", '"\udcff"']
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number|Expecting|BOM|UTF-8"):
        parse_json(text)


def test_json_nested_without_end() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)


def test_json_keeps_integers() -> None:
    assert parse_json('[9007199254740993, 170141183460469231731687303715884105727, "\\ud800"]') == [
        2**53 + 1,
        2**127 - 1,
        "\ud800",
    ]


def test_members_of_a_path_are_encoded() -> None:
    members = {"reservation_id": "../a b/ü?", "other": 1}
    assert (
        path_of("/v1/r/{reservation_id}/commit", members) == "/v1/r/..%2Fa%20b%2F%C3%BC%3F/commit"
    )
    assert path_of("/v1/r/{reservation_id}", {"reservation_id": None}) == "/v1/r/"

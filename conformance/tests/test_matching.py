"""Patterns: what fits, what does not, and whether the message says where."""

from __future__ import annotations

from typing import Any

import pytest
from cycles_conformance.assertions.matching import MISSING, match, pattern_faults, same


def no_schemas(name: str, value: Any) -> list[str]:
    """Stands for the contract: a value fits the schema that is named after its type."""
    return [] if type(value).__name__ == name else [f"/: not a {name}"]


def problems(pattern: Any, value: Any) -> list[str]:
    return match(pattern, value, no_schemas)


OBJECT = {"a": 1, "b": {"c": [1, {"d": "x"}]}, "n": None}


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (1, 1),
        (1, 1.0),
        (2**53 + 1, 2**53 + 1),
        (2**127, 2**127),
        (None, None),
        (True, True),
        ("", ""),
        ([], []),
        ({}, {"anything": 1}),
        ({"a": 1}, OBJECT),
        ({"n": None}, OBJECT),
        ({"b": {"c": [1, {}]}}, OBJECT),
        ({"$absent": True}, MISSING),
        ({"a": {"$present": True}, "n": {"$present": True}, "z": {"$absent": True}}, OBJECT),
        # Whether null may stand there is not the matcher's question.
        ({"n": {"$absent": True}}, OBJECT),
        ({"$type": "string"}, "x"),
        ({"$type": "integer"}, 3),
        ({"$type": "integer"}, 10**400),
        ({"$type": "integer"}, 3.0),
        ({"$type": "number"}, 3.5),
        ({"$type": "boolean"}, False),
        ({"$type": "array"}, []),
        ({"$type": "object"}, {}),
        ({"$type": "null"}, None),
        ({"$range": [1, 3]}, 1),
        ({"$range": [1, 3]}, 3),
        ({"$range": [None, 3]}, -(10**30)),
        ({"$range": [2**63, None]}, 2**63),
        ({"$range": [None, None]}, 0),
        ({"$near": [100, 5]}, 95),
        ({"$near": [100, 5]}, 105),
        ({"$matches": "b+"}, "abbc"),
        ({"$matches": "^$"}, ""),
        ({"$one_of": [1, {"$absent": True}]}, MISSING),
        ({"$one_of": ["x", {"a": 1}]}, OBJECT),
        ({"$one_of": [None, 5]}, None),
        ({"$not": 1}, 2),
        ({"$not": 1}, True),
        ({"$not": {"a": 2}}, OBJECT),
        ({"$exact": {"a": [1, None]}}, {"a": [1, None]}),
        ({"$exact": {}}, {}),
        ({"$contains": {"a": 1}}, [{"b": 0}, {"a": 1, "b": 2}]),
        ({"$contains": [1, 2]}, [3, 2, 1]),
        ({"$contains": []}, []),
        ({"$every": {"$range": [0, 9]}}, [0, 9]),
        ({"$every": 1}, []),
        ({"$set": [1, 2, 3]}, [3, 1, 2]),
        # The first pattern fits both; only the other way round do they pair up.
        ({"$set": [{"$type": "integer"}, 1]}, [1, 2]),
        ({"$set": []}, []),
        ({"$distinct": "/id"}, [{"id": 1}, {"id": True}, {"id": "1"}]),
        ({"$distinct": ""}, [1, 2]),
        ({"$length": 3}, "abc"),
        ({"$length": 0}, []),
        ({"$length": {"$range": [1, 2]}}, [1]),
        ({"$sorted": {"by": "/t"}}, [{"t": 1}, {"t": 1}, {"t": 2}]),
        ({"$sorted": {"by": "/t", "descending": True}}, [{"t": "b"}, {"t": "a"}]),
        ({"$sorted": {"by": ""}}, []),
        ({"$schema": "list"}, []),
        ({"$type": "string", "$length": 2, "$matches": "^a"}, "ab"),
    ],
)
def test_what_fits(pattern: Any, value: Any) -> None:
    assert problems(pattern, value) == []


@pytest.mark.parametrize(
    ("pattern", "value", "says"),
    [
        (1, True, "/ is true, expected 1"),
        (0, False, "/ is false, expected 0"),
        (True, 1, "/ is 1, expected true"),
        (1, "1", '/ is "1", expected 1'),
        (None, 0, "/ is 0, expected null"),
        (None, MISSING, "/ is missing, expected null"),
        (2**53 + 1, 2**53, "/ is 9007199254740992, expected 9007199254740993"),
        (2**53 + 1, float(2**53), "/ is 9007199254740992.0, expected 9007199254740993"),
        ({"a": 2}, OBJECT, "/a is 1, expected 2"),
        ({"b": {"c": [1, {"d": "y"}]}}, OBJECT, '/b/c/1/d is "x", expected "y"'),
        ({"x/y~z": 1}, {}, "/x~1y~0z is missing, expected 1"),
        ({"a": {}}, OBJECT, "/a is 1, expected an object"),
        ({"a": []}, OBJECT, "/a is 1, expected a list"),
        ([1], [1, 2], "/ has 2 elements, expected 1: [1, 2]"),
        ({"a": {"$absent": True}}, OBJECT, "/a is 1, expected to be absent"),
        ({"z": {"$present": True}}, OBJECT, '/z is missing, expected {"$present": true}'),
        ({"$type": "integer"}, 3.5, '/ is 3.5, expected type "integer"'),
        ({"$type": "integer"}, True, '/ is true, expected type "integer"'),
        ({"$type": "integer"}, float("inf"), '/ is Infinity, expected type "integer"'),
        ({"$type": "number"}, False, '/ is false, expected type "number"'),
        ({"$type": "object"}, None, '/ is null, expected type "object"'),
        ({"$range": [1, 3]}, 4, "/ is 4, expected range [1, 3]"),
        ({"$range": [1, 3]}, 0, "/ is 0, expected range [1, 3]"),
        ({"$range": [0, 1]}, True, "/ is true, expected range [0, 1]"),
        ({"$range": [None, None]}, "5", '/ is "5", expected range [null, null]'),
        ({"$near": [100, 5]}, 106, "/ is 106, expected near [100, 5]"),
        ({"$near": [100, 5]}, "100", '/ is "100", expected near [100, 5]'),
        ({"$matches": "^b"}, "ab", '/ is "ab", expected matches "^b"'),
        ({"$matches": "1"}, 1, '/ is 1, expected matches "1"'),
        ({"$one_of": [1, 2]}, 3, "/ is 3, expected one of [1, 2]"),
        ({"$not": {"a": 1}}, OBJECT, 'expected not {"a": 1}'),
        ({"$not": 1}, MISSING, '/ is missing, expected {"$not": 1}'),
        ({"$exact": {"a": 1}}, OBJECT, 'expected exact {"a": 1}'),
        ({"$exact": {"a": 1}}, {"a": True}, 'expected exact {"a": 1}'),
        ({"$contains": 4}, [1], "/ is [1], expected an element like 4"),
        ({"$contains": [1, 2]}, [1], "/ is [1], expected an element like 2"),
        ({"$contains": 1}, "1", '/ is "1", expected contains 1'),
        ({"l": {"$every": {"a": 1}}}, {"l": [{"a": 1}, {}]}, "/l/1/a is missing, expected 1"),
        ({"$every": 1}, {}, "/ is {}, expected every 1"),
        ({"$set": [1, 2]}, [1, 1], "/ is [1, 1], expected set [1, 2]"),
        ({"$set": [1]}, [1, 1], "/ is [1, 1], expected set [1]"),
        ({"$set": [1]}, 1, "/ is 1, expected set [1]"),
        ({"$distinct": "/id"}, [{"id": 1}, {"id": 1}], "/ has 1 at /id twice"),
        ({"$distinct": "/id"}, [{}], "/ has an element without /id"),
        ({"$distinct": "/id"}, 1, "/ is 1, expected a list"),
        ({"a": {"$length": 2}}, {"a": "abc"}, "/a has length 3, expected 2"),
        ({"$length": 1}, 1, "/ is 1, expected length 1"),
        (
            {"r": {"$sorted": {"by": "/t"}}},
            {"r": [{"t": 1}, {"t": 3}, {"t": 2}]},
            "/r is not in ascending order of /t: 3 comes before 2 (element 1)",
        ),
        (
            {"$sorted": {"by": "", "descending": True}},
            [1, 2],
            "/ is not in descending order of : 1 comes before 2 (element 0)",
        ),
        ({"$sorted": {"by": "/t"}}, [{"t": 1}, {}], "/ has an element without /t"),
        ({"$sorted": {"by": ""}}, [1, "2"], '/ has 1 and "2" at : no order'),
        ({"$sorted": {"by": ""}}, None, "/ is null, expected a list"),
        ({"a": {"$schema": "str"}}, OBJECT, "/a: /: not a str"),
        ({"$type": "string", "$length": 2}, "abc", "/ has length 3, expected 2"),
    ],
)
def test_what_does_not_fit(pattern: Any, value: Any, says: str) -> None:
    found = problems(pattern, value)
    assert len(found) == 1
    assert says in found[0]


def test_every_problem_is_told() -> None:
    found = problems({"a": 2, "b": {"c": [0, {"d": 1}]}, "z": 1}, OBJECT)
    assert [problem.split(" ")[0] for problem in found] == ["/a", "/b/c/0", "/b/c/1/d", "/z"]


def test_a_long_value_is_cut() -> None:
    [problem] = problems("a", "x" * 10_000)
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (False, 0, False),
        (2**63, 2**63 + 1, False),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ("1", 1, False),
        (None, None, True),
        (None, False, False),
    ],
)
def test_equality_of_json(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ({"a": [{"$matchs": "x"}]}, "/a/0: no matcher is called $matchs"),
        ({"$absent": False}, "/: $absent cannot be false"),
        ({"$type": "text"}, '/: $type cannot be "text"'),
        ({"$type": ["string"]}, '/: $type cannot be ["string"]'),
        ({"$range": [1]}, "/: $range cannot be [1]"),
        ({"$near": 5}, "/: $near cannot be 5"),
        ({"$matches": "("}, '/: $matches cannot be "("'),
        ({"$one_of": []}, "/: $one_of cannot be []"),
        ({"$set": 1}, "/: $set cannot be 1"),
        ({"$distinct": "id"}, '/: $distinct cannot be "id"'),
        ({"$sorted": {"by": "/a", "order": "up"}}, "/: $sorted cannot be"),
        ({"$sorted": {}}, "/: $sorted cannot be {}"),
        ({"$schema": 1}, "/: $schema cannot be 1"),
        ({"$type": "string", "a": 1}, "/: matchers ($type) stand beside members"),
        ({"$not": {"$one_of": [1, {"$x": 1}]}}, "/$not/$one_of/1: no matcher is called $x"),
    ],
)
def test_patterns_that_are_none(pattern: Any, says: str) -> None:
    [fault] = pattern_faults(pattern)
    assert says in fault


def test_sound_patterns_with_values() -> None:
    assert not pattern_faults(
        {
            "${name}": {"$range": ["${now}", {"$sum": ["${now}", 5]}]},
            "at": {"$iso": "${now}"},
            "b": {"$matches": "^${name}("},
            "c": {"$set": "${rows}"},
            "d": {"$exact": {"$anything": 1}},
            "e": 5,
        }
    )

"""Patterns: what a value must look like. ``cases/README.md`` lists the matchers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

from cycles_conformance.failures import UnusableAnswer
from cycles_conformance.values import MISSING, at_pointer

SchemaCheck = Callable[[str, Any], list[str]]
"""Name of a schema and a value → what is wrong with it."""

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: is_number(value),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def match(pattern: Any, value: Any, schemas: SchemaCheck, place: str = "") -> list[str]:
    """What keeps ``value`` (MISSING for a member that is not there) from fitting; empty if it
    fits. Each problem names its place as a JSON pointer. Raises UnusableAnswer when a value that
    was put into the pattern makes it one that nothing can read: the loader has seen the rest."""
    if isinstance(pattern, dict) and pattern and all(name.startswith("$") for name in pattern):
        return _matchers(pattern, value, schemas, place)
    at = place or "/"
    if value is MISSING:
        return [f"{at} is missing, expected {shown(pattern)}"]
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return [f"{at} is {shown(value)}, expected an object"]
        problems = []
        for name, member in pattern.items():
            step = f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
            problems += match(member, value.get(name, MISSING), schemas, step)
        return problems
    if isinstance(pattern, list):
        if not isinstance(value, list):
            return [f"{at} is {shown(value)}, expected a list"]
        if len(pattern) != len(value):
            return [f"{at} has {len(value)} elements, expected {len(pattern)}: {shown(value)}"]
        return [
            problem
            for i, (part, element) in enumerate(zip(pattern, value, strict=True))
            for problem in match(part, element, schemas, f"{place}/{i}")
        ]
    if not same(pattern, value):
        return [f"{at} is {shown(value)}, expected {shown(pattern)}"]
    return []


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1, and no digit of an integer counts as noise."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if is_number(one) and is_number(other):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def shown(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "…"


def _matchers(pattern: dict[str, Any], value: Any, schemas: SchemaCheck, place: str) -> list[str]:
    at = place or "/"
    if pattern.get("$absent") is True:
        # Whether null may stand there is the schema's business.
        gone = value is MISSING or value is None
        return [] if gone else [f"{at} is {shown(value)}, expected to be absent"]
    if "$one_of" in pattern and len(pattern) == 1:
        if any(not match(option, value, schemas, place) for option in pattern["$one_of"]):
            return []
        return [f"{at} is {shown(value)}, expected one of {shown(pattern['$one_of'])}"]
    if value is MISSING:
        return [f"{at} is missing, expected {shown(pattern)}"]
    problems: list[str] = []
    for name, argument in pattern.items():
        problems += _matcher(name, argument, value, schemas, place)
    return problems


def _matcher(name: str, argument: Any, value: Any, schemas: SchemaCheck, place: str) -> list[str]:
    at = place or "/"
    if name not in _ARGUMENTS:
        raise UnusableAnswer(f"no matcher is called {name}")
    if not _ARGUMENTS[name](argument):
        raise UnusableAnswer(f"{name} cannot be {shown(argument)}")
    wrong = [f"{at} is {shown(value)}, expected {name[1:]} {shown(argument)}"]
    match name:
        case "$present":
            return []
        case "$absent":
            return []
        case "$type":
            return [] if _TYPES[argument](value) else wrong
        case "$range":
            low, high = argument
            fits = (
                is_number(value)
                and (low is None or value >= low)
                and (high is None or value <= high)
            )
            return [] if fits else wrong
        case "$near":
            target, tolerance = argument
            fits = is_number(value) and abs(value - target) <= tolerance
            return [] if fits else wrong
        case "$matches":
            fits = isinstance(value, str) and re.search(argument, value) is not None
            return [] if fits else wrong
        case "$one_of":
            fits = any(not _match(option, value, schemas, place) for option in argument)
            return [] if fits else wrong
        case "$not":
            return wrong if not _match(argument, value, schemas, place) else []
        case "$exact":
            return [] if same(argument, value) else wrong
        case "$length":
            if not isinstance(value, list | str):
                return wrong
            found = _match(argument, len(value), schemas, f"{place} (length)")
            return found and [f"{at} has length {len(value)}, expected {shown(argument)}"]
        case "$contains":
            if not isinstance(value, list):
                return wrong
            options = argument if isinstance(argument, list) else [argument]
            return [
                f"{at} is {shown(value)}, expected an element like {shown(option)}"
                for option in options
                if all(_match(option, element, schemas, place) for element in value)
            ]
        case "$set":
            if not isinstance(value, list) or not _pairs_up(argument, value, schemas):
                return wrong
            return []
        case "$distinct":
            return _distinct(argument, value, place)
        case "$every":
            if not isinstance(value, list):
                return wrong
            return [
                problem
                for i, element in enumerate(value)
                for problem in _match(argument, element, schemas, f"{place}/{i}")
            ]
        case "$sorted":
            return _sorted(argument, value, place)
        case "$schema":
            return [f"{at}: {problem}" for problem in schemas(argument, value)]
        case _:
            raise NotImplementedError(name)


def pattern_faults(pattern: Any, place: str = "") -> list[str]:
    """What is wrong with a pattern itself, as it stands in a case file (``${name}`` and all)."""
    if isinstance(pattern, list):
        return [
            fault
            for i, part in enumerate(pattern)
            for fault in pattern_faults(part, f"{place}/{i}")
        ]
    if not isinstance(pattern, dict) or pattern.keys() in ({"$sum"}, {"$iso"}):
        return []
    matchers = [name for name in pattern if name.startswith("$") and not name.startswith("${")]
    if not matchers:
        return [
            fault
            for name, member in pattern.items()
            for fault in pattern_faults(member, f"{place}/{name}")
        ]
    at = place or "/"
    if len(matchers) < len(pattern):
        return [f"{at}: matchers ({', '.join(matchers)}) stand beside members"]
    faults = []
    for name in matchers:
        argument = pattern[name]
        if name not in _ARGUMENTS:
            faults.append(f"{at}: no matcher is called {name}")
        elif not _is_value(argument) and not _ARGUMENTS[name](_settled(argument)):
            faults.append(f"{at}: {name} cannot be {shown(argument)}")
        elif name in _OF_PATTERNS:
            faults += pattern_faults(argument, f"{place}/{name}")
    return faults


def _is_value(argument: Any) -> bool:
    """Whether only the run of a case tells what it is."""
    return isinstance(argument, str) and "${" in argument


def _settled(argument: Any) -> Any:
    """The argument with a number for each element that only the run of a case tells."""
    if not isinstance(argument, list):
        return argument
    return [
        0 if _is_value(element) or (isinstance(element, dict) and "$sum" in element) else element
        for element in argument
    ]


def _is_pointer(argument: Any) -> bool:
    return isinstance(argument, str) and (argument == "" or argument.startswith("/"))


def _is_regex(argument: Any) -> bool:
    try:
        re.compile(argument)
    except (re.error, TypeError):
        return False
    return isinstance(argument, str)


def _is_pair(argument: Any) -> bool:
    return isinstance(argument, list) and len(argument) == 2 and all(map(is_number, argument))


def _is_range(argument: Any) -> bool:
    return isinstance(argument, list) and _is_pair([0 if end is None else end for end in argument])


_ARGUMENTS: dict[str, Callable[[Any], bool]] = {
    "$absent": lambda argument: argument is True,
    "$present": lambda argument: argument is True,
    "$type": lambda argument: isinstance(argument, str) and argument in _TYPES,
    "$range": _is_range,
    "$near": _is_pair,
    "$matches": _is_regex,
    "$one_of": lambda argument: isinstance(argument, list) and argument != [],
    "$not": lambda argument: True,
    "$exact": lambda argument: True,
    "$contains": lambda argument: True,
    "$every": lambda argument: True,
    "$length": lambda argument: True,
    "$set": lambda argument: isinstance(argument, list),
    "$distinct": _is_pointer,
    "$sorted": lambda argument: (
        isinstance(argument, dict)
        and argument.keys() <= {"by", "descending"}
        and _is_pointer(argument.get("by"))
    ),
    "$schema": lambda argument: isinstance(argument, str),
}
"""Every matcher, and whether something can be its argument."""
_OF_PATTERNS = ("$one_of", "$not", "$contains", "$every", "$length", "$set")

_match = match
"""``match`` under a name that the statement of that name does not hide."""


def _pairs_up(patterns: list[Any], values: list[Any], schemas: SchemaCheck) -> bool:
    """Whether each pattern fits a value of its own, and no value is left over."""
    if not patterns:
        return not values
    first, rest = patterns[0], patterns[1:]
    return len(patterns) == len(values) and any(
        not match(first, value, schemas) and _pairs_up(rest, values[:i] + values[i + 1 :], schemas)
        for i, value in enumerate(values)
    )


def _distinct(pointer: str, value: Any, place: str) -> list[str]:
    at = place or "/"
    if not isinstance(value, list):
        return [f"{at} is {shown(value)}, expected a list"]
    seen: list[Any] = []
    for element in value:
        try:
            key = at_pointer(element, pointer)
        except KeyError:
            return [f"{at} has an element without {pointer}"]
        if any(same(key, other) for other in seen):
            return [f"{at} has {shown(key)} at {pointer} twice"]
        seen.append(key)
    return []


def _sorted(argument: dict[str, Any], value: Any, place: str) -> list[str]:
    at = place or "/"
    if not isinstance(value, list):
        return [f"{at} is {shown(value)}, expected a list"]
    try:
        keys = [at_pointer(element, argument["by"]) for element in value]
    except KeyError:
        return [f"{at} has an element without {argument['by']}"]
    descending = argument.get("descending", False)
    for i, (before, after) in enumerate(itertools.pairwise(keys)):
        try:
            out_of_order = before < after if descending else before > after
        except TypeError:
            return [f"{at} has {shown(before)} and {shown(after)} at {argument['by']}: no order"]
        if out_of_order:
            order = "descending" if descending else "ascending"
            return [
                f"{at} is not in {order} order of {argument['by']}: "
                f"{shown(before)} comes before {shown(after)} (element {i})"
            ]
    return []

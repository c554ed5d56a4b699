"""Values that a case computes: ``${name}``, ``$sum`` and ``$iso``."""

from __future__ import annotations

import datetime
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from cycles_conformance.failures import UnusableAnswer

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
"""What stands for a value that is not there."""
DEEPEST = 300
"""So deep may an answer be nested: deeper than any request of the cases, and not so deep that to
compare two would exhaust the stack."""

_NAME = re.compile(r"\$\{([^}]*)\}")
_NOW = re.compile(r"now(?:([+-])(\d+))?")
_LEASE = re.compile(r"lease:(\d+)")
_LONG = re.compile(r"long:(\d+)")
_UPPER = "upper:"
_INDEX = re.compile(r"0|[1-9][0-9]*")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class UnknownValue(Exception):
    """A case reads a value that nothing has set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"nothing has set ${{{name}}}")
        self.name = name


class NoCapitals(Exception):
    """A value that is the same in capitals, where a case is about the difference."""


class Values:
    """The values that one step can read. ``spare_ms`` is what leases are made longer by."""

    def __init__(
        self, known: Mapping[str, Any], secrets_of_keys: Mapping[str, str], spare_ms: int = 0
    ) -> None:
        self._known = known
        self._secrets = secrets_of_keys
        self._spare_ms = spare_ms

    def resolve(self, value: Any) -> Any:
        """The same data with every value put in. Raises UnknownValue, and UnusableAnswer when a
        value that was saved is none to compute with, NoCapitals when one has no letter to change.
        """
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.resolve(element) for element in value]
        if isinstance(value, dict):
            if value.keys() == {"$sum"}:
                return sum(self._integer(term) for term in value["$sum"])
            if value.keys() == {"$iso"}:
                return self._iso(value["$iso"])
            return {self._text(name): self.resolve(member) for name, member in value.items()}
        return value

    def _integer(self, term: Any) -> int:
        value = self.resolve(term)
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            if not names_in(term):
                raise
            raise UnusableAnswer(f"{term} is {value!r}, which is no integer") from None

    def _iso(self, term: Any) -> str:
        try:
            return iso(self._integer(term))
        except ValueError as error:
            if not names_in(term):
                raise
            raise UnusableAnswer(str(error)) from None

    def _text(self, text: str) -> Any:
        whole = _NAME.fullmatch(text)
        if whole:
            return self._named(whole.group(1))
        return _NAME.sub(lambda found: str(self._named(found.group(1))), text)

    def _named(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name == "new":
            return f"k-{secrets.token_hex(8)}"
        if found := _NOW.fullmatch(name):
            offset = int(found.group(2) or 0)
            return time.time_ns() // 1_000_000 + (-offset if found.group(1) == "-" else offset)
        if found := _LEASE.fullmatch(name):
            return int(found.group(1)) + self._spare_ms
        if found := _LONG.fullmatch(name):
            return "x" * int(found.group(1))
        if name.startswith("key:") and name[4:] in self._secrets:
            return self._secrets[name[4:]]
        if name.startswith(_UPPER):
            return self._capitals(name.removeprefix(_UPPER))
        raise UnknownValue(name)

    def _capitals(self, name: str) -> str:
        value = str(self._named(name))
        if value == value.upper():
            raise NoCapitals(f"{name} is {value!r}, which capitals leave as it is")
        return value.upper()


def names_in(value: Any) -> set[str]:
    """Every name that the data reads."""
    if isinstance(value, str):
        return {name.removeprefix(_UPPER) for name in _NAME.findall(value)}
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    if isinstance(value, dict):
        return set().union(*(names_in(name) | names_in(member) for name, member in value.items()))
    return set()


def is_value(text: str) -> bool:
    """Whether a text is one ``${name}`` and nothing else."""
    return bool(_NAME.fullmatch(text))


def is_computed(name: str) -> bool:
    """Whether a name needs no one to set it."""
    return name in ("new", "self", "unit") or any(
        form.fullmatch(name) for form in (_NOW, _LEASE, _LONG)
    )


def parse_json(text: str) -> Any:
    """JSON as RFC 8259 has it, integers exact. Raises ValueError.

    ``NaN`` and ``Infinity`` are none, and neither is a text with lone surrogates, which is how a
    client hands over bytes that are not UTF-8, nor one nested deeper than DEEPEST.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8") from None
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if _is_deeper(value, DEEPEST):
        raise ValueError("nested too deep")
    return value


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    while level and depth >= 0:
        level = [
            member
            for node in level
            if isinstance(node, dict | list)
            for member in (node.values() if isinstance(node, dict) else node)
        ]
        depth -= 1
    return bool(level)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def iso(milliseconds: int) -> str:
    """Epoch milliseconds as an RFC 3339 date-time in UTC, without loss. Raises ValueError."""
    seconds, rest = divmod(milliseconds, 1000)
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{milliseconds} ms is a time that no calendar has") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects member by member, ``null`` removes a member, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def at_pointer(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901). Raises KeyError when there is none."""
    value = document
    for token in pointer.split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            # Digits alone: Python would take -1 for the last.
            if not _INDEX.fullmatch(token) or int(token) >= len(value):
                raise KeyError(pointer)
            value = value[int(token)]
        elif isinstance(value, dict) and token in value:
            value = value[token]
        else:
            raise KeyError(pointer)
    return value


def without(document: Any, pointers: list[str]) -> Any:
    """A copy of the document without the members at these pointers."""
    if not pointers or not isinstance(document, dict | list):
        return document
    here = {p[1:].replace("~1", "/").replace("~0", "~") for p in pointers if p.count("/") == 1}
    deeper: dict[str, list[str]] = {}
    for pointer in pointers:
        if pointer.count("/") > 1:
            first, rest = pointer[1:].split("/", 1)
            deeper.setdefault(first, []).append("/" + rest)
    if isinstance(document, list):
        return [without(element, deeper.get(str(i), [])) for i, element in enumerate(document)]
    return {
        name: without(value, deeper.get(name, []))
        for name, value in document.items()
        if name not in here
    }

"""What the bundled cases are called and about, without reading what they do.

Parsed to the full, a thousand cases take longer than one who only wants their names will wait.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from cycles_conformance.casefiles.files import is_of_clauses, yaml_files
from cycles_conformance.results import Level
from cycles_conformance.yaml_text import yaml_loader

_SHOWN = ("id", "level", "clause", "why")


@dataclass(frozen=True)
class Glance:
    """As in a Case."""

    id: str
    area: str
    level: Level
    clauses: tuple[str, ...]
    why: str


def at_a_glance() -> Iterator[Glance]:
    """The bundled cases, in the order in which they run; taken to be sound."""
    folder = importlib.resources.files("cycles_conformance.cases")
    for name, file in yaml_files(folder).items():
        if not is_of_clauses(name):
            yield from _File(file.read_text(encoding="utf-8")).cases()


class _File:
    """One file of cases, read event by event."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml_loader())
        self._anchors: dict[str | None, Any] = {}
        """What was told under a name (None: under no name), for its repetitions."""

    def cases(self) -> Iterator[Glance]:
        while not isinstance(next(self._events), yaml.MappingStartEvent):
            pass
        area = ""
        for name in self._names():
            if name == "area":
                area = self._told()
            elif name == "cases":
                next(self._events)
                while isinstance(next(self._events), yaml.MappingStartEvent):
                    yield self._case(area)
            else:
                self._pass_over()

    def _case(self, area: str) -> Glance:
        told: dict[str, Any] = {}
        for name in self._names():
            if name in _SHOWN:
                told[name] = self._told()
            else:
                self._pass_over()
        clauses = told["clause"]
        return Glance(
            id=told["id"],
            area=area,
            level=told["level"],
            clauses=(clauses,) if isinstance(clauses, str) else tuple(clauses),
            why=told["why"],
        )

    def _names(self) -> Iterator[str]:
        """The names of the mapping that has just begun, to its end; whoever gets one consumes what
        belongs to it."""
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            yield event.value

    def _told(self) -> Any:
        """A text, or a list of them."""
        first = next(self._events)
        if isinstance(first, yaml.AliasEvent):
            return self._anchors[first.anchor]
        found: Any
        if isinstance(first, yaml.ScalarEvent):
            found = first.value
        else:
            found = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                found.append(event.value)
        self._anchors[first.anchor] = found
        return found

    def _pass_over(self) -> None:
        depth = 0
        while True:
            event = next(self._events)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return

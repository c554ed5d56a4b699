"""YAML as the kit reads it: as JSON sees it, with each fault in one line."""

from __future__ import annotations

import functools
from typing import Any

import yaml

YAML_FAULTS = (yaml.YAMLError, ValueError, RecursionError)
"""What reading a text as YAML can raise; ValueError for a number that is none."""


def yaml_fault(error: Exception) -> str:
    """What keeps a text from being YAML, in one line that begins with the place."""
    if isinstance(error, RecursionError):
        return "it holds itself, or is nested too deep"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context}"
    return " ".join(str(error).split())


@functools.cache
def yaml_loader() -> type[yaml.SafeLoader]:
    """YAML as JSON sees it: a date stays the text that it is, and no name comes twice."""

    class Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            # YAML forbids it and PyYAML takes the last: an expectation would be lost in silence.
            names: set[str] = set()
            for name, _ in node.value:
                if not isinstance(name, yaml.ScalarNode):
                    continue
                if name.value in names:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the name {name.value!r} comes twice", name.start_mark
                    )
                names.add(name.value)
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader

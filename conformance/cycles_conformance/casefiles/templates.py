"""The request templates that steps begin with (``format/requests.yaml``, and for the admin plane
``format/admin-requests.yaml``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cycles_conformance.casefiles.formats import format_file
from cycles_conformance.planes import RUNTIME, OperationRef
from cycles_conformance.yaml_text import yaml_loader

_FILES = ("requests.yaml", "admin-requests.yaml")


@dataclass(frozen=True)
class Rows:
    """How a list shows its rows."""

    member: str
    """The member of a page that holds them."""
    most: int
    """How many a page has at most, unless ``limit`` says otherwise."""
    identity: str = ""
    """JSON pointer in a row of what no two rows share; empty where there is none."""
    may_repeat: bool = False
    """Whether a row may come again where no order is asked for."""


@functools.cache
def templates() -> dict[str, dict[str, Any]]:
    """The request templates by name."""
    found: dict[str, dict[str, Any]] = {}
    for name in _FILES:
        found |= yaml.load(format_file(name), Loader=yaml_loader())  # noqa: S506
    return found


def template_of(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """The template of a step; an empty one where it has none."""
    return templates()[step["do"]] if "do" in step else {}


def operation_of(template: str) -> OperationRef:
    """What a template sends its requests to."""
    found = templates()[template]
    return OperationRef(found.get("plane", RUNTIME), found["operation"])


def rows_of(template: str) -> Rows | None:
    """None for what is no list."""
    rows = templates().get(template, {}).get("rows")
    return None if rows is None else Rows(**rows)


def sender_of(step: Mapping[str, Any]) -> str:
    """Whose key a ``do``, ``send`` or ``pages`` is sent with."""
    name = step.get("do") or step.get("pages")
    usual = templates()[name].get("as", "tenant") if name else "tenant"
    who: str = step.get("as", usual)
    return who


def plane_of(step: Mapping[str, Any]) -> str:
    """Where the request of a ``do`` or ``send`` goes."""
    plane: str = operation_of(step["do"]).plane if "do" in step else step.get("plane", RUNTIME)
    return plane

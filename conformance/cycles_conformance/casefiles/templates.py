"""The request templates that steps begin with (``format/requests.yaml``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import yaml

from cycles_conformance.casefiles.formats import format_file
from cycles_conformance.planes import RUNTIME, OperationRef
from cycles_conformance.yaml_text import yaml_loader


@functools.cache
def templates() -> dict[str, dict[str, Any]]:
    """The request templates by name."""
    text = format_file("requests.yaml")
    found: dict[str, dict[str, Any]] = yaml.load(text, Loader=yaml_loader())  # noqa: S506
    return found


def template_of(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """The template of a step; an empty one where it has none."""
    return templates()[step["do"]] if "do" in step else {}


def operation_of(template: str) -> OperationRef:
    """What a template sends its requests to."""
    found = templates()[template]
    return OperationRef(found.get("plane", RUNTIME), found["operation"])


def plane_of(step: Mapping[str, Any]) -> str:
    """Where the request of a ``do`` or ``send`` goes."""
    plane: str = operation_of(step["do"]).plane if "do" in step else step.get("plane", RUNTIME)
    return plane

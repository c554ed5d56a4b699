"""The files of the ``format`` folder."""

from __future__ import annotations

import functools
import importlib.resources
import json

from jsonschema import Draft202012Validator


@functools.cache
def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(format_file(name)))


def format_file(name: str) -> str:
    folder = importlib.resources.files("cycles_conformance.format")
    text: str = (folder / name).read_text(encoding="utf-8")
    return text

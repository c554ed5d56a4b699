"""The files of the ``format`` folder."""

from __future__ import annotations

import importlib.resources


def format_file(name: str) -> str:
    folder = importlib.resources.files("cycles_conformance.format")
    text: str = (folder / name).read_text(encoding="utf-8")
    return text

"""Which files a folder of cases has."""

from __future__ import annotations

from importlib.resources.abc import Traversable

CLAUSES = "clauses.yaml"
"""The name of a file of clauses; every other file holds cases."""


def yaml_files(folder: Traversable) -> dict[str, Traversable]:
    """The YAML files of a folder and then of its sub-folders, by their path in it. Raises
    OSError."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    found = {entry.name: entry for entry in entries if entry.name.endswith(".yaml")}
    for entry in entries:
        if entry.name not in found and entry.is_dir():
            inside = yaml_files(entry)
            found |= {f"{entry.name}/{name}": file for name, file in inside.items()}
    return found


def is_of_clauses(name: str) -> bool:
    """Whether the file of this path holds clauses, and no cases."""
    return name.rpartition("/")[2] == CLAUSES

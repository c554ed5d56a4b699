"""The faults as data, and copies of the server that have one of them.

A file of this folder holds the faults of one area::

    area: ledger
    faults:
      - id: release-skips-last-scope
        about: what a client sees of it, in one sentence
        breaks: releaseReservation
        edits:
          - file: lua/release.lua
            replace: text that is there exactly once
            with: what stands there instead

``breaks`` is an operationId, the title of a section of the contract's introduction, or one of
its components (``schema Amount``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FAULTS = Path(__file__).parent
REPOSITORY = FAULTS.parent.parent

_PACKAGE = "cycles_server"
_SUBPACKAGES = ("handlers", "lua", "openapi")
"""Folders of the repository that are sub-packages of the server once it is installed."""


class FaultError(ValueError):
    """A fault that cannot be read, or does not fit the server any more."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that is replaced, once, in one file of the repository."""

    file: str
    replace: str
    instead: str


@dataclass(frozen=True, slots=True)
class Fault:
    id: str
    area: str
    about: str
    breaks: str
    edits: tuple[Edit, ...]

    def patched(self, repository: Path = REPOSITORY) -> dict[str, str]:
        """The files that the fault changes, as they are with it.

        Raises:
            FaultError: a file is not there, or a text is not there exactly once.
        """
        files: dict[str, str] = {}
        for edit in self.edits:
            if edit.file not in files:
                try:
                    files[edit.file] = (repository / edit.file).read_text(encoding="utf-8")
                except OSError as error:
                    raise FaultError(f"{self.id}: {edit.file}: {error.strerror}") from None
            text = files[edit.file]
            count = text.count(edit.replace)
            if count != 1:
                shown = edit.replace.strip().partition("\n")[0]
                raise FaultError(f"{self.id}: {edit.file}: found {count} times, not once: {shown}")
            files[edit.file] = text.replace(edit.replace, edit.instead)
        return files


def load_faults(folder: Path = FAULTS) -> list[Fault]:
    """Every fault of every area.

    Raises:
        FaultError: a file is not in the form above, or an id is used twice.
    """
    faults: dict[str, Fault] = {}
    for path in sorted(folder.glob("*.yaml")):
        for fault in _read(path):
            if fault.id in faults:
                raise FaultError(f"{path.name}: {fault.id} is there twice")
            faults[fault.id] = fault
    return list(faults.values())


def _read(path: Path) -> Iterator[Fault]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        _members(document, "area", "faults")
        for item in document["faults"]:
            _members(item, "id", "about", "breaks", "edits")
            for edit in item["edits"]:
                _members(edit, "file", "replace", "with")
            edits = tuple(
                Edit(edit["file"], edit["replace"], edit["with"]) for edit in item["edits"]
            )
            yield Fault(item["id"], document["area"], item["about"], item["breaks"], edits)
    except (yaml.YAMLError, TypeError) as error:
        raise FaultError(f"{path.name}: {error}") from None


def _members(item: Any, *names: str) -> None:
    """Raises: TypeError unless these members are there, and no others."""
    if not isinstance(item, dict) or set(item) != set(names):
        raise TypeError(f"{str(item)[:80]}: has to have the members {', '.join(names)}")
    empty = [name for name in names if not item[name] and name != "with"]
    if empty:
        raise TypeError(f"{str(item)[:80]}: {', '.join(empty)} must not be empty")


def build_copy(folder: Path, fault: Fault | None = None) -> Path:
    """Copy the server into ``folder`` as it lies once installed, with the fault; returns where
    ``python -m cycles_server`` then runs it.

    Raises:
        FaultError: the fault does not fit.
    """
    patched = {} if fault is None else fault.patched()
    package = folder / _PACKAGE
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / _PACKAGE, package, ignore=compiled)
    for name in _SUBPACKAGES:
        shutil.copytree(REPOSITORY / name, package / name, ignore=compiled)
    for file, text in patched.items():
        (package / installed(file)).write_text(text, encoding="utf-8")
    return folder


def installed(file: str) -> Path:
    """Where a file of the repository lies within the installed package."""
    path = Path(file)
    return path if path.parts[0] in _SUBPACKAGES else path.relative_to(_PACKAGE)

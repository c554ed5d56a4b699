"""Changes of the server as data, and copies of the server that have one of them.

A change is a deliberate fault, or a variant that the contract allows (``allowed/``). A file holds
those of one area::

    area: ledger
    faults:
      - id: release-skips-last-scope
        about: what a client sees of it, in one sentence
        breaks: releaseReservation
        edits:
          - file: lua/release.lua
            replace: text that is there exactly once
            with: what stands there instead

A file about the admin plane begins with ``plane: admin``. ``breaks`` is an operationId, the title
of a section of the contract's introduction, or one of its components (``schema Amount``). Variants
stand under ``variants``, and ``allowed_by`` names the
place that leaves room for them. A variant that departs from a SHOULD has ``level: MUST``: the kit
may hold it to no more than that. One that breaks the contract in one point alone names the case
that has to say so, and to be the only one: ``but: answers-as-declared``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RUNTIME, ADMIN = "runtime", "admin"

FAULTS = Path(__file__).parent
ALLOWED = FAULTS / "allowed"
REPOSITORY = FAULTS.parent.parent

_SOURCE = "src"
_PACKAGE = "cycles_server"
_SUBPACKAGES = ("handlers", "lua", "openapi")
"""Folders of the repository that are sub-packages of the server once it is installed."""


class FaultError(ValueError):
    """A change that cannot be read, or does not fit the server any more."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that is replaced, once, in one file of the repository."""

    file: str
    replace: str
    instead: str


@dataclass(frozen=True, slots=True)
class Change:
    id: str
    area: str
    about: str
    place: str
    """What of the contract it breaks, or what allows it."""
    edits: tuple[Edit, ...]
    level: str = "SHOULD"
    """What the kit may hold the changed server to."""
    but: str = ""
    """The one case that has to fail all the same."""
    plane: str = RUNTIME
    """Whose contract it is about."""

    def patched(self, repository: Path = REPOSITORY) -> dict[str, str]:
        """The files that it changes, as they are with it.

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


def load_faults(folder: Path = FAULTS) -> list[Change]:
    """Every fault of every area. Raises as :func:`load_variants`."""
    return _load(folder, "faults", "breaks")


def load_variants(folder: Path = ALLOWED) -> list[Change]:
    """Every variant of every area.

    Raises:
        FaultError: a file is not in the form above, or an id is used twice.
    """
    return _load(folder, "variants", "allowed_by")


def _load(folder: Path, kind: str, place: str) -> list[Change]:
    changes: dict[str, Change] = {}
    for path in sorted(folder.glob("*.yaml")):
        for change in _read(path, kind, place):
            if change.id in changes:
                raise FaultError(f"{path.name}: {change.id} is there twice")
            changes[change.id] = change
    return list(changes.values())


def _read(path: Path, kind: str, place: str) -> Iterator[Change]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        plane = document.pop("plane", RUNTIME)
        _members(document, "area", kind)
        for item in document[kind]:
            level = item.pop("level", "SHOULD") if kind == "variants" else "SHOULD"
            but = item.pop("but", "") if kind == "variants" else ""
            _members(item, "id", "about", place, "edits")
            for edit in item["edits"]:
                _members(edit, "file", "replace", "with")
            edits = tuple(
                Edit(edit["file"], edit["replace"], edit["with"]) for edit in item["edits"]
            )
            yield Change(
                item["id"], document["area"], item["about"], item[place], edits, level, but, plane
            )
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise FaultError(f"{path.name}: {error}") from None


def _members(item: Any, *names: str) -> None:
    """Raises: TypeError unless these members are there, and no others."""
    if not isinstance(item, dict) or set(item) != set(names):
        raise TypeError(f"{str(item)[:80]}: has to have the members {', '.join(names)}")
    empty = [name for name in names if not item[name] and name != "with"]
    if empty:
        raise TypeError(f"{str(item)[:80]}: {', '.join(empty)} must not be empty")


def build_copy(folder: Path, change: Change | None = None) -> Path:
    """Copy the server into ``folder`` as it lies once installed, with the change; returns where
    ``python -m cycles_server`` then runs it.

    Raises:
        FaultError: the change does not fit.
    """
    patched = {} if change is None else change.patched()
    package = folder / _PACKAGE
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / _SOURCE / _PACKAGE, package, ignore=compiled)
    for name in _SUBPACKAGES:
        shutil.copytree(REPOSITORY / name, package / name, ignore=compiled)
    for file, text in patched.items():
        (package / installed(file)).write_text(text, encoding="utf-8")
    return folder


def installed(file: str) -> Path:
    """Where a file of the repository lies within the installed package."""
    path = Path(file)
    return path if path.parts[0] in _SUBPACKAGES else path.relative_to(_SOURCE, _PACKAGE)

"""Reports of a run: JUnit XML, JSON, a web page, and the console."""

from __future__ import annotations

import os
from pathlib import Path

from cycles_conformance.results import RunResult


def _junit(run: RunResult) -> bytes:
    from cycles_conformance.report import junit

    return junit.render(run)


def _json(run: RunResult) -> bytes:
    from cycles_conformance.report import json_report

    return json_report.render(run)


def _html(run: RunResult) -> bytes:
    from cycles_conformance.report import html

    return html.render(run)


FORMATS = {".xml": _junit, ".json": _json, ".html": _html}
"""Each loads what it needs when it is asked for: an error in the options is told at once."""


def check(path: Path) -> None:
    """Raise ValueError unless the file's suffix names a report format."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path}: a report ends in {', '.join(FORMATS)} "
            "(JUnit XML, JSON, web page); the suffix says which is written"
        )


def write(run: RunResult, path: Path) -> None:
    """Write the run to the file, as the format that its suffix names; all or nothing.

    Secrets are masked. Raises ValueError for another suffix and OSError, with the path asked
    for, when the file cannot be written.
    """
    check(path)
    content = FORMATS[path.suffix.lower()](run)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error

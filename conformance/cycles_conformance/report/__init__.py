"""Reports of a run: JUnit XML, JSON, a web page, and the console."""

from __future__ import annotations

import os
from pathlib import Path

from cycles_conformance.report import html, json_report, junit
from cycles_conformance.results import RunResult

FORMATS = {".xml": junit.render, ".json": json_report.render, ".html": html.render}


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

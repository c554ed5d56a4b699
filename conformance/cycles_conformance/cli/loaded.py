"""The cases and property checks of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.cli.options import could_not_run
from cycles_conformance.properties import PROPERTIES


def cases_of(folder: Path | None) -> list[Any]:
    """Those of the folder, or all that are bundled and the properties. Raises click.ClickException
    (exit code 2)."""
    try:
        collection = load(folder)
    except CaseFileError as error:
        raise could_not_run(str(error)) from error
    return [*collection.cases, *(PROPERTIES if folder is None else ())]

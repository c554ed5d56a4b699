"""``cycles-conformance run --list``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.casefiles.glance import at_a_glance
from cycles_conformance.cli.choosing import chosen
from cycles_conformance.properties import PROPERTIES
from cycles_conformance.report.console import listing
from cycles_conformance.results import Level


def show(folder: Path | None, level: Level, only: Sequence[str]) -> None:
    """Print what would run. Cases of a folder are checked as for a run; the bundled ones are known
    to be sound. Raises click.ClickException (exit code 2)."""
    checks: list[Any]
    if folder is None:
        checks = [*at_a_glance(), *PROPERTIES]
    else:
        from cycles_conformance.cli.loaded import cases_of

        checks = cases_of(folder)
    listing([*chosen(checks, level, only), AS_DECLARED], Console(highlight=False))

"""The command line as tests use it: in this process, and as a program to be interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from cycles_conformance.cli import main
from fake_cycles import case_file

COMMAND = [sys.executable, "-m", "cycles_conformance"]
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")

INTERRUPTIBLE = """
import signal
from cycles_conformance.cli import main

# A job in the background inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""A program for ``python -c``; the arguments follow."""


def cli(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def pool(path: Path) -> Path:
    """Fixtures with the shared tenant alone: the simplest way to have a provisioner."""
    budgets = [{"unit": unit, "allocated": 10**15} for unit in UNITS]
    tenant = {"id": "t-1", "shared": True, "keys": [{"secret": "s3cret"}], "budgets": budgets}
    path.write_text(json.dumps({"tenants": [tenant]}))
    return path


def many_cases(folder: Path, count: int, steps: str = "- do: reserve") -> Path:
    """One small case ``count`` times."""
    text = case_file(folder, steps, head="given: shared").joinpath("tests.yaml")
    head, case = text.read_text().split("cases:\n")
    cases = [case.replace("the-case", f"case-{number}") for number in range(count)]
    text.write_text(head + "cases:\n" + "".join(cases))
    return folder

"""The command line: ``cycles-conformance run|fuzz|coverage``."""

from __future__ import annotations

import io
import sys

import click

from cycles_conformance import __version__
from cycles_conformance.cli.coverage import coverage
from cycles_conformance.cli.fuzz import fuzz
from cycles_conformance.cli.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cycles-conformance")
def main() -> None:
    """Check any server of the Cycles protocol, by its URL alone.

    Exit codes: 0 conformant at the asked level, 1 not conformant, 2 could not run.
    """
    for stream in (sys.stdout, sys.stderr):
        # The contract and the answers hold more characters than some terminals.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


for command in (run, fuzz, coverage):
    main.add_command(command)

"""The command line: ``cycles-conformance run|fuzz|coverage``."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Any

import click

from cycles_conformance import __version__
from cycles_conformance.cli.coverage import coverage
from cycles_conformance.cli.fuzz import fuzz
from cycles_conformance.cli.options import Interrupted, could_not_run, is_verbose
from cycles_conformance.cli.run import run
from cycles_conformance.failures import KitFailed, described


class _Commands(click.Group):
    """Whatever a command did not foresee is the kit's mistake, and no verdict on a server."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            # Click's own exit code, 1, would be a verdict.
            raise Interrupted("interrupted") from error
        except Exception as error:
            if is_verbose():
                traceback.print_exc()
            what = error.step if isinstance(error, KitFailed) else described(error)
            raise could_not_run(f"the kit failed: {what}") from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="cycles-conformance")
def main() -> None:
    """Check any server of the Cycles protocol, by its URL alone.

    Exit codes: 0 conformant at the asked level, 1 not conformant, 2 could not run to the end, or
    the kit itself failed, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # The contract and the answers hold more characters than some terminals.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


for command in (run, fuzz, coverage):
    main.add_command(command)

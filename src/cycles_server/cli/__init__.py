"""The command line, ``cycles-server``."""

from __future__ import annotations

import click

from cycles_server import __version__
from cycles_server.cli.admin import GROUPS
from cycles_server.cli.demo import demo
from cycles_server.cli.doctor import doctor
from cycles_server.cli.seed import seed
from cycles_server.cli.serve import serve
from cycles_server.cli.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cycles-server")
def main() -> None:
    """Hard budget limits for AI agents: the Cycles server.

    Settings come from the environment; docs/configuration.md lists them. tenants, keys, budgets,
    policies and audit speak to an admin plane that runs.
    """


main.add_command(serve)
main.add_command(up)
main.add_command(seed)
main.add_command(doctor)
main.add_command(demo)
for group in GROUPS:
    main.add_command(group)

"""The command line, ``cycles-server``."""

from __future__ import annotations

from importlib import import_module

import click

from cycles_server import __version__

_MODULES = {
    "serve": "serve",
    "up": "up",
    "seed": "seed",
    "doctor": "doctor",
    "demo": "demo",
    "tenants": "admin.tenants",
    "keys": "admin.keys",
    "budgets": "admin.budgets",
    "policies": "admin.policies",
    "audit": "admin.audit",
}
"""Where each command is, under its name."""


class _Commands(click.Group):
    """Loads the command that is asked for: an operator's one needs nothing of the server, whose
    modules take ten times as long to load."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cycles-server")
def main() -> None:
    """Hard budget limits for AI agents: the Cycles server.

    Settings come from the environment; docs/configuration.md lists them. tenants, keys, budgets,
    policies and audit speak to an admin plane that runs.
    """

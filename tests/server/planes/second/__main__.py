"""``python -m planes.second`` serves it, as ``python -m cycles_server`` serves its own."""

from __future__ import annotations

import click

from cycles_server.cli.serve import run_server
from cycles_server.settings.loading import load_settings

from .plane import SECOND, NotesSettings


@click.command()
@click.option("--host")
@click.option("--port", type=int)
def serve(host: str, port: int) -> None:
    run_server(SECOND, load_settings(NotesSettings), host=host, port=port)


serve()

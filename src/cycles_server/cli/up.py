"""``cycles-server up``: the server and its store on one machine, in one command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from cycles_server.cli.errors import fatal
from cycles_server.cli.serve import bind, run_server, settings_or_exit
from cycles_server.embedded.store import (
    DEFAULT_DATA_DIR,
    EmbeddedError,
    EmbeddedRedis,
    redis_configured,
)
from cycles_server.planes.catalogue import DEFAULT
from cycles_server.settings.common import MOST_WORKERS


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; SERVER_PORT or 7878.")
@click.option(
    "--data-dir",
    default=DEFAULT_DATA_DIR,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the embedded store keeps its data.",
)
@click.option(
    "--fsync",
    default="always",
    show_default=True,
    type=click.Choice(["always", "everysec"]),
    help="When the embedded store writes through to disk; everysec may lose a second.",
)
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Worker processes.")
def up(host: str, port: int | None, data_dir: Path, fsync: str, workers: int | None) -> None:
    """Run everything on this machine: the server, and a store for it.

    The store is the configured Redis (REDIS_URL or REDIS_HOST) if there is one; else a
    redis-server or valkey-server on the path, or the one that comes with
    'cycles-server[embedded]', on a private socket. It stops with this command and keeps its
    data in the data directory.
    """
    settings = settings_or_exit()
    port = port or settings.server_port
    bind(host, port).close()  # before anything is started
    if redis_configured():
        _serve(host, port, workers)
        return
    # The server ends by the signal that it was sent; the store is to be stopped first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with EmbeddedRedis(data_dir, fsync=fsync) as store:
            os.environ["REDIS_URL"] = store.url  # for the workers too
            click.echo(f"store: {store.data_dir} ({fsync})")
            _serve(host, port, workers)
    except EmbeddedError as error:
        raise fatal(str(error), 1) from None
    except KeyboardInterrupt:
        return


def _serve(host: str, port: int, workers: int | None) -> None:
    settings = settings_or_exit()
    run_server(
        DEFAULT,
        settings,
        host=host,
        port=port,
        workers=workers or settings.cycles_workers,
        spec=Path(settings.cycles_spec) if settings.cycles_spec else None,
    )

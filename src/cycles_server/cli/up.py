"""``cycles-server up``: both planes and their store on one machine, in one command."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import click

from cycles_server.cli.beside import PlaneBeside
from cycles_server.cli.errors import fatal
from cycles_server.cli.secretfile import ADMIN_KEY_FILE, kept_admin_key
from cycles_server.cli.serve import bind, run_server, settings_or_exit
from cycles_server.embedded.store import (
    DEFAULT_DATA_DIR,
    EmbeddedError,
    EmbeddedRedis,
    redis_configured,
)
from cycles_server.planes.admin import ADMIN
from cycles_server.planes.catalogue import DEFAULT
from cycles_server.settings.common import MOST_WORKERS, CommonSettings, port_of

ADMIN_PORT = port_of(ADMIN.settings)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; SERVER_PORT or 7878.")
@click.option(
    "--admin-port",
    type=click.IntRange(1, 65535),
    default=ADMIN_PORT,
    show_default=True,
    help="Port of the admin plane.",
)
@click.option("--no-admin", is_flag=True, help="Serve the runtime plane alone.")
@click.option(
    "--data-dir",
    default=DEFAULT_DATA_DIR,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the embedded store keeps its data, and the operator's key is kept.",
)
@click.option(
    "--fsync",
    default="always",
    show_default=True,
    type=click.Choice(["always", "everysec"]),
    help="When the embedded store writes through to disk; everysec may lose a second.",
)
@click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), help="Worker processes of the runtime."
)
def up(
    host: str,
    port: int | None,
    admin_port: int,
    no_admin: bool,
    data_dir: Path,
    fsync: str,
    workers: int | None,
) -> None:
    """Run both planes on this machine, and a store for them.

    The store is the configured Redis (REDIS_URL or REDIS_HOST) if there is one; else a
    redis-server or valkey-server on the path, or the one that comes with
    'cycles-server[embedded]', on a private socket. It stops with this command and keeps its
    data in the data directory.

    Operators speak to the admin plane with ADMIN_API_KEY. If it is not set, a key is made and kept
    in the data directory, in admin.key; the runtime plane does not know that one.

    If one of the planes ends, so does the other.
    """
    settings = settings_or_exit()
    port = port or settings.server_port
    with contextlib.ExitStack() as probes:  # before anything is started
        probes.enter_context(contextlib.closing(bind(host, port)))
        if not no_admin:
            settings_or_exit(ADMIN)
            probes.enter_context(contextlib.closing(bind(host, admin_port)))
    # The server ends by the signal that it was sent; then it is the others' turn.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    admin: PlaneBeside | None = None
    try:
        with contextlib.ExitStack() as stack:
            if not redis_configured():
                store = stack.enter_context(EmbeddedRedis(data_dir, fsync=fsync))
                os.environ["REDIS_URL"] = store.url  # for the workers too
                click.echo(f"store: {store.data_dir}, fsync {fsync}")
            if not no_admin:
                admin = stack.enter_context(_admin_plane(host, admin_port, data_dir, settings))
            click.echo(f"agents: http://{_shown(host)}:{port}")
            _serve(host, port, workers)
    except EmbeddedError as error:
        raise fatal(str(error), 1) from None
    except KeyboardInterrupt:
        pass
    if admin is not None and admin.ended is not None:
        raise fatal(f"{admin.ended}, and so has this server", 1)


def _admin_plane(host: str, port: int, data_dir: Path, settings: CommonSettings) -> PlaneBeside:
    """The admin plane, which has the operator's key even where none is configured."""
    environ = dict(os.environ)
    environ.pop("CYCLES_SPEC", None)  # the contract of the plane that is served here
    holder = "ADMIN_API_KEY"
    if not settings.admin_api_key:
        path = data_dir.absolute() / ADMIN_KEY_FILE
        try:
            environ["ADMIN_API_KEY"] = kept_admin_key(path)
        except OSError as error:
            raise fatal(f"{path}: {error.strerror}", 1) from None
        holder = str(path)
    click.echo(f"admin: http://{_shown(host)}:{port}, its key is in {holder}")
    grace_s = settings.cycles_shutdown_grace_seconds
    return PlaneBeside(ADMIN, host, port, environ, grace_s=grace_s)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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

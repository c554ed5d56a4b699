"""``cycles-server serve``: the server against a configured Redis."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
import threading
from pathlib import Path

import click
import uvicorn
from uvicorn.supervisors import Multiprocess

from cycles_server.cli.errors import fatal
from cycles_server.contract.document import ContractError
from cycles_server.http.connection import ConnectionLimits, Connections
from cycles_server.http.framing import HeadLimits
from cycles_server.monitoring.logs import configure_logging
from cycles_server.monitoring.probe import StoreProbe
from cycles_server.monitoring.workers import prepare_multiprocess
from cycles_server.planes.application import create_app
from cycles_server.planes.catalogue import DEFAULT, PLANES
from cycles_server.planes.plane import Plane
from cycles_server.settings.common import MOST_WORKERS, CommonSettings, port_of
from cycles_server.settings.loading import SettingError, load_settings
from cycles_server.store.fitness import EVICTION

logger = logging.getLogger(__name__)

METRICS_DIRECTORY = "CYCLES_METRICS_DIRECTORY"
"""Tells the workers of one server where they count together."""
PLANE = "CYCLES_PLANE"
"""Tells the workers of one server which plane it is."""
_BACKLOG = 4096
_OPEN_FILES = 65_536
_FILES_OF_ITS_OWN = 128  # the store, the log, the loop, what a page of metrics reads
_NEWCOMERS = 1024
_SILENT_WORKER_S = 20
"""A worker that says nothing for so long hangs. One that starts says nothing until it has read its
modules, which a machine with little to spare may take many seconds for."""


@click.command()
@click.argument("plane", type=click.Choice(list(PLANES)), default=DEFAULT.name, metavar="[PLANE]")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port; SERVER_PORT, or the plane's own: "
    + ", ".join(f"{plane.name} {port_of(plane.settings)}" for plane in PLANES.values())
    + ".",
)
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Worker processes.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    help="Serve this contract document instead of the bundled one.",
)
def serve(plane: str, host: str, port: int | None, workers: int | None, spec: Path | None) -> None:
    """Serve a plane of the Cycles API from the configured Redis.

    PLANE is runtime, unless said otherwise.
    """
    served = PLANES[plane]
    settings = settings_or_exit(served)
    run_server(
        served,
        settings,
        host=host,
        port=port or settings.server_port,
        workers=workers or settings.cycles_workers,
        spec=spec or (Path(settings.cycles_spec) if settings.cycles_spec else None),
    )


def settings_or_exit(plane: Plane = DEFAULT) -> CommonSettings:
    """The settings of this process, or one clear line and exit status 2."""
    try:
        return load_settings(plane.settings)
    except SettingError as error:
        raise fatal(str(error)) from None


def run_server(
    plane: Plane,
    settings: CommonSettings,
    *,
    host: str,
    port: int,
    workers: int = 1,
    spec: Path | None = None,
) -> None:
    """Serve until told to stop.

    Args:
        plane: with several workers, one of the catalogue.

    Raises:
        click.ClickException: the port is taken, the contract cannot be served, or the store
            would lose money silently.
    """
    listener = bind(host, port)
    log_config = configure_logging(settings)
    for name in settings.ignored():
        logger.info("%s is set and means nothing to this server", name)
    for warning in plane.warnings(settings):
        logger.warning("%s", warning)
    check_store(settings)
    files = _allow_many_connections()
    options = {
        "lifespan": "on",
        "log_config": log_config,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": settings.cycles_shutdown_grace_seconds,
        "backlog": _BACKLOG,
        "loop": "cycles_server.http.loop:ServingLoop",
        "http": Connections(connection_limits(settings, files), plane.cors(settings)),
        "ws": "none",
        # A limit for each address counts the peer of the socket, whatever a header claims.
        "proxy_headers": False,
    }
    try:
        if workers == 1:
            app = create_app(plane, settings, spec=spec)
            config = uvicorn.Config(app, **options)  # type: ignore[arg-type]
            uvicorn.Server(config).run(sockets=[listener])
            return
        # What would stop a worker at its start is better said once, here.
        create_app(plane, settings, spec=spec)
    except (ContractError, LookupError) as error:
        listener.close()
        raise fatal(str(error)) from None
    if spec is not None:
        os.environ["CYCLES_SPEC"] = str(spec.resolve())
    try:
        shared = tempfile.TemporaryDirectory(prefix="cycles-metrics-")
    except OSError as error:
        listener.close()
        raise fatal(f"several workers count in a temporary directory: {error}") from None
    with shared as directory:
        prepare_multiprocess(Path(directory))
        os.environ[METRICS_DIRECTORY] = directory
        os.environ[PLANE] = plane.name
        config = uvicorn.Config(
            "cycles_server.cli.serve:worker",
            factory=True,
            workers=workers,
            timeout_worker_healthcheck=_SILENT_WORKER_S,
            **options,  # type: ignore[arg-type]
        )
        _Workers(config, sockets=[listener]).run()


def connection_limits(settings: CommonSettings, files: int) -> ConnectionLimits:
    """What a client may send, how long it may take, and how many there may be.

    Args:
        files: how many a process may open. Each connection is one, and a process that has none
            left takes no connection at all, not even to say that it lives.
    """
    room = max(files - _FILES_OF_ITS_OWN, 2)
    newcomers = min(_NEWCOMERS, room // 2)
    most = min(settings.cycles_max_connections, room - newcomers)
    if most < settings.cycles_max_connections:
        logger.warning(
            "this system allows a process %d open files: %d connections in place of"
            " CYCLES_MAX_CONNECTIONS=%d",
            files,
            most,
            settings.cycles_max_connections,
        )
    return ConnectionLimits(
        head=HeadLimits(
            target_bytes=settings.cycles_max_target_bytes,
            bytes=settings.cycles_max_head_bytes,
            lines=settings.cycles_max_head_lines,
        ),
        body_bytes=settings.cycles_max_body_bytes,
        most=most,
        newcomers=newcomers,
        head_s=settings.cycles_head_timeout_seconds,
        body_s=settings.cycles_body_timeout_seconds,
        idle_s=settings.cycles_idle_timeout_seconds,
        write_s=settings.cycles_write_timeout_seconds,
    )


class _Workers(Multiprocess):
    """uvicorn's supervisor of several workers, closing the door before it sends them home."""

    def terminate_all(self) -> None:
        # Else the port would go on taking connections that nobody serves any more.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def worker() -> object:
    """The application of one of several workers."""
    _end_with_parent()
    plane = PLANES[os.environ[PLANE]]
    settings = load_settings(plane.settings)
    return create_app(
        plane,
        settings,
        spec=Path(settings.cycles_spec) if settings.cycles_spec else None,
        metrics_directory=Path(os.environ[METRICS_DIRECTORY]),
    )


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        click.ClickException: somebody else does, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Only listening makes the port ours; from here on connections wait for the server.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise fatal(f"cannot listen on {host}:{port}: {error.strerror}", 1) from None
    listener.set_inheritable(True)
    return listener


def _allow_many_connections() -> int:
    """How many files may be open from now on. Each connection is one, and a shell usually allows
    1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system with a lower bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def _end_with_parent() -> None:
    """Stop when the parent is gone: nobody would replace this worker, and it holds the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def check_store(settings: CommonSettings) -> None:
    """Refuse a store that may drop keys; one that is away for now is waited for.

    Raises:
        click.ClickException: its eviction policy would lose budgets and reservations.
    """
    with contextlib.closing(StoreProbe(settings.redis_connection_url)) as probe:
        status = probe.check()
    for finding in status.findings:
        if finding.code == EVICTION:
            raise fatal(f"this Redis must not be used: {finding.sentence}")
    for warning in status.warnings:
        logger.warning("%s", warning)

"""Which store a command works on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from cycles_server.cli.errors import fatal
from cycles_server.cli.serve import settings_or_exit
from cycles_server.embedded.store import DEFAULT_DATA_DIR, redis_configured, running_url
from cycles_server.store.errors import StoreError, StoreUnavailable
from cycles_server.store.keys import Keys
from cycles_server.store.layout import LAYOUTS
from cycles_server.store.store import Store, run_on_store

_CONNECT_S = 5.0
_ANSWER_MS = 30_000

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use the embedded store of the `up` that runs on this directory.",
)

_T = TypeVar("_T")


def on_store(data_dir: Path | None, work: Callable[[Store], Awaitable[_T]]) -> _T:
    """Do a command's work on the store of an ``up`` on ``data_dir``; else on the configured Redis;
    else on that of an ``up`` on the default directory; else at Redis's own default address.

    Raises:
        click.ClickException: exit status 2 and one line if the store cannot be had, also when it
            goes away within the work.
    """
    settings = settings_or_exit()
    url = settings.redis_connection_url
    if data_dir is not None:
        running = running_url(data_dir)
        if running is None:
            raise fatal(f"no embedded store runs on {data_dir}: start `cycles-server up` first")
        url = running
    elif not redis_configured():
        url = running_url(DEFAULT_DATA_DIR) or url

    async def begin(store: Store) -> _T:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await store.read("PING")
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {_CONNECT_S:g} s") from None
        return await work(store)

    keys = Keys(LAYOUTS[settings.cycles_key_layout]())
    try:
        return run_on_store(url, keys, begin, timeout_ms=_ANSWER_MS)
    except StoreError as error:
        raise fatal(f"the store failed: {error}") from None

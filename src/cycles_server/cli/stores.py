"""Which store a command works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from cycles_server.cli.errors import fatal
from cycles_server.cli.serve import settings_or_exit
from cycles_server.embedded.store import DEFAULT_DATA_DIR, redis_configured, running_url
from cycles_server.store.keys import Keys
from cycles_server.store.layout import LAYOUTS

_CONNECT_S = 5.0
_ANSWER_S = 30.0

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use the embedded store of the `up` that runs on this directory.",
)


@contextmanager
def opened_store(data_dir: Path | None) -> Iterator[tuple[Redis, Keys]]:
    """A client of the store, and the key names in it.

    The store of an ``up`` on ``data_dir``; else the configured Redis; else that of an ``up`` on
    the default directory; else Redis's own default address.

    Raises:
        click.ClickException: exit status 2 and one line if the store cannot be had, also when it
            goes away within the block.
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
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        encoding_errors="backslashreplace",
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=_ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        client_name="cycles-server-cli",
    )
    try:
        client.ping()
        yield client, Keys(LAYOUTS[settings.cycles_key_layout]())
    except RedisError as error:
        raise fatal(f"the store failed: {error}") from None
    finally:
        client.close()

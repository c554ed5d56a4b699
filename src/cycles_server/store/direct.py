"""A connection for those who have no event loop: a thread of the probe, a store that starts."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from cycles_server.store.errors import StoreError
from cycles_server.store.link import Argument, Reply
from cycles_server.store.replies import ERROR_REPLIES, cause_of, store_error
from cycles_server.store.scripts import load_script


class DirectConnection:
    """One connection, one call at a time; each waits for its reply.

    Its errors say what failed without an address or a secret.

    Args:
        url: a Redis URL (``redis://``, ``rediss://``, ``unix://``).
        timeout_s: seconds for each read and each address; none counts while a name is looked up.
        name: what Redis lists the connection as.
    """

    def __init__(self, url: str, *, timeout_s: float, name: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            # redis-py would otherwise ask up to ten times over.
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            protocol=2,
            client_name=name,
        )
        # Replies as they come, as everywhere in this package.
        self._redis.response_callbacks.clear()

    def command(self, *arguments: Argument) -> Reply:
        """The reply to a command.

        Raises:
            StoreError: there is none, or it is an error.
        """
        try:
            return self._ask(*arguments)
        except (RedisError, OSError) as error:
            raise _failure(error) from error

    def call(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The answer of one of the scripts, which is sent whole if Redis does not know it.

        Raises:
            StoreError: there is none, or it is an error.
        """
        loaded = load_script(script)
        tail = (len(keys), *keys, *arguments)
        try:
            return self._ask("EVALSHA", loaded.sha, *tail)
        except NoScriptError:
            return self.command("EVAL", loaded.source, *tail)
        except (RedisError, OSError) as error:
            raise _failure(error) from error

    def _ask(self, *arguments: Argument) -> Reply:
        return self._redis.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Close it; the next call resolves the address anew."""
        self._redis.connection_pool.disconnect()

    def close(self) -> None:
        self._redis.close()


def _failure(error: RedisError | OSError) -> StoreError:
    what = cause_of(error)
    return store_error(error, what) if isinstance(error, ERROR_REPLIES) else StoreError(what)

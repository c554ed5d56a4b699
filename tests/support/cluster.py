"""A cluster of one node: a script that touches a second slot fails there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.redis import RedisServer
from support.running import Running
from support.server import CyclesServer, free_port
from support.wire import eventually


@contextmanager
def on_a_cluster(folder: Path, *arguments: str) -> Iterator[Running]:
    """A server in the bucket layout, started with these arguments, and its cluster."""
    store = RedisServer(
        folder / "cluster",
        *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
        port=free_port(),
        fsync="everysec",
    )
    store.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    eventually(lambda: store.client.cluster("INFO")["cluster_state"] == "ok")
    server = CyclesServer(
        store.url,
        folder / "log",
        arguments=arguments,
        settings={"CYCLES_KEY_LAYOUT": "buckets"},
    )
    yield Running(server, store)
    server.stop()
    store.stop()

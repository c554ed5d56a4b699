"""``python -m hostile KIND``: set one kind of strangers on a server until told to end."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource

from .siege import KINDS, Siege
from .stranger import Target


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hostile", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=10, help="how many at a time")
    parser.add_argument("--pause", type=float, default=0.5, help="longest rest of each, seconds")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    # What they do is their machine's business, which is this one too: the server goes first.
    os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Keys are no arguments: those are for all the machine to see.
    target = Target(
        asked.port,
        api_key=os.environ.get("CYCLES_API_KEY", ""),
        admin_key=os.environ.get("ADMIN_API_KEY", ""),
        patience_s=3600,
    )
    siege = Siege(target, {asked.kind: asked.count}, seed=asked.seed, pause_s=asked.pause)
    asyncio.run(siege.last(lambda: False))


if __name__ == "__main__":
    main()

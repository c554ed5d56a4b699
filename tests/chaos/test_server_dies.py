"""The server is killed in the middle of its work, and started again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from support.agents import Crew
from support.running import StartServer


def test_agents_work_through_deaths_of_the_server(start: StartServer) -> None:
    running = start()
    crew = Crew(running.server.port, running.tenant(status="ACTIVE"))

    async def faults() -> None:
        for with_store in (False, False, True):
            running.server.kill()
            if with_store:
                running.store.kill()
                await asyncio.to_thread(running.store.start)
            await asyncio.to_thread(running.server.start)
            await crew.progress(5)

    crew.run_through(faults)
    assert crew.lost
    crew.check()

    script = "from cycles_server.cli import main; main()"
    command = [sys.executable, "-c", script, "doctor", "--json"]
    told = subprocess.run(
        command, env={"REDIS_URL": running.store.url}, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert json.loads(told.stdout)["healthy"]

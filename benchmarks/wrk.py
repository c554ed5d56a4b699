"""Load by ``wrk``: one run of one script, and what it saw."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

FOLDER = Path(__file__).parent / "wrk"


@dataclass(frozen=True)
class Load:
    """What ``wrk`` saw of a run; times in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raises: click.ClickException if there is no ``wrk`` on the path."""
    if shutil.which("wrk") is None:
        raise click.ClickException("wrk makes the load and is not here: apt-get install wrk")


def run_wrk(
    script: str,
    url: str,
    *,
    secret: str,
    tenant: str,
    clients: int,
    seconds: float,
    pause_ms: int = 0,
    ids: Path | None = None,
    anew: bool = False,
    operator_key: str = "",
) -> Load:
    """Run ``wrk/{script}.lua`` against a URL.

    Args:
        clients: connections; each asks again as soon as it has its answer,
        pause_ms: or after this pause.
        ids: a file of reservation ids, one a line.
        anew: each request over a new connection.
        operator_key: sent in place of the secret, if there is one.

    Raises:
        click.ClickException: an answer was not 2xx, or none came: the run tells nothing.
    """
    seed = str(secrets.randbits(31))
    key = f"X-Admin-API-Key: {operator_key}" if operator_key else f"X-Cycles-API-Key: {secret}"
    command = [
        *("wrk", "-t", "1", "-c", str(clients), "-d", f"{max(1, round(seconds))}s"),
        *("--timeout", "10s", "-H", key),
        *(("-H", "Connection: close") if anew else ()),
        *("-s", f"{script}.lua", url),
        *("--", tenant, seed, str(pause_ms)),
        *([str(ids)] if ids else []),
    ]
    told = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    line = next((line for line in told.stdout.splitlines() if line.startswith("{")), None)
    if line is None:
        raise click.ClickException(f"wrk failed: {told.stdout}{told.stderr}")
    figures = json.loads(line)
    if figures["refused"] or figures["broken"] or figures["exhausted"] or not figures["requests"]:
        raise click.ClickException(f"{script} at {clients} clients did not go through: {line}")
    return Load(
        requests=figures["requests"],
        seconds=figures["micros"] / 1e6,
        p50_ms=figures["p50"] / 1000,
        p99_ms=figures["p99"] / 1000,
        max_ms=figures["max"] / 1000,
    )

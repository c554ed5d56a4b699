"""What a server has counted."""

from __future__ import annotations

import re

import httpx

from support.server import ADMIN_KEY


def metric(url: str, name: str, **labels: str) -> float:
    """The sum over all series of a counter that have these labels."""
    # Patient: on a busy machine a worker that has just been replaced takes a while.
    answer = httpx.get(
        f"{url}/actuator/prometheus", headers={"X-Admin-API-Key": ADMIN_KEY}, timeout=30
    )
    text = answer.text
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if re.match(rf"{name}[{{ ]", line) and all(label in line for label in wanted)
    )

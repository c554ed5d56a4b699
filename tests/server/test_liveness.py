"""Liveness: answered by the process alone."""

from __future__ import annotations

import httpx
import pytest
from support.running import Running

PATH = "/actuator/health/liveness"


def test_it_is_up(running: Running) -> None:
    answer = httpx.get(running.url + PATH)
    assert (answer.status_code, answer.json()) == (200, {"status": "UP"})
    assert answer.headers["content-type"] == "application/json"
    head = httpx.head(running.url + PATH)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods(running: Running, method: str) -> None:
    answer = httpx.request(method, running.url + PATH)
    assert (answer.status_code, answer.json()["error"]) == (405, "INVALID_REQUEST")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("tail", ["/", "/x", "x", "%2f"])
def test_nothing_below_it(running: Running, tail: str) -> None:
    answer = httpx.get(running.url + PATH + tail)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")

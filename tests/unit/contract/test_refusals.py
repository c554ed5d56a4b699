"""What a refusal is answered with."""

from __future__ import annotations

import pytest

from cycles_server.contract.refusals import problem_of
from cycles_server.http.exchange import Exchange
from cycles_server.planes.catalogue import PLANES
from cycles_server.refusal import Refusal


@pytest.mark.parametrize(("plane", "too_many_rows"), [("runtime", 429), ("admin", 400)])
def test_a_limit_that_time_lifts_is_one_on_requests(plane: str, too_many_rows: int) -> None:
    exchange = Exchange({"method": "GET", "path": "/", "query_string": b"", "headers": []})
    statuses = PLANES[plane].statuses
    rows = problem_of(Refusal("LIMIT_EXCEEDED", "too many rows"), exchange, statuses)
    assert (rows.status, rows.headers) == (too_many_rows, ())
    waits = Refusal("LIMIT_EXCEEDED", "too many at a time", retry_after_s=7)
    problem = problem_of(waits, exchange, statuses)
    assert (problem.status, dict(problem.headers)["retry-after"]) == (429, "7")

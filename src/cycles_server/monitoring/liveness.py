"""``/actuator/health/liveness``: that this process runs, and nothing else.

It is answered on the event loop, with no thread, no store and nothing to read: there is nothing
in it that other requests could use up.
"""

from __future__ import annotations

from cycles_server.http.crowd import LIVENESS_PATH
from cycles_server.http.exchange import READS, Exchange, Reply
from cycles_server.http.problems import method_not_allowed, no_such_path


async def liveness(exchange: Exchange) -> Reply:
    """200 UP. To restart the process would not bring the store back, so it is not looked at.

    Raises:
        Problem: 404 below the path, 405 for a method that is none of GET and HEAD.
    """
    if exchange.path != LIVENESS_PATH:
        raise no_such_path()
    if exchange.method not in READS:
        raise method_not_allowed(exchange.method, READS)
    return Reply(200, {"status": "UP"})

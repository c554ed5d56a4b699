"""Bulk actions: where they are, and how one comes to be broken off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from support.operator import Operator
from support.server import CyclesServer

BUDGETS = "/v1/admin/budgets/bulk-action"
TENANTS = "/v1/admin/tenants/bulk-action"
SKIPPED = "ALREADY_IN_TARGET_STATE"

_OPERATIONS = {BUDGETS: "bulkActionBudgets", TENANTS: "bulkActionTenants"}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["id"] for row in rows)


def break_off(
    operator: Operator,
    server: CyclesServer,
    path: str,
    body: dict[str, Any],
    done: Callable[[], int],
) -> None:
    """Kill the server as soon as something of an action is done, and start it again, as if the time
    had passed for which a dead one is waited for."""

    def act() -> None:
        with suppress(httpx.HTTPError):
            operator.http.post(path, json=body)

    thread = threading.Thread(target=act)
    thread.start()
    while not done():
        pass
    server.kill()
    thread.join()
    operator.redis.delete(operator.keys.lease(f"{_OPERATIONS[path]}:{body['idempotency_key']}"))
    server.start()

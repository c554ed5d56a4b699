"""API keys changed from several sides at the same time: no change is lost, a revocation sticks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from support.apikeys import by_key, made, revoke, stored, told, update
from support.crowd import at_once
from support.operator import Body, Operator
from support.redis import RedisServer
from support.running import Running
from support.server import CyclesServer
from support.tenants import error_of


def test_a_revocation_sticks_whatever_else_runs(operator: Operator) -> None:
    tenant = operator.tenant()
    keys = []
    for _ in range(24):
        secret = tenant.new_key()
        keys.append((tenant.key_id, secret))
    answers: dict[str, list[int]] = {key_id: [] for key_id, _ in keys}

    def updating(key_id: str) -> Callable[[], None]:
        def call() -> None:
            for turn in range(5):
                answer = update(operator, key_id, {"name": f"n{turn}", "permissions": []})
                answers[key_id].append(answer.status_code)

        return call

    def revoking(key_id: str) -> Callable[[], None]:
        def call() -> None:
            assert revoke(operator, key_id).status_code == 200
            answers[key_id].append(0)

        return call

    at_once([made for key_id, _ in keys for made in (updating(key_id), revoking(key_id))])
    for key_id, secret in keys:
        seen = answers[key_id]
        assert len(seen) == 6  # a revocation that failed has left no zero
        assert set(seen) <= {0, 200, 409}
        assert stored(tenant, key_id)["status"] == "REVOKED"
        assert by_key(operator.url, secret) == 401
    assert len(told(operator, tenant, "revokeApiKey")) == 24


def test_of_two_updates_at_once_neither_is_lost(operator: Operator) -> None:
    tenant = operator.tenant()
    changes: list[Body] = [
        {"name": "new"},
        {"description": "new"},
        {"permissions": ["balances:read"]},
        {"scope_filter": ["agent:new"]},
        {"metadata": {"new": 1}},
    ]
    answers = at_once([partial(update, operator, tenant.key_id, body) for body in changes])
    assert {answer.status_code for answer in answers} == {200}
    record = stored(tenant, tenant.key_id)
    for body in changes:
        assert body.items() <= record.items()
    assert len(told(operator, tenant, "updateApiKey")) == len(changes)


def test_keys_made_at_once_are_all_there(operator: Operator) -> None:
    tenant = operator.tenant()
    answers = at_once([lambda: made(operator, tenant)] * 6)
    ids = {body["key_id"].encode() for body in answers}
    assert len(ids) == len({body["key_secret"] for body in answers}) == 6
    assert ids <= operator.redis.smembers(tenant.names.api_keys())
    assert len(told(operator, tenant, "createApiKey")) == 6


def test_a_revocation_is_in_force_on_every_worker_of_both_planes(
    operator: Operator, running: Running, store: RedisServer, tmp_path_factory: Any
) -> None:
    log = tmp_path_factory.mktemp("workers") / "log"
    server = CyclesServer(store.url, log, arguments=("admin", "--workers", "2"))
    try:
        for _ in range(3):
            tenant = operator.tenant()
            operator.budget(tenant)
            headers = {"X-Cycles-API-Key": tenant.secret}
            # Connections that stay: each of the workers has some, and knows the key.
            doors = [
                (httpx.Client(base_url=url, headers=headers, timeout=30), path)
                for url, path in (
                    *((server.url, "/v1/auth/introspect") for _ in range(10)),
                    (running.url, f"/v1/balances?tenant={tenant.name}"),
                )
            ]
            for http, path in doors:
                assert http.get(path).status_code == 200
            there = Operator(store.client, server.url)
            assert revoke(there, tenant.key_id).status_code == 200
            for http, path in doors:
                assert error_of(http.get(path)) == (401, "UNAUTHORIZED")
                http.close()
            body = tenant.reserve_body(1)
            answer = httpx.post(f"{running.url}/v1/reservations", json=body, headers=headers)
            assert error_of(answer) == (401, "UNAUTHORIZED")
    finally:
        server.stop()

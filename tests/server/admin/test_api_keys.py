"""API keys: made once, changed, revoked for good, and every change told of."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import bcrypt
import httpx
import pytest
from support.apikeys import PATH, by_key, create, made, revoke, stored, told, update
from support.operator import Body, Operator
from support.running import Running, StartServer
from support.tenants import error_of

TEN = {
    *(f"reservations:{deed}" for deed in ("create", "commit", "release", "extend", "list")),
    *("balances:read", "budgets:read", "budgets:write", "policies:read", "policies:write"),
}
"""What a key may do of which nothing is said."""
PAST = "2026-01-01T00:00:00Z"
NOT_FOUND = (404, "NOT_FOUND")
CLOSED = (409, "TENANT_CLOSED")


# -- create ------------------------------------------------------------------------------------


def test_a_new_one_is_stored_without_its_secret_and_told_of(
    operator: Operator, running: Running
) -> None:
    tenant = operator.tenant()
    answer = create(operator, tenant)
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {
        *("key_id", "key_secret", "key_prefix", "tenant_id"),
        *("permissions", "created_at", "expires_at"),
    }
    secret, key_id = body["key_secret"], body["key_id"]
    assert (secret[:9], len(secret), len(key_id), key_id[:4]) == ("cyc_live_", 41, 20, "key_")
    assert (body["key_prefix"], body["tenant_id"]) == (secret[:14], tenant.name)
    assert set(body["permissions"]) == TEN
    created, expires = (datetime.fromisoformat(body[f"{n}_at"]) for n in ("created", "expires"))
    assert expires - created == timedelta(days=90)

    record = stored(tenant, key_id)
    assert list(record) == [
        *("key_id", "tenant_id", "key_prefix", "key_hash", "name", "permissions"),
        *("status", "created_at", "expires_at"),
    ]
    assert record["key_hash"].startswith("$2a$12$")
    assert bcrypt.checkpw(secret.encode(), record["key_hash"].encode())
    assert operator.redis.get(f"apikey:lookup:{secret[:14]}") == key_id.encode()
    assert operator.redis.sismember(tenant.names.api_keys(), key_id)

    (entry,) = told(operator, tenant, "createApiKey")
    assert (entry["resource_type"], entry["resource_id"]) == ("api_key", key_id)
    assert (entry["status"], entry["metadata"]) == (201, {"name": "bot"})
    assert entry["request_id"] == answer.headers["x-request-id"]
    # It opens both planes.
    assert by_key(operator.url, secret) == 200
    headers = {"X-Cycles-API-Key": secret}
    balances = httpx.get(f"{running.url}/v1/balances?tenant={tenant.name}", headers=headers)
    assert balances.status_code == 200


def test_what_may_be_asked_for(operator: Operator) -> None:
    tenant = operator.tenant()
    body = made(
        operator,
        tenant,
        description="",
        permissions=["admin:write", "balances:read", "admin:tenants:read", "balances:read"],
        scope_filter=["workspace:eng", "agent:*", "tenant:x/app:y"],
        expires_at="2999-01-01T00:30:00.123456789+01:00",
        metadata={"a": {"b": [1.50, {}, []]}},
    )
    assert body["permissions"] == [
        *("admin:write", "balances:read", "admin:tenants:read", "balances:read"),
    ]
    assert body["expires_at"] == "2998-12-31T23:30:00.123Z"
    record = stored(tenant, body["key_id"])
    assert record["scope_filter"] == ["workspace:eng", "agent:*", "tenant:x/app:y"]
    assert record["metadata"] == {"a": {"b": [1.50, {}, []]}}
    assert (record["description"], record["expires_at"]) == ("", body["expires_at"])
    (entry,) = told(operator, tenant, "createApiKey")
    assert entry["metadata"] == {"name": "bot", "permissions": body["permissions"]}


def test_no_permissions_at_all_is_not_the_default(operator: Operator) -> None:
    tenant = operator.tenant()
    # The same name twice is two keys, and a repeated request another one.
    first, second = (made(operator, tenant, permissions=[], scope_filter=[]) for _ in range(2))
    assert first["permissions"] == stored(tenant, first["key_id"])["permissions"] == []
    assert first["key_id"] != second["key_id"]
    assert first["key_secret"] != second["key_secret"]


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": " \t"}, "name"),
        ({"name": "n" * 257}, "name"),
        ({"name": 7}, "name"),
        ({"description": "d" * 1025}, "description"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"tenant_id": " "}, "tenant_id"),
        ({"tenant_id": None}, "tenant_id"),
        ({"tenant_id": "nobody-here"}, "nobody-here"),
        ({"permissions": ["balances:read", "nope"]}, "nope"),
        ({"permissions": ["Balances:Read"]}, "Balances:Read"),
        ({"permissions": ["events:create"]}, "events:create"),
        ({"permissions": ["decide"]}, "decide"),
        ({"permissions": [None]}, "permissions"),
        ({"permissions": [None, "nope"]}, "permissions"),
        ({"permissions": "balances:read"}, "permissions"),
        ({"scope_filter": [""]}, "scope_filter"),
        ({"scope_filter": ["agent:a", "  "]}, "scope_filter"),
        ({"scope_filter": [None]}, "scope_filter"),
        ({"scope_filter": "agent:a"}, "scope_filter"),
        ({"expires_at": "yesterday"}, "expires_at"),
        ({"expires_at": "2999-01-01"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "2999-02-30T00:00:00Z"}, "expires_at"),
        ({"expires_at": 32503680000}, "expires_at"),
        ({"expires_at": PAST}, "expires_at"),
        ({"metadata": "text"}, "metadata"),
        ({"key_id": "key_mine"}, "key_id"),
        ({"status": "ACTIVE"}, "status"),
    ],
)
def test_what_is_not_allowed_makes_none(
    operator: Operator, members: dict[str, object], named: str
) -> None:
    tenant = operator.tenant()
    before = operator.redis.smembers(tenant.names.api_keys())
    refused = create(operator, tenant, **members)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert named in refused.json()["message"]
    assert operator.redis.smembers(tenant.names.api_keys()) == before
    assert told(operator, tenant, "createApiKey") == []


@pytest.mark.parametrize("member", ["tenant_id", "name"])
def test_what_is_required(operator: Operator, member: str) -> None:
    body = {"tenant_id": "acme", "name": "bot"}
    del body[member]
    refused = operator.http.post(PATH, json=body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert member in refused.json()["message"]


def test_the_longest_texts(operator: Operator) -> None:
    tenant = operator.tenant()
    body = made(
        operator,
        tenant,
        name="ü" * 256,
        description="d" * 1024,
        expires_at="9999-12-31T23:59:59-12:00",
    )
    assert body["expires_at"] == "9999-12-31T23:59:59.999Z"
    assert stored(tenant, body["key_id"])["name"] == "ü" * 256


@pytest.mark.parametrize(
    ("status", "error"),
    [("SUSPENDED", (400, "INVALID_REQUEST")), ("CLOSED", CLOSED), ("?", (500, "INTERNAL_ERROR"))],
)
def test_only_for_an_active_tenant(operator: Operator, status: str, error: tuple[int, str]) -> None:
    tenant = operator.tenant()
    tenant.record(status=status)
    before = operator.redis.smembers(tenant.names.api_keys())
    assert error_of(create(operator, tenant)) == error
    assert operator.redis.smembers(tenant.names.api_keys()) == before


def test_numbers_in_metadata_come_back_as_they_were_sent(operator: Operator) -> None:
    tenant = operator.tenant()
    text = '{"a":12345678901234567890,"b":0.1234567890123456789012,"c":2.50}'
    body = f'{{"tenant_id":"{tenant.name}","name":"n","metadata":{text}}}'
    made = operator.http.post(PATH, content=body, headers={"content-type": "application/json"})
    assert made.status_code == 201, made.text
    listed = operator.http.get(PATH, params={"tenant_id": tenant.name})
    assert text in listed.text


# -- update ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        ({"permissions": ["balances:read"]}, {"permissions": ["balances:read"]}),
        ({"permissions": []}, {"permissions": []}),
        ({"scope_filter": []}, {"scope_filter": []}),
        ({"scope_filter": ["agent:b"]}, {"scope_filter": ["agent:b"]}),
        ({"name": "New"}, {"name": "New"}),
        ({"metadata": {}}, None),
        ({"description": ""}, None),
        ({}, None),
    ],
)
def test_update_changes_what_was_sent_alone(
    operator: Operator, body: Body, metadata: Body | None
) -> None:
    tenant = operator.tenant()
    tenant.write_key(
        name="old",
        description="old",
        permissions=["budgets:read"],
        scope_filter=["agent:a"],
        metadata={"a": 1},
        expires_at="2999-01-01T00:00:00.123456789Z",
        ours_not=[{}, []],
    )
    before = stored(tenant, tenant.key_id)
    changed = update(operator, tenant.key_id, body)
    assert changed.status_code == 200
    assert stored(tenant, tenant.key_id) == {**before, **body}
    shown = {name: value for name, value in before.items() if name not in ("key_hash", "ours_not")}
    assert changed.json() == {**shown, **body}
    (entry,) = told(operator, tenant, "updateApiKey")
    assert (entry["resource_id"], entry["status"]) == (tenant.key_id, 200)
    assert entry.get("metadata") == metadata
    assert by_key(operator.url, tenant.secret) == 200


def test_new_permissions_count_at_once_with_the_old_secret(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    lookup = {"scope": f"tenant:{tenant.name}", "unit": "TOKENS"}
    path = "/v1/admin/budgets/lookup"
    assert tenant.http.get(path, params=lookup).status_code == 200
    update(operator, tenant.key_id, {"permissions": ["balances:read"]})
    assert error_of(tenant.http.get(path, params=lookup)) == (403, "INSUFFICIENT_PERMISSIONS")
    update(operator, tenant.key_id, {"permissions": ["admin:read"], "scope_filter": ["agent:a"]})
    assert error_of(tenant.http.get(path, params=lookup)) == (403, "FORBIDDEN")
    update(operator, tenant.key_id, {"scope_filter": []})
    assert tenant.http.get(path, params=lookup).status_code == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"status": "ACTIVE"}, "status"),
        ({"tenant_id": "x-y-z"}, "tenant_id"),
        ({"key_id": "key_x"}, "key_id"),
        ({"key_hash": "x"}, "key_hash"),
        ({"permissions": ["nope"]}, "nope"),
        ({"permissions": [None, "nope"]}, "permissions"),
        ({"name": "n" * 257}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"description": "d" * 1025}, "description"),
        ({"scope_filter": [""]}, "scope_filter"),
        ({"scope_filter": [None]}, "scope_filter"),
        ({"metadata": []}, "metadata"),
        ([], "object"),
    ],
)
def test_what_cannot_be_updated(operator: Operator, body: Any, named: str) -> None:
    tenant = operator.tenant()
    before = stored(tenant, tenant.key_id)
    refused = update(operator, tenant.key_id, body)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert named in refused.json()["message"]
    assert stored(tenant, tenant.key_id) == before


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": "REVOKED"}, "KEY_REVOKED"),
        ({"revoked_at": PAST}, "KEY_REVOKED"),
        ({"status": "REVOKED", "expires_at": PAST}, "KEY_REVOKED"),
        ({"expires_at": PAST}, "KEY_EXPIRED"),
        ({"status": "EXPIRED"}, "KEY_EXPIRED"),
    ],
)
def test_only_an_active_one_can_be_updated(operator: Operator, changes: Body, error: str) -> None:
    tenant = operator.tenant()
    tenant.write_key(**changes)
    before = stored(tenant, tenant.key_id)
    for body in ({"permissions": []}, {}):
        assert error_of(update(operator, tenant.key_id, body)) == (409, error)
    assert stored(tenant, tenant.key_id) == before
    assert told(operator, tenant, "updateApiKey") == []


# -- revoke ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["because", "r" * 512, "", " ", None])
def test_revoke_is_for_good(operator: Operator, reason: str | None) -> None:
    tenant = operator.tenant()
    tenant.write_key(name="bot")
    assert by_key(operator.url, tenant.secret) == 200
    query = {} if reason is None else {"reason": reason}
    answer = revoke(operator, tenant.key_id, **query)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "REVOKED")
    kept = reason if reason and reason.strip() else None
    assert body.get("revoked_reason") == kept
    assert "key_hash" not in body
    assert by_key(operator.url, tenant.secret) == 401
    record = stored(tenant, tenant.key_id)
    assert (record["status"], record["revoked_at"]) == ("REVOKED", body["revoked_at"])
    (entry,) = told(operator, tenant, "revokeApiKey")
    assert entry["metadata"] == {"name": "bot"} | ({} if kept is None else {"reason": kept})
    # Its name and what leads to it stay another's for ever.
    assert operator.redis.exists(f"apikey:lookup:{tenant.secret[:14]}")
    assert operator.redis.sismember(tenant.names.api_keys(), tenant.key_id)

    again = revoke(operator, tenant.key_id, reason="another")
    assert error_of(again) == (409, "KEY_REVOKED")
    assert stored(tenant, tenant.key_id) == record
    assert len(told(operator, tenant, "revokeApiKey")) == 1


def test_a_reason_that_is_too_long(operator: Operator) -> None:
    tenant = operator.tenant()
    refused = revoke(operator, tenant.key_id, reason="r" * 513)
    assert error_of(refused) == (400, "INVALID_REQUEST")
    assert "reason" in refused.json()["message"]
    assert stored(tenant, tenant.key_id)["status"] == "ACTIVE"


@pytest.mark.parametrize("changes", [{"expires_at": PAST}, {"status": "EXPIRED"}])
def test_one_that_has_expired_can_be_revoked(operator: Operator, changes: Body) -> None:
    tenant = operator.tenant()
    tenant.write_key(**changes)
    answer = revoke(operator, tenant.key_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "REVOKED")


def test_what_it_reserved_can_be_settled_by_another(operator: Operator, running: Running) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    first_id, headers = tenant.key_id, {"X-Cycles-API-Key": tenant.secret}
    with httpx.Client(base_url=running.url, headers=headers, timeout=30) as http:
        body = tenant.reserve_body(10)
        reserved = http.post("/v1/reservations", json=body)
        assert reserved.status_code == 200, reserved.text
        assert revoke(operator, first_id).status_code == 200
        path = f"/v1/reservations/{reserved.json()['reservation_id']}/commit"
        commit = {"idempotency_key": "k", "actual": {"unit": "TOKENS", "amount": 10}}
        assert error_of(http.post(path, json=commit)) == (401, "UNAUTHORIZED")
        assert error_of(http.post("/v1/reservations", json=body)) == (401, "UNAUTHORIZED")
        other = {"X-Cycles-API-Key": tenant.new_key()}
        assert http.post(path, json=commit, headers=other).status_code == 200


# -- update and revoke -------------------------------------------------------------------------


@pytest.mark.parametrize("key_id", ["key_unknown", "x", "lookup:{prefix}", "key_%00", "ü"])
def test_one_that_is_not_there(operator: Operator, key_id: str) -> None:
    tenant = operator.tenant()
    key_id = key_id.format(prefix=tenant.secret[:14])
    assert error_of(update(operator, key_id, {"permissions": []})) == NOT_FOUND
    assert error_of(revoke(operator, key_id)) == NOT_FOUND
    assert error_of(operator.http.get(f"{PATH}/{tenant.key_id}"))[0] == 405


def test_a_closed_tenant_comes_first(operator: Operator) -> None:
    tenant = operator.tenant()
    tenant.record(status="CLOSED")
    for status in ("ACTIVE", "REVOKED", "EXPIRED"):
        tenant.write_key(status=status)
        before = stored(tenant, tenant.key_id)
        assert error_of(update(operator, tenant.key_id, {"permissions": []})) == CLOSED
        assert error_of(revoke(operator, tenant.key_id)) == CLOSED
        assert stored(tenant, tenant.key_id) == before
    # A suspended one's keys can be looked after, also those of one without a record.
    tenant.record(status="SUSPENDED")
    tenant.write_key(status="ACTIVE")
    assert update(operator, tenant.key_id, {"permissions": []}).status_code == 200
    operator.redis.delete(tenant.names.record)
    assert revoke(operator, tenant.key_id).status_code == 200


# -- secrets -----------------------------------------------------------------------------------


def test_no_secret_stands_where_others_read(start: StartServer) -> None:
    own = start(arguments=("admin",), LOG_LEVEL="DEBUG")
    operator = Operator(own.redis, own.url)
    tenant = operator.tenant()
    key = made(operator, tenant)
    key_id, secret = key["key_id"], key["key_secret"]
    wrong = [secret[:14] + "W" * 27, "cyc_live_" + "V" * 32, "Q" * 80, uuid.uuid4().hex]
    wrong_admin = "not-the-operators-" + uuid.uuid4().hex
    texts = []
    for presented in (secret, *wrong):
        headers = {"X-Cycles-API-Key": presented}
        texts += [
            operator.http.post("/v1/auth/validate", json={"key_secret": presented}).text,
            operator.http.post("/v1/auth/validate", json={"key_secret": [presented]}).text,
            operator.http.post("/v1/auth/validate", json=presented).text,
            operator.http.post(
                "/v1/auth/validate",
                content=f'{{"key_secret": "{presented}',
                headers={"Content-Type": "application/json"},
            ).text,
            update(operator, presented, {"name": "x"}).text,
            revoke(operator, presented).text,
            httpx.get(f"{own.url}/v1/auth/introspect", headers=headers, timeout=30).text,
            httpx.post(f"{own.url}{PATH}", json={}, headers=headers).text,
        ]
    texts.append(httpx.post(f"{own.url}{PATH}", headers={"X-Admin-API-Key": wrong_admin}).text)
    texts += [
        update(operator, key_id, {"key_hash": "x"}).text,
        update(operator, key_id, {"name": "x"}).text,
        revoke(operator, key_id, reason="lost").text,
        update(operator, key_id, {"name": "y"}).text,
        operator.http.post("/v1/auth/validate", json={"key_secret": secret}).text,
    ]
    hashed = stored(tenant, key_id)["key_hash"]
    entries = [own.redis.get(name).decode() for name in own.redis.keys("audit:log:*")]
    assert len(entries) >= 4
    log = own.server.log.read_text()
    assert "authentication refused" in log
    everything = "\n".join([*texts, *entries, log])
    for hidden in (secret, hashed, *wrong, wrong_admin, operator.http.headers["X-Admin-API-Key"]):
        assert hidden[-20:] not in everything

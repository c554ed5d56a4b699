"""What is answered of a key's record, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from cycles_server.auth.records import DEFAULT_PERMISSIONS
from cycles_server.contract.document import load_contract
from cycles_server.governance.api_keys import NEVER, PERMISSIONS, key_body
from cycles_server.planes.admin import ADMIN
from cycles_server.store.errors import StoreCorrupt

ENDS = 1_900_000_000_000
RECORD: dict[str, Any] = {
    "key_id": "key_1",
    "tenant_id": "acme",
    "key_prefix": "cyc_live_abcde",
    "key_hash": "$2a$12$x",
    "name": "bot",
    "permissions": ["balances:read"],
    "status": "ACTIVE",
    "created_at": "2026-01-01T00:00:00.123456789Z",
    "expires_at": "2030-03-17T17:46:40.000000001Z",
}


def test_the_hash_is_never_answered() -> None:
    body = key_body({**RECORD, "ours_not": 1}, 0)
    assert body == {name: value for name, value in RECORD.items() if name != "key_hash"}


@pytest.mark.parametrize(
    ("changes", "now", "status"),
    [
        ({}, ENDS - 1, "ACTIVE"),
        ({}, ENDS, "EXPIRED"),
        ({"expires_at": None}, ENDS, "ACTIVE"),
        ({"status": "EXPIRED"}, 0, "EXPIRED"),
        ({"status": "REVOKED"}, ENDS, "REVOKED"),
        ({"revoked_at": "2026-02-01T00:00:00Z"}, ENDS, "REVOKED"),
    ],
)
def test_status(changes: dict[str, Any], now: int, status: str) -> None:
    assert key_body({**RECORD, **changes}, now)["status"] == status


def test_what_the_contract_cannot_say_is_left_out() -> None:
    record = {
        **RECORD,
        "permissions": ["decide", "balances:read", None],
        "scope_filter": {},
        "revoked_reason": "x" * 600,
        "description": None,
        "metadata": "text",
        "expires_at": None,
    }
    body = key_body(record, 0)
    assert body["permissions"] == ["balances:read"]
    assert body["scope_filter"] == []
    assert body["revoked_reason"] == "x" * 512
    assert body["expires_at"] == NEVER
    assert not {"description", "metadata"} & body.keys()


def test_without_permissions_it_has_the_default() -> None:
    assert set(key_body({**RECORD, "permissions": None}, 0)["permissions"]) == DEFAULT_PERMISSIONS
    assert key_body({**RECORD, "permissions": {}}, 0)["permissions"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"key_id": None},
        {"tenant_id": 7},
        {"key_prefix": None},
        {"created_at": 7},
        {"status": "LOST"},
        {"expires_at": "soon"},
        {"expires_at": 7},
    ],
)
def test_a_record_that_does_not_say(changes: dict[str, Any]) -> None:
    with pytest.raises(StoreCorrupt):
        key_body({**RECORD, **changes}, 0)


def test_the_permissions_are_the_contracts() -> None:
    schemas = load_contract(ADMIN.contract).document["components"]["schemas"]
    assert set(schemas["Permission"]["enum"]) == PERMISSIONS

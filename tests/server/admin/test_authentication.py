"""Who may call the admin plane, what a key opens, and what is told of one."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass
from typing import Any

import bcrypt
import httpx
import pytest
from support.edges import check_error, send_bytes
from support.operator import Body, Operator
from support.running import StartServer
from support.server import ADMIN_KEY, CyclesServer
from support.tenants import UNIT, Tenant, error_of

from cycles_server.contract.document import load_contract
from cycles_server.governance.api_keys import PERMISSIONS
from cycles_server.planes.admin import ADMIN

INTROSPECT, VALIDATE = "/v1/auth/introspect", "/v1/auth/validate"
LOOKUP = "/v1/admin/budgets/lookup"
PAST = "2026-01-01T00:00:00Z"
UNAUTHORIZED = (401, "UNAUTHORIZED")
FAILED = (500, "INTERNAL_ERROR")
UNKNOWN = {"valid": False, "tenant_id": "", "reason": "KEY_NOT_FOUND"}


_TLS = ssl.create_default_context()
"""One for all: to make it takes longer than to be answered."""


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    """A request on a connection of its own."""
    return httpx.request(method, url, timeout=30, verify=_TLS, **more)


@dataclass(frozen=True)
class Operation:
    """One of the contract's, and which schemes it lists."""

    name: str
    method: str
    path: str
    schemes: frozenset[str]

    def send(self, url: str, **headers: str | bytes) -> httpx.Response:
        """A request that would be refused for its body and its parameters, too."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = b"{" if self.method in ("POST", "PATCH", "PUT") else b""
        return ask(self.method, url + self.path, content=body, headers=named)


def operations() -> list[Operation]:
    found = []
    for path, item in load_contract(ADMIN.contract).document["paths"].items():
        for method, node in item.items():
            if "operationId" in node:
                schemes = frozenset(scheme for entry in node["security"] for scheme in entry)
                place = path.replace("{", "").replace("}", "")
                found.append(Operation(node["operationId"], method.upper(), place, schemes))
    return found


EVERY = operations()
BY_ADMIN = [one for one in EVERY if "AdminKeyAuth" in one.schemes]
BY_KEY = [one for one in EVERY if "ApiKeyAuth" in one.schemes]
ADMIN_ONLY = [one for one in EVERY if one.schemes == {"AdminKeyAuth"}]


def named(one: Operation) -> str:
    return one.name


def refused(answer: httpx.Response, *secrets: str) -> None:
    """The one answer to every failed authentication: it tells nothing of the reason."""
    body = check_error(answer, *UNAUTHORIZED)
    assert body["message"] == "A valid API key is required"
    assert set(body) == {"error", "message", "request_id", "trace_id"}
    assert not [secret for secret in secrets if secret and secret in answer.text]


def introspect(operator: Operator, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask("GET", operator.url + INTROSPECT, headers=named)


def validate(operator: Operator, secret: Any) -> httpx.Response:
    return operator.http.post(VALIDATE, json={"key_secret": secret})


def verdict(operator: Operator, secret: str) -> Body:
    answer = validate(operator, secret)
    assert answer.status_code == 200, answer.text
    body: Body = answer.json()
    return body


# -- the operator's key ------------------------------------------------------------------------


@pytest.mark.parametrize("operation", EVERY, ids=named)
def test_without_a_key_nothing_is_looked_at(operator: Operator, operation: Operation) -> None:
    refused(operation.send(operator.url))
    refused(operation.send(operator.url, X_Admin_API_Key=""))
    refused(operation.send(operator.url, X_Admin_API_Key="", X_Cycles_API_Key=""))


@pytest.mark.parametrize("operation", BY_ADMIN, ids=named)
def test_a_wrong_operators_key_decides(operator: Operator, operation: Operation) -> None:
    tenant = operator.tenant()
    for wrong in (ADMIN_KEY + "x", ADMIN_KEY.upper(), f"{ADMIN_KEY}, {ADMIN_KEY}", "ü".encode()):
        refused(operation.send(operator.url, X_Admin_API_Key=wrong))
        beside = operation.send(operator.url, X_Admin_API_Key=wrong, X_Cycles_API_Key=tenant.secret)
        refused(beside, tenant.secret)


@pytest.mark.parametrize("operation", ADMIN_ONLY, ids=named)
def test_what_is_the_operators_opens_to_no_tenant(operator: Operator, operation: Operation) -> None:
    tenant = operator.tenant()
    tenant.write_key(permissions=sorted(PERMISSIONS))
    refused(operation.send(operator.url, X_Cycles_API_Key=tenant.secret))
    refused(operation.send(operator.url, Authorization=f"Bearer {ADMIN_KEY}"))


def test_while_no_key_is_configured(start: StartServer) -> None:
    own = start(arguments=("admin", "--workers", "2"), ADMIN_API_KEY="")
    tenant = own.tenant()
    for operation in BY_ADMIN:
        for key in ("anything", "None"):
            answer = operation.send(own.url, X_Admin_API_Key=key, X_Cycles_API_Key=tenant.secret)
            message = check_error(answer, *FAILED)["message"]
            assert "ADMIN_API_KEY" in message
        refused(operation.send(own.url))
    # A tenant's own key needs none.
    http = {"X-Cycles-API-Key": tenant.secret, "X-Admin-API-Key": ""}
    assert ask("GET", own.url + INTROSPECT, headers=http).status_code == 200
    warnings = [line for line in own.server.log.read_text().splitlines() if "WARNING" in line]
    assert sum("ADMIN_API_KEY is not set" in line for line in warnings) == 1


def test_both_keys_and_the_operator_decides(operator: Operator) -> None:
    tenant = operator.tenant()
    both = introspect(operator, X_Admin_API_Key=ADMIN_KEY, X_Cycles_API_Key=tenant.secret)
    assert both.json()["auth_type"] == "admin"
    blank = introspect(operator, X_Admin_API_Key="", X_Cycles_API_Key=tenant.secret)
    assert blank.json()["auth_type"] == "tenant"
    wrong = introspect(operator, X_Admin_API_Key=ADMIN_KEY, X_Cycles_API_Key="wrong")
    assert wrong.status_code == 200
    # Under the operator's rules a funding names its tenant.
    operator.budget(tenant)
    query = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    funding = {"operation": "CREDIT", "amount": {"unit": UNIT, "amount": 1}}
    headers = {"X-Cycles-API-Key": tenant.secret}
    answer = operator.http.post(
        "/v1/admin/budgets/fund", params=query, json=funding, headers=headers
    )
    assert error_of(answer) == (400, "INVALID_REQUEST")


# -- a tenant's key ----------------------------------------------------------------------------

DEAD: dict[str, dict[str, Any]] = {
    "revoked": {"status": "REVOKED", "revoked_at": PAST},
    "revoked, status forgotten": {"revoked_at": PAST},
    "expired": {"expires_at": PAST},
    "marked as expired": {"status": "EXPIRED"},
    "another secret": {"key_hash": bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()},
}


@pytest.mark.parametrize("change", DEAD.values(), ids=DEAD)
def test_a_key_that_is_not_in_force(operator: Operator, change: Body) -> None:
    tenant = operator.tenant()
    for operation in BY_KEY:  # the server knows it before
        assert operation.send(operator.url, X_Cycles_API_Key=tenant.secret).status_code != 401
    tenant.write_key(**change)
    for operation in BY_KEY:
        refused(operation.send(operator.url, X_Cycles_API_Key=tenant.secret), tenant.secret)


@pytest.mark.parametrize("operation", BY_KEY, ids=named)
def test_what_is_not_a_key(operator: Operator, operation: Operation) -> None:
    tenant = operator.tenant()
    prefix = tenant.secret[:14]
    for secret in (
        "x",
        "cyc_live_unknown_secret",
        prefix,
        prefix + "0" * 27,
        prefix + "y" * 5000,
        tenant.secret + "x",
        tenant.secret.upper(),
        f"{tenant.secret}, {tenant.secret}",
    ):
        refused(operation.send(operator.url, X_Cycles_API_Key=secret), secret)


def test_of_a_suspended_tenant(operator: Operator) -> None:
    tenant = operator.tenant()
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200
    operator.http.patch(f"/v1/admin/tenants/{tenant.name}", json={"status": "SUSPENDED"})
    for operation in BY_KEY:
        refused(operation.send(operator.url, X_Cycles_API_Key=tenant.secret), tenant.secret)
    operator.http.patch(f"/v1/admin/tenants/{tenant.name}", json={"status": "ACTIVE"})
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200


def test_of_a_closed_tenant_reads_go_on(operator: Operator) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    tenant.record(status="CLOSED")
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200
    scope = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    assert tenant.http.get(LOOKUP, params=scope).status_code == 200
    amount = {"unit": UNIT, "amount": 1}
    body = {"scope": f"tenant:{tenant.name}/agent:a", "unit": UNIT, "allocated": amount}
    made = tenant.http.post("/v1/admin/budgets", json=body)
    assert error_of(made) == (409, "TENANT_CLOSED")


@pytest.mark.parametrize("damaged", ["key", "tenant"])
@pytest.mark.parametrize("known", [True, False])
def test_a_record_that_cannot_be_read_is_no_verdict(
    operator: Operator, damaged: str, known: bool
) -> None:
    tenant = operator.tenant()
    if known:
        assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200
    name = tenant.names.record if damaged == "tenant" else tenant.names.api_key(tenant.key_id)
    operator.redis.set(name, "{")
    for operation in BY_KEY:
        answer = operation.send(operator.url, X_Cycles_API_Key=tenant.secret)
        assert error_of(answer) == FAILED
    assert error_of(validate(operator, tenant.secret)) == FAILED
    tenant.record()
    tenant.write_key()


def test_while_the_store_is_away(start: StartServer) -> None:
    own = start(arguments=("admin",), REDIS_POOL_MAX_WAIT_MS="300")
    tenant = own.tenant(status="ACTIVE")
    operator = Operator(own.redis, own.url)
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200
    own.store.pause()
    try:
        assert error_of(introspect(operator, X_Cycles_API_Key=tenant.secret)) == FAILED
        assert error_of(validate(operator, tenant.secret)) == FAILED
        assert httpx.get(f"{own.url}/actuator/health/liveness").json() == {"status": "UP"}
    finally:
        own.store.resume()


# -- permissions -------------------------------------------------------------------------------


def calls(tenant: Tenant) -> dict[str, tuple[str, str, dict[str, str], Body | None]]:
    """A call of each dual operation on budgets that succeeds with its permission."""
    scope = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    amount = {"unit": UNIT, "amount": 1}
    new = {"scope": f"tenant:{tenant.name}/agent:new", "unit": UNIT, "allocated": amount}
    funding = {"operation": "CREDIT", "amount": amount}
    return {
        "createBudget": ("POST", "/v1/admin/budgets", {}, new),
        "fundBudget": ("POST", "/v1/admin/budgets/fund", scope, funding),
        "lookupBudget": ("GET", LOOKUP, scope, None),
    }


@pytest.mark.parametrize("operation", ["createBudget", "fundBudget", "lookupBudget"])
def test_which_permission_opens_what(operator: Operator, operation: str) -> None:
    tenant = operator.tenant()
    operator.budget(tenant)
    method, path, params, body = calls(tenant)[operation]
    kind, other = ("read", "write") if operation == "lookupBudget" else ("write", "read")
    everything_else = PERMISSIONS - {f"budgets:{kind}", f"admin:{kind}"}
    for permissions in ([f"budgets:{other}"], [f"admin:{other}"], [], sorted(everything_else)):
        tenant.write_key(permissions=permissions)
        answer = tenant.http.request(method, path, params=params, json=body)
        assert error_of(answer) == (403, "INSUFFICIENT_PERMISSIONS")
        assert error_of(tenant.http.request(method, path, content=b"{")) == error_of(answer)
        assert introspect(operator, X_Cycles_API_Key=tenant.secret).status_code == 200
    for permission in (f"budgets:{kind}", f"admin:{kind}"):
        tenant.write_key(permissions=[permission])
        answer = tenant.http.request(method, path, params=params, json=body)
        assert answer.is_success or error_of(answer) == (409, "DUPLICATE_RESOURCE")


def test_a_tenant_sees_its_own_alone(operator: Operator) -> None:
    tenant, stranger = operator.tenant(), operator.tenant()
    operator.budget(tenant)
    scope = {"scope": f"tenant:{tenant.name}", "unit": UNIT}
    assert tenant.http.get(LOOKUP, params=scope).status_code == 200
    for asked in (scope, {**scope, "scope": scope["scope"].upper()}):
        found = stranger.http.get(LOOKUP, params=asked)
        assert error_of(found) in {(404, "BUDGET_NOT_FOUND"), (400, "INVALID_REQUEST")}
    nothing = stranger.http.get(LOOKUP, params={**scope, "scope": f"tenant:{tenant.name}/agent:x"})
    assert error_of(nothing) == (404, "BUDGET_NOT_FOUND")


# -- paths, methods, headers -------------------------------------------------------------------


def test_before_anybody_is_asked_who_they_are(operator: Operator, admin: CyclesServer) -> None:
    with httpx.Client(base_url=operator.url) as nobody:
        answer = nobody.delete("/v1/admin/tenants")
        check_error(answer, 405, "INVALID_REQUEST")
        assert "POST" in answer.headers["allow"]
        check_error(nobody.get("/v1/admin/nope"), 404, "NOT_FOUND")
        check_error(nobody.get("/v1/balances/x"), 404, "NOT_FOUND")
        for page in ("liveness", "readiness"):
            health = nobody.get(f"/actuator/health/{page}")
            assert (health.status_code, health.json()) == (200, {"status": "UP"})
    head = f"GET {INTROSPECT} HTTP/1.1\r\nHost: t\r\nX-ADMIN-api-kEY: {ADMIN_KEY}\r\n\r\n"
    assert send_bytes(admin.port, head.encode()).status_code == 200


# -- validate ----------------------------------------------------------------------------------


def test_a_good_key(operator: Operator) -> None:
    tenant = operator.tenant()
    secret = tenant.new_key(
        permissions=["balances:read", "decide"],
        scope_filter=["agent:a"],
        expires_at="2999-01-01T00:00:00Z",
    )
    good = {
        "valid": True,
        "tenant_id": tenant.name,
        "key_id": tenant.key_id,
        "permissions": ["balances:read"],
        "scope_filter": ["agent:a"],
        "expires_at": "2999-01-01T00:00:00Z",
    }
    before = operator.audit(tenant.name)
    assert verdict(operator, secret) == good
    tenant.write_key(scope_filter=None)
    del good["scope_filter"]
    assert verdict(operator, secret) == good
    assert operator.audit(tenant.name) == before
    assert b"last_used_at" not in operator.redis.get(tenant.names.api_key(tenant.key_id))


CHECKS: list[tuple[str, dict[str, Any], dict[str, Any] | None, str]] = [
    ("revoked", {"status": "REVOKED", "expires_at": PAST}, {}, "REVOKED"),
    ("expired", {"expires_at": PAST}, {"status": "CLOSED"}, "EXPIRED"),
    ("marked as expired", {"status": "EXPIRED"}, {}, "EXPIRED"),
    ("suspended", {}, {"status": "SUSPENDED"}, "TENANT_SUSPENDED"),
    ("closed", {}, {"status": "CLOSED"}, "TENANT_CLOSED"),
    ("no tenant", {}, None, "TENANT_NOT_FOUND"),
]


@pytest.mark.parametrize(
    ("key", "record", "reason"), [row[1:] for row in CHECKS], ids=[row[0] for row in CHECKS]
)
def test_what_is_wrong_with_a_key_is_told_to_who_holds_it(
    operator: Operator, key: Body, record: Body | None, reason: str
) -> None:
    tenant = operator.tenant()
    tenant.write_key(**key)
    if record is None:
        operator.redis.delete(tenant.names.record)
    else:
        tenant.record(**record)
    assert verdict(operator, tenant.secret) == {
        "valid": False,
        "tenant_id": tenant.name,
        "key_id": tenant.key_id,
        "reason": reason,
    }
    # The whole secret must be held: its beginning tells nothing, whatever state the key is in.
    for other in (tenant.secret[:14] + "x" * 27, tenant.secret[:-1], tenant.secret + "x"):
        assert verdict(operator, other) == UNKNOWN


def test_what_is_no_key(operator: Operator) -> None:
    tenant = operator.tenant()
    long, odd = "cyc_live_" + "x" * 5000, tenant.secret[:14] + "ü\x00€"
    for secret in ("x", "cyc_live_unknown", tenant.secret[:14], long, odd, ADMIN_KEY):
        assert verdict(operator, secret) == UNKNOWN
    operator.redis.delete(tenant.names.api_key(tenant.key_id))  # leads nowhere
    assert verdict(operator, tenant.secret) == UNKNOWN


@pytest.mark.parametrize("body", [{}, {"key_secret": ""}, {"key_secret": " \t"}, {"key_secret": 7}])
def test_what_cannot_be_validated(operator: Operator, body: Body) -> None:
    answer = operator.http.post(VALIDATE, json=body)
    assert error_of(answer) == (400, "INVALID_REQUEST")
    assert "key_secret" in answer.json()["message"]


def test_a_key_cannot_validate_itself(operator: Operator) -> None:
    tenant = operator.tenant()
    refused(tenant.http.post(VALIDATE, json={"key_secret": tenant.secret}))
    more = operator.http.post(VALIDATE, json={"key_secret": tenant.secret, "more": 1})
    assert more.json()["valid"] is True


@pytest.mark.parametrize(
    "damage", ["{", "[]", {"status": "?"}, {"expires_at": "soon"}, {"key_hash": 7}]
)
def test_a_damaged_record_is_not_a_bad_key(operator: Operator, damage: Any) -> None:
    tenant = operator.tenant()
    name = tenant.names.api_key(tenant.key_id)
    record = damage if isinstance(damage, str) else json.dumps({**tenant.key_record, **damage})
    operator.redis.set(name, record)
    assert error_of(validate(operator, tenant.secret)) == FAILED


def test_guesses_on_one_key_stand_in_nobodys_way(operator: Operator) -> None:
    victim, tenant = operator.tenant(), operator.tenant()
    costly = bcrypt.hashpw(b"whatever", bcrypt.gensalt(12)).decode()
    victim.write_key(key_hash=costly)
    answers: list[Body] = []

    def guess(number: int) -> None:
        answers.append(verdict(operator, f"{victim.secret[:14]}{number:027d}"))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert operator.http.get(f"/v1/admin/tenants/{tenant.name}").status_code == 200
    # Another key waits for one guess at most, not for all of them.
    assert verdict(operator, tenant.secret)["valid"] is True
    assert len(answers) < 8
    for thread in threads:
        thread.join()
    assert answers == [UNKNOWN] * 8


# -- introspect --------------------------------------------------------------------------------

OPERATORS_VIEWS = ("view_overview", "view_audit", "view_tenants", "view_api_keys")
VIEWS = ("budgets", "events", "webhooks", "policies", "reservations")
MANAGED = ("budgets", "policies", "webhooks", "tenants", "api_keys", "reservations")
CAPABILITIES = {
    *OPERATORS_VIEWS,
    *(f"view_{kind}" for kind in VIEWS),
    *(f"manage_{kind}" for kind in MANAGED),
}


def test_the_operator_may_do_everything(operator: Operator) -> None:
    answer = operator.http.get(INTROSPECT)
    assert answer.json() == {
        "authenticated": True,
        "auth_type": "admin",
        "permissions": ["*"],
        "capabilities": dict.fromkeys(CAPABILITIES, True),
    }
    assert len(CAPABILITIES) == 15


@pytest.mark.parametrize(
    ("permissions", "opened"),
    [
        ([], []),
        (["balances:read"], []),
        (["decide"], []),
        (["budgets:read"], ["view_budgets"]),
        (["budgets:write"], ["manage_budgets"]),
        (["policies:read", "policies:write"], ["view_policies", "manage_policies"]),
        (["webhooks:read", "events:read"], ["view_webhooks", "view_events"]),
        (["webhooks:write"], ["manage_webhooks"]),
        (["reservations:list"], ["view_reservations"]),
        (["reservations:commit"], ["view_reservations", "manage_reservations"]),
        (["reservations:create"], ["view_reservations", "manage_reservations"]),
        (["reservations:release"], ["view_reservations", "manage_reservations"]),
        (["reservations:extend"], ["view_reservations", "manage_reservations"]),
        (["admin:read"], [f"view_{kind}" for kind in VIEWS]),
        (["admin:write"], [f"manage_{k}" for k in MANAGED if k not in ("tenants", "api_keys")]),
        (["admin:budgets:read", "admin:policies:write"], ["view_budgets", "manage_policies"]),
        (["admin:webhooks:write", "admin:events:read"], ["manage_webhooks", "view_events"]),
        (["admin:tenants:read", "admin:tenants:write"], []),
        (["admin:apikeys:read", "admin:apikeys:write", "admin:audit:read"], []),
    ],
)
def test_what_a_key_opens(operator: Operator, permissions: list[str], opened: list[str]) -> None:
    tenant = operator.tenant()
    tenant.write_key(permissions=permissions)
    expected = {
        "authenticated": True,
        "auth_type": "tenant",
        "tenant_id": tenant.name,
        "permissions": permissions,
        "capabilities": {flag: flag in opened for flag in CAPABILITIES},
    }
    before = operator.audit(tenant.name)
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).json() == expected
    # A filter says which records an operation shows, not which pages there are.
    tenant.write_key(scope_filter=["agent:a"])
    narrowed = {**expected, "scope_filter": ["agent:a"]}
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).json() == narrowed
    tenant.write_key(scope_filter=[])
    assert introspect(operator, X_Cycles_API_Key=tenant.secret).json() == expected
    assert operator.audit(tenant.name) == before


def test_a_key_without_permissions_of_its_own(operator: Operator) -> None:
    tenant = operator.tenant()
    body = introspect(operator, X_Cycles_API_Key=tenant.secret).json()
    assert len(body["permissions"]) == 10
    opened = {flag for flag, granted in body["capabilities"].items() if granted}
    kinds = ("budgets", "policies", "reservations")
    assert opened == {f"{deed}_{kind}" for deed in ("view", "manage") for kind in kinds}

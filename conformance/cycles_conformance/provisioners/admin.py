"""Tenants, keys and budgets made through the governance (admin) API."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners.capabilities import CAPABILITIES, capabilities_for
from cycles_conformance.provisioners.common import (
    RUNTIME_PERMISSIONS,
    fresh_tenant_id,
    one_line,
    scope_below,
    secret_of,
    tenant_of,
)

TENANTS = "/v1/admin/tenants"
KEYS = "/v1/admin/api-keys"
BUDGETS = "/v1/admin/budgets"

_IMPOSSIBLE = frozenset(
    {
        "tenant_without_record",
        "closed_budget",
        "debt",
        "is_over_limit",
        "caps",
        "close_budget",
        "corrupt_tenant",
    }
)
_SHORT_LIFE_SECONDS = 2


class AdminProvisioner:
    """Speaks to the governance API at ``url`` (the base before ``/v1``) with its admin ``key``.

    ``timeout`` in seconds bounds each phase of a request. Closing a tenant makes the server revoke
    its keys and close its budgets, as the contract has it. Raises ProvisioningError when ``url`` is
    no http URL or the key cannot be sent in a header.
    """

    name = "admin API"

    def __init__(self, url: str, key: str, timeout: float = 10.0) -> None:
        self._base = url.rstrip("/").removesuffix("/v1")
        self._timeout = timeout
        self._key_ids: dict[str, str] = {}
        try:
            parsed = httpx.URL(self._base)
        except (httpx.InvalidURL, ValueError) as error:
            raise ProvisioningError(f"the admin URL is not one: {one_line(str(error))}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ProvisioningError("the admin URL must begin with http:// or https:// and a host")
        place = parsed.copy_with(userinfo=b"")
        self.doubt = f"does the server share its store with the admin API at {place}?"
        if not key or not key.isascii() or not key.isprintable():
            raise ProvisioningError("the admin key is empty or no text that a header can carry")
        self._http = httpx.Client(
            timeout=timeout,
            # A redirect would carry the admin key to wherever it points.
            follow_redirects=False,
            headers={
                "X-Admin-API-Key": key,
                "Accept": "application/json",
                "User-Agent": "cycles-conformance",
            },
        )

    def lacks(self, given: Given) -> str | None:
        for need in capabilities_for(given):
            if need in _IMPOSSIBLE:
                return f"the admin API cannot {CAPABILITIES[need]}"
        for key in given.keys:
            for permission in key.permissions or ():
                if permission not in RUNTIME_PERMISSIONS and not permission.startswith("admin:"):
                    return f"the admin API knows no permission {permission!r}"
        return None

    def prepare(self, given: Given) -> Prepared:
        ids = {spec.name: fresh_tenant_id() for spec in given.tenants}
        for tenant in given.tenants:
            self._create_tenant(ids[tenant.name], tenant)
        secrets = {key.name: self._create_key(ids[key.tenant], key) for key in given.keys}
        # Parents first: a server may demand that the scope above has its budget.
        for budget in sorted(given.budgets, key=lambda spec: spec.scope.count("/")):
            self._create_budget(ids[budget.tenant], budget)
        for tenant in given.tenants:
            if tenant.status != "ACTIVE":
                self._set_status(ids[tenant.name], tenant.status)
        return Prepared(tenants=ids, secrets=secrets)

    def change(self, prepared: Prepared, change: Change) -> None:
        match change.kind:
            case "freeze" | "unfreeze":
                scope = scope_below(tenant_of(prepared, change), change.scope)
                self._send("POST", f"{BUDGETS}/{change.kind}", scope=scope, unit=change.unit)
            case "fund":
                self._fund(tenant_of(prepared, change), change, "CREDIT")
            case "repay":
                self._fund(tenant_of(prepared, change), change, "REPAY_DEBT")
            case "close_tenant":
                self._set_status(tenant_of(prepared, change), "CLOSED")
            case "suspend_tenant":
                self._set_status(tenant_of(prepared, change), "SUSPENDED")
            case "revoke":
                self._revoke(secret_of(prepared, change))
            case _:
                what = CAPABILITIES.get(change.kind, f"do {change.kind!r}")
                raise ProvisioningError(f"the admin API cannot {what}")

    def close(self) -> None:
        self._http.close()

    # -- steps ------------------------------------------------------------------------------------

    def _create_tenant(self, tenant_id: str, spec: TenantSpec) -> None:
        body = {"tenant_id": tenant_id, "name": f"conformance {tenant_id}", **spec.settings}
        self._send("POST", TENANTS, body)

    def _create_key(self, tenant_id: str, spec: KeySpec) -> str:
        permissions = RUNTIME_PERMISSIONS if spec.permissions is None else spec.permissions
        body: dict[str, Any] = {
            "tenant_id": tenant_id,
            "name": f"conformance {spec.name}",
            "permissions": list(permissions),
        }
        if spec.scope_filter is not None:
            body["scope_filter"] = list(spec.scope_filter)
        if spec.expires_in is not None:
            body["expires_at"] = _instant(spec.expires_in)
        answer = self._send_expired(body) if spec.expired else self._send("POST", KEYS, body)
        secret, key_id = answer.get("key_secret"), answer.get("key_id")
        if not isinstance(secret, str) or not isinstance(key_id, str):
            raise ProvisioningError(f"POST {KEYS} answered without key_id and key_secret")
        self._key_ids[secret] = key_id
        if spec.revoked:
            self._revoke(secret)
        return secret

    def _send_expired(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A key that has expired. The contract does not say whether one may be born so: a server
        that refuses is given a short-lived one, and the time to let it lapse."""
        try:
            return self._send("POST", KEYS, {**body, "expires_at": _instant(-86_400)})
        except _Refused as refused:
            if refused.status != 400:
                raise
        answer = self._send("POST", KEYS, {**body, "expires_at": _instant(_SHORT_LIFE_SECONDS)})
        time.sleep(_SHORT_LIFE_SECONDS + 1)
        return answer

    def _create_budget(self, tenant_id: str, spec: BudgetSpec) -> None:
        scope = scope_below(tenant_id, spec.scope)
        body: dict[str, Any] = {
            "tenant_id": tenant_id,
            "scope": scope,
            "unit": spec.unit,
            "allocated": _amount(spec.unit, spec.allocated),
        }
        if spec.overdraft_limit:
            body["overdraft_limit"] = _amount(spec.unit, spec.overdraft_limit)
        if spec.commit_overage_policy is not None:
            body["commit_overage_policy"] = spec.commit_overage_policy
        self._send("POST", BUDGETS, body)
        if spec.status == "FROZEN":
            self._send("POST", f"{BUDGETS}/freeze", scope=scope, unit=spec.unit)

    def _fund(self, tenant_id: str, change: Change, operation: str) -> None:
        body = {
            "operation": operation,
            "amount": _amount(change.unit, change.amount),
            "idempotency_key": str(uuid.uuid4()),
        }
        scope = scope_below(tenant_id, change.scope)
        self._send(
            "POST", f"{BUDGETS}/fund", body, tenant_id=tenant_id, scope=scope, unit=change.unit
        )

    def _set_status(self, tenant_id: str, status: str) -> None:
        self._send("PATCH", f"{TENANTS}/{tenant_id}", {"status": status})

    def _revoke(self, secret: str) -> None:
        key_id = self._key_ids.get(secret)
        if key_id is None:
            raise ProvisioningError("revoke: this key was not made by this run")
        self._send("DELETE", f"{KEYS}/{quote(key_id, safe='')}")

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str
    ) -> dict[str, Any]:
        """The body of a 2xx answer, which must be a JSON object. Raises ProvisioningError."""
        try:
            answer = self._http.request(method, self._base + path, json=body, params=query)
        except httpx.TimeoutException:
            raise ProvisioningError(
                f"{method} {path}: no answer within {self._timeout:g} s"
            ) from None
        except httpx.HTTPError as error:
            said = one_line(str(error)) or type(error).__name__
            raise ProvisioningError(f"{method} {path}: no answer: {said}") from error
        said = f"{method} {path} answered {answer.status_code}"
        if answer.is_redirect or answer.has_redirect_location:
            raise ProvisioningError(f"{said}, a redirect, which is not followed")
        try:
            content = answer.json()
        except (ValueError, RecursionError):
            content = None
        if not answer.is_success:
            raise _Refused(f"{said} {_told(answer, content)}", answer.status_code)
        if not isinstance(content, dict):
            kind = answer.headers.get("content-type", "no content type")
            raise ProvisioningError(f"{said} without a JSON object ({one_line(kind, 60)})")
        return content


class _Refused(ProvisioningError):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _told(answer: httpx.Response, content: Any) -> str:
    """Code and message of an error body, or what came in its place."""
    if not isinstance(content, dict) or "error" not in content:
        kind = answer.headers.get("content-type", "no content type")
        return f"without an error body ({one_line(kind, 60)})"
    return one_line(f"{content['error']}: {content.get('message', 'no message')}")


def _amount(unit: str, amount: int) -> dict[str, Any]:
    return {"unit": unit, "amount": amount}


def _instant(seconds: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Schemathesis against the admin plane, with an operator's key and a tenant's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cycles_conformance.casefiles.given import UNITS
from cycles_conformance.client import Answer, Client, TargetLost
from cycles_conformance.fuzzing.running import Amount, FuzzingError, run_schemathesis
from cycles_conformance.provisioners import BudgetSpec, Given, KeySpec, Prepared, TenantSpec
from cycles_conformance.provisioners.admin import AdminProvisioner
from cycles_conformance.target import ADMIN_KEY, API_KEY

HOOKS = Path(__file__).with_name("admin_hooks.py")
_BELOW = "agent:bot"
"""Where a kept tenant has budgets, besides those at its own scope."""
_KEPT, _SPARE, _SPARE_KEYS, _POLICIES = 3, 20, 12, 6
"""How many there are of each kind. What is spare may be closed or revoked, and stays so."""
_PERMISSIONS = (
    *("budgets:read", "budgets:write", "policies:read", "policies:write"),
    *("balances:read", "reservations:list"),
)


def fuzz_admin(client: Client, admin_key: str, spec: Path | None, amount: Amount) -> int:
    """As ``run_schemathesis``, which see. What the requests are about is made through the plane
    itself. Raises ProvisioningError and TargetLost as well."""
    operator = _Operator(client, admin_key)
    provisioner = AdminProvisioner(client.url, admin_key, client.timeout)
    try:
        given, secret = _made(operator, provisioner)
    finally:
        provisioner.close()
    return run_schemathesis(
        spec,
        "cycles-governance-admin.yaml",
        client.url,
        {ADMIN_KEY: admin_key, API_KEY: secret},
        HOOKS,
        {"CYCLES_FUZZ_GIVEN": json.dumps(given)},
        amount,
    )


def _made(operator: _Operator, provisioner: AdminProvisioner) -> tuple[dict[str, Any], str]:
    """What the hooks are told of, and the secret of a key of the first kept tenant."""
    (parent,) = provisioner.prepare(Given((TenantSpec("parent"),), (), ())).tenants.values()
    settings = {"parent_tenant_id": parent}
    names = [f"kept {number}" for number in range(_KEPT)]
    kept = provisioner.prepare(
        Given(
            tuple(TenantSpec(name) for name in names),
            (
                *(KeySpec(name, name, _PERMISSIONS) for name in names),
                *(KeySpec(f"spare {number}", names[0]) for number in range(_SPARE_KEYS)),
            ),
            tuple(
                BudgetSpec(name, scope, unit, 10**9)
                for name in names
                for scope in ("", _BELOW)
                for unit in UNITS
            ),
        )
    )
    spares = [f"spare {number}" for number in range(_SPARE)]
    spare = provisioner.prepare(
        Given(
            tuple(TenantSpec(name, settings=settings) for name in spares),
            (),
            tuple(BudgetSpec(name, "", UNITS[0], 10**6) for name in spares),
        )
    )
    ids = _key_ids(operator, kept)
    tenants = list(kept.tenants.values())
    given = {
        "parent": parent,
        "below": _BELOW,
        "kept": tenants,
        "spare": list(spare.tenants.values()),
        "keys": [ids[name] for name in names],
        "spare_keys": [ids[f"spare {number}"] for number in range(_SPARE_KEYS)],
        "policies": [
            _policy(operator, tenants[number % _KEPT], number) for number in range(_POLICIES)
        ],
        "secrets": list(kept.secrets.values()),
    }
    return given, kept.secrets[names[0]]


def _key_ids(operator: _Operator, prepared: Prepared) -> dict[str, str]:
    """The ids of keys by their names in ``prepared``."""
    ids = {}
    for name, secret in prepared.secrets.items():
        told = operator.send("POST", "/v1/auth/validate", {"key_secret": secret})
        ids[name] = _text(told, "key_id")
    return ids


def _policy(operator: _Operator, tenant: str, number: int) -> str:
    body = {
        "tenant_id": tenant,
        "name": f"conformance {number}",
        "scope_pattern": f"tenant:{tenant}/*",
        "priority": number,
    }
    return _text(operator.send("POST", "/v1/admin/policies", body), "policy_id")


class _Operator:
    """Makes what no provisioner makes."""

    def __init__(self, client: Client, admin_key: str) -> None:
        self._client = client
        self._headers = {ADMIN_KEY: admin_key, "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a 2xx answer. Raises TargetLost, and FuzzingError for any other."""
        told = json.dumps(body)
        answer = self._client.send("fuzz", method, path, headers=self._headers, body=told)
        if not isinstance(answer, Answer):
            raise TargetLost(f"{self._client.url} cannot be reached: {answer.failure}")
        if not (200 <= answer.status < 300 and isinstance(answer.body, dict)):
            raise FuzzingError(f"{method} {path} answered {answer.status}: run the cases first")
        return answer.body


def _text(body: dict[str, Any], member: str) -> str:
    value = body.get(member)
    if not isinstance(value, str):
        raise FuzzingError(f"an answer without {member}: run the cases first")
    return value

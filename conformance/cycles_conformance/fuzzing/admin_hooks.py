"""What a fuzzer of the admin plane must know beyond the schemas: which key an operation takes,
rules that the contract states in prose, and what it may destroy.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``); ``admin.py`` beside it sets the environment.
"""

from __future__ import annotations

import json
import os
from typing import Any

from schemathesis import Case

from cycles_conformance.casefiles.given import SCOPE_LEVELS, UNITS
from cycles_conformance.fuzzing import steering
from cycles_conformance.fuzzing.steering import chance, happens
from cycles_conformance.target import ADMIN_KEY

GIVEN = json.loads(os.environ["CYCLES_FUZZ_GIVEN"])
KEPT, SPARE = GIVEN["kept"], GIVEN["spare"]
OWN = KEPT[0]
"""The tenant whose key is sent."""
BELOW = GIVEN["below"]
_LONGEST_BULK_KEY, _LONGEST_KEY = 128, 256
_GOOD = {
    "expires_at": "2999-01-01T00:00:00Z",
    "rate_limits": {"max_commits_per_minute": 60},
    "reservation_ttl_override": {"default_ttl_ms": 30_000},
}
"""Members of which the schemas allow more than the prose, with a value that is good."""
_OF_EXTENSIONS = frozenset({"has_action_quotas", "references_action_kind", "observe_mode"})
_FUNDINGS = ("CREDIT", "DEBIT", "RESET", "RESET_SPENT", "REPAY_DEBT")
_AMOUNTS = ("allocated", "overdraft_limit", "amount", "spent")


def _steer(case: Case[Any], sent: steering.Sent) -> None:
    steering.spoil_blank_bounds(case)
    _spoil_ignored(case)
    if not steering.is_valid(case):
        return
    tenant = _tenant(case, sent)
    _use_existing_id(case)
    unit = _use_budget(case, tenant)
    body = case.body
    if isinstance(body, dict):
        _name_tenant(case, body, tenant)
        _make_valid(body, unit)


steering.register(_steer)


def _spoil_ignored(case: Case[Any]) -> None:
    """Parameters of extensions MUST be ignored by who does not serve them, whatever they hold: what
    is wrong with one alone need not be refused."""
    if not steering.is_valid(case) and case.query and not _OF_EXTENSIONS.isdisjoint(case.query):
        case.query["limit"] = "no number"


def _operation(case: Case[Any]) -> str:
    return str(case.operation.definition.raw["operationId"])


def _tenant(case: Case[Any], sent: steering.Sent) -> str:
    """Whom the request is about. Where either key is taken, the operator's stays away from some
    requests: it would decide."""
    schemes = {name for one in case.operation.definition.raw["security"] for name in one}
    headers = sent.get("headers")
    if len(schemes) > 1 and headers is not None and happens(0.3):
        kept: Any
        for kept in (headers, case.headers or {}):
            for name in [name for name in kept if name.lower() == ADMIN_KEY.lower()]:
                del kept[name]
        if isinstance(case.body, dict):
            case.body.pop("tenant_id", None)
        return str(OWN)
    return str(chance.choice(KEPT))


def _use_existing_id(case: Case[Any]) -> None:
    """A made-up id is always unknown."""
    parameters = case.path_parameters
    if not parameters or steering.is_linked(case) or happens(0.3):
        return
    body, deletes = case.body, case.operation.method.upper() == "DELETE"
    if "tenant_id" in parameters:
        # What is closed stays so, and one that is suspended cannot be given anything.
        ends = isinstance(body, dict) and "status" in body
        parameters["tenant_id"] = chance.choice(SPARE if ends else KEPT)
    if "key_id" in parameters:
        parameters["key_id"] = chance.choice(GIVEN["spare_keys" if deletes else "keys"])
    if "policy_id" in parameters:
        parameters["policy_id"] = chance.choice(GIVEN["policies"])


def _use_budget(case: Case[Any], tenant: str) -> str:
    """Ask for something that there is; returns the unit that was asked for, if any."""
    query = case.query
    if not query:
        return ""
    if "tenant_id" in query and happens(0.8):
        query["tenant_id"] = tenant
    if "scope" in query and happens(0.8):
        query["scope"] = chance.choice((f"tenant:{tenant}", f"tenant:{tenant}/{BELOW}"))
        if _operation(case) == "fundBudget":
            query["tenant_id"] = tenant
    return str(query.get("unit", ""))


def _name_tenant(case: Case[Any], body: dict[str, Any], tenant: str) -> None:
    operation = _operation(case)
    chosen = body.get("filter")
    if operation == "bulkActionTenants" and isinstance(chosen, dict):
        # Never more than what is spare, and as a rule one of them.
        chosen["parent_tenant_id"] = GIVEN["parent"]
        if happens(0.7):
            chosen["search"] = chance.choice(SPARE)
    elif operation == "bulkActionBudgets" and isinstance(chosen, dict):
        chosen["tenant_id"] = tenant
    elif operation in ("createBudget", "createPolicy", "createApiKey") and happens(0.9):
        if "tenant_id" in body or tenant != OWN:
            body["tenant_id"] = tenant
    elif operation == "validateApiKey" and happens(0.5):
        body["key_secret"] = chance.choice(GIVEN["secrets"])
    if operation == "createBudget" and happens(0.9):
        level, value = chance.choice(SCOPE_LEVELS[1:]), str(body.get("scope"))
        body["scope"] = f"tenant:{tenant}/{level}:{steering.scope_value(value)}"
    if operation == "createPolicy" and happens(0.9):
        level = chance.choice(SCOPE_LEVELS[1:])
        patterns = (f"tenant:{tenant}", f"tenant:{tenant}/*", f"{level}:*", f"*/{level}:x")
        body["scope_pattern"] = chance.choice(patterns)


def _make_valid(body: dict[str, Any], unit: str) -> None:
    unit = unit or _unit_in(body) or _unit_in(body.get("amount"))
    for member in _AMOUNTS:
        amount = body.get(member)
        steering.make_modest(amount)
        # Every amount is in the unit of the budget.
        if isinstance(amount, dict) and unit and happens(0.9):
            amount["unit"] = unit
    if "filter" in body and happens(0.8):
        body.pop("expected_count", None)
        if "action" in body and body["action"] in _FUNDINGS:
            body.setdefault("amount", {"unit": chance.choice(UNITS), "amount": 1})
    name = body.get("name")
    if isinstance(name, str) and not name.strip():
        body["name"] = "x"
    for member, good in _GOOD.items():
        if member in body and happens(0.7):
            body[member] = good
    steering.make_key_unique(body, _LONGEST_BULK_KEY if "filter" in body else _LONGEST_KEY)


def _unit_in(body: Any) -> str:
    unit = body.get("unit") if isinstance(body, dict) else None
    return unit if isinstance(unit, str) else ""

"""Tenants, keys and budgets that exist already: a pool, described in a YAML or JSON file.

``format/fixtures.schema.json`` describes the file::

    tenants:
      - id: acme-1
        keys:
          - {secret: cyc_live_…}
          - {secret: cyc_live_…, permissions: [balances:read]}
        budgets:
          - {unit: TOKENS, allocated: 1000}
      - id: acme-shared
        shared: true
        keys: [{secret: cyc_live_…}]
        budgets:
          - {unit: TOKENS, allocated: 1000000000000000}
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cycles_conformance.provisioners import (
    BudgetSpec,
    Change,
    Given,
    KeySpec,
    Prepared,
    ProvisioningError,
    TenantSpec,
)
from cycles_conformance.provisioners.capabilities import CAPABILITIES
from cycles_conformance.provisioners.common import is_over_limit, one_line
from cycles_conformance.provisioners.schemas import fault
from cycles_conformance.yaml_text import yaml_loader

SCHEMA = "fixtures.schema.json"


@dataclass(frozen=True)
class _Key:
    secret: str
    spec: KeySpec


@dataclass(frozen=True)
class _Entry:
    """A tenant of the pool. Names within the specs are blank, so that equal means equal."""

    tenant_id: str
    shared: bool
    tenant: TenantSpec
    keys: tuple[_Key, ...]
    budgets: tuple[BudgetSpec, ...]


@dataclass(frozen=True)
class _Want:
    """What a case asks of one tenant. Keys by their names in the case, other names blank."""

    name: str
    tenant: TenantSpec
    keys: Mapping[str, KeySpec]
    budgets: tuple[BudgetSpec, ...]


class FixturesProvisioner:
    """Hands out the tenants of the file at ``path``, each to one case.

    An entry fits when tenant, settings and budgets are what the case asks for, no more and no less,
    and it has a key for each that the case uses. ``lacks`` sets aside the entries that it finds, so
    that no other case takes them before ``prepare`` of the same Given. Nothing can be changed
    during a case. Raises ProvisioningError, one line with the place, when the file cannot be used.
    """

    name = "fixtures"

    def __init__(self, path: str | Path) -> None:
        self.doubt = f"are the secrets in {path} keys of this server?"
        entries = _read(Path(path))
        self._shared = [entry for entry in entries if entry.shared]
        self._unused = [entry for entry in entries if not entry.shared]
        self._set_aside: dict[int, tuple[Given, Prepared]] = {}
        self._lock = threading.Lock()

    def lacks(self, given: Given) -> str | None:
        if given.changes:
            return f"the fixtures cannot {CAPABILITIES[given.changes[0]]}"
        if any(key.expires_in is not None for key in given.keys):
            return f"the fixtures cannot {CAPABILITIES['expiring_key']}"
        with self._lock:
            if id(given) in self._set_aside:
                return None
            found = self._take(given)
            if isinstance(found, str):
                return found
            if not given.shared:
                # The Given is kept too: its identity must stay its own for as long as it counts.
                self._set_aside[id(given)] = (given, found)
        return None

    def prepare(self, given: Given) -> Prepared:
        with self._lock:
            if id(given) in self._set_aside:
                return self._set_aside.pop(id(given))[1]
            found = self._take(given)
        if isinstance(found, str):
            raise ProvisioningError(found)
        return found

    def change(self, prepared: Prepared, change: Change) -> None:
        what = CAPABILITIES.get(change.kind, f"do {change.kind!r}")
        raise ProvisioningError(f"the fixtures cannot {what}")

    def close(self) -> None:
        """Nothing is kept open."""

    def _take(self, given: Given) -> Prepared | str:
        """Entries for a case, no longer unused; or which one is missing."""
        pool = list(self._shared if given.shared else self._unused)
        tenants: dict[str, str] = {}
        secrets: dict[str, str] = {}
        # The most demanding first, and the entry with the fewest keys that will do: what has
        # more is left for those who need more.
        for want in sorted(_wants(given), key=lambda want: -len(want.keys)):
            fitting = [(entry, keys) for entry in pool if (keys := _fit(entry, want)) is not None]
            if not fitting:
                kind = "shared" if given.shared else "unused"
                return f"the fixtures have no {kind} tenant {_described(want)}"
            entry, keys = min(fitting, key=lambda found: len(found[0].keys))
            pool.remove(entry)
            tenants[want.name] = entry.tenant_id
            secrets |= keys
        if not given.shared:
            self._unused = pool
        return Prepared(tenants=tenants, secrets=secrets)


def _wants(given: Given) -> list[_Want]:
    return [
        _Want(
            tenant.name,
            replace(tenant, name="", settings=dict(tenant.settings)),
            {key.name: _plain_key(key) for key in given.keys if key.tenant == tenant.name},
            tuple(_plain_budget(spec) for spec in given.budgets if spec.tenant == tenant.name),
        )
        for tenant in given.tenants
    ]


def _fit(entry: _Entry, want: _Want) -> dict[str, str] | None:
    """Secrets by key name when the entry is what is wanted, else None."""
    if entry.tenant != want.tenant or len(entry.budgets) != len(want.budgets):
        return None
    if any(budget not in entry.budgets for budget in want.budgets):
        return None
    left = list(entry.keys)
    secrets = {}
    for name, spec in want.keys.items():
        key = next((key for key in left if key.spec == spec), None)
        if key is None:
            return None
        left.remove(key)
        secrets[name] = key.secret
    return secrets


def _plain_key(spec: KeySpec) -> KeySpec:
    """Without names, and with the permissions in one order."""
    permissions = None if spec.permissions is None else tuple(sorted(set(spec.permissions)))
    return replace(spec, name="", tenant="", permissions=permissions)


def _plain_budget(spec: BudgetSpec) -> BudgetSpec:
    return replace(spec, tenant="", scope=spec.scope.lower(), is_over_limit=is_over_limit(spec))


def _described(want: _Want) -> str:
    """``with TOKENS 1000 (overdraft_limit 10), CREDITS 5 at agent:a and 2 keys``."""
    parts = [_budget_text(budget) for budget in want.budgets] or ["no budget"]
    tenant = want.tenant
    parts += [f"{name} {value}" for name, value in sorted(tenant.settings.items())]
    if tenant.status != "ACTIVE":
        parts.append(f"status {tenant.status}")
    if not tenant.record:
        parts.append("no record")
    parts += [text for key in want.keys.values() if (text := _key_text(key))]
    return "with " + ", ".join(parts)


def _budget_text(budget: BudgetSpec) -> str:
    where = f" at {budget.scope}" if budget.scope else ""
    plain = BudgetSpec("", budget.scope, budget.unit, budget.allocated, is_over_limit=False)
    odd = [
        f"{name} {value}" for name, value in vars(budget).items() if value != getattr(plain, name)
    ]
    return f"{budget.unit} {budget.allocated}{where}" + (f" ({', '.join(odd)})" if odd else "")


def _key_text(key: KeySpec) -> str:
    odd = [
        *(
            []
            if key.permissions is None
            else [f"permissions {' '.join(key.permissions) or 'none'}"]
        ),
        *([] if key.scope_filter is None else [f"scope filter {' '.join(key.scope_filter)}"]),
        *(["revoked"] if key.revoked else []),
        *(["expired"] if key.expired else []),
    ]
    return f"a key ({', '.join(odd)})" if odd else ""


# -- the file --------------------------------------------------------------------------------


def _read(path: Path) -> list[_Entry]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProvisioningError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProvisioningError(f"{path}: is not UTF-8") from error
    try:
        # JSON is YAML too; the loader is a safe one.
        document = yaml.load(text, Loader=yaml_loader())  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ProvisioningError(f"{path}: {place}{one_line(str(error.problem))}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProvisioningError(f"{path}: is not YAML: {one_line(str(error))}") from error
    problem = fault(SCHEMA, "", document)
    if problem is not None:
        raise ProvisioningError(f"{path}: {problem}")
    entries = [_entry(tenant) for tenant in document["tenants"]]
    _check_unique(path, "id", ([entry.tenant_id] for entry in entries))
    _check_unique(path, "keys", ([key.secret for key in entry.keys] for entry in entries))
    return entries


def _check_unique(path: Path, member: str, found: Iterable[list[str]]) -> None:
    known: set[str] = set()
    for number, values in enumerate(found):
        if len(set(values)) < len(values) or known & set(values):
            raise ProvisioningError(f"{path}: /tenants/{number}/{member}: is in the file twice")
        known |= set(values)


def _entry(tenant: Mapping[str, Any]) -> _Entry:
    return _Entry(
        tenant_id=tenant["id"],
        shared=tenant.get("shared", False),
        tenant=TenantSpec(
            "",
            status=tenant.get("status", "ACTIVE"),
            settings=tenant.get("settings", {}),
            record=tenant.get("record", True),
        ),
        keys=tuple(_key(key) for key in tenant["keys"]),
        budgets=tuple(_budget(budget) for budget in tenant.get("budgets", ())),
    )


def _key(key: Mapping[str, Any]) -> _Key:
    permissions, scope_filter = key.get("permissions"), key.get("scope_filter")
    spec = KeySpec(
        "",
        "",
        permissions=None if permissions is None else tuple(permissions),
        scope_filter=None if scope_filter is None else tuple(scope_filter),
        revoked=key.get("revoked", False),
        expired=key.get("expired", False),
    )
    return _Key(key["secret"], _plain_key(spec))


def _budget(budget: Mapping[str, Any]) -> BudgetSpec:
    return _plain_budget(BudgetSpec(tenant="", **{"scope": "", **budget}))

"""Tenants, keys and budgets made by a command that the implementer brings.

The command is started for each action, reads one JSON object from its standard input and writes
one to its standard output; ``format/provision.schema.json`` describes both.

``{"action": "capabilities"}``
    Asked once. Answer: ``{"lacks": ["debt", "corrupt_tenant"]}``, names of what cannot be made.
``{"action": "prepare", "tenants": […], "keys": […], "budgets": […], "shared": false}``
    Answer: ``{"tenants": {name: id}, "secrets": {name: secret}}`` for every name asked for.
``{"action": "change", "kind": "fund", "tenant": id, "scope": "", "unit": "TOKENS", "amount": 5}``
    Answer: ``{}``.

An action failed when the command's exit status is not 0; the last line on its standard error is
then what the report says. Several actions may run at the same time.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

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
    fresh_tenant_id,
    is_over_limit,
    one_line,
    secret_of,
    tenant_of,
)
from cycles_conformance.provisioners.schemas import fault

SCHEMA = "provision.schema.json"
_OF_A_BUDGET = ("freeze", "unfreeze", "close_budget", "fund", "repay")


class CommandProvisioner:
    """Runs ``command``: a list of words, or a text that is split as a shell would (no shell runs).

    ``timeout`` in seconds bounds each action; what runs longer is killed with its children. Asks
    for the capabilities at once, and raises ProvisioningError when that fails.
    """

    name = "command"
    doubt = "does the provisioning command make its keys where the server looks for them?"

    def __init__(self, command: str | Sequence[str], timeout: float = 30.0) -> None:
        try:
            self._words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise ProvisioningError(f"the provisioning command: {error}") from error
        if not self._words:
            raise ProvisioningError("the provisioning command is empty")
        self._timeout = timeout
        answer = self._run("capabilities", {})
        self._lacks = frozenset(answer["lacks"])

    def lacks(self, given: Given) -> str | None:
        for need in capabilities_for(given):
            if need in self._lacks:
                return f"the provisioning command cannot {CAPABILITIES[need]}"
        return None

    def prepare(self, given: Given) -> Prepared:
        request = {
            "tenants": [_tenant(spec) for spec in given.tenants],
            "keys": [_key(spec) for spec in given.keys],
            "budgets": [_budget(spec) for spec in given.budgets],
            "shared": given.shared,
        }
        answer = self._run("prepare", request)
        return Prepared(
            tenants=self._named("tenant", answer["tenants"], (w.name for w in given.tenants)),
            secrets=self._named("key", answer["secrets"], (w.name for w in given.keys)),
        )

    def change(self, prepared: Prepared, change: Change) -> None:
        request: dict[str, Any] = {"kind": change.kind}
        if change.kind == "revoke":
            request["secret"] = secret_of(prepared, change)
        else:
            request["tenant"] = tenant_of(prepared, change)
        if change.kind in _OF_A_BUDGET:
            request |= {"scope": change.scope, "unit": change.unit}
        if change.kind in ("fund", "repay"):
            request["amount"] = change.amount
        self._run("change", request)

    def close(self) -> None:
        """Nothing is kept open."""

    def _run(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        place = f"the provisioning command ({action})"
        status, output, errors = self._start(place, json.dumps({"action": action, **request}))
        if status != 0:
            lines = [line for line in errors.splitlines() if line.strip()]
            said = one_line(lines[-1]) if lines else "nothing on its standard error"
            how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
            raise ProvisioningError(f"{place} {how}: {said}")
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            shown = f", but {one_line(output, 80)!r}" if output.strip() else ""
            raise ProvisioningError(f"{place} answered no JSON{shown}") from None
        problem = fault(SCHEMA, f"{action}Answer", answer)
        if problem is not None:
            raise ProvisioningError(f"{place} answered wrongly: {problem}")
        content: dict[str, Any] = answer
        return content

    def _start(self, place: str, request: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        try:
            # The user's own command, started by the user.
            process = subprocess.Popen(  # noqa: S603
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                # A group of its own, so that its children can be ended with it.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise ProvisioningError(f"cannot run {self._words[0]}: {said}") from error
        with process:
            try:
                output, errors = process.communicate(request, timeout=self._timeout)
            except subprocess.TimeoutExpired:
                _kill(process)
                raise ProvisioningError(f"{place} took longer than {self._timeout:g} s") from None
            except BaseException:
                _kill(process)
                raise
        return process.returncode, output, errors

    @staticmethod
    def _named(kind: str, answered: dict[str, str], names: Iterable[str]) -> dict[str, str]:
        found = {}
        for name in names:
            if name not in answered:
                raise ProvisioningError(
                    f"the provisioning command (prepare) answered without the {kind} {name!r}"
                )
            found[name] = answered[name]
        return found


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and its children; it has not been waited for, so its id is still its own."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _tenant(spec: TenantSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "id": fresh_tenant_id(),
        "status": spec.status,
        "settings": dict(spec.settings),
        "record": spec.record,
    }


def _key(spec: KeySpec) -> dict[str, Any]:
    key: dict[str, Any] = {
        "name": spec.name,
        "tenant": spec.tenant,
        "revoked": spec.revoked,
        "expired": spec.expired,
    }
    if spec.permissions is not None:
        key["permissions"] = list(spec.permissions)
    if spec.scope_filter is not None:
        key["scope_filter"] = list(spec.scope_filter)
    if spec.expires_in is not None:
        key["expires_in"] = spec.expires_in
    return key


def _budget(spec: BudgetSpec) -> dict[str, Any]:
    budget: dict[str, Any] = {
        "tenant": spec.tenant,
        "scope": spec.scope,
        "unit": spec.unit,
        "allocated": spec.allocated,
        "overdraft_limit": spec.overdraft_limit,
        "status": spec.status,
        "debt": spec.debt,
        "is_over_limit": is_over_limit(spec),
    }
    if spec.commit_overage_policy is not None:
        budget["commit_overage_policy"] = spec.commit_overage_policy
    if spec.caps is not None:
        budget["caps"] = dict(spec.caps)
    return budget

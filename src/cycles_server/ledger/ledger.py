"""The ledger client: one method for each atomic script."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from cycles_server.auth.confirmation import StaleCredential
from cycles_server.jsontext import canonical, write_json
from cycles_server.ledger.accounts import Accounts
from cycles_server.ledger.audit import NO_AUDIT, AuditEntry
from cycles_server.ledger.bodies import (
    Body,
    amount,
    balances,
    reservation_body,
    stored_answer,
    stored_scopes,
)
from cycles_server.ledger.call import Call
from cycles_server.ledger.foreign import Answer, ForeignAnswers, extended
from cycles_server.ledger.refusals import budget_not_found, refusal, unit_mismatch
from cycles_server.ledger.replays import replayed_reserve
from cycles_server.ledger.scopes import UNITS, Scopes
from cycles_server.refusal import Refusal
from cycles_server.store.keys import TenantKeys
from cycles_server.store.link import Argument
from cycles_server.store.store import Store

_REPLAY = b"REPLAY"
_FOREIGN = b"FOREIGN"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A ledger operation that succeeded.

    Attributes:
        body: the response body.
        replayed: whether it is the answer of an earlier, identical request.
        policy: the overage policy that was applied, where one was.
        in_debt: whether a budget took debt.
    """

    body: Body
    replayed: bool
    policy: str = ""
    in_debt: bool = False

    @property
    def reason(self) -> str:
        """How metrics call it."""
        return "IDEMPOTENT_REPLAY" if self.replayed else "OK"


def request_hash(body: Any) -> bytes:
    """SHA-256 of a request's canonical form, in base64 without padding (43 characters)."""
    return base64.b64encode(hashlib.sha256(canonical(body)).digest()).rstrip(b"=")


def _replayed(answer: Answer) -> Outcome:
    body, policy = answer
    return Outcome(body, replayed=True, policy=policy)


def stored_json(body: Body, member: str) -> bytes:
    """An optional member of a request as it is stored: JSON, or nothing."""
    return write_json(body[member]) if member in body else b""


class Ledger:
    """Asks the scripts. Every method raises, when awaited:

    - ``Refusal`` for a refusal, with the contract's code,
    - ``StaleCredential`` when the caller's records have changed (nothing was done),
    - ``StoreError`` when the store failed.

    Args:
        reference_replays: also keep first answers as the reference does, for its replays.
    """

    def __init__(
        self, store: Store, accounts: Accounts, *, reference_replays: bool = False
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._reference_replays = reference_replays
        self._foreign = ForeignAnswers(store)

    async def reserve(self, call: Call, body: Body, scopes: Scopes, reservation_id: str) -> Outcome:
        """Hold the estimate on every budget of the subject, or on none."""
        names = call.account.names
        unit = body["estimate"]["unit"]
        held = str(body["estimate"]["amount"])
        lease = call.account.policy.lease_ms(body.get("ttl_ms"))
        answer = await self._run(
            call,
            body,
            "reserve",
            [
                names.idempotency("reserve", body["idempotency_key"]),
                names.reservation(reservation_id),
                names.ttl,
                names.index,
                *(names.budget(scope, unit) for scope in scopes.all),
                *self._kept(names, "reserve", reservation_id),
            ],
            [
                names.reservation_prefix,
                request_hash(body),
                reservation_id,
                held,
                unit,
                lease,
                body.get("grace_period_ms", 5000),
                body.get("overage_policy", ""),
                call.account.policy.overage_policy,
                call.account.policy.max_extensions,
                write_json(body["subject"]),
                write_json(body["action"]),
                stored_json(body, "metadata"),
                scopes.json,
                body["idempotency_key"],
                *scopes.all,
            ],
        )
        if answer[0] == _REPLAY:
            replayed = replayed_reserve(answer)
            return Outcome(replayed, replayed=True, policy=(answer[-1] or b"").decode())
        if answer[0] == _FOREIGN:
            _, now, first = answer
            foreign = await self._foreign.reserve(body, call.account, first.decode(), int(now))
            return _replayed(foreign)
        if answer[0] == b"NO_BUDGET":
            raise await self._no_budget(names, scopes, unit) or budget_not_found(scopes.path)
        _, expires, policy, caps, snapshot = answer
        return Outcome(
            reservation_body(
                reservation_id,
                unit,
                held,
                expires_at_ms=int(expires),
                remaining_ttl_ms=lease,
                scope_path=scopes.path,
                affected_scopes=scopes.all,
                caps=caps,
                balances=balances(snapshot, scopes.all, unit),
            ),
            replayed=False,
            policy=policy.decode(),
        )

    async def commit(self, call: Call, body: Body, reservation_id: str) -> Outcome:
        """Charge what was used, return the rest of the hold."""
        names = call.account.names
        answer = await self._run(
            call,
            body,
            "commit",
            [
                names.reservation(reservation_id),
                names.ttl,
                *self._kept(names, "commit", reservation_id),
            ],
            [
                names.budget_prefix,
                reservation_id,
                body["idempotency_key"],
                request_hash(body),
                str(body["actual"]["amount"]),
                body["actual"]["unit"],
                stored_json(body, "metrics"),
                stored_json(body, "metadata"),
            ],
            reservation_id,
        )
        if answer[0] == _FOREIGN:
            return _replayed(await self._foreign.commit(body, call.account, reservation_id))
        kind, charged, estimate, unit, scopes, snapshot, policy, debt = answer
        unit = unit.decode()
        result: Body = {"status": "COMMITTED", "charged": amount(unit, charged)}
        if int(charged) < int(estimate):
            result["released"] = amount(unit, int(estimate) - int(charged))
        result["balances"] = balances(snapshot, stored_scopes(scopes), unit)
        return Outcome(result, kind == _REPLAY, policy.decode(), debt != b"0")

    async def release(
        self,
        call: Call,
        body: Body,
        reservation_id: str,
        *,
        audit: AuditEntry = NO_AUDIT,
    ) -> Outcome:
        """Give the hold back; with an audit entry when the operator does it."""
        names = call.account.names
        answer = await self._run(
            call,
            body,
            "release",
            [
                names.reservation(reservation_id),
                names.ttl,
                names.audit_entry(audit.id),
                names.audit_tenant_index,
                names.audit_index,
                *self._kept(names, "release", reservation_id),
            ],
            [
                names.budget_prefix,
                reservation_id,
                body["idempotency_key"],
                request_hash(body),
                audit.json,
                audit.id,
                audit.kept_ms,
            ],
            reservation_id,
        )
        if answer[0] == _FOREIGN:
            return _replayed(await self._foreign.release(call.account, reservation_id))
        kind, estimate, unit, scopes, snapshot = answer
        unit = unit.decode()
        result: Body = {
            "status": "RELEASED",
            "released": amount(unit, estimate),
            "balances": balances(snapshot, stored_scopes(scopes), unit),
        }
        return Outcome(result, kind == _REPLAY)

    async def extend(self, call: Call, body: Body, reservation_id: str) -> Outcome:
        """Move the expiry outward, counted from the current expiry."""
        names = call.account.names
        key = body["idempotency_key"]
        answer = await self._run(
            call,
            body,
            "extend",
            [
                names.reservation(reservation_id),
                names.ttl,
                names.idempotency("extend", f"{reservation_id}:{key}"),
            ],
            [
                names.budget_prefix,
                reservation_id,
                key,
                request_hash(body),
                body["extend_by_ms"],
                names.idempotency_prefix("reserve"),
            ],
            reservation_id,
        )
        if answer[0] == _FOREIGN:
            _, now, state, record = answer
            return _replayed((extended(record, state, int(now)), ""))
        kind, now, state, expires, unit, scopes, snapshot = answer
        left = int(expires) - int(now) if state == b"ACTIVE" else 0
        result: Body = {
            "status": "ACTIVE",
            "expires_at_ms": int(expires),
            "remaining_ttl_ms": max(0, left),
            "balances": balances(snapshot, stored_scopes(scopes), unit.decode()),
        }
        return Outcome(result, kind == _REPLAY)

    async def debit(self, call: Call, body: Body, scopes: Scopes, event_id: str) -> Outcome:
        """Charge budgets directly, without a reservation."""
        names = call.account.names
        unit = body["actual"]["unit"]
        # The contract keeps the client's clock out of idempotency: a retry may tell another time.
        compared = {name: value for name, value in body.items() if name != "client_time_ms"}
        answer = await self._run(
            call,
            body,
            "debit",
            [
                names.idempotency("event", body["idempotency_key"]),
                names.event(event_id),
                *(names.budget(scope, unit) for scope in scopes.all),
            ],
            [
                names.event_prefix,
                request_hash(compared),
                event_id,
                str(body["actual"]["amount"]),
                unit,
                body.get("overage_policy", ""),
                call.account.policy.overage_policy,
                write_json(body["subject"]),
                write_json(body["action"]),
                stored_json(body, "metadata"),
                stored_json(body, "metrics"),
                body.get("client_time_ms", ""),
                scopes.json,
                body["idempotency_key"],
                *scopes.all,
                *(["1"] if self._reference_replays else []),
            ],
        )
        if answer[0] == _FOREIGN:
            return _replayed(await self._foreign.debit(body, call.account, answer[1].decode()))
        if answer[0] == b"NO_BUDGET":
            raise await self._no_budget(names, scopes, unit) or budget_not_found(scopes.path)
        kind, applied_id, asked, charged, unit, affected, snapshot, policy, debt = answer
        unit = unit.decode()
        result: Body = {"status": "APPLIED", "event_id": applied_id.decode()}
        if charged != asked:
            result["charged"] = amount(unit, charged)
        result["balances"] = balances(snapshot, stored_scopes(affected), unit)
        return Outcome(result, kind == _REPLAY, policy.decode(), debt != b"0")

    async def evaluate(self, call: Call, body: Body, scopes: Scopes, *, dry_run: bool) -> Outcome:
        """Say whether the estimate would be held; nothing is."""
        names = call.account.names
        unit = body["estimate"]["unit"]
        namespace = "reserve" if dry_run else "decide"
        for no_budget in ("", "1"):
            answer = await self._run(
                call,
                body,
                "evaluate",
                [
                    names.idempotency(namespace, body["idempotency_key"]),
                    names.idempotency_hash(namespace, body["idempotency_key"]),
                    *(names.budget(scope, unit) for scope in scopes.all),
                ],
                [
                    "dry_run" if dry_run else "decide",
                    request_hash(body),
                    no_budget,
                    str(body["estimate"]["amount"]),
                    unit,
                    scopes.json,
                    *scopes.all,
                ],
            )
            if answer[0] != b"NO_BUDGET":
                break
            # A wrong unit is an error of the request; no budget at all is a denial.
            wrong_unit = await self._no_budget(names, scopes, unit)
            if wrong_unit is not None:
                raise wrong_unit
        return Outcome(stored_answer(answer[1]), answer[0] == _REPLAY)

    # -- details ---------------------------------------------------------------------------------

    def _kept(self, names: TenantKeys, operation: str, reservation_id: str) -> list[str]:
        """Where the reference looks for a first answer; nowhere unless it is to find ours."""
        return [names.first_answer(operation, reservation_id)] if self._reference_replays else []

    async def _run(
        self,
        call: Call,
        body: Body,
        script: str,
        keys: list[str],
        arguments: list[Argument],
        reservation_id: str = "",
    ) -> Any:
        account = call.account
        answer = await self._store.call(
            account.names.tenant,
            script,
            account.keys + keys,
            account.arguments + arguments,
        )
        if answer[0] == b"STALE":
            raise StaleCredential
        call.confirmation.done = True
        if answer[0] != b"ERROR":
            return answer
        if answer[1] == b"UNIT_MISMATCH":
            unit, scopes = answer[2].decode(), stored_scopes(answer[3])
            raise unit_mismatch(scopes[0], body["actual"]["unit"], [unit])
        if answer[1] == b"NOT_FOUND" and await self._is_elsewhere(reservation_id):
            raise refusal([b"ERROR", b"FORBIDDEN"])
        raise refusal(answer)

    async def _is_elsewhere(self, reservation_id: str) -> bool:
        """Whether the reservation is in another bucket, and so another tenant's."""
        if len(self._store.keys.layout.tags()) == 1:
            return False
        return await self._accounts.owner(reservation_id) is not None

    async def _no_budget(self, names: TenantKeys, scopes: Scopes, unit: str) -> Refusal | None:
        """UNIT_MISMATCH if a scope has a budget in another unit, the shallowest one deciding."""
        others = [other for other in UNITS if other != unit]
        rows = await asyncio.gather(
            *(
                self._store.read("HMGET", names.budget(scope, other), "tenant_id", "allocated")
                for scope in scopes.all
                for other in others
            )
        )
        for place, scope in enumerate(scopes.all):
            expected = []
            for offset, other in enumerate(others):
                owner, allocated = rows[place * len(others) + offset]
                owned = not owner and scope.startswith("tenant:")
                if allocated is not None and (owned or owner == names.tenant.encode()):
                    expected.append(other)
            if expected:
                return unit_mismatch(scope, unit, expected)
        return None

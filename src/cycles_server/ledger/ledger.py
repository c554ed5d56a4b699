"""The ledger client: one method for each atomic script."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
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
from cycles_server.ledger.refusals import (
    budget_not_found,
    refusal,
    too_many_reserves,
    unit_mismatch,
)
from cycles_server.ledger.repeating import repeated_for_operator
from cycles_server.ledger.replays import replayed_reserve
from cycles_server.ledger.rulings import Ruling, Rulings
from cycles_server.ledger.scripts import commit, debit, evaluate, extend, release, reserve
from cycles_server.ledger.scripts.head import NoBudget
from cycles_server.refusal import Refusal
from cycles_server.scopes import UNITS, Scopes, counts_for
from cycles_server.store.answers import is_stale, refused_in
from cycles_server.store.keys import TenantKeys
from cycles_server.store.link import Argument, Reply
from cycles_server.store.store import Store

DEFAULT_GRACE_MS = 5000
"""``grace_period_ms`` of a reservation that is asked for without (contract)."""


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
    - ``StaleCredential`` when the records of a caller's key, or the policies of its tenant, have
      changed (nothing was done),
    - ``StoreError`` when the store failed.

    Args:
        reference_replays: also keep first answers as the reference does, for its replays.
    """

    def __init__(
        self, store: Store, accounts: Accounts, *, reference_replays: bool = False
    ) -> None:
        self._store = store
        self.accounts = accounts
        self._reference_replays = reference_replays
        self._foreign = ForeignAnswers(store)
        self._rulings = Rulings(store)

    @repeated_for_operator
    async def reserve(self, call: Call, body: Body, scopes: Scopes, reservation_id: str) -> Outcome:
        """Hold the estimate on every budget of the subject, or on none."""
        names = call.account.names
        unit = body["estimate"]["unit"]
        held = str(body["estimate"]["amount"])
        ruling = self._rulings.known(names, scopes) or await self._rulings.read(names, scopes)
        terms = ruling.over(call.account.policy)
        lease = terms.lease_ms(body.get("ttl_ms"))
        answer = reserve.read(
            await self._run(
                call,
                reserve.NAME,
                reserve.Keys(
                    idempotency_record=names.idempotency("reserve", body["idempotency_key"]),
                    reservation=names.reservation(reservation_id),
                    expiries=names.ttl,
                    creations=names.index,
                    policies=names.policies,
                ),
                reserve.Arguments(
                    reservation_prefix=names.reservation_prefix,
                    request_hash=request_hash(body),
                    reservation_id=reservation_id,
                    estimate=held,
                    unit=unit,
                    lease_ms=lease,
                    grace_ms=body.get("grace_period_ms", DEFAULT_GRACE_MS),
                    asked_policy=body.get("overage_policy") or ruling.overage_policy,
                    default_policy=terms.overage_policy,
                    max_extensions=terms.max_extensions,
                    subject=write_json(body["subject"]),
                    action=write_json(body["action"]),
                    metadata=stored_json(body, "metadata"),
                    scopes_json=scopes.json,
                    idempotency_key=body["idempotency_key"],
                    policies_known=ruling.known,
                    policy_count=len(ruling.keys),
                    policy_until=ruling.until_ms,
                    policy_caps=ruling.caps,
                    policy_limit=ruling.reserves_per_minute,
                ),
                more_keys=[
                    *(names.budget(scope, unit) for scope in scopes.all),
                    *ruling.keys,
                    *ruling.counter,
                    *self._kept(names, "reserve", reservation_id),
                ],
                more_arguments=[*scopes.all, *ruling.records],
                ruling=ruling,
            )
        )
        if isinstance(answer, reserve.Held):
            return Outcome(
                reservation_body(
                    reservation_id,
                    unit,
                    held,
                    expires_at_ms=answer.expires_at_ms,
                    remaining_ttl_ms=lease,
                    scope_path=scopes.path,
                    affected_scopes=scopes.all,
                    caps=answer.caps,
                    balances=balances(answer.balances, scopes.all, unit),
                ),
                replayed=False,
                policy=answer.policy,
            )
        if isinstance(answer, reserve.Replayed):
            replayed = replayed_reserve(answer)
            return Outcome(replayed, replayed=True, policy=answer.policy)
        if isinstance(answer, reserve.Foreign):
            return _replayed(
                await self._foreign.reserve(
                    body, call.account, answer.reservation_id, answer.now_ms
                )
            )
        if isinstance(answer, reserve.Limited):
            raise too_many_reserves(ruling.reserves_per_minute, answer.wait_ms)
        raise await self._no_budget(names, scopes, unit) or budget_not_found(scopes.path)

    @repeated_for_operator
    async def commit(self, call: Call, body: Body, reservation_id: str) -> Outcome:
        """Charge what was used, return the rest of the hold."""
        names = call.account.names
        answer = commit.read(
            await self._run(
                call,
                commit.NAME,
                commit.Keys(
                    reservation=names.reservation(reservation_id),
                    expiries=names.ttl,
                ),
                commit.Arguments(
                    budget_prefix=names.budget_prefix,
                    reservation_id=reservation_id,
                    idempotency_key=body["idempotency_key"],
                    request_hash=request_hash(body),
                    actual=str(body["actual"]["amount"]),
                    actual_unit=body["actual"]["unit"],
                    metrics=stored_json(body, "metrics"),
                    metadata=stored_json(body, "metadata"),
                ),
                more_keys=self._kept(names, "commit", reservation_id),
                reservation_id=reservation_id,
            )
        )
        if isinstance(answer, commit.Foreign):
            return _replayed(await self._foreign.commit(body, call.account, reservation_id))
        if isinstance(answer, commit.OtherUnit):
            scopes = stored_scopes(answer.scopes_json)
            raise unit_mismatch(scopes[0], body["actual"]["unit"], [answer.unit])
        unit, charged, estimate = answer.unit, answer.charged, answer.estimate
        result: Body = {"status": "COMMITTED", "charged": amount(unit, charged)}
        if charged < estimate:
            result["released"] = amount(unit, estimate - charged)
        result["balances"] = balances(answer.balances, stored_scopes(answer.scopes_json), unit)
        return Outcome(result, answer.replayed, answer.policy, answer.in_debt)

    @repeated_for_operator
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
        answer = release.read(
            await self._run(
                call,
                release.NAME,
                release.Keys(
                    reservation=names.reservation(reservation_id),
                    expiries=names.ttl,
                    audit_record=names.audit_entry(audit.id),
                    audit_of_tenant=names.audit_tenant_index,
                    audit_of_all=names.audit_index,
                ),
                release.Arguments(
                    budget_prefix=names.budget_prefix,
                    reservation_id=reservation_id,
                    idempotency_key=body["idempotency_key"],
                    request_hash=request_hash(body),
                    audit_entry=audit.json,
                    audit_id=audit.id,
                    audit_kept_ms=audit.kept_ms,
                ),
                more_keys=self._kept(names, "release", reservation_id),
                reservation_id=reservation_id,
            )
        )
        if isinstance(answer, release.Foreign):
            return _replayed(await self._foreign.release(call.account, reservation_id))
        unit = answer.unit
        result: Body = {
            "status": "RELEASED",
            "released": amount(unit, answer.estimate),
            "balances": balances(answer.balances, stored_scopes(answer.scopes_json), unit),
        }
        return Outcome(result, answer.replayed)

    @repeated_for_operator
    async def extend(self, call: Call, body: Body, reservation_id: str) -> Outcome:
        """Move the expiry outward, counted from the current expiry."""
        names = call.account.names
        key = body["idempotency_key"]
        answer = extend.read(
            await self._run(
                call,
                extend.NAME,
                extend.Keys(
                    reservation=names.reservation(reservation_id),
                    expiries=names.ttl,
                    extension_record=names.idempotency("extend", f"{reservation_id}:{key}"),
                ),
                extend.Arguments(
                    budget_prefix=names.budget_prefix,
                    reservation_id=reservation_id,
                    idempotency_key=key,
                    request_hash=request_hash(body),
                    extend_by_ms=body["extend_by_ms"],
                    reserve_prefix=names.idempotency_prefix("reserve"),
                ),
                reservation_id=reservation_id,
            )
        )
        if isinstance(answer, extend.Foreign):
            return _replayed((extended(answer.record, answer.state, answer.now_ms), ""))
        left = answer.expires_at_ms - answer.now_ms if answer.state == b"ACTIVE" else 0
        scopes = stored_scopes(answer.scopes_json)
        result: Body = {
            "status": "ACTIVE",
            "expires_at_ms": answer.expires_at_ms,
            "remaining_ttl_ms": max(0, left),
            "balances": balances(answer.balances, scopes, answer.unit),
        }
        return Outcome(result, answer.replayed)

    @repeated_for_operator
    async def debit(self, call: Call, body: Body, scopes: Scopes, event_id: str) -> Outcome:
        """Charge budgets directly, without a reservation."""
        names = call.account.names
        unit = body["actual"]["unit"]
        ruling = self._rulings.known(names, scopes) or await self._rulings.read(names, scopes)
        # The contract keeps the client's clock out of idempotency: a retry may tell another time.
        compared = {name: value for name, value in body.items() if name != "client_time_ms"}
        answer = debit.read(
            await self._run(
                call,
                debit.NAME,
                debit.Keys(
                    idempotency_record=names.idempotency("event", body["idempotency_key"]),
                    event=names.event(event_id),
                    policies=names.policies,
                ),
                debit.Arguments(
                    event_prefix=names.event_prefix,
                    request_hash=request_hash(compared),
                    event_id=event_id,
                    amount=str(body["actual"]["amount"]),
                    unit=unit,
                    asked_policy=body.get("overage_policy") or ruling.overage_policy,
                    default_policy=call.account.policy.overage_policy,
                    subject=write_json(body["subject"]),
                    action=write_json(body["action"]),
                    metadata=stored_json(body, "metadata"),
                    metrics=stored_json(body, "metrics"),
                    client_time_ms=body.get("client_time_ms", ""),
                    scopes_json=scopes.json,
                    idempotency_key=body["idempotency_key"],
                    kept="1" if self._reference_replays else "",
                    policies_known=ruling.known,
                    policy_count=len(ruling.keys),
                    policy_until=ruling.until_ms,
                ),
                more_keys=[*(names.budget(scope, unit) for scope in scopes.all), *ruling.keys],
                more_arguments=[*scopes.all, *ruling.records],
                ruling=ruling,
            )
        )
        if isinstance(answer, debit.Foreign):
            return _replayed(await self._foreign.debit(body, call.account, answer.event_id))
        if isinstance(answer, NoBudget):
            raise await self._no_budget(names, scopes, unit) or budget_not_found(scopes.path)
        unit, charged = answer.unit, answer.charged
        result: Body = {"status": "APPLIED", "event_id": answer.event_id}
        if charged != answer.amount:
            result["charged"] = amount(unit, charged)
        result["balances"] = balances(answer.balances, stored_scopes(answer.scopes_json), unit)
        return Outcome(result, answer.replayed, answer.policy, answer.in_debt)

    @repeated_for_operator
    async def evaluate(self, call: Call, body: Body, scopes: Scopes, *, dry_run: bool) -> Outcome:
        """Say whether the estimate would be held; nothing is."""
        names = call.account.names
        unit = body["estimate"]["unit"]
        namespace = "reserve" if dry_run else "decide"
        ruling = self._rulings.known(names, scopes) or await self._rulings.read(names, scopes)
        for no_budget in ("", "1"):
            answer = evaluate.read(
                await self._run(
                    call,
                    evaluate.NAME,
                    evaluate.Keys(
                        idempotency_record=names.idempotency(namespace, body["idempotency_key"]),
                        hash_record=names.idempotency_hash(namespace, body["idempotency_key"]),
                        policies=names.policies,
                    ),
                    evaluate.Arguments(
                        kind="dry_run" if dry_run else "decide",
                        request_hash=request_hash(body),
                        no_budget=no_budget,
                        estimate=str(body["estimate"]["amount"]),
                        unit=unit,
                        scopes_json=scopes.json,
                        policies_known=ruling.known,
                        policy_count=len(ruling.keys),
                        policy_until=ruling.until_ms,
                        policy_caps=ruling.caps,
                    ),
                    more_keys=[*(names.budget(scope, unit) for scope in scopes.all), *ruling.keys],
                    more_arguments=[*scopes.all, *ruling.records],
                    ruling=ruling,
                )
            )
            if isinstance(answer, evaluate.Decided):
                return Outcome(stored_answer(answer.body), answer.replayed)
            # A wrong unit is an error of the request; no budget at all is a denial.
            wrong_unit = await self._no_budget(names, scopes, unit)
            if wrong_unit is not None:
                raise wrong_unit
        raise RuntimeError("lua/evaluate.lua asks a second time whether there is no budget")

    # -- details ---------------------------------------------------------------------------------

    def _kept(self, names: TenantKeys, operation: str, reservation_id: str) -> list[str]:
        """Where the reference looks for a first answer; nowhere unless it is to find ours."""
        return [names.first_answer(operation, reservation_id)] if self._reference_replays else []

    async def _run(
        self,
        call: Call,
        script: str,
        keys: tuple[str, ...],
        arguments: tuple[Argument, ...],
        *,
        more_keys: Sequence[str] = (),
        more_arguments: Sequence[Argument] = (),
        reservation_id: str = "",
        ruling: Ruling | None = None,
    ) -> Reply:
        account = call.account
        answer = await self._store.call(
            account.names.tenant,
            script,
            [*account.keys, *keys, *more_keys],
            [*account.arguments, *arguments, *more_arguments],
        )
        if is_stale(answer):
            if ruling is not None:
                # Which of the two has changed is not worth an answer of its own.
                ruling.policies.outdated = True
            raise StaleCredential
        call.confirmation.done = True
        refused = refused_in(answer)
        if refused is None:
            return answer
        if refused.code == "NOT_FOUND" and await self._is_elsewhere(reservation_id):
            raise refusal("FORBIDDEN")
        raise refusal(refused.code, refused.scope)

    async def _is_elsewhere(self, reservation_id: str) -> bool:
        """Whether the reservation is in another bucket, and so another tenant's."""
        if len(self._store.keys.layout.tags()) == 1:
            return False
        return await self.accounts.owner(reservation_id) is not None

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
                named = (owner or b"").decode(errors="replace")
                if allocated is not None and counts_for(names.tenant, named, scope):
                    expected.append(other)
            if expected:
                return unit_mismatch(scope, unit, expected)
        return None

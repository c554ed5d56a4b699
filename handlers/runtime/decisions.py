"""Decisions: the preflight check that holds nothing."""

from __future__ import annotations

from cycles_server.http.exchange import Exchange, Reply
from cycles_server.planes.runtime import Services

from ._rules import call_of, check_idempotency_header, subject_scopes


async def decide(exchange: Exchange, services: Services) -> Reply:
    """POST /v1/decide: 200 with a decision; budget states deny, they are no errors here."""
    check_idempotency_header(exchange)
    scopes = subject_scopes(exchange)
    account = services.accounts.of_caller(exchange.caller)
    call = call_of(exchange, account)
    outcome = await services.ledger.evaluate(call, exchange.body, scopes, dry_run=False)
    return Reply(200, outcome.body)

"""``cycles-server demo``: the life of a budget, shown by real requests."""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from cycles_server.cli.errors import fatal
from cycles_server.cli.keyfile import kept_key
from cycles_server.cli.money import DOLLAR_UNIT, MICROCENTS_PER_DOLLAR, show_amount
from cycles_server.cli.provision import provide_budget, provide_tenant
from cycles_server.cli.stores import data_dir_option, on_store
from cycles_server.embedded.store import DEFAULT_DATA_DIR
from cycles_server.refusal import Refusal
from cycles_server.store.store import Store

ESTIMATE, ACTUAL = 50_000, 42_000
"""Microcents of the call that the demonstration makes: small, so that a dollar lasts."""
_TIMEOUT_S = 10
_PAUSE_S = 0.05


class Failed(Exception):
    """The server does not do what it should; ``str()`` is one line."""


class Api:
    """Calls with one API key."""

    def __init__(self, base: str, secret: str) -> None:
        self._base = base
        self._secret = secret

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON body of an answer, whatever its status.

        Raises:
            Failed: no answer.
        """
        request = urllib.request.Request(  # noqa: S310
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "X-Cycles-API-Key": self._secret},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (OSError, ValueError) as error:
            raise Failed(f"{method} {self._base}{path}: {error}") from None

    def balance(self, scope: str) -> dict[str, int]:
        """A budget's amounts in microcents, by name."""
        kind, _, value = scope.partition(":")
        status, body = self.call("GET", f"/v1/balances?{kind}={value}")
        expect(status == 200, status, body)
        for row in body["balances"]:
            if row["scope_path"] == scope and row["remaining"]["unit"] == DOLLAR_UNIT:
                names = ("allocated", "remaining", "reserved", "spent", "debt")
                return {name: row.get(name, {}).get("amount", 0) for name in names}
        raise Failed(f"the balances do not show {scope}")


def expect(met: bool, status: int, body: Any) -> None:
    """Raises: Failed with the answer, unless it is what it should be."""
    if not met:
        raise Failed(f"unexpected answer {status}: {json.dumps(body)}")


@click.command()
@click.option("--url", default="http://127.0.0.1:7878", show_default=True, help="The server.")
@click.option("--tenant", default="acme", show_default=True, help="The tenant to act for.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for the server.")
@click.option("--check", is_flag=True, help="Only prove it: print no key and no addresses.")
@data_dir_option
def demo(url: str, tenant: str, wait: float, check: bool, data_dir: Path | None) -> None:
    """Show and prove a budget's life on a running server.

    Makes a tenant, a key (kept in the data directory) and a budget of one dollar in the server's
    store where there are none, then reserves, commits, reads the balance, and asks for too much.
    """
    console = Console(highlight=False, soft_wrap=True)
    url = url.rstrip("/")
    scope = f"tenant:{tenant}"
    key_file = (data_dir or DEFAULT_DATA_DIR) / f"{tenant}.key"

    async def provide(store: Store) -> str:
        await provide_tenant(store, tenant)
        await provide_budget(store, tenant, scope, DOLLAR_UNIT, MICROCENTS_PER_DOLLAR)
        key_file.parent.mkdir(mode=0o700, exist_ok=True)
        secret, _ = await kept_key(store, tenant, key_file)
        return secret

    try:
        wait_until_ready(url, wait)
        secret = on_store(data_dir, provide)
        prove(console, Api(url, secret), tenant, scope)
    except (Failed, Refusal) as error:
        raise fatal(str(error), 1) from None
    except OSError as error:
        raise fatal(f"{key_file}: {error.strerror}", 1) from None
    if check:
        return
    example = f"{url}/v1/balances?tenant={tenant}"
    command = f"curl -s {shlex.quote(example)} -H {shlex.quote(f'X-Cycles-API-Key: {secret}')}"
    console.print()
    console.print(f"API key   [bold green]{secret}[/]  (kept in {escape(str(key_file))})")
    console.print(f"API docs  {url}/swagger-ui.html")
    console.print(f"Try       {escape(command)}")


def wait_until_ready(url: str, seconds: float) -> None:
    """Wait for the server and its store.

    Raises:
        Failed: they are not ready in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            status, body = Api(url, "").call("GET", "/actuator/health/readiness")
            if status == 200:
                return
            reason = f"{status} {json.dumps(body)}"
        except Failed as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise Failed(f"the server is not ready: {reason}")
        time.sleep(_PAUSE_S)


def prove(console: Console, api: Api, tenant: str, scope: str) -> None:
    """Reserve, commit, balance and a refusal, each printed and checked.

    Raises:
        Failed: an answer is not what it should be.
    """
    before = api.balance(scope)
    console.print(
        f"[bold]{scope}[/] may spend {dollars(before['allocated'])}, and not a cent more."
    )

    def asked(amount: int) -> dict[str, Any]:
        return {
            "idempotency_key": str(uuid.uuid4()),
            "subject": {"tenant": tenant},
            "action": {"kind": "llm.completion", "name": "demo"},
            "estimate": {"unit": DOLLAR_UNIT, "amount": amount},
        }

    def told(step: str, request: str, why: str, status: int, outcome: str) -> None:
        console.print(f"\n[bold]{step:8}[/] {request}   [dim]{why}[/]")
        colour = "green" if status == 200 else "yellow"
        console.print(f"         [{colour}]{status}[/] {escape(outcome)}")

    path = "/v1/reservations"
    status, body = api.call("POST", path, asked(ESTIMATE))
    if status == 409:
        raise Failed(f"{scope} has {dollars(before['remaining'])} left: {body['message']}")
    expect(status == 200 and body["decision"].startswith("ALLOW"), status, body)
    told(
        *("reserve", f"POST {path}", f"a call that may cost {dollars(ESTIMATE)}", status),
        f"{body['decision']}: {dollars(ESTIMATE)} held, before anything is spent",
    )

    path = f"/v1/reservations/{body['reservation_id']}/commit"
    commit = {
        "idempotency_key": str(uuid.uuid4()),
        "actual": {"unit": DOLLAR_UNIT, "amount": ACTUAL},
    }
    status, body = api.call("POST", path, commit)
    expect(status == 200 and body["charged"]["amount"] == ACTUAL, status, body)
    told(
        *("commit", f"POST {path}", f"it did cost {dollars(ACTUAL)}", status),
        f"{body['status']}: {dollars(ACTUAL)} charged, "
        f"{dollars(body['released']['amount'])} given back",
    )

    after = api.balance(scope)
    spent = ACTUAL + before["spent"]
    books = after["remaining"] + after["reserved"] + after["spent"] + after["debt"]
    expect(after["spent"] == spent and books == after["allocated"], 200, after)
    told(
        *("balance", f"GET /v1/balances?tenant={tenant}", "the books balance", 200),
        ", ".join(f"{dollars(after[name])} {name}" for name in ("spent", "reserved", "remaining")),
    )

    too_much = after["remaining"] + 1
    status, body = api.call("POST", "/v1/reservations", asked(too_much))
    expect(status == 409 and body["error"] == "BUDGET_EXCEEDED", status, body)
    told(
        *("refuse", "POST /v1/reservations", f"{dollars(too_much)} is too much", status),
        f"{body['error']}: {body['message']}",
    )
    expect(api.balance(scope) == after, status, body)


def dollars(microcents: int) -> str:
    """An amount for people."""
    return show_amount(microcents, DOLLAR_UNIT)

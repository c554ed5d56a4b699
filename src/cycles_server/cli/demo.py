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

from cycles_server.cli.admin.client import AUDIT_LOGS, BUDGETS, AdminApi, AdminError
from cycles_server.cli.admin.provide import create_key, provide_budget, provide_tenant
from cycles_server.cli.admin.session import admin_key_option, ending, find_admin_key, url_option
from cycles_server.cli.errors import fatal
from cycles_server.cli.money import DOLLAR_UNIT, MICROCENTS_PER_DOLLAR, show_amount
from cycles_server.cli.secretfile import ADMIN_KEY_FILE, read_kept, write_kept
from cycles_server.cli.stores import data_dir_option
from cycles_server.embedded.store import DEFAULT_DATA_DIR

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
        self.secret = secret

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON body of an answer, whatever its status.

        Raises:
            Failed: no answer.
        """
        request = urllib.request.Request(  # noqa: S310
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "X-Cycles-API-Key": self.secret},
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
@url_option("--admin-url")
@admin_key_option
@click.option("--tenant", default="acme", show_default=True, help="The tenant to act for.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for the server.")
@click.option("--check", is_flag=True, help="Only prove it: print no key and no addresses.")
@data_dir_option
def demo(
    url: str,
    admin_url: str,
    admin_key: str | None,
    tenant: str,
    wait: float,
    check: bool,
    data_dir: Path | None,
) -> None:
    """Show and prove a budget's life on running servers.

    Asks them what their users would: makes a tenant, a budget of one dollar and a key (kept in the
    data directory) on the admin plane where there are none, then reserves, commits, reads the
    balance, asks for too much, tops the budget up by what was spent, and asks again.
    """
    console = Console(highlight=False, soft_wrap=True)
    url = url.rstrip("/")
    scope = f"tenant:{tenant}"
    key_file = (data_dir or DEFAULT_DATA_DIR) / f"{tenant}.key"
    if key_file.name == ADMIN_KEY_FILE:
        raise fatal(f"{key_file} is the operator's: choose another tenant than {tenant}")
    try:
        for plane in (url, admin_url.rstrip("/")):
            wait_until_ready(plane, wait)
        with AdminApi(admin_url, find_admin_key(admin_url, admin_key, data_dir)) as admin:
            api = provide(admin, url, tenant, scope, key_file)
            too_much = prove(console, api, tenant, scope)
            top_up(console, api, admin, tenant, scope, too_much)
    except Failed as error:
        raise fatal(str(error), 1) from None
    except AdminError as error:
        raise ending(error) from None
    except OSError as error:
        raise fatal(f"{key_file}: {error.strerror}", 1) from None
    if check:
        return
    example = f"{url}/v1/balances?tenant={tenant}"
    command = f"curl -s {shlex.quote(example)} -H {shlex.quote(f'X-Cycles-API-Key: {api.secret}')}"
    console.print()
    console.print(f"API key   [bold green]{api.secret}[/]  (kept in {escape(str(key_file))})")
    console.print(f"API docs  {url}/swagger-ui.html")
    groups = "tenants, keys, budgets, policies, audit"
    console.print(f"Admin     {admin_url}  (CYCLES_ADMIN_URL of the commands {groups})")
    console.print(f"Try       {escape(command)}")


def provide(admin: AdminApi, url: str, tenant: str, scope: str, key_file: Path) -> Api:
    """A tenant with a dollar, made on the admin plane where it is not there, and its key's calls.

    Raises:
        Failed: the tenant is not in force.
        AdminError: the admin plane refuses.
        OSError: the key's file cannot be read or written.
    """
    status = provide_tenant(admin, tenant)
    if status != "ACTIVE":
        raise Failed(f"tenant {tenant} is {status}: choose another")
    provide_budget(admin, tenant, scope, _amount(MICROCENTS_PER_DOLLAR))
    kept = Api(url, read_kept(key_file))
    if kept.secret and kept.call("GET", f"/v1/balances?tenant={tenant}")[0] == 200:
        return kept
    key_file.parent.mkdir(mode=0o700, exist_ok=True)
    secret = create_key(admin, tenant, "demo")
    write_kept(key_file, secret)
    return Api(url, secret)


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


def prove(console: Console, api: Api, tenant: str, scope: str) -> int:
    """Reserve, commit, balance and a refusal, each printed and checked. Returns what was refused,
    in microcents.

    Raises:
        Failed: an answer is not what it should be.
    """
    before = api.balance(scope)
    console.print(
        f"[bold]{scope}[/] may spend {dollars(before['allocated'])}, and not a cent more."
    )

    path = "/v1/reservations"
    status, body = api.call("POST", path, _reservation(tenant, ESTIMATE))
    if status == 409:
        raise Failed(f"{scope} has {dollars(before['remaining'])} left: {body['message']}")
    expect(status == 200 and body["decision"].startswith("ALLOW"), status, body)
    _told(
        console,
        *("reserve", f"POST {path}", f"a call that may cost {dollars(ESTIMATE)}", status),
        f"{body['decision']}: {dollars(ESTIMATE)} held, before anything is spent",
    )

    path = f"/v1/reservations/{body['reservation_id']}/commit"
    commit = {
        "idempotency_key": str(uuid.uuid4()),
        "actual": _amount(ACTUAL),
    }
    status, body = api.call("POST", path, commit)
    expect(status == 200 and body["charged"]["amount"] == ACTUAL, status, body)
    _told(
        console,
        *("commit", f"POST {path}", f"it did cost {dollars(ACTUAL)}", status),
        f"{body['status']}: {dollars(ACTUAL)} charged, "
        f"{dollars(body['released']['amount'])} given back",
    )

    after = api.balance(scope)
    spent = ACTUAL + before["spent"]
    books = after["remaining"] + after["reserved"] + after["spent"] + after["debt"]
    expect(after["spent"] == spent and books == after["allocated"], 200, after)
    _told(
        console,
        *("balance", f"GET /v1/balances?tenant={tenant}", "the books balance", 200),
        ", ".join(f"{dollars(after[name])} {name}" for name in ("spent", "reserved", "remaining")),
    )

    too_much = after["remaining"] + 1
    status, body = api.call("POST", "/v1/reservations", _reservation(tenant, too_much))
    expect(status == 409 and body["error"] == "BUDGET_EXCEEDED", status, body)
    _told(
        console,
        *("refuse", "POST /v1/reservations", f"{dollars(too_much)} is too much", status),
        f"{body['error']}: {body['message']}",
    )
    expect(api.balance(scope) == after, status, body)
    return too_much


def top_up(
    console: Console, api: Api, admin: AdminApi, tenant: str, scope: str, refused: int
) -> None:
    """Give the budget back what was spent, after which what was refused is granted; and the
    operator's trail of that. Each is printed and checked.

    Args:
        refused: what it lacked room for, in microcents.

    Raises:
        Failed: an answer is not what it should be.
        AdminError: the admin plane refuses.
    """
    before = api.balance(scope)
    path, key = f"{BUDGETS}/fund", str(uuid.uuid4())
    funding = {"operation": "CREDIT", "amount": _amount(ACTUAL), "idempotency_key": key}
    query = {"tenant_id": tenant, "scope": scope, "unit": DOLLAR_UNIT}
    for _ in "12":  # the second is a repetition, and takes no effect
        status, body = admin.answer("POST", path, query=query, body=funding)
    remaining = api.balance(scope)["remaining"]
    expect(remaining == before["remaining"] + ACTUAL, status, body)
    _told(
        console,
        *("top up", f"POST {path}", "the operator gives back what was spent", status),
        f"{body['operation']}: {dollars(body['new_allocated']['amount'])} allocated, "
        f"{dollars(remaining)} remaining",
    )

    path = "/v1/reservations"
    status, body = api.call("POST", path, _reservation(tenant, refused))
    expect(status == 200 and body["decision"].startswith("ALLOW"), status, body)
    _told(
        console,
        *("again", f"POST {path}", f"{dollars(refused)} is no longer too much", status),
        f"{body['decision']}: {dollars(refused)} held",
    )

    path = f"/v1/reservations/{body['reservation_id']}/release"
    status, body = api.call("POST", path, {"idempotency_key": str(uuid.uuid4())})
    expect(status == 200 and api.balance(scope)["remaining"] == remaining, status, body)
    _told(
        console,
        *("release", f"POST {path}", "it is not needed after all", status),
        f"{body['status']}: {dollars(body['released']['amount'])} given back",
    )

    latest = {"tenant_id": tenant, "sort_by": "timestamp", "limit": 4}
    status, page = admin.answer("GET", AUDIT_LOGS, query=latest)
    keys = [(entry.get("metadata") or {}).get("idempotency_key") for entry in page["logs"]]
    expect(keys.count(key) == 1, status, page)
    _told(
        console,
        *(
            "audit",
            f"GET {AUDIT_LOGS}?tenant_id={tenant}",
            "who did what, the latest first",
            status,
        ),
        ", ".join(entry["operation"] for entry in page["logs"]),
    )


def _reservation(tenant: str, amount: int) -> dict[str, Any]:
    return {
        "idempotency_key": str(uuid.uuid4()),
        "subject": {"tenant": tenant},
        "action": {"kind": "llm.completion", "name": "demo"},
        "estimate": _amount(amount),
    }


def _amount(microcents: int) -> dict[str, Any]:
    return {"unit": DOLLAR_UNIT, "amount": microcents}


def _told(console: Console, step: str, request: str, why: str, status: int, outcome: str) -> None:
    console.print(f"\n[bold]{step:8}[/] {request}   [dim]{why}[/]")
    colour = "green" if status == 200 else "yellow"
    console.print(f"         [{colour}]{status}[/] {escape(outcome)}")


def dollars(microcents: int) -> str:
    """An amount for people."""
    return show_amount(microcents, DOLLAR_UNIT)

"""The operator's commands against a real admin plane: what they print, and how they end."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from support.operator import Operator
from support.running import Running
from support.server import ADMIN_KEY, CyclesServer, free_port
from support.tenants import UNIT

from cycles_server.cli import main
from cycles_server.cli.admin.audit import audit
from cycles_server.cli.admin.budgets import budgets
from cycles_server.cli.admin.keys import keys
from cycles_server.cli.admin.policies import policies
from cycles_server.cli.admin.tenants import tenants

GROUPS = (tenants, keys, budgets, policies, audit)
COMMANDS = [(group, command) for group in GROUPS for command in group.commands.values()]
NOWHERE = {"ADMIN_API_KEY": None, "CYCLES_ADMIN_URL": None}


def invoke(*arguments: str, stdin: str = "", **environ: str | None) -> Result:
    environ = {**NOWHERE, "COLUMNS": "80", **environ}
    return CliRunner().invoke(main, arguments, input=stdin, env=environ, prog_name="cycles-server")


def error_line(result: Result) -> str:
    """The one line on standard error of a command that failed."""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


Ask = Callable[..., Any]


@pytest.fixture
def run(admin: CyclesServer) -> Callable[..., Result]:
    """Run a command as the operator of the admin plane."""

    def ask(*arguments: str, stdin: str = "") -> Result:
        reached = {"CYCLES_ADMIN_URL": admin.url, "ADMIN_API_KEY": ADMIN_KEY}
        return invoke(*arguments, stdin=stdin, **reached)

    return ask


@pytest.fixture
def ask(run: Callable[..., Result]) -> Ask:
    """The JSON answer of a command that succeeds."""

    def answer(*arguments: str, stdin: str = "") -> Any:
        result = run(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return answer


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def tenant(ask: Ask) -> str:
    """A new tenant's id."""
    name = new_id()
    ask("tenants", "create", name)
    return name


@pytest.mark.parametrize(
    ("group", "command"), COMMANDS, ids=lambda entry: str(getattr(entry, "name", entry))
)
def test_everything_is_explained(group: click.Group, command: click.Command) -> None:
    assert f"\n  {group.name} " in invoke("--help").output
    result = invoke(str(group.name), str(command.name), "--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert f"Example: cycles-server {group.name} {command.name}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert f"{str(parameter.name).upper()} is " in text
    for common in ("--url", "--admin-key", "--data-dir", "--json"):
        assert common in text


class TestReaching:
    def test_a_wrong_key(self, admin: CyclesServer) -> None:
        result = invoke("tenants", "get", "acme", "--url", admin.url, "--admin-key", "guess")
        assert result.exit_code == 2
        line = error_line(result)
        assert line.startswith(f"{admin.url} does not take this admin key: 401 UNAUTHORIZED")
        assert "guess" not in result.output

    def test_nothing_listens(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        result = invoke("tenants", "get", "acme", "--url", url, "--admin-key", "k")
        assert (result.exit_code, result.stdout) == (2, "")
        assert error_line(result).startswith(f"{url} cannot be reached: ")

    @pytest.mark.parametrize(
        "arguments", [("tenants", "get", "acme"), ("budgets", "create", "tenant:acme", "$1")]
    )
    def test_the_runtime_plane(self, running: Running, arguments: tuple[str, ...]) -> None:
        result = invoke(*arguments, "--url", running.url, "--admin-key", ADMIN_KEY)
        assert result.exit_code == 2
        assert error_line(result) == (
            f"{running.url} is a Cycles server, but not the address of its admin plane "
            "(http://HOST:7979 by default)"
        )

    @pytest.mark.parametrize("status", [200, 204, 302, 404, 502])
    def test_something_else(self, status: int) -> None:
        class Server(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0" if status == 204 else "2")
                self.end_headers()
                if status != 204:
                    self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Server) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}/"
            result = invoke("tenants", "get", "acme", "--url", url, "--admin-key", "k")
            server.shutdown()
            thread.join()
        assert result.exit_code == 2
        assert error_line(result) == (
            f"{url[:-1]} is no Cycles admin plane: it answers {status} to "
            "GET /v1/admin/tenants/acme, and not as one does"
        )

    @pytest.mark.parametrize("url", ["localhost:7979", "http://", "ftp://h", "http://h:x", ""])
    def test_no_url(self, url: str) -> None:
        result = invoke("tenants", "get", "acme", f"--url={url}", "--admin-key", "k")
        assert result.exit_code == 2
        assert f"{url} is no URL: " in error_line(result)

    @pytest.mark.parametrize("key", ["ключ", "a\nb", "\x1b"])
    def test_a_key_that_no_header_carries(self, admin: CyclesServer, key: str) -> None:
        result = invoke("tenants", "get", "acme", "--url", admin.url, "--admin-key", key)
        assert result.exit_code == 2
        assert error_line(result) == ("the admin key has characters that no HTTP header can carry")

    def test_the_key_of_an_up(
        self, admin: CyclesServer, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        wanted = ("tenants", "get", tenant, "--url", admin.url)
        assert error_line(invoke(*wanted)).startswith("no admin key: set ADMIN_API_KEY")
        for folder in (".cycles", "other"):
            (tmp_path / folder).mkdir()
        (tmp_path / ".cycles" / "admin.key").write_text(f"{ADMIN_KEY}\n")
        assert invoke(*wanted).exit_code == 0
        assert invoke(*wanted, "--data-dir", "other").exit_code == 2
        (tmp_path / "other" / "admin.key").write_text(ADMIN_KEY)
        assert invoke(*wanted, "--data-dir", "other").exit_code == 0

    def test_the_key_of_an_up_goes_nowhere_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".cycles").mkdir()
        (tmp_path / ".cycles" / "admin.key").write_text(ADMIN_KEY)
        result = invoke("tenants", "get", "acme", "--url", "http://cycles.invalid")
        assert result.exit_code == 2
        assert error_line(result).startswith("no admin key for http://cycles.invalid: ")


class TestTenants:
    def test_their_life(self, run: Callable[..., Result], ask: Ask) -> None:
        name = new_id()
        made = run("tenants", "create", name, "--name", "Acme [red]Ltd", "--metadata", "team=a=b")
        assert made.exit_code == 0
        assert "name                           Acme [red]Ltd\n" in made.stdout
        again = run("tenants", "create", name, "--name", "Acme [red]Ltd")
        assert again.stderr == f"tenant {name} was there, left as it is\n"
        ttl = ("--default-reservation-ttl-ms", "30000", "--overage-policy", "reject")
        changed = ask("tenants", "update", name, "--name", "Acme", *ttl)
        assert (changed["name"], changed["default_reservation_ttl_ms"]) == ("Acme", 30_000)
        assert changed["default_commit_overage_policy"] == "REJECT"
        assert changed["metadata"] == {"team": "a=b"}
        assert ask("tenants", "suspend", name)["status"] == "SUSPENDED"
        assert ask("tenants", "reactivate", name)["status"] == "ACTIVE"
        assert ask("tenants", "get", name)["name"] == "Acme"

    def test_an_unknown_one(self, run: Callable[..., Result]) -> None:
        name = new_id()
        for command in ("get", "suspend"):
            result = run("tenants", command, name)
            assert (result.exit_code, result.stdout) == (1, "")
            line = error_line(result)
            assert line.startswith(f"404 TENANT_NOT_FOUND: There is no tenant {name} (request_id ")

    def test_a_refusal(self, run: Callable[..., Result], tenant: str, operator: Operator) -> None:
        result = run("tenants", "create", tenant, "--name", "Other")
        assert result.exit_code == 1
        assert error_line(result).startswith("409 DUPLICATE_RESOURCE: ")
        nothing = run("tenants", "update", tenant)
        assert nothing.exit_code == 2
        assert "nothing to change" in nothing.stderr
        pairs = run("tenants", "update", tenant, "--metadata", "x")
        assert pairs.exit_code == 2
        assert [entry["operation"] for entry in operator.audit(tenant)] == ["createTenant"]

    def test_a_close_is_asked_for(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        for answer in ("", "n\n"):
            refused = run("tenants", "close", tenant, stdin=answer)
            assert refused.exit_code == 1
            assert f"Close tenant {tenant} with all that it owns?" in refused.stderr
        assert ask("tenants", "get", tenant)["status"] == "ACTIVE"
        assert run("tenants", "close", tenant, stdin="y\n").exit_code == 0
        assert ask("tenants", "close", tenant, "--yes")["status"] == "CLOSED"
        late = run("budgets", "create", f"tenant:{tenant}", "$1")
        assert late.exit_code == 1
        assert error_line(late).startswith("409 TENANT_CLOSED: ")

    def test_ids_stay_in_their_segment(self, run: Callable[..., Result], tenant: str) -> None:
        for wrong in (f"../tenants/{tenant}", f"{tenant}?x=1", f"{tenant}/", f"{tenant}#", "ü"):
            result = run("tenants", "get", wrong)
            assert result.exit_code == 1, wrong
            assert error_line(result).startswith("404 "), wrong

    def test_a_list_follows_the_pages(self, run: Callable[..., Result], ask: Ask) -> None:
        parent = new_id()
        ask("tenants", "create", parent)
        names = sorted(f"{parent}-{number:03}" for number in range(120))
        for name in names:
            ask("tenants", "create", name, "--parent", parent)
        wanted = ("tenants", "list", "--parent", parent, "--sort-by", "tenant_id")
        ascending = (*wanted, "--sort-dir", "asc")
        page = ask(*ascending, "--limit", "110")
        assert [row["tenant_id"] for row in page["tenants"]] == names[:110]
        assert page["has_more"] is True
        page = ask(*ascending, "--limit", "120")
        assert [row["tenant_id"] for row in page["tenants"]] == names
        assert page["has_more"] is False
        table = run(*wanted, "--limit", "2")
        assert [line.split()[0] for line in table.stdout.splitlines()] == [
            *("tenant", names[-1], names[-2])
        ]
        assert table.stderr == "there are more than these 2: add --limit\n"
        assert run("tenants", "list", "--search", new_id()).stdout == "none\n"


class TestBudgets:
    def test_their_life(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        scope = f"tenant:{tenant}/agent:bot"
        made = run("budgets", "create", scope, "5000:TOKENS", "--overdraft-limit", "7:TOKENS")
        assert made.exit_code == 0
        assert "allocated        5,000 TOKENS\n" in made.stdout
        unit = ("--unit", "tokens")
        policy = ("--overage-policy", "allow_with_overdraft")
        changed = ask("budgets", "update", scope, *unit, "--overdraft-limit", "9:TOKENS", *policy)
        assert changed["overdraft_limit"] == {"unit": "TOKENS", "amount": 9}
        assert changed["commit_overage_policy"] == "ALLOW_WITH_OVERDRAFT"
        assert ask("budgets", "freeze", scope, *unit, "--reason", "r")["status"] == "FROZEN"
        frozen = run("budgets", "fund", scope, "1:TOKENS", "--idempotency-key", "k")
        assert frozen.exit_code == 1
        assert error_line(frozen).startswith("409 BUDGET_FROZEN: ")
        assert ask("budgets", "unfreeze", scope, *unit)["status"] == "ACTIVE"
        assert ask("budgets", "get", scope, *unit)["allocated"]["amount"] == 5_000
        absent = run("budgets", "get", scope)
        assert absent.exit_code == 1
        assert error_line(absent).startswith("404 BUDGET_NOT_FOUND: ")
        assert run("budgets", "update", scope).exit_code == 2

    def test_dollars(self, run: Callable[..., Result], tenant: str) -> None:
        made = run("budgets", "create", f"tenant:{tenant}", "$0.5")
        assert "unit             USD_MICROCENTS\nallocated        $0.50\n" in made.stdout
        result = run("budgets", "fund", f"tenant:{tenant}", "0.25 usd", "--reason", "why")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            f"budget     tenant:{tenant}",
            "operation  CREDIT",
            "           before  after",
            "allocated  $0.50   $0.75",
            "remaining  $0.50   $0.75",
            "spent      $0.00   $0.00",
            "debt       $0.00   $0.00",
        ]

    @pytest.mark.parametrize(
        ("arguments", "after"),
        [
            (("5:TOKENS",), (15, 15)),
            (("5:TOKENS", "--operation", "debit"), (5, 5)),
            (("5:TOKENS", "--operation", "RESET"), (5, 5)),
            (("9:TOKENS", "--operation", "reset_spent", "--spent", "2:TOKENS"), (9, 7)),
            (("5:TOKENS", "--operation", "repay_debt"), (15, 15)),
        ],
    )
    def test_every_funding(
        self, ask: Ask, tenant: str, arguments: tuple[str, ...], after: tuple[int, int]
    ) -> None:
        scope = f"tenant:{tenant}"
        ask("budgets", "create", scope, f"10:{UNIT}")
        funded = ask("budgets", "fund", scope, *arguments)
        amounts = tuple(funded[f"new_{name}"]["amount"] for name in ("allocated", "remaining"))
        assert amounts == after

    def test_a_funding_has_a_key_and_can_be_repeated(
        self, run: Callable[..., Result], ask: Ask, tenant: str
    ) -> None:
        scope = f"tenant:{tenant}"
        ask("budgets", "create", scope, "10:TOKENS")
        first = run("budgets", "fund", scope, "5:TOKENS", "--json")
        [line] = first.stderr.splitlines()
        name, key = line.rsplit(None, 1)
        assert name == "idempotency key"
        again = run("budgets", "fund", scope, "5:TOKENS", "--json", "--idempotency-key", key)
        assert (again.stdout, again.stderr) == (first.stdout, "")
        other = run("budgets", "fund", scope, "6:TOKENS", "--idempotency-key", key)
        assert other.exit_code == 1
        assert error_line(other).startswith("409 IDEMPOTENCY_MISMATCH: ")
        run("budgets", "fund", scope, "5:TOKENS")  # of its own
        assert ask("budgets", "get", scope, "--unit", "TOKENS")["allocated"]["amount"] == 20

    def test_a_funding_without_an_answer_names_its_key(self) -> None:
        class Server(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.close_connection = True  # and nothing is said

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Server) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}"
            place = ("--url", url, "--admin-key", "k")
            result = invoke("budgets", "fund", "tenant:acme", "$1", *place)
            server.shutdown()
            thread.join()
        assert result.exit_code == 2
        key, line = result.stderr.splitlines()
        assert line.startswith(f"Error: {url} gives no answer: ")
        assert line.endswith(
            f"it may have taken effect: repeat with --idempotency-key {key.split()[-1]}"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ("create", "agent:bot", "$1"),
            ("create", "tenant:acme", "1"),
            ("create", "tenant:acme", "five"),
            ("fund", "tenant:acme", "$0.000000001"),
            ("fund", "tenant:acme", "$1", "--operation", "gift"),
            ("fund", "tenant:acme", "$1", "--spent", "$2"),
            ("get", "tenant:acme", "--unit", "EUROS"),
        ],
    )
    def test_what_cannot_be_meant(
        self, run: Callable[..., Result], arguments: tuple[str, ...]
    ) -> None:
        result = run("budgets", *arguments)
        assert result.exit_code == 2
        assert "idempotency key" not in result.stderr  # nothing was sent

    def test_lists(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        for agent, amount in {"a": "$1", "b": "5:TOKENS"}.items():
            ask("budgets", "create", f"tenant:{tenant}/agent:{agent}", amount)
        table = run("budgets", "list", "--tenant", tenant, "--sort-by", "scope")
        assert table.exit_code == 0
        rows = [line.split()[:3] for line in table.stdout.splitlines()]
        assert rows == [
            ["scope", "allocated", "remaining"],
            [f"tenant:{tenant}/agent:b", "5", "TOKENS"],
            [f"tenant:{tenant}/agent:a", "$1.00", "$1.00"],
        ]
        below = ("budgets", "list", "--scope-prefix", f"tenant:{tenant}/agent:a")
        assert len(ask(*below, "--within-limit", "--no-debt")["ledgers"]) == 1
        assert ask(*below, "--has-debt")["ledgers"] == []
        assert ask(*below, "--utilization-min", "0.5")["ledgers"] == []
        assert ask(*below, "--unit", "tokens")["ledgers"] == []


class TestKeys:
    @pytest.mark.parametrize(
        "segment", ["bot", "foo:*", "agent:", "tenant:acme/agent:bot", ":x", "AGENT:bot"]
    )
    def test_a_scope_that_nothing_meets(
        self, run: Callable[..., Result], tenant: str, segment: str
    ) -> None:
        result = run("keys", "create", tenant, "--name", "bad", "--scope", segment)
        assert result.exit_code == 2
        assert f"{segment!r} is no segment" in " ".join(result.stderr.split())

    def test_their_life(
        self, run: Callable[..., Result], ask: Ask, tenant: str, running: Running
    ) -> None:
        made = run("keys", "create", tenant, "--name", "production")
        assert made.exit_code == 0
        fields = dict(line.split(None, 1) for line in made.stdout.splitlines())
        secret, key_id = fields["key_secret"], fields["key_id"]
        assert "not shown again" in made.stderr
        valid = ask("keys", "validate", stdin=f"{secret}\n")
        assert (valid["valid"], valid["tenant_id"], valid["key_id"]) == (True, tenant, key_id)
        scope = ("--scope", "agent:a", "--scope", "agent:b")
        changed = ask("keys", "update", key_id, "--permission", "balances:read", *scope)
        assert changed["permissions"] == ["balances:read"]
        assert len(changed["scope_filter"]) == 2
        assert not ask("keys", "update", key_id, "--any-scope").get("scope_filter")
        assert run("keys", "update", key_id, "--any-scope", *scope).exit_code == 2
        assert run("keys", "update", key_id).exit_code == 2
        assert ask("keys", "revoke", key_id, "--reason", "leaked")["status"] == "REVOKED"
        after = run("keys", "validate", stdin=secret)
        assert after.exit_code == 1
        assert after.stdout.splitlines()[0].split() == ["valid", "no"]

    def test_an_unknown_one(self, run: Callable[..., Result]) -> None:
        result = run("keys", "revoke", "key_0000000000000000")
        assert result.exit_code == 1
        assert error_line(result).startswith("404 NOT_FOUND: ")

    def test_lists(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        made = ask("keys", "create", tenant, "--name", "first")
        other = ask("keys", "create", tenant, "--name", "second")
        ask("keys", "revoke", other["key_id"])
        table = run("keys", "list", "--tenant", tenant)
        assert {line.split()[2] for line in table.stdout.splitlines()} == {
            *("name", "first", "second")
        }
        assert made["key_secret"] not in table.stdout
        active = ask("keys", "list", "--tenant", tenant, "--status", "active")
        assert [row["key_id"] for row in active["keys"]] == [made["key_id"]]


class TestPolicies:
    def test_their_life(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        rules = ("--max-tokens", "2000", "--deny-tool", "shell", "--deny-tool", "mail")
        rules += ("--max-ttl-ms", "5000", "--overage-policy", "reject", "--priority", "3")
        made = ask("policies", "create", f"tenant:{tenant}/agent:*", "--name", "calm", *rules)
        assert made["caps"] == {"max_tokens": 2000, "tool_denylist": ["shell", "mail"]}
        assert made["reservation_ttl_override"] == {"max_ttl_ms": 5000}
        assert (made["commit_overage_policy"], made["priority"]) == ("REJECT", 3)
        changed = ask("policies", "update", made["policy_id"], "--status", "disabled")
        assert (changed["status"], changed["caps"]) == ("DISABLED", made["caps"])
        assert run("policies", "update", made["policy_id"]).exit_code == 2
        unknown = run("policies", "update", "pol_0000000000000000", "--name", "x")
        assert unknown.exit_code == 1
        assert error_line(unknown).startswith("404 NOT_FOUND: ")

    def test_whose_is_it(self, run: Callable[..., Result]) -> None:
        result = run("policies", "create", "agent:*", "--name", "x")
        assert result.exit_code == 2
        assert "add --tenant" in result.stderr

    def test_lists(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        pattern = f"tenant:{tenant}/agent:*"
        ask("policies", "create", pattern, "--name", "calm", "--max-tokens", "2000")
        table = run("policies", "list", "--tenant", tenant).stdout.splitlines()
        assert pattern in table[1]
        assert table[1].rstrip().endswith('{"max_tokens": 2000}')


class TestAudit:
    def test_the_trail(self, run: Callable[..., Result], ask: Ask, tenant: str) -> None:
        scope = f"tenant:{tenant}"
        ask("budgets", "create", scope, "$1")
        ask("budgets", "fund", scope, "$5", "--reason", "ticket [1]\x1b[2J")
        lines = run("audit", "list", "--tenant", tenant).stdout.splitlines()
        assert [line.split()[2] for line in lines] == [
            *("operation", "fundBudget", "createBudget", "createTenant")
        ]
        assert (
            lines[1]
            .rstrip()
            .endswith(
                f"scope={scope}, funding_operation=CREDIT, amount=$5.00, reason=ticket [1]\\x1b[2J"
            )
        )
        wanted = ("--operation", "fundBudget", "--operation", "createTenant")
        page = ask("audit", "list", "--tenant", tenant, *wanted)
        assert [entry["operation"] for entry in page["logs"]] == ["fundBudget", "createTenant"]
        assert page["logs"][0]["user_agent"].startswith("cycles-server/")
        request_id = page["logs"][0]["request_id"]
        assert len(ask("audit", "list", "--request-id", request_id)["logs"]) == 1
        assert ask("audit", "list", "--tenant", tenant, "--status-min", "400")["logs"] == []
        assert (
            ask("audit", "list", "--tenant", tenant, "--to", "2020-01-01T00:00:00Z")["logs"] == []
        )

    def test_filters_that_exclude_each_other(self, run: Callable[..., Result]) -> None:
        result = run("audit", "list", "--status", "200", "--status-min", "200")
        assert result.exit_code == 1
        assert error_line(result).startswith("400 INVALID_REQUEST: ")


@pytest.fixture
def hostile() -> Iterator[str]:
    """The URL of an admin plane whose texts would steer a terminal."""
    texts = {"tenant_id": "t", "name": "\x1b[2J\u202enoob [bold]\n", "status": "ACTIVE"}

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = self.path.endswith("refused")
            message = {"error": "X\n", "message": "a\nb\x1b", "request_id": "r\r"}
            body = json.dumps(message if refused else texts).encode()
            self.send_response(400 if refused else 200)
            self.send_header("X-Cycles-Trace-Id", "0" * 32)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_texts_of_others_do_not_steer_the_terminal(hostile: str) -> None:
    place = ("--url", hostile, "--admin-key", "k")
    shown = invoke("tenants", "get", "t", *place).stdout.splitlines()
    assert shown[1] == "name       \\x1b[2J\\u202enoob [bold]\\n"
    assert error_line(invoke("tenants", "get", "refused", *place)) == (
        "400 X\\n: a\\nb\\x1b (request_id r\\r)"
    )

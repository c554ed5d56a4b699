"""A second plane: a contract, a base URL and cases of its own beside the runtime's. Both have an
operation ``getBalances``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from command_line import pool
from cycles_conformance import runner
from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.casefiles.templates import templates
from cycles_conformance.cli import main
from cycles_conformance.client import Client
from cycles_conformance.contract import Contract
from cycles_conformance.planes import OperationRef
from cycles_conformance.target import Plane, Target
from fake_cycles import (
    FakeProvisioner,
    FakeServer,
    Quiet,
    Reply,
    Request,
    balances,
    case_file,
    granted,
    refusal,
    reply,
    serving,
)

SPEC = """
openapi: 3.1.0
info: {title: Small admin, version: "1"}
paths:
  /v1/admin/balances/{scope}:
    get:
      operationId: getBalances
      description: A closed tenant's balances stay readable. Each row MUST name its ledger.
      responses:
        "200":
          description: Rows.
          content:
            application/json:
              schema:
                type: object
                required: [ledgers]
                properties: {ledgers: {type: array, items: {type: string}}}
  /v1/admin/budgets:
    post:
      operationId: closeBudget
      responses: {"204": {description: It is closed.}}
"""
CLAUSES = """
runtime:
  createReservation:
    tests.one: {declares: something, shape: {/operationId: createReservation}}
admin: {getBalances: {admin.readable: {says: A closed tenant's balances stay readable.}}}
"""
STEPS = """
- {do: balances, expect: {body: {balances: []}}}
- do: admin-balances
  as: admin
  expect: {body: {ledgers: [one]}}
- {send: GET /v1/admin/nothing?x=1, plane: admin, expect: {status: 404}}
"""


@pytest.fixture(autouse=True)
def _template(monkeypatch: pytest.MonkeyPatch) -> None:
    of_admin: dict[str, Any] = {
        "plane": "admin",
        "operation": "getBalances",
        "path": {"scope": "${self}"},
    }
    monkeypatch.setitem(templates(), "admin-balances", of_admin)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "admin.yaml"
    path.write_text(SPEC)
    return path


def cases(folder: Path, steps: str = STEPS) -> Path:
    path = case_file(folder, steps, head="given: shared") / "tests.yaml"
    path.write_text(
        path.read_text().replace("clause: tests.one", "clause: [tests.one, admin.readable]")
    )
    (folder / "clauses.yaml").write_text(CLAUSES)
    return folder


def cli(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def runtime(request: Request) -> Reply:
    return balances() if request.path.startswith("/v1/balances") else granted()


def admin(rows: Any) -> Callable[[Request], Reply]:
    def script(request: Request) -> Reply:
        if "nothing" in request.path:
            return reply(404, {"error": "NOT_FOUND", "message": "no", "request_id": "r-1",
                               "trace_id": "0123456789abcdef0123456789abcdef"})  # fmt: skip
        return reply(200, {"ledgers": rows})

    return script


Run = Callable[..., tuple[Result, FakeServer, FakeServer]]


@pytest.fixture
def run(tmp_path: Path, spec: Path) -> Run:
    units = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
    budgets = [{"unit": unit, "allocated": 10**15} for unit in units]
    tenant = {"id": "t-1", "shared": True, "keys": [{"secret": "s3cret"}], "budgets": budgets}
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps({"tenants": [tenant]}))

    def against(
        *arguments: str | Path, rows: Any = ("one",), with_url: bool = True
    ) -> tuple[Result, FakeServer, FakeServer]:
        with serving(runtime) as one, serving(admin(rows)) as other:
            options = ["--admin-url", f"{other.url}/v1", "--admin-key", "operator"]
            result = cli(
                "run", "--url", one.url, "--fixtures", pool, "--admin-spec", spec,
                "--cases", cases(tmp_path / "cases"), *(options if with_url else []), *arguments,
            )  # fmt: skip
            return result, one, other

    return against


def test_each_request_goes_to_its_plane(run: Run) -> None:
    result, one, other = run()
    assert result.exit_code == 0, result.output
    assert "/v1/balances?tenant=t-1" in [request.path for request in one.requests]
    assert [request.path for request in other.requests] == [
        "/v1/admin/balances/t-1",
        "/v1/admin/nothing?x=1",
    ]
    assert other.requests[0].headers["x-admin-api-key"] == "operator"
    assert other.requests[1].headers["x-cycles-api-key"] == "s3cret"


def test_each_answer_is_held_against_its_planes_contract(run: Run) -> None:
    result, _, _ = run(rows=[1])
    assert result.exit_code == 1
    assert "contract: body /ledgers/0: 1 is not of type 'string'" in result.output


def test_a_report_tells_of_each_plane(run: Run, tmp_path: Path) -> None:
    paths = [tmp_path / f"report.{kind}" for kind in ("json", "html", "xml")]
    result, one, other = run(*(option for path in paths for option in ("--report", path)))
    told = json.loads(paths[0].read_text())
    assert (told["target"], told["contract"]) == (one.url, Contract.load().title)
    assert told["planes"]["admin"] == {
        "target": other.url,
        "contract": "Small admin 1",
        "contract_sha256": hashlib.sha256(SPEC.encode()).hexdigest(),
    }
    assert told["planes"]["runtime"]["target"] == one.url
    for text in (result.output, paths[1].read_text(), paths[2].read_text()):
        assert other.url in text
        assert "Small admin 1" in text


def test_a_report_over_the_runtime_alone_stays_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    run("--report", path, with_url=False)
    told = json.loads(path.read_text())
    assert told["contract"] == Contract.load().title
    assert "planes" not in told


def test_operations_of_one_name_are_kept_apart(tmp_path: Path, spec: Path) -> None:
    why = {
        OperationRef("admin", "getBalances"): "405",
        OperationRef("runtime", "getBalances"): "404",
    }
    contracts = {"runtime": Contract.load(), "admin": Contract.load(spec, "admin")}
    planes = {name: Plane(Client("http://127.0.0.1:1"), one) for name, one in contracts.items()}
    target = Target(planes=planes, provisioner=FakeProvisioner(), not_offered=why)
    steps = "- {do: admin-balances, as: admin}"
    checks = load(cases(tmp_path / "cases", steps), contracts).cases
    outcome = runner.run(target, checks, runner.execute_case, Quiet(), level="MUST", seed=1, jobs=1)
    target.close()
    assert outcome.not_offered == {"admin.getBalances": "405", "getBalances": "404"}
    [result] = outcome.results
    assert result.reason == "the server does not offer admin.getBalances"


def test_a_plane_without_a_url_is_left_out(run: Run) -> None:
    result, _, other = run(with_url=False)
    assert result.exit_code == 2
    assert "no URL of the admin plane was given (--admin-url)" in result.output
    assert other.requests == []


def test_a_plane_without_a_contract_is_refused(tmp_path: Path) -> None:
    folder = cases(tmp_path / "cases")
    with pytest.raises(CaseFileError) as refused:
        load(folder, {"runtime": Contract.load()})
    assert str(refused.value).split("\n") == [
        "tests.yaml: case the-case: the admin plane has no contract (--admin-spec)",
        "clauses.yaml: clause admin.readable: the admin plane has no contract (--admin-spec)",
    ]


def test_what_is_wrong_with_a_template_and_a_plane(tmp_path: Path, spec: Path) -> None:
    folder = cases(tmp_path / "cases", "- {send: GET /x, plane: moon}\n- {do: list, plane: admin}")
    result = cli("run", "--list", "--cases", folder, "--admin-spec", spec)
    assert "step 1: plane: 'moon' is not one of ['runtime', 'admin']" in result.output
    folder = cases(tmp_path / "cases", "- do: admin-balance")
    result = cli("run", "--list", "--cases", folder, "--admin-spec", spec)
    assert "step 1: do: 'admin-balance' is not one of ['decide', 'reserve', " in result.output
    folder = cases(tmp_path / "cases", "- {do: list, plane: admin}")
    result = cli("run", "--list", "--cases", folder, "--admin-spec", spec)
    assert result.exit_code == 2
    assert "step 1: plane: means nothing beside do" in result.output


def test_quotes_are_looked_for_in_the_planes_contract(tmp_path: Path) -> None:
    folder = cases(tmp_path / "cases")
    (folder / "clauses.yaml").write_text(CLAUSES.replace("readable.}", "hidden.}"))
    result = cli("run", "--list", "--cases", folder)
    assert result.output == (
        "Error: clauses.yaml: clause admin.readable: 'getBalances' does not say: "
        "A closed tenant's balances stay hidden.\n"
    )


def test_the_coverage_of_each_plane(tmp_path: Path, spec: Path) -> None:
    result = cli("coverage", "--cases", cases(tmp_path / "cases"), "--admin-spec", spec)
    assert result.exit_code == 0, result.output
    of_runtime, of_admin = result.output.split("\nSmall admin 1\n")
    assert "commitReservation: no case sends a request to it" in of_runtime
    assert "A closed tenant's balances stay readable." not in of_runtime
    assert "A closed tenant's balances stay readable." in of_admin
    assert "closeBudget: no case sends a request to it" in of_admin
    assert "getBalances: " not in of_admin


def test_a_spec_that_is_no_contract(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    result = cli("coverage", "--admin-spec", missing)
    assert result.output == f"Error: {missing} cannot be read: No such file or directory\n"


# -- cases that are given nothing -----------------------------------------------------------------


OWN = """
area: tests
about: What makes its tenants itself.
given: nothing
vars: {tenant: "${new}", colour: red}
cases:
  - id: the-case
    level: MUST
    clause: admin.readable
    why: It would go wrong.
    vars: {colour: green}
    steps:
      - {do: admin.createTenant, body: {name: "${colour}"}}
      - {do: admin.createApiKey, save: {mine: /key_secret}}
      - {do: balances, as: "${secret}", expect: {status: 200}}
      - {pages: admin.getBalances, as: "${mine}", rows: {$length: 2}}
"""


def own_cases(folder: Path, text: str = OWN) -> Path:
    """A folder whose cases of the admin plane stand in a folder of their own."""
    inside = folder / "admin"
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "tests.yaml").write_text(text)
    (inside / "clauses.yaml").write_text("".join(CLAUSES.partition("admin: ")[1:]))
    case_file(folder, "- do: reserve", head="given: shared")
    other = folder / "tests.yaml"
    other.write_text(
        other.read_text().replace("the-case", "another").replace("area: t", "area: other-t")
    )
    return folder


LEDGER = {
    "scope": "tenant:t-1",
    "unit": "TOKENS",
    "allocated": {"unit": "TOKENS", "amount": 1},
    "remaining": {"unit": "TOKENS", "amount": 1},
    "status": "ACTIVE",
    "created_at": "2026-01-01T00:00:00Z",
}


def governing(request: Request) -> Reply:
    at = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z"}
    if request.path.startswith("/v1/admin/tenants"):
        return reply(201, {**request.body, "status": "ACTIVE", "created_at": at["created_at"]})
    if request.path.startswith("/v1/admin/api-keys"):
        tenant = request.body["tenant_id"]
        key = {
            "key_id": "k-1",
            "key_secret": "handed-out",
            "key_prefix": "han",
            "tenant_id": tenant,
        }
        return reply(201, {**key, **at})
    if "cursor" in request.path:
        return reply(200, {"balances": [{**LEDGER, "ledger_id": "two"}], "has_more": False})
    one = [{**LEDGER, "ledger_id": "one"}]
    return reply(200, {"balances": one, "has_more": True, "next_cursor": "c"})


def test_a_case_that_makes_its_tenant_itself(tmp_path: Path) -> None:
    with serving(runtime) as one, serving(governing) as other:
        report = tmp_path / "report.json"
        result = cli(
            "run", "--url", one.url, "--admin-url", other.url, "--admin-key", "operator",
            "--cases", own_cases(tmp_path / "cases"), "--only", "the-case", "--report", report,
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(report.read_text())
    [case] = [one for one in told["results"] if one["case"] == "the-case"]
    assert case["verdict"] == "passed", case
    made, key, *_ = [r for r in other.requests if r.method == "POST"][-2:]
    tenant = made.body["tenant_id"]
    assert made.body["name"] == "green"
    assert key.body["tenant_id"] == tenant
    [asked] = [r for r in one.requests if r.path == f"/v1/balances?tenant={tenant}"]
    assert asked.headers["x-cycles-api-key"] == "handed-out"
    read = [r for r in other.requests if r.path.startswith("/v1/balances")]
    assert [r.path for r in read] == ["/v1/balances", "/v1/balances?cursor=c"]
    assert {r.headers["x-cycles-api-key"] for r in read} == {"handed-out"}
    assert "handed-out" not in report.read_text()


def test_the_admin_plane_without_its_key_is_left_out(tmp_path: Path) -> None:
    pool = tmp_path / "pool.json"
    pool.write_text('{"tenants": [{"id": "t-1", "keys": [{"secret": "s3cret"}], "budgets": []}]}')
    with serving(runtime) as one, serving(governing) as other:
        result = cli(
            "run", "--url", one.url, "--admin-url", other.url, "--fixtures", pool,
            "--cases", own_cases(tmp_path / "cases"), "--only", "the-case",
        )  # fmt: skip
    assert "no key of the admin plane was given (--admin-key)" in result.output, result.output


@pytest.mark.parametrize("beside", [True, False])
def test_a_runtime_that_does_not_know_the_operator(tmp_path: Path, beside: bool) -> None:
    """Its key is meant for the admin plane; given for the runtime alone, 401 is a verdict."""

    def strict(request: Request) -> Reply:
        if "x-admin-api-key" in request.headers:
            return refusal(401, "UNAUTHORIZED")
        return runtime(request)

    fixtures = pool(tmp_path / "pool.json")
    steps = "- {do: list, as: admin, expect: {status: 200}}"
    folder = case_file(tmp_path / "cases", steps, head="given: shared\nrequires: [admin_key]")
    with serving(strict) as one, serving(governing) as other:
        result = cli(
            "run", "--url", one.url, "--admin-key", "operator", "--fixtures", fixtures,
            "--cases", folder, *(("--admin-url", other.url) if beside else ()),
        )  # fmt: skip
    reason = "the runtime plane does not know the operator's key (401 to --admin-key)"
    assert (reason in result.output) is beside, result.output
    assert ("✗ MUST the-case" in result.output) is not beside, result.output


def test_no_key_that_nobody_has_saved(tmp_path: Path) -> None:
    text = OWN.replace('as: "${secret}"', 'as: "${secrets}"').replace("${mine}", "${his}")
    with pytest.raises(CaseFileError) as refused:
        load(own_cases(tmp_path, text))
    assert str(refused.value).split("\n") == [
        "admin/tests.yaml: case the-case: step 3: nothing sets ${secrets}",
        "admin/tests.yaml: case the-case: step 4: nothing sets ${his}",
    ]


def test_what_a_template_asks_for_has_to_be_set(tmp_path: Path) -> None:
    text = OWN.replace("tenant: ", "tenants: ")
    with pytest.raises(CaseFileError) as refused:
        load(own_cases(tmp_path, text))
    found = str(refused.value).split("\n")
    assert "admin/tests.yaml: case the-case: step 1: body: nothing sets ${tenant}" in found


def test_pages_are_of_lists_alone(tmp_path: Path) -> None:
    text = OWN.replace("pages: admin.getBalances", "pages: admin.getTenant")
    with pytest.raises(CaseFileError, match=r"pages: 'admin\.getTenant' is not one of"):
        load(own_cases(tmp_path, text))

"""A mistake of the kit itself reads as one, and never as the server's: exit status 2, everywhere
that a run is told of. Faults are planted in the kit; the server is a good one unless a test says
otherwise."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cycles_conformance import probe
from cycles_conformance.assertions import matching
from cycles_conformance.cli import main
from cycles_conformance.fuzzing import runtime as fuzzing
from cycles_conformance.properties import replays
from fake_cycles import Reply, Request, case_file, granted, refusal, reply, serving

PLANTED = "AttributeError: planted"
IN_THE_MATCHER = f"the kit failed: the-case step 1 (reserve): {PLANTED}"
MATCHED = "- {do: reserve, expect: {body: {decision: {$type: string}}}}"


def planted(*_: Any, **__: Any) -> Any:
    raise AttributeError("planted")


def cli(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    units = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
    budgets = [{"unit": unit, "allocated": 10**15} for unit in units]
    tenant = {"id": "t-1", "shared": True, "keys": [{"secret": "s3cret-key"}], "budgets": budgets}
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({"tenants": [tenant]}))
    return path


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, fixtures: Path) -> Run:
    """``run`` with one small case against a server that answers so."""

    def against(
        *arguments: str | Path,
        steps: str = MATCHED,
        answer: Callable[[Request], Reply] = lambda request: granted(),
    ) -> Result:
        cases = tmp_path / "cases"
        if not cases.exists():
            case_file(cases, steps, head="given: shared")
        with serving(answer) as server:
            return cli(
                "run", "--url", server.url, "--cases", cases, "--fixtures", fixtures, *arguments
            )

    return against


@pytest.fixture
def broken_matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matching._TYPES, "string", planted)


def lines(result: Result) -> list[str]:
    return [line.strip() for line in result.output.rstrip().split("\n")]


@pytest.mark.usefixtures("broken_matcher")
def test_a_mistake_in_a_matcher(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert IN_THE_MATCHER in lines(result)
    assert lines(result)[-1] == "NO VERDICT: the kit failed in 1 case, 1 passed"
    assert "✗" not in result.output
    assert "Traceback" not in result.output
    assert "Traceback" in run("--verbose").output


@pytest.mark.usefixtures("broken_matcher")
def test_the_reports_tell_it(run: Run, tmp_path: Path) -> None:
    reports = {kind: tmp_path / f"report.{kind}" for kind in ("json", "xml", "html")}
    run(*[part for path in reports.values() for part in ("--report", path)])
    told = json.loads(reports["json"].read_text())
    case, _ = told["results"]
    assert (told["conformant"], told["totals"]["kit_failed"]) == (False, 1)
    assert told["totals"]["failed"] == 0
    assert (case["verdict"], case["problems"]) == ("kit failed", [])
    assert case["kit_failure"]["step"] == "step 1 (reserve)"
    assert case["kit_failure"]["error"] == PLANTED
    assert case["kit_failure"]["traceback"].startswith("Traceback")
    root = ET.fromstring(reports["xml"].read_text())
    assert root.find(".//failure") is None
    error = root.find(".//error")
    assert error is not None
    assert error.get("message") == IN_THE_MATCHER
    assert "Traceback" in (error.text or "")
    page = reports["html"].read_text()
    assert IN_THE_MATCHER in page
    assert "Traceback" in page
    assert 'id="failures"' not in page


@pytest.mark.usefixtures("broken_matcher")
def test_the_other_cases_go_on_and_a_real_failure_is_shown(run: Run, tmp_path: Path) -> None:
    path = case_file(tmp_path / "cases", MATCHED, head="given: shared") / "tests.yaml"
    head, case = path.read_text().split("cases:\n")
    sound = case.replace(MATCHED, "- {do: reserve, expect: {body: {decision: DENY}}}")
    path.write_text(head + "cases:\n" + case + sound.replace("the-case", "sound"))
    result = run("--jobs", "1")
    assert result.exit_code == 2
    assert IN_THE_MATCHER in lines(result)
    assert 'body /decision is "ALLOW", expected "DENY"' in result.output
    assert lines(result)[-1] == (
        "NOT CONFORMANT at MUST: 1 of 2 cases failed; the kit failed in 1 case"
    )


def test_a_mistake_in_a_step_that_asks_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cycles_conformance.provisioners.fixtures.FixturesProvisioner.change", planted
    )
    monkeypatch.setattr(
        "cycles_conformance.provisioners.fixtures.FixturesProvisioner.lacks", lambda *_: None
    )
    result = run(steps="- do: reserve\n- provision: {freeze: ''}")
    assert result.exit_code == 2
    assert f"the kit failed: the-case step 2 (provision): {PLANTED}" in lines(result)


def test_a_mistake_of_a_case(run: Run) -> None:
    # The other reading saves nothing, and the file does not show it.
    result = run(
        steps="""
- do: reserve
  readings:
    - {saw: a, status: 409, save: {x: /error}}
    - {saw: b, status: 200}
- {do: list, query: {x: "${x}"}}
"""
    )
    assert result.exit_code == 2
    says = "the kit failed: the-case step 2 (list): UnknownValue: nothing has set ${x}"
    assert says in lines(result)


def test_a_mistake_in_a_property(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(replays, "_copies", planted)
    script = tmp_path / "provisioner.py"
    script.write_text(
        "import json, sys\nasked = json.load(sys.stdin)\n"
        "made = {k: {w['name']: w['name'] for w in asked.get(s, ())}"
        " for k, s in (('tenants', 'tenants'), ('secrets', 'keys'))}\n"
        "print(json.dumps({'lacks': []} if asked['action'] == 'capabilities' else made))"
    )
    with serving(lambda request: granted()) as server:
        result = cli(
            "run", "--url", server.url, "--only", "property-replays-*",
            "--provision-command", f"python3 {script}",
        )  # fmt: skip
    assert result.exit_code == 2, result.output
    assert f"the kit failed: property-replays-at-once property: {PLANTED}" in lines(result)
    assert "✗" not in result.output


def test_a_mistake_before_the_cases(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "look", planted)
    result = run()
    assert (result.exit_code, result.output) == (2, f"Error: the kit failed: {PLANTED}\n")
    assert "Traceback" in run("--verbose").output


def test_a_mistake_in_a_report(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cycles_conformance.report.FORMATS", {".json": planted})
    result = run("--report", tmp_path / "a.json")
    assert result.exit_code == 2
    assert lines(result)[-1] == f"Error: the kit failed: {PLANTED}"


def test_a_mistake_in_the_fuzzers_hooks(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(
        "from cycles_conformance.fuzzing import runtime_hooks as hooks\n"
        "def planted(case):\n    raise AttributeError('planted')\n"
        "hooks._use_own_tenant = planted\n"
    )
    monkeypatch.setattr(fuzzing, "HOOKS", hooks)

    def script(request: Request) -> Reply:
        if request.path.startswith("/v1/balances"):
            return reply(200, {"balances": []})
        return granted()

    with serving(script) as server:
        result = cli(
            "fuzz", "--url", server.url, "--fixtures", fixtures, "--max-examples", "1", "--",
            "--phases", "fuzzing", "--include-path", "/v1/balances", "--mode", "positive",
        )  # fmt: skip
    assert result.exit_code == 2
    assert lines(result)[-1] == f"Error: the kit failed: fuzz before_call: {PLANTED}"


# -- what stays the server's failure ---------------------------------------------------------------

DEEP: Any = "x"
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("steps", "answer", "says"),
    [
        ("- {do: reserve, save: {x: /reserved}}\n- {do: list, query: {a: {$sum: ['${x}', 1]}}}",
         granted(), "the answers make no sense together: "),
        ("- {do: reserve, save: {x: /expires_at_ms}}\n- {do: list, query: {a: {$iso: '${x}'}}}",
         granted(expires_at_ms=2**62), "a time that no calendar has"),
        ("- {do: reserve, save: {x: /decision}}\n"
         "- {do: reserve, expect: {body: {expires_at_ms: {$range: ['${x}', null]}}}}",
         granted(), "the answers make no sense together: "),
        ("- {do: reserve, save: {x: /affected_scopes/0}}\n"
         "- {do: reserve, expect: {text: {$matches: '${x}'}}}",
         granted(affected_scopes=["("]), "the answers make no sense together: "),
        ("- {do: reserve, name: a}\n- {do: reserve, expect: {same_as: a}}",
         granted(affected_scopes=DEEP), "nested too deep"),
        ("- do: reserve\n- do: commit", reply(200, {"decision": "ALLOW", "affected_scopes": []}),
         "status 200 has no /reservation_id, which a later step needs"),
        ("- do: reserve", Reply(200, b"\xff\xfe", {}), "the body is not JSON (not UTF-8)"),
        ("- do: reserve", refusal(500, "INTERNAL_ERROR"), "expected status 2xx"),
    ],
)  # fmt: skip
def test_answers_that_nobody_can_work_with(run: Run, steps: str, answer: Reply, says: str) -> None:
    result = run(steps=steps, answer=lambda request: answer)
    assert result.exit_code == 1, result.output
    assert says in result.output
    assert lines(result)[-1].startswith("NOT CONFORMANT at MUST: 1 of 2")


@pytest.mark.parametrize(
    ("steps", "body"),
    [
        ("- {ledger: [{spent: 0}]}", {"balances": [{"scope_path": 1}]}),
        ("- {ledger: [{spent: 0}]}", {"balances": 5}),
        ("- {ledger: [{spent: 0}]}", []),
        ("- {pages: list}", {"reservations": None}),
        ("- {pages: list}", "x"),
    ],
)
def test_answers_that_only_a_loose_contract_allows(
    run: Run, tmp_path: Path, steps: str, body: Any
) -> None:
    spec = tmp_path / "spec.yaml"
    operations = {
        f"/v1/{name}": {"get": {"operationId": f"{verb}", "responses": {"200": {}}}}
        for name, verb in (("balances", "getBalances"), ("reservations", "listReservations"))
    }
    operations["/v1/reservations"]["post"] = {"operationId": "createReservation"}
    spec.write_text(json.dumps({"openapi": "3.1.0", "paths": operations}))
    result = run("--spec", spec, steps=steps, answer=lambda request: reply(200, body))
    assert result.exit_code == 1, result.output
    assert "the answers make no sense together: " in result.output

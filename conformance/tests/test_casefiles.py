"""Case files: what is wrong with one is told with the file, the case and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cycles_conformance.casefiles.given import SHARED
from cycles_conformance.casefiles.loading import CaseFileError, load
from cycles_conformance.casefiles.templates import operation_of, templates
from cycles_conformance.contract import Contract
from cycles_conformance.planes import operations_of_runtime
from cycles_conformance.values import merge_patch
from fake_cycles import CLAUSES, case_file, collected

FINE = "- do: reserve"
WHERE = "tests.yaml: case the-case: "


def faults(folder: Path) -> list[str]:
    with pytest.raises(CaseFileError) as failure:
        load(folder)
    return str(failure.value).split("\n")


# -- the bundled cases: the only tests that know them ---------------------------------------------


def test_the_bundled_cases_load() -> None:
    bundled = load()
    assert len(bundled.cases) > 100
    assert len({case.id for case in bundled.cases}) == len(bundled.cases)


def test_every_template_is_a_request_of_the_contract() -> None:
    for name, template in templates().items():
        plane, operation_id = operation_of(name)
        contract = Contract.load(plane=plane)
        operation = contract.operations[operation_id]
        for member in template.get("path", {}):
            assert f"{{{member}}}" in operation.path, name
        document = contract.document["paths"][operation.path][operation.method.lower()]
        wants_body = document.get("requestBody", {}).get("required", False)
        assert ("body" in template) == wants_body, name


# -- sound files ----------------------------------------------------------------------------------


def test_a_small_case(tmp_path: Path) -> None:
    found = collected(
        tmp_path,
        """
- {do: reserve, name: first, save: {cursor: /reservation_id}}
- do: commit
  readings:
    - {saw: one, status: 200, save: {later: /status}, then: [{ledger: [{spent: "${later}"}]}]}
    - {saw: other, status: 409}
- {do: get, as: reader, query: {x: "${cursor} ${extra}"}, expect: {same_as: first}}
""",
        head="""vars: {extra: "${new}", unit: CREDITS}
given: {keys: {reader: {permissions: [balances:read]}}, budgets: [{scope: "agent:a"}]}""",
    )
    [case] = found.cases
    assert (case.area, case.level, case.clauses) == ("tests", "MUST", ("tests.one",))
    names = {"createReservation", "commitReservation", "getReservation", "getBalances"}
    assert case.operations == operations_of_runtime(names)
    assert case.planes == {"runtime"}
    assert [(key.name, key.tenant, key.permissions) for key in case.given.keys] == [
        ("tenant", "tenant", None),
        ("reader", "tenant", ("balances:read",)),
    ]
    [budget] = case.given.budgets
    assert (budget.scope, budget.unit, budget.allocated) == ("agent:a", "CREDITS", 10**9)
    assert not case.given.shared


def test_the_shared_tenant(tmp_path: Path) -> None:
    [case] = collected(tmp_path, FINE, head="given: shared").cases
    assert case.given is SHARED


def test_changes_are_part_of_what_is_given(tmp_path: Path) -> None:
    [case] = collected(
        tmp_path,
        """
- provision: {freeze: ""}
- do: reserve
  readings:
    - {saw: a, status: 200, then: [{provision: {fund: {amount: 1}}}, {provision: {freeze: ""}}]}
    - {saw: b, status: 409}
""",
    ).cases
    assert case.given.changes == ("freeze", "fund")


def test_dates_stay_texts(tmp_path: Path) -> None:
    [case] = collected(tmp_path, "- {do: list, query: {from: 2024-01-02}}").cases
    assert case.steps[0]["query"] == {"from": "2024-01-02"}


# -- files that are none --------------------------------------------------------------------------


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "clauses.yaml").write_text(CLAUSES)
    assert faults(tmp_path) == [f"{tmp_path} holds no .yaml file of cases"]
    missing = tmp_path / "missing"
    assert faults(missing) == [f"{missing} cannot be read: No such file or directory"]
    file = tmp_path / "file"
    file.touch()
    assert faults(file) == [f"{file} cannot be read: Not a directory"]
    folder = case_file(tmp_path / "cases", FINE)
    (folder / "clauses.yaml").unlink()
    assert faults(folder) == [f"{folder} holds no clauses.yaml"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "clauses.yaml").write_text(CLAUSES)
    (tmp_path / "binary.yaml").write_bytes(b"area: \xff\xfe")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert faults(tmp_path) == [
        "binary.yaml: cannot be read: it is not UTF-8",
        "folder.yaml: cannot be read: Is a directory",
        "gone.yaml: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "tests.yaml: the file: None is not of type 'object'"),
        ("[]", "tests.yaml: the file: [] is not of type 'object'"),
        ("area: [", "tests.yaml: not YAML: line 2, column 1: "),
        ("area: a\n\tabout: b", "tests.yaml: not YAML: line 2, column 1: "),
        ("area: a\narea: b", "tests.yaml: not YAML: line 2, column 1: the name 'area' comes twice"),
        ("area: !!int x", "tests.yaml: not YAML: "),
        ("&a {area: *a}", "tests.yaml: "),
        ("{area: a, about: b, cases: []}", "tests.yaml: cases: [] should be non-empty"),
        ("{area: a, about: b, cases: {}}", "tests.yaml: cases: {} is not of type 'array'"),
        ("{area: A b, about: b, cases: [1]}", "tests.yaml: area: 'A b' does not match"),
        ("{area: a, about: b, cases: [1]}", "tests.yaml: case number 1: 1 is not of type 'object'"),
    ],
)
def test_texts_that_are_no_case_file(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "clauses.yaml").write_text(CLAUSES)
    (tmp_path / "tests.yaml").write_text(text)
    found = faults(tmp_path)
    assert any(fault.startswith(says) for fault in found), found


# -- cases with a fault ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("- {do: bet}", "step 1: do: 'bet' is not one of ['decide', 'reserve', "),
        ("- {dance: 1}", "step 1: Additional properties are not allowed ('dance' was unexpected)"),
        (
            "- {expect: {status: 200}}",
            "step 1: a step has one of do, send, parallel, pages, ledger, wait, provision",
        ),
        (
            "- do: reserve\n- {do: commit, wait: 1}",
            "step 2: a step has one of do, send, parallel, pages, ledger, wait, provision, "
            "not do and wait",
        ),
        ("- parallel: [{do: reserve}]", "step 1: parallel needs outcomes"),
        (
            "- do: reserve\n- do: commit\n  expect: {state: 200}",
            "step 2: expect: Additional properties are not allowed ('state' was unexpected)",
        ),
        ("- {do: reserve, expect: {status: 2xxx}}", 'step 1: expect/status: "2xxx" cannot stand'),
        (
            "- {do: reserve, expect: {status: 99}}",
            "step 1: expect/status: 99 is less than the minimum of 100",
        ),
        (
            "- do: reserve\n  readings:\n    - {saw: a}\n    - {saw: b, then: [{wait: 90}]}",
            "step 1: reading 2: step 1: wait: 90 is greater than the maximum of 60",
        ),
        (
            "- parallel: [{do: list}, {do: list, times: 0}]\n  outcomes: [{count: 1}]",
            "step 1: request 2: times: 0 is less than the minimum of 1",
        ),
        ("- {do: get, save: {x: cursor}}", "step 1: save/x: 'cursor' does not match"),
        ("- {wait: soon}", 'step 1: wait: "soon" cannot stand here'),
        ("- {provision: {melt: ''}}", "step 1: provision: Additional properties are not allowed"),
        (
            "- {provision: {freeze: {scop: a}}}",
            "step 1: provision/freeze: Additional properties are not allowed ('scop' was",
        ),
        ("- {do: reserve, body: {on: 1}}", "step 1: body: the name true is not a text"),
        ("- {do: reserve, body: {a: [{7: 1}]}}", "step 1: body/a/0: the name 7 is not a text"),
        # Names that lead nowhere.
        ("- do: reserve\n- {do: get, query: {a: '${unset}'}}", "step 2: nothing sets ${unset}"),
        ("- {do: list, headers: {a: '${key:nobody}'}}", "step 1: nothing sets ${key:nobody}"),
        ("- do: commit", "step 1: path: nothing sets ${reservation}"),
        (
            "- {do: get, path: {reservation_id: '${late}'}}\n- {do: reserve, save: {late: /a}}",
            "step 1: nothing sets ${late}",
        ),
        (
            "- do: list\n  readings:\n    - {saw: a, then: [{do: get}]}\n    - {saw: b}",
            "step 1: reading 1: step 1: path: nothing sets ${reservation}",
        ),
        (
            "- do: reserve\n- {do: get, path: {id: x}}",
            "step 2: path: get has no id in its path",
        ),
        ("- do: reserve\n- {do: list, as: reeder}", "step 2: as: no key is called reeder"),
        ("- {pages: list, as: reeder}", "step 1: as: no key is called reeder"),
        (
            "- parallel: [{do: list}, {do: list, as: x}]\n  outcomes: [{count: 2}]",
            "step 1: request 2: as: no key is called x",
        ),
        ("- {ledger: [{tenant: other}]}", "step 1: ledger: no tenant is called other"),
        (
            "- provision: {close_tenant: other}",
            "step 1: provision: close_tenant: no tenant is called other",
        ),
        (
            "- provision: {fund: {tenant: other, amount: 1}}",
            "step 1: provision: fund: no tenant is called other",
        ),
        ("- provision: {revoke: reader}", "step 1: provision: revoke: no key is called reader"),
        (
            "- {do: list, name: a, expect: {same_as: a}}",
            "step 1: expect: same_as: no step before this one has the name a",
        ),
        # Patterns that nothing can read.
        (
            "- {do: list, expect: {body: {a: {$rang: [1, 2]}}}}",
            "step 1: expect: body: /a: no matcher is called $rang",
        ),
        (
            "- do: list\n  readings: [{saw: a}, {saw: b, headers: {X-A: {$matches: '['}}}]",
            'step 1: reading 2: headers: /X-A: $matches cannot be "["',
        ),
        (
            "- parallel: [{do: list}]\n  outcomes: [{count: {$range: 1}}]",
            "step 1: outcome 1: count: /: $range cannot be 1",
        ),
        ("- {pages: list, rows: {$lenght: 1}}", "step 1: rows: /: no matcher is called $lenght"),
        ("- {ledger: [{spent: {$x: 1}}]}", "step 1: ledger: /0/spent: no matcher is called $x"),
        # Members that would be passed over in silence.
        ("- {do: list, within: 5}", "step 1: within: means nothing beside do"),
        ("- {wait: 1, expect: {status: 200}}", "step 1: expect: means nothing beside wait"),
        (
            "- {send: GET /x, body: {a: 1}}",
            "step 1: body: means nothing beside send",
        ),
        (
            "- do: list\n  expect: {status: 200}\n  readings: [{saw: a}, {saw: b}]",
            "step 1: expect: means nothing beside readings",
        ),
    ],
)
def test_steps_with_a_fault(tmp_path: Path, steps: str, says: str) -> None:
    found = faults(case_file(tmp_path, steps))
    assert any(fault.startswith(WHERE + says) for fault in found), found
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("given: much", 'given: "much" cannot stand here'),
        ("given: {tenant: {}}", "given: Additional properties are not allowed ('tenant' was"),
        ("given: {tenants: {A B: {}}}", "given/tenants: 'A B' does not match"),
        (
            "given: {tenants: {tenant: {status: OPEN}}}",
            "given/tenants/tenant/status: 'OPEN' is not one of",
        ),
        (
            "given: {budgets: [{}, {allocated: -1}]}",
            "given/budgets/1/allocated: -1 is less than the minimum of 0",
        ),
        ("given: {budgets: [{tenant: other}]}", "given: budget: no tenant is called other"),
        ("given: {keys: {k: {tenant: other}}}", "given: key k: no tenant is called other"),
        # The step's key is the default, which is not there either.
        ("given: {tenants: {other: {}}}", "step 1: as: no key is called tenant"),
        ("vars: {a: '${b}', b: 1}", "vars: a: nothing sets ${b}"),
        ("vars: {unit: 5}", "vars: unit is not a text"),
        ("requires: [luck]", "requires/0: 'luck' is not one of"),
        (
            "colour: red",
            "the case: Additional properties are not allowed ('colour' was unexpected)",
        ),
    ],
)
def test_heads_with_a_fault(tmp_path: Path, head: str, says: str) -> None:
    found = faults(case_file(tmp_path, FINE, head=head))
    says = says.removeprefix("the case: ")
    assert any(fault.startswith(WHERE + says) for fault in found), found


def test_a_wrong_level(tmp_path: Path) -> None:
    [fault] = faults(case_file(tmp_path, FINE, level="CAN"))
    assert fault == WHERE + "level: 'CAN' is not one of ['MUST', 'SHOULD', 'MAY']"


def changed(folder: Path, patch: dict[str, Any], name: str = "tests.yaml") -> Path:
    """A sound file with a merge patch applied to its one case and to the file itself."""
    text = case_file(folder, FINE).joinpath("tests.yaml").read_text()
    document = yaml.safe_load(text)
    of_case = patch.pop("case", {})
    document = merge_patch(document, patch)
    document["cases"][0] = merge_patch(document["cases"][0], of_case)
    (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"case": {"why": None}}, WHERE + "'why' is a required property"),
        ({"case": {"steps": []}}, WHERE + "steps: [] should be non-empty"),
        ({"case": {"id": None}}, "tests.yaml: case number 1: 'id' is a required property"),
        ({"case": {"id": "A Case"}}, "tests.yaml: case A Case: id: 'A Case' does not match"),
        ({"case": {"clause": "no.such"}}, WHERE + "clause: no clause is called no.such"),
        (
            {"case": {"clause": ["tests.one", "no.such"]}},
            WHERE + "clause: no clause is called no.such",
        ),
        ({"case": {"clause": 5}}, WHERE + "clause: 5 cannot stand here"),
        ({"about": None}, "tests.yaml: the file: 'about' is a required property"),
        (
            {"clauses": {"tests.two": {"at": "decide", "says": "no"}}},
            "tests.yaml: the file: Additional properties are not allowed ('clauses' was",
        ),
    ],
)
def test_members_with_a_fault(tmp_path: Path, patch: dict[str, Any], says: str) -> None:
    found = faults(changed(tmp_path, patch))
    assert any(fault.startswith(says) for fault in found), found


def test_what_two_files_must_not_share(tmp_path: Path) -> None:
    changed(tmp_path, {}, "other.yaml")
    assert faults(tmp_path) == [
        "tests.yaml: the area tests has a file already",
        "tests.yaml: case the-case: another case has this id",
    ]


def test_every_fault_is_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    steps = "\n".join(f"- {{do: list, x{number}: 1}}" for number in range(1, 13))
    found = faults(case_file(tmp_path, steps))
    assert [fault.split(": ")[2] for fault in found] == [f"step {i}" for i in range(1, 13)]

"""Talks of CommandProvisioner with commands that behave, and with those that do not."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
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
from cycles_conformance.provisioners.command import CommandProvisioner
from cycles_conformance.provisioners.schemas import fault

# Keeps every request, and answers as it should; what it lacks stands in a file.
WELL_BEHAVED = """
    import json, pathlib, sys
    request = json.load(sys.stdin)
    here = pathlib.Path(__file__).parent
    with (here / "requests").open("a") as log:
        log.write(json.dumps(request) + chr(10))
    if request["action"] == "capabilities":
        answer = {"lacks": json.loads((here / "lacks").read_text())}
    elif request["action"] == "prepare":
        answer = {
            "tenants": {tenant["name"]: tenant["id"] for tenant in request["tenants"]},
            "secrets": {key["name"]: "secret-" + key["name"] for key in request["keys"]},
        }
    else:
        answer = {}
    print("made some noise", file=sys.stderr)
    print(json.dumps(answer))
"""

GIVEN = Given(
    (TenantSpec("tenant", settings={"max_reservation_extensions": 2}), TenantSpec("other")),
    (
        KeySpec("tenant", "tenant"),
        KeySpec("other", "other"),
        KeySpec("reader", "tenant", ("balances:read",), ("workspace:eng",), expired=True),
        KeySpec("brief", "tenant", expires_in=5),
    ),
    (
        BudgetSpec("tenant", "", "TOKENS", 2**63 - 1),
        BudgetSpec(
            "other",
            "workspace:eng",
            "CREDITS",
            10,
            overdraft_limit=1,
            debt=2,
            commit_overage_policy="REJECT",
            caps={"max_tokens": 5},
        ),
    ),
)


def script(folder: Path, text: str) -> list[str]:
    file = folder / "provision.py"
    file.write_text(textwrap.dedent(text))
    return [sys.executable, str(file)]


def well_behaved(folder: Path, *lacks: str) -> CommandProvisioner:
    (folder / "lacks").write_text(json.dumps(lacks))
    return CommandProvisioner(script(folder, WELL_BEHAVED))


def requests(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "requests").read_text().splitlines()]


def test_a_case_is_asked_for_in_one_request(tmp_path: Path) -> None:
    provisioner = well_behaved(tmp_path)
    prepared = provisioner.prepare(GIVEN)
    first, request = requests(tmp_path)
    assert first == {"action": "capabilities"}
    ids = {tenant["name"]: tenant["id"] for tenant in request["tenants"]}
    assert prepared.tenants == ids and len(set(ids.values())) == 2
    assert prepared.secrets["reader"] == "secret-reader"
    assert request["action"] == "prepare" and request["shared"] is False
    assert request["tenants"][0]["settings"] == {"max_reservation_extensions": 2}
    assert request["keys"][0] == {
        "name": "tenant",
        "tenant": "tenant",
        "revoked": False,
        "expired": False,
    }
    assert request["keys"][2]["permissions"] == ["balances:read"]
    assert request["keys"][2]["scope_filter"] == ["workspace:eng"]
    assert request["keys"][3]["expires_in"] == 5 and not request["keys"][3]["expired"]
    assert request["budgets"][0]["allocated"] == 2**63 - 1
    assert request["budgets"][1] == {
        "tenant": "other",
        "scope": "workspace:eng",
        "unit": "CREDITS",
        "allocated": 10,
        "overdraft_limit": 1,
        "status": "ACTIVE",
        "debt": 2,
        "is_over_limit": True,
        "commit_overage_policy": "REJECT",
        "caps": {"max_tokens": 5},
    }


@pytest.mark.parametrize(
    ("change", "request_of_it"),
    [
        (Change("freeze", unit="TOKENS"), {"tenant": "t1", "scope": "", "unit": "TOKENS"}),
        (
            Change("fund", scope="agent:a", unit="CREDITS", amount=2**53 + 1),
            {"tenant": "t1", "scope": "agent:a", "unit": "CREDITS", "amount": 2**53 + 1},
        ),
        (Change("close_tenant", tenant="other"), {"tenant": "t2"}),
        (Change("revoke", key="reader"), {"secret": "s1"}),
    ],
)
def test_a_change_names_ids_and_secrets(
    tmp_path: Path, change: Change, request_of_it: dict[str, Any]
) -> None:
    prepared = Prepared({"tenant": "t1", "other": "t2"}, {"reader": "s1"})
    well_behaved(tmp_path).change(prepared, change)
    assert requests(tmp_path)[-1] == {"action": "change", "kind": change.kind, **request_of_it}


def test_every_request_is_as_the_schema_says(tmp_path: Path) -> None:
    provisioner = well_behaved(tmp_path)
    prepared = provisioner.prepare(GIVEN)
    for kind in ("freeze", "close_budget", "repay", "suspend_tenant", "corrupt_tenant"):
        provisioner.change(prepared, Change(kind, unit="TOKENS", amount=1))
    provisioner.change(prepared, Change("revoke", key="reader"))
    for request in requests(tmp_path):
        assert fault("provision.schema.json", request["action"], request) is None
        assert fault("provision.schema.json", "", request) is None


def test_the_schema_lists_every_need() -> None:
    for need in CAPABILITIES:
        assert fault("provision.schema.json", "capabilitiesAnswer", {"lacks": [need]}) is None


def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    provisioner = well_behaved(tmp_path, "debt", "second_tenant")
    assert provisioner.lacks(GIVEN) == (
        "the provisioning command cannot make more than one tenant for a case"
    )
    one = Given((TenantSpec("tenant"),), (KeySpec("tenant", "tenant"),), ())
    assert provisioner.lacks(one) is None


def test_needs_of_a_case() -> None:
    assert capabilities_for(GIVEN) == [
        "second_tenant",
        "tenant_settings",
        "permissions",
        "scope_filter",
        "expired_key",
        "expiring_key",
        "overdraft_limit",
        "debt",
        "commit_overage_policy",
        "caps",
    ]


def test_a_command_line_is_split_into_words(tmp_path: Path) -> None:
    (tmp_path / "lacks").write_text("[]")
    python, file = script(tmp_path, WELL_BEHAVED)
    assert CommandProvisioner(f"'{python}' {file}").lacks(GIVEN) is None


def test_several_at_once(tmp_path: Path) -> None:
    provisioner = well_behaved(tmp_path)
    found: list[Prepared] = []
    threads = [
        threading.Thread(target=lambda: found.append(provisioner.prepare(GIVEN))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({prepared.tenants["tenant"] for prepared in found}) == 8


# -- failures ----------------------------------------------------------------------------------


def failure_of(command: str | list[str], timeout: float = 30.0) -> str:
    with pytest.raises(ProvisioningError) as failure:
        CommandProvisioner(command, timeout).prepare(GIVEN)
    message = str(failure.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import sys; sys.exit('line one\\nno such database\\n  \\n')",
            "the provisioning command (capabilities) failed with status 1: no such database",
        ),
        (
            "import sys; sys.exit(3)",
            "the provisioning command (capabilities) failed with status 3: "
            "nothing on its standard error",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            "the provisioning command (capabilities) was ended by signal 15: "
            "nothing on its standard error",
        ),
        ("", "the provisioning command (capabilities) answered no JSON"),
        (
            "print('all good')",
            "the provisioning command (capabilities) answered no JSON, but 'all good'",
        ),
        (
            "print('[]')",
            "the provisioning command (capabilities) answered wrongly: "
            "the document: [] is not of type 'object'",
        ),
        (
            "print('{}')",
            "the provisioning command (capabilities) answered wrongly: "
            "the document: 'lacks' is a required property",
        ),
    ],
)
def test_commands_that_fail(tmp_path: Path, text: str, says: str) -> None:
    assert failure_of(script(tmp_path, text)) == says


def test_an_unknown_word_in_lacks(tmp_path: Path) -> None:
    says = failure_of(script(tmp_path, """print('{"lacks": ["money"]}')"""))
    assert "answered wrongly: /lacks/0: 'money' is not one of ['second_tenant', " in says


ANSWERS = """
    import json, sys
    request = json.load(sys.stdin)
    print('{"lacks": []}' if request["action"] == "capabilities" else %r)
"""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"tenants": {}}, "answered wrongly: the document: 'secrets' is a required property"),
        (
            {"tenants": {"tenant": 7}, "secrets": {}},
            "answered wrongly: /tenants/tenant: 7 is not of type 'string'",
        ),
        (
            {"tenants": {}, "secrets": {"tenant": "not for a report\n"}},
            "answered wrongly: /secrets/tenant: not a text of visible ASCII characters",
        ),
        ({"tenants": {"tenant": "t"}, "secrets": {}}, "answered without the tenant 'other'"),
        (
            {"tenants": {"tenant": "t", "other": "o"}, "secrets": {"tenant": "s"}},
            "answered without the key 'other'",
        ),
    ],
)
def test_answers_that_are_none(tmp_path: Path, answer: dict[str, Any], says: str) -> None:
    command = script(tmp_path, ANSWERS % json.dumps(answer))
    assert failure_of(command) == f"the provisioning command (prepare) {says}"


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    says = failure_of(["sh", "-c", f"(sleep 3; touch {tmp_path}/late) & sleep 60"], timeout=0.3)
    assert says == "the provisioning command (capabilities) took longer than 0.3 s"
    assert time.monotonic() - started < 3
    time.sleep(3.2)
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/command --now", "cannot run /no/such/command: No such file or directory"),
        ("/tmp", "cannot run /tmp: Permission denied"),
        ("", "the provisioning command is empty"),
        ("'unfinished", "the provisioning command: No closing quotation"),
    ],
)
def test_commands_that_cannot_be_run(command: str, says: str) -> None:
    assert failure_of(command) == says


def test_a_command_that_does_not_read(tmp_path: Path) -> None:
    command = script(tmp_path, """print('{"lacks": []}')""")
    big = Given(
        (TenantSpec("tenant"),),
        tuple(KeySpec(f"key{number}", "tenant") for number in range(5000)),
        (),
    )
    with pytest.raises(ProvisioningError, match="answered wrongly"):
        CommandProvisioner(command).prepare(big)

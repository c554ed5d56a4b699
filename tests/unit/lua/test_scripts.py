"""The scripts and the modules that ask them: the same names in the same order."""

from __future__ import annotations

import re
from importlib.resources import files
from types import ModuleType

import pytest

from cycles_server.auth import records
from cycles_server.doctor import observe
from cycles_server.governance.scripts import (
    close_budgets,
    close_tenant,
    create_api_key,
    create_budget,
    create_policy,
    create_tenant,
    fund,
    leave_entry,
    record_bulk,
    release_all,
    replace_policy,
    replace_record,
    update_budget,
)
from cycles_server.governance.scripts import head as mutation_head
from cycles_server.http import authbrake, ratelimit
from cycles_server.ledger import retention
from cycles_server.ledger.scripts import (
    commit,
    debit,
    evaluate,
    expire,
    extend,
    head,
    release,
    reserve,
)
from cycles_server.monitoring import probe
from cycles_server.paging import twins
from cycles_server.store import lease

LUA = files("cycles_server.lua")
MODULES = {
    "align_twin": twins,
    "close_budgets": close_budgets,
    "close_tenant": close_tenant,
    "auth_failure": authbrake,
    "commit": commit,
    "create_api_key": create_api_key,
    "create_budget": create_budget,
    "create_policy": create_policy,
    "create_tenant": create_tenant,
    "debit": debit,
    "evaluate": evaluate,
    "expire": expire,
    "extend": extend,
    "fund": fund,
    "lease": lease,
    "leave_entry": leave_entry,
    "observe": observe,
    "probe": probe,
    "rate_limit": ratelimit,
    "record_bulk": record_bulk,
    "release": release,
    "release_all": release_all,
    "replace_policy": replace_policy,
    "replace_record": replace_record,
    "reserve": reserve,
    "update_budget": update_budget,
}
WITH_TAILS = {"debit": "BUDGETS SCOPES", "evaluate": "BUDGETS SCOPES", "reserve": "BUDGETS SCOPES"}
WITH_TAILS |= {"expire": "RESERVATIONS IDS", "observe": "INDEXES FIELDS"}
WITH_TAILS |= {"release_all": "RESERVATIONS IDS", "close_budgets": "BUDGETS SCOPES"}
"""What follows behind the names in KEYS and in ARGV, as the script calls the number of those."""

HEAD_ALONE = {"leave_entry"}
"""Scripts that are asked nothing but what the head is."""

_NAMES = r"local ([a-z_,\s]+?)\s*=\s*unpack\({table}{first}\)$"


def source(name: str) -> str:
    return LUA.joinpath(f"{name}.lua").read_text(encoding="utf-8")


def has_head(name: str) -> bool:
    text = source(name)
    return "-- @include call\n" in text or "-- @include mutation\n" in text


def named(text: str, table: str, first: str = "") -> list[str]:
    """What a script calls the values of ``KEYS`` or ``ARGV``."""
    (names,) = re.findall(_NAMES.format(table=table, first=re.escape(first)), text, re.MULTILINE)
    return [name.strip() for name in names.split(",")]


def test_every_script_has_its_module() -> None:
    scripts = {file.name.removesuffix(".lua") for file in LUA.iterdir() if ".lua" in file.name}
    assert scripts == MODULES.keys()
    assert {name: module.NAME for name, module in MODULES.items()} == {
        name: name for name in MODULES
    }


@pytest.mark.parametrize(("library", "head"), [("lib/call", head), ("lib/mutation", mutation_head)])
def test_the_head(library: str, head: ModuleType) -> None:
    text = source(library)
    assert named(text, "KEYS") == list(head.HeadKeys._fields)
    assert named(text, "ARGV") == list(head.HeadArguments._fields)
    lengths = f"{len(head.HeadKeys._fields)}, {len(head.HeadArguments._fields)}"
    assert f"local HEAD_KEYS, HEAD_ARGUMENTS = {lengths}\n" in text


@pytest.mark.parametrize(("name", "module"), MODULES.items(), ids=MODULES)
def test_a_script_and_its_module_name_the_same(name: str, module: ModuleType) -> None:
    if name in HEAD_ALONE:
        assert (module.Keys._fields, module.Arguments._fields) == ((), ())
        return
    text = source(name)
    keys = named(text, "KEYS", ", HEAD_KEYS + 1" if has_head(name) else "")
    if keys[-1] == "kept":  # may be left out, and so is none of the fields
        keys.pop()
    assert keys == list(module.Keys._fields)
    arguments = named(text, "ARGV", ", HEAD_ARGUMENTS + 1" if has_head(name) else "")
    assert arguments == list(module.Arguments._fields)


def test_every_answer_of_more_than_one_value_has_a_reader() -> None:
    without = {name for name, module in MODULES.items() if not hasattr(module, "read")}
    assert without == {"lease", "probe", "rate_limit"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_but_the_names_is_fixed(name: str) -> None:
    text = source(name)
    assert re.findall(r"(?:KEYS|ARGV)\[\d", text) == []
    module = MODULES[name]
    numbers = [len(module.Keys._fields), len(module.Arguments._fields)]
    if has_head(name):
        lengths = f"HEAD_KEYS + {numbers[0]}, HEAD_ARGUMENTS + {numbers[1]}"
    else:
        lengths = f"{numbers[0]}, {numbers[1]}"
    tails = re.findall(r"^local (\w+)_AFTER, (\w+)_AFTER = (.+)$", text, re.MULTILINE)
    expected = [(*WITH_TAILS[name].split(), lengths)] if name in WITH_TAILS else []
    assert tails == expected


def test_retention_is_the_same_on_both_sides() -> None:
    told = dict(re.findall(r"^local (\w+) = (\d+)$", source("lib/retention"), re.MULTILINE))
    assert int(told["IDEMPOTENCY_MS"]) == retention.IDEMPOTENCY_MS
    assert int(told["KEPT_MS"]) == retention.KEPT_MS
    for name in MODULES:
        assert re.findall(r"\b\d+00000\b", source(name)) == []


def test_defaults_are_the_same_on_both_sides() -> None:
    told = dict(re.findall(r"^local (\w+) = (.+)$", source("lib/defaults"), re.MULTILINE))
    assert told == {
        "DEFAULT_MAX_EXTENSIONS": str(records.DEFAULT_MAX_EXTENSIONS),
        "DEFAULT_OVERAGE_POLICY": repr(records.DEFAULT_OVERAGE_POLICY),
    }

"""Which rooms of the server may know which others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cycles_server.handlers
import pytest

SOURCE = Path(cycles_server.__file__).parent
ORDER = (
    *("__main__", "cli", "planes", "jobs", "monitoring", "contract", "http", "doctor", "embedded"),
    *("reservations", "evidence", "ledger", "governance", "auth", "paging", "settings", "store"),
    *("scopes", "jsontext", "refusal", "__init__"),
)
"""From the top of the house down: nobody knows who stands above."""
DOMAIN = (
    *("ledger", "reservations", "governance", "paging", "evidence", "store", "jobs", "doctor"),
    *("auth", "scopes", "jsontext", "refusal"),
)
"""What the command line, background jobs and handlers use alike: it refuses, and knows no HTTP."""
HTTP = ("cycles_server.http", "cycles_server.contract", "connexion", "starlette")


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, also those for type checkers alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:  # handlers' own are relative
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", DOMAIN)
def test_the_domain_knows_no_http(room: str) -> None:
    files = sorted((SOURCE / room).rglob("*.py")) or [SOURCE / f"{room}.py"]
    assert files
    found = {
        f"{file.relative_to(SOURCE)} imports {module}"
        for file in files
        for module in imports(file)
        for forbidden in HTTP
        if module == forbidden or module.startswith(f"{forbidden}.")
    }
    assert found == set()


def test_arrows_run_one_way() -> None:
    upwards = []
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        for module in imports(file):
            package, _, place = module.partition(".")
            known = place.partition(".")[0]
            ours = package == "cycles_server" and known in ORDER
            if ours and ORDER.index(known) < ORDER.index(room):
                upwards.append(f"{file.relative_to(SOURCE)} imports {module}")
    assert upwards == []


def outside(room: str) -> list[Path]:
    rooms = (SOURCE, Path(cycles_server.handlers.__file__).parent)
    return [
        file
        for folder in rooms
        for file in sorted(folder.rglob("*.py"))
        if not file.is_relative_to(SOURCE / room)
    ]


def test_only_the_store_speaks_to_redis() -> None:
    clients = {"redis", "hiredis"}
    assert clients & {
        module.partition(".")[0] for module in imports(SOURCE / "store/connection.py")
    }
    found = [
        f"{file} imports {module}"
        for file in outside("store")
        for module in imports(file)
        if module.partition(".")[0] in clients
    ]
    assert found == []


def test_only_the_store_names_keys() -> None:
    assert [file for file in outside("store") if '"cycles:' in file.read_text("utf-8")] == []

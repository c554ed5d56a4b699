"""Which rooms of the server may know which others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cycles_server

SOURCE = Path(cycles_server.__file__).parent
DOMAIN = (
    *("ledger", "reservations", "governance", "paging", "evidence", "store", "jobs", "doctor"),
)
"""What the command line, background jobs and handlers use alike: it refuses, and knows no HTTP."""
HTTP = ("cycles_server.http", "cycles_server.contract", "connexion", "starlette")


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, also those for type checkers alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", DOMAIN)
def test_the_domain_knows_no_http(room: str) -> None:
    files = sorted((SOURCE / room).rglob("*.py"))
    assert files
    found = {
        f"{file.relative_to(SOURCE)} imports {module}"
        for file in files
        for module in imports(file)
        for forbidden in HTTP
        if module == forbidden or module.startswith(f"{forbidden}.")
    }
    assert found == set()

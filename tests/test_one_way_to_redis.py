"""Only ``store/`` speaks to Redis, and makes key names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = {"redis", "hiredis"}
STORE = ROOT / "src" / "cycles_server" / "store"
SOURCES = sorted(
    path
    for folder in (ROOT / "src" / "cycles_server", ROOT / "handlers")
    for path in folder.rglob("*.py")
)


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_the_walk_finds_what_it_looks_for() -> None:
    found = {path for path in SOURCES if CLIENTS & set(imported(path))}
    assert STORE / "connection.py" in found


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if not path.is_relative_to(STORE)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nobody_else_imports_a_client(path: Path) -> None:
    assert not CLIENTS & set(imported(path))


def test_keys_of_our_own_are_named_in_one_module() -> None:
    elsewhere = [
        path for path in SOURCES if path.name != "keys.py" and '"cycles:' in path.read_text()
    ]
    assert elsewhere == []

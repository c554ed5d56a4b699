"""What is handed out: a wheel that stands alone, with the one copy of the contract in it."""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

KIT = Path(__file__).parents[1]
CONTRACT = KIT.parent / "openapi" / "cycles-protocol-v0.yaml"
GOVERNANCE = CONTRACT.with_name("cycles-governance-admin.yaml")
_INITS = {
    f"cycles_conformance/{folder}/__init__.py"
    for folder in ("cases", "cases/admin", "format", "openapi")
}
SERVER = {"cycles_server", "handlers", "connexion", "starlette", "uvicorn", "flask", "pydantic"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Built from a copy of the sources, laid out as in the repository: building leaves traces."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns("*.egg-info", "build", "dist", "tests", "__pycache__", ".*")
    shutil.copytree(KIT, folder / "conformance", symlinks=True, ignore=left_out)
    shutil.copytree(CONTRACT.parent, folder / "openapi", ignore=left_out)
    earlier = folder / "conformance" / "build" / "lib" / "cycles_conformance"
    earlier.mkdir(parents=True)
    (earlier / "stale.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    if _builds_here():
        command.append("--no-build-isolation")
    subprocess.run([*command, str(folder / "conformance")], check=True)
    [path] = folder.glob("*.whl")
    return zipfile.Path(path)


def _builds_here() -> bool:
    """Whether this environment's setuptools will do; else pip has to fetch one."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.split(".")[0]) >= 77


def test_the_wheel_holds_what_the_kit_reads(wheel: zipfile.Path) -> None:
    package = wheel / "cycles_conformance"
    for contract in (CONTRACT, GOVERNANCE):
        assert (package / "openapi" / contract.name).read_bytes() == contract.read_bytes()
    assert (package / "py.typed").exists()
    for folder, pattern in (
        ("cases", "*.yaml"),
        ("cases/admin", "*.yaml"),
        ("format", "*.json"),
        ("format", "*.yaml"),
        ("cycles_conformance", "*.py"),
        ("cycles_conformance/report", "*.j2"),
    ):
        files = list((KIT / folder).glob(pattern))
        assert files, folder
        inside = package.joinpath(*Path(folder).parts[folder.startswith("cycles_conformance") :])
        for file in files:
            assert (inside / file.name).read_bytes() == file.read_bytes(), file


def test_the_wheel_holds_every_module_and_nothing_else(wheel: zipfile.Path) -> None:
    modules = {
        f"cycles_conformance/{path.relative_to(KIT / 'cycles_conformance')}"
        for path in (KIT / "cycles_conformance").rglob("*.py")
    }
    names = set(wheel.root.namelist())
    assert modules == {name for name in names if name.endswith(".py")} - _INITS
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cycles_conformance"}
    assert not [name for name in names if name.startswith("cycles_conformance/tests")]


def test_the_wheel_brings_its_command(wheel: zipfile.Path) -> None:
    [info] = [entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info")]
    assert "cycles-conformance = cycles_conformance.cli:main" in (
        info / "entry_points.txt"
    ).read_text(encoding="utf-8")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert "Name: cycles-conformance\n" in metadata
    assert "Requires-Dist: cycles-server" not in metadata


def test_the_kit_knows_nothing_of_the_server() -> None:
    modules = list((KIT / "cycles_conformance").rglob("*.py"))
    assert modules
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in SERVER, f"{module}, line {node.lineno}: {name}"


def test_one_source_of_the_contract() -> None:
    # In the repository it is a link, so that there is nothing to keep in step.
    link = KIT / "openapi"
    assert link.is_symlink()
    assert (link / CONTRACT.name).samefile(CONTRACT)
    assert (link / GOVERNANCE.name).samefile(GOVERNANCE)

"""What is handed out: a wheel with every file of the sources and no other, which runs anywhere.

Everything is built from a copy: building leaves traces. One test starts what is installed.
"""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.redis import RedisServer
from support.running import Running
from support.server import CyclesServer

from cycles_server import __version__

ROOT = Path(__file__).resolve().parents[3]
PLACES = {
    "src/cycles_server": "cycles_server",
    "handlers": "cycles_server/handlers",
    "lua": "cycles_server/lua",
    "openapi": "cycles_server/openapi",
}
"""Folders of the sources and where they are once installed."""
FORGOTTEN = ("src/cycles_server/forgotten.py", "handlers/runtime/forgotten.py")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[cod]", "*.egg-info", ".*")

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")


def build(sources: Path, folder: Path) -> zipfile.ZipFile:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(sources)], check=True)
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The second build of sources that have lost two modules since the first one."""
    folder = tmp_path_factory.mktemp("package")
    sources = folder / "sources"
    for place in PLACES:
        shutil.copytree(ROOT / place, sources / place, ignore=LEFT_OUT)
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, sources)
    for name in FORGOTTEN:
        (sources / name).touch()
    first = build(sources, folder / "first")
    assert {installed(name) for name in FORGOTTEN} <= set(first.namelist())
    for name in FORGOTTEN:
        (sources / name).unlink()
    return build(sources, folder / "second")


def installed(source: str) -> str:
    """Where a file of the sources is in the wheel."""
    [place] = [place for place in PLACES if source.startswith(f"{place}/")]
    return PLACES[place] + source.removeprefix(place)


# -- the wheel -------------------------------------------------------------------------------------


def test_the_wheel_holds_every_file_of_the_sources_and_no_other(wheel: zipfile.ZipFile) -> None:
    sources = {
        installed(path.relative_to(ROOT).as_posix()): path
        for place in PLACES
        for path in (ROOT / place).rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".pyc"
    }
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert files == set(sources)
    for name, path in sources.items():
        assert wheel.read(name) == path.read_bytes(), name


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for place in PLACES for path in (ROOT / place).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


# -- installed, and used from the root of a checkout -----------------------------------------------


@pytest.fixture(scope="module")
def python(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel in it.

    What the package needs is taken from the environment of the tests; the package itself is not
    found there, as an editable one is put on the path by code that a path alone does not run.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel.filename)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "requirements.pth").write_text("\n".join(sorted(own)))
    return python


def said(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def test_the_root_of_a_checkout_does_not_hide_the_installed_package(python: Path) -> None:
    where = said(python, "-c", "import cycles_server; print(cycles_server.__file__)")
    assert Path(where).is_relative_to(python.parent.parent)
    assert "Usage: python -m cycles_server " in said(python, "-m", "cycles_server", "--help")
    version = said(python.with_name("cycles-server"), "--version")
    assert version == f"cycles-server, version {__version__}"


@pytest.mark.parametrize("package", ["lua", "openapi"])
def test_the_installed_package_finds_its_data(python: Path, package: str) -> None:
    code = (
        "from importlib.resources import files\n"
        f"print(*(file.name for file in files('cycles_server.{package}').iterdir()))\n"
    )
    found = set(said(python, "-c", code).split()) - {"__pycache__"}
    assert found == {path.name for path in (ROOT / package).iterdir()} - {"__pycache__"}
    assert len(found) > 1


def test_the_installed_server_serves(python: Path, store: RedisServer, tmp_path: Path) -> None:
    server = CyclesServer(store.url, tmp_path / "log", python=python, folder=ROOT)
    try:
        tenant = Running(server, store).tenant()
        tenant.budget()
        assert tenant.commit(tenant.reserved(), 1).json()["status"] == "COMMITTED"
    finally:
        server.stop()


# -- what it needs ---------------------------------------------------------------------------------


def needs(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.split("\n") if line.strip()]


def modules_used(files: Iterable[Path]) -> set[str]:
    """Top-level modules of others that the files import, wherever in the file."""
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).split(".")[0])
    return names - sys.stdlib_module_names - {"cycles_server", "_typeshed"}


def test_what_is_imported_is_required_and_the_other_way_round() -> None:
    used = modules_used(path for place in PLACES for path in (ROOT / place).rglob("*.py"))
    brought = importlib.metadata.packages_distributions()
    distributions = {canonicalize_name(brought[module][0]) for module in used}
    required = needs(CONFIG["options"]["install_requires"])
    assert distributions == {canonicalize_name(need.name) for need in required}


def test_the_lock_has_a_version_of_each_requirement_that_will_do() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    texts = [CONFIG["options"]["install_requires"], *CONFIG["options.extras_require"].values()]
    for need in (need for text in texts for need in needs(text)):
        assert locked[canonicalize_name(need.name)] in need.specifier, need

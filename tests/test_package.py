"""What is handed out: a wheel with every file of the sources and no other, which runs anywhere.

Everything is built from a copy: building leaves traces.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import Running
from support.redis import RedisServer
from support.server import CyclesServer

from cycles_server import __version__

ROOT = Path(__file__).resolve().parent.parent
PLACES = {
    "src/cycles_server": "cycles_server",
    "handlers": "cycles_server/handlers",
    "lua": "cycles_server/lua",
    "openapi": "cycles_server/openapi",
}
"""Folders of the sources and where they are once installed."""
FORGOTTEN = ("src/cycles_server/forgotten.py", "handlers/runtime/forgotten.py")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[cod]", "*.egg-info", ".*")


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

"""The wheel: what an installed package has of the repository, and that nothing else comes along."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, since a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    subprocess.run([sys.executable, "-c", BUILD, "dist"], cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_configurations_are_in_the_wheel_as_they_are_in_the_repository(wheel: zipfile.ZipFile) -> None:
    for path in sorted((ROOT / "configs").glob("*.toml")):
        assert wheel.read(f"glassformer/configs/{path.name}") == path.read_bytes()


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "src" / "glassformer"
    files = {f"glassformer/{path.relative_to(package)}" for path in package.rglob("*") if path.is_file()}
    files |= {f"glassformer/configs/{path.name}" for path in (ROOT / "configs").glob("*.toml")}
    ours = {name for name in files if "__pycache__" not in name}
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == ours


def test_the_command_is_declared(wheel: zipfile.ZipFile) -> None:
    (declared,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert f"glassformer = {scripts['glassformer']}" in wheel.read(declared).decode()

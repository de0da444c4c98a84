"""What pip is told: lower bounds that a job installs, exact versions with their hashes, and what a package carries."""

import re
import shutil
import tarfile
from pathlib import Path

import pytest
from setuptools import build_meta

import lower_bounds

ROOT = Path(__file__).resolve().parents[1]


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def test_everything_that_a_user_may_install_has_a_lower_bound_that_the_job_installs() -> None:
    bounds = lower_bounds.bounds()
    assert {"torch", "numpy", "cyclopts", "sentencepiece", "sacrebleu", "matplotlib", "tensorboard"} <= set(bounds)
    assert release(bounds["cyclopts"]) >= (4, 8)  # `generate` crashed on 4.0 to 4.7
    assert "tools/lower_bounds.py" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", ["demo", "dev"])
def test_what_make_installs_is_pinned_with_hashes_and_is_no_older_than_the_bounds(name: str) -> None:
    text = (ROOT / "locked" / f"{name}.txt").read_text()
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if not line.startswith("#")]
    pinned: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(
            r"([a-z0-9-]+)==(\S+) (?:; [^-]+ )?(--hash=sha256:[0-9a-f]{64} ?)+", line.replace("\t", " ")
        )
        assert match, line[:100]
        pinned[match[1]] = match[2]
    assert "torch" not in pinned
    assert not [package for package in pinned if package.startswith("nvidia-")]
    for package, oldest in lower_bounds.bounds().items():
        if name == "dev" and package != "torch":
            assert release(pinned[package.lower()]) >= release(oldest), package


def test_what_is_installed_with_and_without_development_is_the_same() -> None:
    demo, dev = (dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "locked" / f"{name}.txt").read_text(), re.MULTILINE))
                 for name in ("demo", "dev"))  # fmt: skip
    assert demo.items() <= dev.items()


def test_a_source_distribution_says_how_to_report_and_what_is_licensed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "SECURITY.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    with tarfile.open(build_meta.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"SECURITY.md", "LICENSE", "src/glassformer/viewer/web/index.html"} <= names


def test_make_bench_runs_every_benchmark_or_says_why_not() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    about = [line for line in lines if line.startswith("#") or "$(SCRIPT) benchmarks/" in line]
    imported = {"paired.py", "process.py"}
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")} - imported
    assert {name for name in scripts if not any(name in line for line in about)} == set()

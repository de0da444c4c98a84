"""The lower bounds of pyproject.toml are true: they are installed as they stand, and the demo and each verb run.

    python tools/lower_bounds.py build/lower-bounds                            about 8 GB where torch brings CUDA
    python tools/lower_bounds.py build/lower-bounds --index-url INDEX_OF_TORCH

`make test-all` runs it. It makes an environment of its own with the oldest Python that is allowed, for which each bound
has a wheel, and removes it at the end. `smoke.py` says what is run.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9][0-9A-Za-z.]*)(?: *;.*)?")
OWN = re.compile(r"glassformer\[")  # an extra that stands for others


def project() -> dict[str, Any]:
    """What pyproject.toml says of the package."""
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return read


def extras() -> list[str]:
    """Those for users; what tests need is pinned by locked/dev.txt alone."""
    return [name for name in project()["optional-dependencies"] if name != "dev"]


def bounds() -> dict[str, str]:
    """The oldest version that is allowed of everything that a user may install with the package."""
    optional = project()["optional-dependencies"]
    requirements = [*project()["dependencies"], *(line for name in extras() for line in optional[name])]
    found: dict[str, str] = {}
    for requirement in requirements:
        if OWN.match(requirement) is None:
            match = REQUIREMENT.fullmatch(requirement)
            if match is None:
                raise ValueError(f"{requirement} has no lower bound, or more than that: write it as name>=version.")
            found[match[1]] = match[2]
    return found


def oldest_python() -> str | None:
    """The command of the oldest Python that is allowed, if it is on this machine."""
    oldest: str = project()["requires-python"].removeprefix(">=")
    return shutil.which(f"python{oldest}")


def main() -> None:
    """Install the bounds in an environment of their own, run `smoke.py` there, and remove it."""
    parser = argparse.ArgumentParser(description="Install the lower bounds, and run the demo and each verb on them.")
    parser.add_argument("folder", type=Path, help="where the environment is made, and removed again")
    parser.add_argument("--index-url", help="where torch comes from, as TORCH_INDEX of make")
    arguments = parser.parse_args()
    python = oldest_python()
    if python is None:
        print(
            f"lower bounds: not checked, for they are those of Python {project()['requires-python']}", file=sys.stderr
        )
        return
    environment = arguments.folder
    shutil.rmtree(environment, ignore_errors=True)
    run(python, "-m", "venv", environment)
    constraints = environment / "bounds.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in bounds().items()))
    pip = (
        environment / "bin" / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        constraints,
    )
    run(*pip, *(["--index-url", arguments.index_url] if arguments.index_url else []), "torch")
    run(*pip, f"{ROOT}[{','.join(extras())}]")
    run(environment / "bin" / "python", ROOT / "tools" / "smoke.py")
    shutil.rmtree(environment)
    print(f"lower bounds: {len(bounds())} packages at their oldest run the demo and every verb", file=sys.stderr)


def run(*command: str | Path) -> None:
    """Run it to its end, or end with what it has printed."""
    if subprocess.run(list(map(str, command)), check=False).returncode != 0:
        sys.exit(f"lower bounds: {' '.join(map(str, command[:3]))} … has failed: raise the bound that is too low.")


if __name__ == "__main__":
    main()

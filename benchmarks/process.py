"""A measurement in a process of its own, which has loaded what is measured and nothing of other packages."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
"""

Figures = dict[str, float | str | None]


def measure(names: Mapping[str, object], *parts: str, threads: int) -> Figures | None:
    """The figures that a program prints last, as JSON; None where it needs a package that is missing.

    It is made of the names with their values, of `peak`, the megabytes of memory that it has needed, and of the parts.
    """
    code = "\n".join([*(f"{name} = {value!r}" for name, value in names.items()), PEAK, *parts])
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    if "ModuleNotFoundError" in process.stderr:
        return None
    if process.returncode:
        raise RuntimeError(process.stderr)
    figures: Figures = json.loads(process.stdout.splitlines()[-1])
    return figures

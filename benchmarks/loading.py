"""The peak of memory while a directory is loaded, in times its weights. Run: python benchmarks/loading.py [DIRECTORY]

Without a directory, one of the smallest GPT-2's sizes is written first, with random weights. Each measurement is a
fresh process that has loaded a small model before, so that what is counted is weights and not libraries.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from paired import save

import glassformer as gf

LIMIT = 1.15  # what the peak may come to

MEASURE = """
import sys
import glassformer as gf

def memory(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))

gf.load("nano-sort")
open("/proc/self/clear_refs", "w").write("5")  # the peak is now what is there
before = memory("VmRSS")
model = gf.load(sys.argv[1], dtype=None)
weights = sum(parameter.nbytes for parameter in model.module.parameters())
print((memory("VmHWM") - before) / weights, weights)
"""


def peak(folder: Path) -> tuple[float, int]:
    """The most memory at once while the folder is loaded, as a multiple of its weights, and these in bytes."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)], check=True, capture_output=True, text=True, timeout=600
    )
    ratio, weights = process.stdout.split()
    return float(ratio), int(weights)


def main() -> None:
    """Print and save the figure; exit with 1 where it is above the limit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else gf.save(gf.build("gpt2"), Path(scratch) / "gpt2")
        ratio, weights = max(peak(folder) for _ in range(3))
    print(f"{folder.name}: {weights / 1e6:.0f} MB of weights, at most {ratio:.3f} times that in memory")
    save("loading", {f"{folder.name}: peak in times its weights": ratio})
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()

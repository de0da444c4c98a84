"""This version beside an earlier one: generation, training, speech, recording and loading, in pairs.

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before [WHISPER_WEIGHTS RANKS RECORDING] [--pairs 16]

Each version is a process of its own, which imports the package of its checkout and then runs what it is told to, in
turn with the other: A B B A …. Of two processes with the same code, the one that began first was up to 3 % slower as
long as it lived, so there are several laps, in which the versions take turns at beginning. Seconds are those of the
processor, of all threads, of which there is one. Weights are random, but for nano-sort's and Whisper's. A ratio above
1 says that this version is faster; 0.97 is the least that a change of shape may cost.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from paired import Comparison, comparison, save
from rich.progress import track

HERE = Path(__file__).parents[1]
LEAST = 0.97
LAPS = 4

# What a child runs; only names that both versions have. `setup` is not timed.
WORK = r"""
import contextlib, gc, io, pathlib, shutil, sys, tempfile, time, warnings
source, *speech = sys.argv[1:]
sys.path.insert(0, source)
warnings.filterwarnings("ignore")
import torch
import glassformer as gf
assert str(pathlib.Path(gf.__file__)).startswith(source), gf.__file__
torch.set_num_threads(1)

scratch = pathlib.Path(tempfile.mkdtemp())

def command(*arguments):
    from glassformer.cli import run
    before, sys.argv = sys.argv, ["glassformer", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.suppress(SystemExit):
                run()
    finally:
        sys.argv = before

def prompts(rows, length):
    return torch.randint(1000, (rows, length), generator=torch.Generator().manual_seed(0))

sizes = {"n_layers": 6, "d_model": 384, "n_heads": 6, "vocab_size": 8000}
gpt2 = gf.build("gpt2", **sizes)
llama = gf.build("llama", **sizes, n_kv_heads=2, d_ff=1024, context_length=512)
sorter = gf.load("nano-sort")
folder = gf.save(gpt2, scratch / "gpt2")
texts = torch.randint(3, (547, 6), generator=torch.Generator().manual_seed(0))

def train():
    command("train", "sort", "--runs", scratch, "--name", "run", "--overwrite", "--steps", 150)

def generate(model, tokens, n, **sampling):
    return lambda: model.generate_ids(tokens, max_new_tokens=n, **sampling)

work = {
    "generation, GPT-2, 1 row, greedy": generate(gpt2, prompts(1, 32), 64, temperature=0.0),
    "generation, GPT-2, 1 row, sampled": generate(gpt2, prompts(1, 32), 64, temperature=0.8, top_p=0.95),
    "generation, Llama, 8 rows, greedy": generate(llama, prompts(8, 32), 48, temperature=0.0),
    "generation, Llama, 4 rows, sinks": generate(llama, prompts(4, 32), 48, temperature=0.0, cache="sinks:4+28"),
    "generation, nano-sort, 547 rows": generate(sorter, texts, 6, temperature=0.0),
    "training, nano-sort, 150 steps": train,
    "recording, GPT-2, 16 tokens": lambda: gf.trace(gpt2, prompts(1, 16)),
    "loading, a directory of GPT-2's kind": lambda: gf.load(folder),
}
if speech:
    weights, ranks, recording = speech
    work["speech, one recording"] = lambda: command(
        "transcribe", weights, recording, "--from-pickle", "--tokenizer", ranks, "--language", "en")

print(*work, sep="\t", flush=True)
for line in sys.stdin:
    gc.collect()  # or a collection of all objects, a tenth of a second, falls into some runs and not into others
    start = time.process_time()
    work[line.strip()]()
    print(time.process_time() - start, flush=True)
shutil.rmtree(scratch)
"""


class Version:
    """A process that runs one version's package."""

    def __init__(self, checkout: Path, speech: list[str]) -> None:
        self.checkout = checkout
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORK, str(checkout.resolve() / "src"), *speech],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.names = self._answer().split("\t")

    def seconds(self, name: str) -> float:
        """How long the work of that name takes, in seconds of the processor."""
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)
        return float(self._answer())

    def end(self) -> None:
        """Let the process clean up and leave."""
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"The version of {self.checkout} ended: its message stands above.")
        return line.rstrip("\n")


def main() -> None:
    """Print and save the table; exit with 1 where something has become slower than may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("speech", nargs="*", help="weights of Whisper, its ranks, and a recording")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--only", default="", help="only rows whose name has this in it")
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {}
    for lap in track(range(LAPS), "laps"):
        ours_first = lap % 2 == 0
        checkouts = [HERE, arguments.before][:: 1 if ours_first else -1]
        versions = [Version(checkout, arguments.speech) for checkout in checkouts]
        for name in [name for name in versions[0].names if arguments.only in name]:
            for version in versions:
                version.seconds(name)  # what is made once
            for i in range(arguments.pairs // LAPS):
                order = versions[:: 1 if i % 2 == 0 else -1]
                taken = {version: version.seconds(name) for version in order}
                ours, theirs = [taken[version] for version in versions[:: 1 if ours_first else -1]]
                times.setdefault(name, []).append((ours, theirs))
        for version in versions:
            version.end()
    rows: dict[str, Comparison] = {name: comparison(pairs) for name, pairs in times.items()}
    for name, row in rows.items():
        print(f"{name:40} {row} times as fast; now {row.ours * 1e3:,.0f} ms")
    if not arguments.only:
        save("versions", rows)
    sys.exit(any(row.ratio < LEAST for row in rows.values()))


if __name__ == "__main__":
    main()

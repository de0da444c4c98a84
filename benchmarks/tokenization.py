"""Learning byte-level BPE, by us and by other packages. Run: python benchmarks/tokenization.py CORPUS:VOCAB_SIZE ...

Each run is a process of its own that learns from the file twice: "first" includes what is loaded on first use, "again"
is what a second run takes; "processor" is the latter in seconds of the processor, which add up all threads. The peak is
that of the whole process after the first run, libraries included. Packages that are not installed are left out.
`sentencepiece` learns by another algorithm, from lines. Of equally frequent pairs none but us takes the greater, so
merges are compared with those of our form in Python.

What takes minutes can be left out: `--learners ours "HF tokenizers" sentencepiece --repeats 1 --threads 2`.
"""

import argparse
import sys
from pathlib import Path

import process
from paired import save
from process import Figures

SPECIAL = "<|endoftext|>"
PYTHON = "ours, in Python"
FIGURES = ("first", "again", "processor", "peak MB")

OURS = """
def learn(path, vocab_size):
    return train_bpe(path, vocab_size, [SPECIAL], workers=THREADS)[1]

from glassformer.tokenizers import train_bpe
"""

LEARNERS = {
    "ours": OURS,
    PYTHON: OURS
    + """
import glassformer.tokenizers.bpe_learn_fast, glassformer.tokenizers.bpe_train
glassformer.tokenizers.bpe_train.MANY_BYTES = glassformer.tokenizers.bpe_learn_fast.MANY_BYTES = 1 << 60
glassformer.tokenizers.pretokenize.MANY = 1 << 60
""",
    "HF tokenizers": """
def learn(path, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[SPECIAL], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([path], trainer)

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
""",
    "sentencepiece": """
def learn(path, vocab_size):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=path, model_writer=model, vocab_size=vocab_size, model_type="bpe", byte_fallback=True,
        character_coverage=0.9995, num_threads=THREADS, minloglevel=2, max_sentence_length=1 << 20,
    )

import io
import sentencepiece
""",
    "bpeasy": """
def learn(path, vocab_size):
    bpeasy.train_bpe(iter([open(path, encoding="utf-8", newline="").read()]), PATTERN, 128, vocab_size)

import bpeasy
from glassformer.tokenizers.pretokenize import PATTERNS
PATTERN = PATTERNS["gpt2"]
""",
    "gigatoken": """
def learn(path, vocab_size):
    gigatoken.train_bpe(path, vocab_size, [SPECIAL])

import gigatoken
""",
    "rustbpe": """
def learn(path, vocab_size):
    lines = open(path, encoding="utf-8", newline="")
    rustbpe.Tokenizer().train_from_iterator(lines, vocab_size, pattern=PATTERN)

import rustbpe
from glassformer.tokenizers.pretokenize import PATTERNS
PATTERN = PATTERNS["gpt2"]
""",
}

MEASURE = """
import hashlib, json, time
seconds = []
for run in range(2):
    start, start_of_processor = time.perf_counter(), time.process_time()
    merges = learn(PATH, VOCAB_SIZE)
    seconds.append(time.perf_counter() - start)
    processor = time.process_time() - start_of_processor
    if run == 0:
        megabytes = peak()
digest = hashlib.sha256(repr(merges).encode()).hexdigest()
figures = {"first": seconds[0], "again": seconds[1], "processor": processor, "peak MB": megabytes}
print(json.dumps(figures | {"merges": merges and digest}))
"""


def measure(learner: str, path: Path, vocab_size: int, threads: int) -> Figures | None:
    """Seconds and megabytes of one process; None where the package is missing."""
    names = {"PATH": str(path), "VOCAB_SIZE": vocab_size, "SPECIAL": SPECIAL, "THREADS": threads}
    return process.measure(names, LEARNERS[learner], MEASURE, threads=threads)


def best(runs: list[Figures]) -> Figures:
    """The least of each figure: other work on the machine only adds."""
    return {key: min(run[key] for run in runs) for key in FIGURES}  # type: ignore[type-var]


def main() -> None:
    """Print and save a table for each corpus; exit with 1 where our merges are not those that Python's form learns."""
    parser = argparse.ArgumentParser(description="Learning byte-level BPE, by us and by other packages.")
    parser.add_argument("corpora", nargs="+", metavar="CORPUS:VOCAB_SIZE")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes for each row, of which the best")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    options = parser.parse_args()
    is_right = True
    for argument in options.corpora:
        corpus, _, size = argument.rpartition(":")
        path, rows = Path(corpus), {}
        for threads in options.threads:
            digests = set()
            for learner in options.learners:
                runs = [measure(learner, path, int(size), threads) for _ in range(options.repeats)]
                done = [run for run in runs if run is not None]
                if not done:
                    print(f"{learner}: not installed")
                    continue
                digests |= {run["merges"] for run in done} - {None}
                row = best(done)
                rows[f"{learner}, {path.stem} to {size}, {threads} threads"] = row
                figures = ", ".join(f"{key} {row[key]:.2f}" for key in FIGURES)
                print(f"{path.stem} to {size}, {threads} threads, {learner}: {figures}", flush=True)
            is_right &= len(digests) <= 1
        save(f"tokenization_{path.stem}_{size}", rows)
    if PYTHON in options.learners:
        print("merges as in Python" if is_right else "OTHER MERGES THAN IN PYTHON")
    sys.exit(not is_right)


if __name__ == "__main__":
    main()

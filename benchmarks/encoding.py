"""Encoding and decoding with GPT-2's vocabulary, by us and by others.

Run: python benchmarks/encoding.py VOCABULARY TEXT ...

VOCABULARY is gpt2.tiktoken. Each run is a process of its own, which loads it, encodes " a" many times, and then the
text twice: "cold" is the first pass, with machine code loaded and caches of pieces empty, "warm" the second. With two
threads, packages that take several texts at once get the blocks of `safe_blocks`, whose ids are those of the whole: all
ids are compared. Decoding is from what encoding gave, an array or a list. The peak is that of the whole process after
the first pass. The other figures are megabytes a second, the best of some runs in turn: other work on the machine only
takes away. Packages that are not installed are left out, and of slow ones a long text or some runs. sentencepiece
cannot read this vocabulary, and bpeasy lets tiktoken encode.
"""

import sys
from pathlib import Path

import process
from paired import save
from process import Figures

FIGURES = ("cold", "warm", "decode", "peak MB")
REPEATS = 3
LONG = 20_000_000  # bytes from which on a text is encoded once by what is slow, and not at all by what is very slow
SLOW, VERY_SLOW = {"tiktoken", "splintr"}, {"HF tokenizers"}

TIKTOKEN = """
import base64
import tiktoken
ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, open(VOCABULARY))}
pattern = r"'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"
encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
"""

PACKAGES = {
    "ours": """
from glassformer.tokenizers import Tokenizer
tokenizer = Tokenizer.load(VOCABULARY)
encode = lambda text: tokenizer.encode_array(text, threads=THREADS)
decode = tokenizer.decode_bytes
""",
    "tiktoken": TIKTOKEN
    + """
encode = encoding.encode_to_numpy if THREADS == 1 else lambda text: joined(
    encoding.encode_ordinary_batch(blocks(text), num_threads=THREADS)
)
decode = encoding.decode_bytes
as_list = True
""",
    "gigatoken": """
import gigatoken
tokenizer = gigatoken.Tokenizer.from_tiktoken(VOCABULARY, "gpt2")
encode = tokenizer.encode if THREADS == 1 else lambda text: tokenizer.encode_batch(blocks(text), parallel=True)
decode = tokenizer.decode
flat = lambda ids: ids if THREADS == 1 else joined(ids)
""",
    "fastokens": """
import fastokens
pattern = PATTERNS["gpt2"]
tokenizer = fastokens.Tokenizer.from_tiktoken(VOCABULARY, pattern=pattern)
encode = lambda text: tokenizer.encode_batch_flat([text] if THREADS == 1 else blocks(text))
decode = lambda ids: tokenizer.decode(ids).encode()
flat = lambda ids: numpy.frombuffer(ids[0], numpy.uint32)
as_list = True
""",
    "splintr": """
import splintr
tokenizer = splintr.Tokenizer.from_bytes(open(VOCABULARY, "rb").read(), PATTERNS["gpt2"])
encode = lambda text: tokenizer.encode_batch_flat([text] if THREADS == 1 else blocks(text))
decode = tokenizer.decode_bytes
flat = lambda ids: numpy.frombuffer(ids[0], numpy.uint32)
as_list = True
""",
    "HF tokenizers": """
import tempfile
import tokenizers
from glassformer.tokenizers import Tokenizer
with tempfile.TemporaryDirectory() as directory:
    tokenizer = tokenizers.Tokenizer.from_file(str(Tokenizer.load(VOCABULARY).save(directory)))
encode = lambda text: tokenizer.encode_batch([text] if THREADS == 1 else blocks(text))
decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=False).encode()
flat = lambda encodings: joined([encoding.ids for encoding in encodings])
as_list = True
""",
}

MEASURE = """
import hashlib, json, time
text = open(TEXT, encoding="utf-8", newline="").read()
n_bytes = len(text.encode())
encode(" a" * (1 << 17))
cut = blocks(text) if THREADS > 1 else []
seconds = []
for run in range(2):
    start = time.perf_counter()
    ids = encode(text)
    seconds.append(time.perf_counter() - start)
    if run == 0:
        megabytes = peak()
ids = flat(ids)
digest = hashlib.sha256(ids.astype(numpy.uint32).tobytes()).hexdigest()
ids = ids.tolist() if as_list else ids
start = time.perf_counter()
data = decode(ids)
seconds.append(time.perf_counter() - start)
assert data == text.encode()
rates = {name: n_bytes / 1e6 / taken for name, taken in zip(("cold", "warm", "decode"), seconds)}
print(json.dumps(rates | {"peak MB": megabytes, "ids": digest}))
"""

BEGIN = """
import numpy
from glassformer.tokenizers.pretokenize import PATTERNS
from glassformer.tokenizers.safe_blocks import safe_blocks

def blocks(text):
    return cut or list(safe_blocks(text))

def joined(lists):
    return numpy.concatenate([numpy.asarray(ids, numpy.uint32) for ids in lists])

as_list, cut = False, []
flat = numpy.asarray
"""


def measure(package: str, vocabulary: Path, text: Path, threads: int) -> Figures | None:
    """The figures of one process; None where the package is missing."""
    names = {"VOCABULARY": str(vocabulary), "TEXT": str(text), "THREADS": threads}
    return process.measure(names, BEGIN, PACKAGES[package], MEASURE, threads=threads)


def best(runs: list[Figures]) -> Figures:
    """The fastest of each rate, and the least peak."""
    return {name: (min if "peak" in name else max)(run[name] for run in runs) for name in FIGURES}  # type: ignore[type-var]


def rows_of(vocabulary: Path, text: Path, threads: int) -> tuple[dict[str, Figures], set[float | str | None]]:
    """The figures of each package, in turn so that all have the same machine; and the digests of their ids."""
    is_long = text.stat().st_size > LONG
    runs: dict[str, list[Figures]] = {package: [] for package in PACKAGES if not (is_long and package in VERY_SLOW)}
    for repeat in range(REPEATS - is_long):
        for package in list(runs):
            if repeat and (package in VERY_SLOW or (is_long and package in SLOW)):
                continue
            figures = measure(package, vocabulary, text, threads)
            if figures is None:
                print(f"{package}: not installed")
                del runs[package]
            else:
                runs[package].append(figures)
    digests = {run["ids"] for done in runs.values() for run in done}
    return {package: best(done) for package, done in runs.items()}, digests


def main() -> None:
    """Print and save the table; exit with 1 where the ids of two packages differ."""
    vocabulary, *texts = map(Path, sys.argv[1:])
    rows, is_right = {}, True
    for text in texts:
        for threads in (1, 2):
            of_text, digests = rows_of(vocabulary, text, threads)
            is_right &= len(digests) == 1
            for package, row in of_text.items():
                rows[f"{package}, {text.stem}, {threads} threads"] = row
                figures = ", ".join(f"{name} {row[name]:.1f}" for name in FIGURES)
                print(f"{text.stem}, {threads} threads, {package}: {figures}", flush=True)
    print("the same ids" if is_right else "OTHER IDS")
    save("encoding", rows)
    sys.exit(not is_right)


if __name__ == "__main__":
    main()

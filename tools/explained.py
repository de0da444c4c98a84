"""The table of numbers explained, by model and operation. Run:

PYTHONPATH=tests python tools/explained.py docs/explained.md
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import glassformer as gf
from glassformer import models
from glassformer.data.audio import read_audio
from glassformer.data.images import read_idx
from glassformer.kinds import kind_of
from glassformer.kinds.kind import Inputs
from glassformer.tracing.check import Report, check
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Trace
from support.foreign import FOREIGN
from support.published import FAIRSEQ, MNIST_VIT
from support.tiny import TINY

CELLS = 10_000
TOKENS = torch.tensor([[2, 1, 0, 1, 1, 2, 0, 0, 0, 0, 0]])
SMALL: dict[str, Any] = {"vocab_size": 11, "context_length": 12, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24}
ROOM = {"context_length": 64, "audio_context_length": 20}  # so that an example is more than a few numbers
SMALLEST: dict[str, dict[str, Any]] = TINY | {"word2vec": {"vocab_size": 40, "d_model": 16}}
LUONG = {"attention": "concat", "window": "local-p", "radius": 2, "input_feeding": True, "bidirectional": True}
DATA = Path(os.environ.get("GLASSFORMER_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def example(name: str, **changes: Any) -> Trace:
    """A small model of an architecture on something that it reads."""
    sizes = SMALLEST[name]
    model = gf.build(name, **sizes | {field: ROOM[field] for field in ROOM if field in sizes} | changes)
    return gf.trace(model, kind_of(model).example(model))


def translated() -> Trace:
    """A name in Latin letters, and the beginning of it in N'Ko."""
    model = gf.load(DATA / "seq2seq" / "latin2nqo_001.35.weights-only.safetensors", **FAIRSEQ)
    return gf.trace(model, [204, 195, 443, 275, 33, 2], [2, 105, 211])


def spoken() -> Trace:
    """A word, letter by letter, and its first phonemes."""
    model = gf.load(DATA / "seq2seq" / "g2p_en-checkpoint20.npz")
    return gf.trace(model, kind_of(model).tokens(model, "attention"), [2, 10, 57])


def seen() -> Trace:
    """The first digit of MNIST's test set, as the model was trained on them."""
    pixels = torch.from_numpy(read_idx(DATA / "images" / "mnist" / "t10k-images-idx3-ubyte.gz")[:1])
    model = gf.load(DATA / "vit" / "vit_mnist.pth", from_pickle=True, **MNIST_VIT)
    return gf.trace(model, ((pixels / 255 - 0.1307) / 0.3081)[:, None])


def heard() -> Trace:
    """A second of speech from its waveform on, and the first words."""
    sound = read_audio(DATA / "audio" / "jfk-16k.wav")[:16_000]
    model = gf.load(DATA / "whisper" / "tiny.en.pt", from_pickle=True)
    return gf.trace(model, Inputs(sound=sound, tokens=(50257, 50362, 843, 523)))


def told() -> Trace:
    """The beginning of a story."""
    return gf.trace(gf.load(DATA / "llama" / "stories260K.bin"), "Once upon a time")


PUBLISHED: dict[str, Callable[[], Trace]] = {
    "stories260K, a Llama (published weights)": told,
    "g2p_en, a GRU that reads a GRU (published weights)": spoken,
    "latin2nqo, a Transformer (published weights)": translated,
    "vit_mnist, a ViT (published weights)": seen,
    "Whisper tiny.en, one second (published weights)": heard,
}
OURS: dict[str, Callable[[], Trace]] = {
    "nano-sort": lambda: gf.trace(gf.load("nano-sort"), TOKENS),
    "Llama": lambda: gf.trace(gf.build("llama", **SMALL, n_kv_heads=2), TOKENS),
    "the CS336 language model": lambda: gf.trace(gf.build("cs336", **SMALL), TOKENS),
    **{name: lambda name=name: example(name) for name in models.specs()},  # type: ignore[misc]
    "rnn with GRU cells": lambda: example("rnn", kind="gru"),
    "rnn with tanh cells": lambda: example("rnn", kind="rnn"),
    "seq2seq without attention": lambda: example("seq2seq", attention="none"),
    "seq2seq, local attention, input feeding": lambda: example("seq2seq", **LUONG),
    "transformer, pre-norm, two vocabularies": lambda: example(
        "transformer", norm_placement="pre", source_vocab_size=9, tied_head=False
    ),
}


def traces() -> Iterator[tuple[str, Trace]]:
    """Every model of ours, and every module of others, with fused operations taken apart."""
    if not DATA.is_dir():
        print(f"There is no folder {DATA} with published weights: those models are left out.", file=sys.stderr)
    for name, build in (OURS | (PUBLISHED if DATA.is_dir() else {})).items():
        yield name, build()
    for name, case in FOREIGN.items():
        module, given, keywords = case()
        yield name, record(module, *given, decompose=True, **keywords)


def main(path: Path) -> None:
    """Check, and write the page."""
    lines = [
        "# Numbers explained",
        "",
        f"Each model's recorded numbers are recomputed in float64 from the recorded operands: {CELLS:,} of them, drawn",
        "evenly over the kinds of operations, all where there are fewer, and at least 200 of each kind. A number fails",
        "when it differs by more than rounding explains, or when its operation has no rule. All architectures are here",
        "by their names, with random weights where no others are said; modules of others are recorded as they are",
        "installed, with fused operations taken apart.",
        "",
        f"Written by `tools/explained.py` on {time.strftime('%Y-%m-%d')},",
        f"torch {torch.__version__.partition('+')[0]}.",
        "",
        "| model | operations | computed numbers | checked | failures | kinds | largest error / bound |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    reports: dict[str, Report] = {}
    for name, trace in traces():
        report = reports[name] = check(trace, cells=CELLS)
        worst = max(tally.worst for tally in report.by_operation.values())
        lines.append(
            f"| {name} | {len(trace.operations):,} | {report.total:,} | {report.checked:,} | {len(report.failures)} "
            f"| {len(report.by_operation)} | {worst:.2f} |"
        )
        print(lines[-1])
    lines += [
        "",
        "By operation, over all models:",
        "",
        "| operation | rule | checked | failures | largest error / bound |",
    ]
    lines += ["| --- | --- | --: | --: | --: |"]
    for base in sorted({base for report in reports.values() for base in report.by_operation}):
        tallies = [report.by_operation[base] for report in reports.values() if base in report.by_operation]
        cells, failures = sum(t.cells for t in tallies), sum(t.failures for t in tallies)
        worst = max(t.worst for t in tallies)
        lines.append(f"| `{base}` | {tallies[0].kind} | {cells:,} | {failures} | {worst:.2f} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))

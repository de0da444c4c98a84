"""Decoding token by token: the compiled step beside our module, transformers, CTranslate2 and llama.cpp.

Run:  PYTHONPATH=tests python benchmarks/decode.py [SHAPE...]     (gpt2, llama-3m, llama-15m, llama-110m, smollm2)

Random weights in float32 and in int8, which all have from the same folder or file, or those of SmolLM2-135M in 4 bits,
where GLASSFORMER_SMOLLM2_GGUF names its file. Peers that are not installed are named and left out; llama.cpp runs
where GLASSFORMER_LLAMA_CPP names its library. All take as many threads as torch has.

A row has the seconds of a greedy token behind a prompt of 32: those of a text of N + 1 tokens but for those of a text
of one, by N. In each of 15 rounds all take their turns, ours first, and so does the bandwidth: numbers of as many bytes
as a step reads of weights are added up. `share` is the part of it that the weights take. `prefill` is the time to the
first token after a prompt of 512. A batch is measured step by step. All is saved after each round, and what a run does
not measure stays from earlier ones.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from paired import comparison, save, saved_rows, seconds

import glassformer as gf
from glassformer import checkpoints
from glassformer.inference.decode_plan import plan_for
from glassformer.inference.engine import Engine
from glassformer.inference.logits import Sampling
from glassformer.inference.quantize import quantize
from glassformer.inference.request import Request
from glassformer.nn.kv_cache import full
from support import llama_cpp

PROMPT, LONG_PROMPT, CONTEXT = tuple(range(1, 33)), tuple(range(1, 513)), 1024
LLAMA = {"context_length": CONTEXT, "n_layers": 6, "n_heads": 6, "tied_head": True}
SHAPES: dict[str, tuple[str, dict[str, Any], int]] = {  # architecture, its sizes, and N
    "llama-3m": ("llama", {**LLAMA, "vocab_size": 4096, "d_model": 192, "d_ff": 512}, 384),
    "llama-15m": ("llama", {**LLAMA, "vocab_size": 32000, "d_model": 288, "d_ff": 768}, 256),
    "llama-110m": (
        "llama",
        {**LLAMA, "vocab_size": 32000, "d_model": 768, "d_ff": 2048, "n_layers": 12, "n_heads": 12},
        48,
    ),
    "gpt2": ("gpt2", {}, 48),
}
SMOLLM2 = "smollm2"
SMOLLM2_FILE = os.environ.get("GLASSFORMER_SMOLLM2_GGUF", "")
BATCHES = (1, 2, 4, 8, 16)
ROUNDS, PARTS = 15, 4

Write = Callable[..., Any]  # of so many tokens, and of a prompt
LOADED: list[llama_cpp.LlamaCpp] = []  # in a process of llama.cpp's


class Case(NamedTuple):
    """A module, who writes its texts, ours first, and N."""

    title: str
    module: Any
    writers: dict[str, Write]
    n: int


def main(names: Sequence[str]) -> None:
    """Print and save the table."""
    warnings.filterwarnings("ignore")
    rows = saved_rows("decode")
    for name in names or [*SHAPES, SMOLLM2]:
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(name, Path(folder)):
                title = f"{case.title:16}"
                for key, row in measured(case, rows):
                    print(f"{title} {key}", row, flush=True)
                by_rows = batches(case.module, case.n)
                rows[f"{case.title}, tokens/s by rows"] = by_rows
                save("decode", rows)
                print(f"{title} tokens/s by rows", by_rows, flush=True)


def measured(case: Case, rows: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Run all in turn, and put what comes out into the rows."""
    times: dict[str, list[float]] = {name: [] for name in ("bandwidth", *case.writers)}
    first: dict[str, list[float]] = {name: [] for name in case.writers}
    n_bytes = weights_read(case.module)
    numbers = torch.ones(n_bytes // 4)
    ours = next(iter(case.writers))
    for turn in range(-1, ROUNDS):  # the first one warms all up
        for name, write in case.writers.items():
            whole = seconds(partial(write, case.n + 1))
            times[name].append((whole - seconds(partial(write, 1))) / case.n)
            first[name].append(seconds(partial(write, 1, LONG_PROMPT)))
        times["bandwidth"].append(min(seconds(numbers.sum) for _ in range(5)))
        if turn < 0:
            for each in (*times.values(), *first.values()):
                each.clear()
            continue
        for name in [*case.writers][1:]:
            rows[f"{case.title}, {name}"] = comparison([*zip(times[ours], times[name], strict=True)])
            rows[f"{case.title}, prefill, {name}"] = comparison([*zip(first[ours], first[name], strict=True)])
        shares = [memory / token for memory, token in zip(times["bandwidth"], times[ours], strict=True)]
        rows[f"{case.title}, ours"] = {
            "tokens/s": round(1 / statistics.median(times[ours]), 1),
            "share": round(statistics.median(shares), 3),
            "bytes": n_bytes,
            "bytes/s": round(n_bytes / statistics.median(times["bandwidth"])),
        }
        save("decode", rows)
    for name in case.writers:
        row = rows[f"{case.title}, {name}"]
        yield name, str(row) if name == ours else f"{1 / row.theirs:.1f} tokens/s, ours {row} times as fast"
        if name != ours:
            row = rows[f"{case.title}, prefill, {name}"]
            rates = [f"{len(LONG_PROMPT) / each:.0f}" for each in (row.theirs, row.ours)]
            yield name, f"prefill {rates[0]} tokens/s, ours {rates[1]}, {row} times as fast"


def cases(name: str, folder: Path) -> Iterator[Case]:
    """Those of a shape: in float32, then in int8; of SmolLM2's file as it is."""
    if name == SMOLLM2:
        if SMOLLM2_FILE:
            module = gf.load(SMOLLM2_FILE, quantize="keep").module.eval()
            writers = {"ours": engine(module), **llama_cpp_writers(Path(SMOLLM2_FILE))}
            yield Case("smollm2 q4_1", module, writers, 96)
        else:
            print("smollm2: GLASSFORMER_SMOLLM2_GGUF names no file")
        return
    architecture, sizes, n = SHAPES[name]
    torch.manual_seed(0)
    model = gf.build(architecture, **sizes)
    module = model.module.eval()
    gf.save(model, folder / "model")
    for kind in ("f32", "q8_0"):
        checkpoints.save_gguf(model.checkpoint, folder / f"{kind}.gguf", kind=kind)
    for precision, kind in (("float32", "f32"), ("int8", "q8_0")):
        if precision == "int8":
            quantize(module, "int8")
        writers = {"ours": engine(module)}
        if precision == "float32":
            writers["our module"] = partial(without_plan, writers["ours"])
        for peer in (transformers_writer, ctranslate2_writer)[precision == "int8" :]:
            try:
                writers[peer.__name__.removesuffix("_writer")] = peer(folder / "model", precision)
            except ImportError as error:
                print(error)
        yield Case(f"{name} {precision}", module, writers | llama_cpp_writers(folder / f"{kind}.gguf"), n)


def weights_read(module: Any) -> int:
    """Bytes of weights that a step reads: all but the tables of which it takes a row."""
    tables = [module.token_embedding, *([module.position_embedding] if hasattr(module, "position_embedding") else [])]
    unread = {id(each) for table in tables for each in numbers_of(table)} - {*map(id, numbers_of(module.lm_head))}
    return sum(int(each.nbytes) for each in numbers_of(module) if id(each) not in unread)


def numbers_of(module: Any) -> list[torch.Tensor]:
    """Its parameters, and what quantized matrices have in their place."""
    return [*module.parameters(), *module.buffers()]


def engine(module: Any) -> Write:
    """Our engine: the prompt, and so many tokens after it."""

    def write(n: int, prompt: tuple[int, ...] = PROMPT) -> list[int]:
        running = Engine(module, full(len(prompt) + n), recent_bytes=0)
        running.admit(Request(tokens=prompt, sampling=Sampling(temperature=0.0), max_new_tokens=n))
        return [new.token for new in running.run()]

    assert plan_for(module) is not None
    return write


def without_plan(write: Write, n: int, prompt: tuple[int, ...] = PROMPT) -> Any:
    """The same by our module."""
    with gf.use(attention="sdpa"):  # a choice that a plan leaves to the module
        return write(n, prompt)


def transformers_writer(path: Path, precision: str) -> Write:
    """transformers, with its cache and no more around it."""
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, precision))

    @torch.inference_mode()
    def write(n: int, prompt: tuple[int, ...] = PROMPT) -> list[int]:
        tokens, past, text = torch.tensor([prompt]), None, []
        for _ in range(n):
            out = theirs(tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
            tokens, past = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
            text.append(int(tokens))
        return text

    return write


def ctranslate2_writer(path: Path, precision: str) -> Write:
    """CTranslate2, by the converter that it has for folders of Hugging Face's."""
    import ctranslate2

    words = [f"w{i}" for i in range(int(gf.load(path).config.vocab_size))]
    converted = path.parent / "ct2"

    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[misc]
        """Without a tokenizer, which a model with random weights has none of."""

        def load_tokenizer(self, tokenizer_class: Any, *_: Any, **__: Any) -> Any:
            """What the converter asks of one."""
            return type(
                "Words",
                (),
                {
                    "get_vocab": lambda self: {word: i for i, word in enumerate(words)},
                    "bos_token": words[0],
                    "eos_token": words[0],
                    "unk_token": words[0],
                    "all_special_tokens": [],
                },
            )()

    Converter(str(path)).convert(str(converted), force=True)
    n_threads = torch.get_num_threads()
    theirs = ctranslate2.Generator(str(converted), compute_type=precision, inter_threads=1, intra_threads=n_threads)
    settings = {"sampling_topk": 1, "include_prompt_in_result": False, "end_token": []}

    def write(n: int, prompt: tuple[int, ...] = PROMPT) -> Any:
        return theirs.generate_batch([[words[i] for i in prompt]], max_length=n, min_length=n, **settings)

    return write


def llama_cpp_writers(path: Path) -> dict[str, Write]:
    """llama.cpp, in a process of its own."""
    if not llama_cpp.LIBRARY:
        print("llama.cpp: GLASSFORMER_LLAMA_CPP names no library")
        return {}
    settings, context = (path, torch.get_num_threads()), multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=load_in_llama_cpp, initargs=settings)
    return {"llama.cpp": lambda n, prompt=PROMPT: pool.submit(write_in_llama_cpp, n, prompt).result()}


def load_in_llama_cpp(path: Path, n_threads: int) -> None:
    """Load a model in such a process."""
    LOADED.append(llama_cpp.LlamaCpp(path, n_threads))


def write_in_llama_cpp(n: int, prompt: tuple[int, ...]) -> list[int]:
    """The text by that model."""
    return LOADED[0].continued([*prompt], n)


@torch.inference_mode()
def batches(module: Any, n: int) -> dict[int, float]:
    """Tokens a second of the step alone for so many rows, which take turns."""
    plan: Any = plan_for(module)
    times: dict[int, list[float]] = {n_rows: [] for n_rows in BATCHES}
    states = {n_rows: module.begin(None, full(CONTEXT)) for n_rows in BATCHES}
    for n_rows, state in states.items():
        module(torch.tensor([PROMPT] * n_rows), state)
    for _ in range(PARTS):
        for n_rows, state in states.items():
            tokens = torch.ones(n_rows, 1, dtype=torch.long)
            assert plan.step(tokens, state, None) is not None  # makes room for so many rows
            times[n_rows] += [seconds(partial(plan.step, tokens, state, None)) for _ in range(min(n, 48) // PARTS)]
    return {n_rows: round(n_rows / statistics.median(each), 1) for n_rows, each in times.items()}


if __name__ == "__main__":
    main(sys.argv[1:])

"""Decoding token by token: the compiled step beside our module, transformers and CTranslate2.

Run:  python benchmarks/decode.py [SHAPE...]   (gpt2, llama-3m, llama-15m, llama-110m; what is not installed is named)

Random weights in float32 and in int8, the prompt of 32 tokens and N greedy tokens, on all threads that torch has; each
row is our text and a peer's in turn. `tokens/s` are ours, `share` is the part of the bandwidth that its weights take,
which is measured in the same run by adding up numbers that fit into no cache. A batch is measured step by step.
`prefill` is the time to the first token after a prompt of 512.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from paired import compare, save, seconds

import glassformer as gf
from glassformer.inference.decode_plan import plan_for
from glassformer.inference.engine import Engine
from glassformer.inference.logits import Sampling
from glassformer.inference.quantize import quantize
from glassformer.inference.request import Request
from glassformer.nn.kv_cache import full

PROMPT, LONG_PROMPT, CONTEXT = tuple(range(1, 33)), tuple(range(1, 513)), 1024
LLAMA = {"context_length": CONTEXT, "n_layers": 6, "n_heads": 6, "tied_head": True}
SHAPES: dict[str, tuple[str, dict[str, Any], int]] = {  # architecture, its sizes, and N
    "llama-3m": ("llama", {**LLAMA, "vocab_size": 4096, "d_model": 192, "d_ff": 512}, 512),
    "llama-15m": ("llama", {**LLAMA, "vocab_size": 32000, "d_model": 288, "d_ff": 768}, 256),
    "llama-110m": (
        "llama",
        {**LLAMA, "vocab_size": 32000, "d_model": 768, "d_ff": 2048, "n_layers": 12, "n_heads": 12},
        48,
    ),
    "gpt2": ("gpt2", {}, 48),
}
BATCHES = (1, 2, 4, 8, 16)

Write = Callable[..., Any]  # of so many tokens, and of a prompt


def main(names: Sequence[str]) -> None:
    """Print and save the table."""
    warnings.filterwarnings("ignore")
    rows: dict[str, Any] = {}
    for name in names or SHAPES:
        architecture, sizes, n = SHAPES[name]
        torch.manual_seed(0)
        model = gf.build(architecture, **sizes)
        module: Any = model.module.eval()
        others = peers(model, module)
        for precision in ("float32", "int8"):
            if precision == "int8":
                quantize(module, "int8")
            title = f"{name} {precision}"
            n_bytes, memory, ours = weights_read(module), bandwidth(), engine(module)
            for peer, write in others[precision].items():
                row = compare(partial(ours, n), partial(write, n))
                rows[f"{title}, {peer}"] = row
                rate = n / row.ours
                share = rate * n_bytes / memory
                print(f"{title:18} {peer:12} {row} times as fast; {rate:.0f} tokens/s, share {share:.2f}", flush=True)
                if peer != "our module":
                    row = compare(partial(ours, 1, LONG_PROMPT), partial(write, 1, LONG_PROMPT))
                    rows[f"{title}, prefill, {peer}"] = row
                    rate = len(LONG_PROMPT) / row.ours
                    print(f"{title:18} {peer:12} {row} times as fast in prefill; {rate:.0f} tokens/s", flush=True)
            rates = batches(module, n)
            rows[f"{title}, tokens/s by rows"] = rates
            rows[f"{title}, bytes and bandwidth"] = [n_bytes, round(memory)]
            by_rows = ", ".join(f"{n_rows}: {rate:.0f}" for n_rows, rate in rates.items())
            print(f"{title:18} by rows      {by_rows} tokens/s", flush=True)
    save("decode", rows)


def weights_read(module: Any) -> int:
    """Bytes of weights that a step reads: all but the tables of which it takes a row."""
    tables = [module.token_embedding, *([module.position_embedding] if hasattr(module, "position_embedding") else [])]
    unread = {id(each) for table in tables for each in numbers_of(table)} - {*map(id, numbers_of(module.lm_head))}
    return sum(int(each.nbytes) for each in numbers_of(module) if id(each) not in unread)


def numbers_of(module: Any) -> list[torch.Tensor]:
    """Its parameters, and what quantized matrices have in their place."""
    return [*module.parameters(), *module.buffers()]


def bandwidth() -> float:
    """Bytes a second that all threads read together."""
    numbers = torch.ones(1 << 27)
    return numbers.nbytes / min(seconds(numbers.sum) for _ in range(7))


def engine(module: Any) -> Write:
    """Our engine: the prompt, and so many tokens after it."""

    def write(n: int, prompt: tuple[int, ...] = PROMPT) -> list[int]:
        running = Engine(module, full(len(prompt) + n), recent_bytes=0)
        running.admit(Request(tokens=prompt, sampling=Sampling(temperature=0.0), max_new_tokens=n))
        return [new.token for new in running.run()]

    assert plan_for(module) is not None
    return write


def peers(model: Any, module: Any) -> dict[str, dict[str, Write]]:
    """Who else writes such a text, in either precision."""
    planned = engine(module)

    def without_plan(n: int) -> Any:
        with gf.use(attention="sdpa"):  # a choice that a plan leaves to the module
            return planned(n)

    writers: dict[str, dict[str, Write]] = {"float32": {"our module": without_plan}, "int8": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        gf.save(model, path)
        try:
            writers["float32"]["transformers"] = transformers_writer(path)
        except ImportError as error:
            print(f"transformers: {error}")
        try:
            for precision, of_precision in writers.items():
                of_precision["CTranslate2"] = ctranslate2_writer(path, precision)
        except ImportError as error:
            print(f"CTranslate2: {error}")
    return writers


def transformers_writer(path: Path) -> Write:
    """transformers, with its cache and no more around it."""
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

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


@torch.inference_mode()
def batches(module: Any, n: int) -> dict[int, float]:
    """Tokens a second of the step alone for so many rows."""
    rates = {}
    plan: Any = plan_for(module)
    for n_rows in BATCHES:
        state = module.begin(None, full(CONTEXT))
        module(torch.tensor([PROMPT] * n_rows), state)
        tokens, times = torch.ones(n_rows, 1, dtype=torch.long), []
        for _ in range(min(n, 48)):
            start = time.perf_counter()
            assert plan.step(tokens, state, None) is not None
            times.append(time.perf_counter() - start)
        rates[n_rows] = round(n_rows / sorted(times)[len(times) // 2], 1)
    return rates


if __name__ == "__main__":
    main(sys.argv[1:])

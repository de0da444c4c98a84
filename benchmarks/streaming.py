"""A text without end under sinks: memory, time a token and perplexity stay as they are.

Run: python benchmarks/streaming.py MODEL TEXT [--cache sinks:4+252] [--tokens 1000000] [--span 50000] [--window 1024]
The beginning of the text is read again and again, token by token; a row of the table is one pass over it, and is saved
when it ends. Behind them a token under sinks stands beside one of a sliding window that is read anew for it, each with
as many tokens as `--window` says.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from jaxtyping import Int
from paired import Comparison, comparison, save, seconds
from torch import Tensor

import glassformer as gf
from glassformer.cli.output import progress_bar
from glassformer.evaluation.eval_mode import evaluating
from glassformer.evaluation.perplexity import read_tokens
from glassformer.evaluation.streaming import logits_after
from glassformer.inference.decode_plan import LazyPlan
from glassformer.inference.latest_logits import latest_logits
from glassformer.models.spec import CausalModel
from glassformer.nn.kv_cache import KVCache, parse_policy, sinks

Row = dict[str, float]
STEPS = 64  # tokens under sinks for each that is read with its whole window
TOLD = 256  # tokens after which the bar moves
N_SINKS = 4  # the paper's


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--cache", default="sinks:4+252")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--span", type=int, default=50_000, help="tokens of the text that a pass reads")
    parser.add_argument("--window", type=int, default=1024, help="tokens that are read anew; 0: none are")
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    model = gf.load(arguments.model)
    text = torch.tensor(read_tokens(arguments.text, model.tokenizer)[: arguments.span].astype("int64"))
    rows: dict[str, Any] = {"cache": arguments.cache, "tokens of the text": len(text), "passes": []}
    for row in passes(model, text, arguments.cache, arguments.tokens):
        print("  ".join(f"{name} {value:,.3f}" for name, value in row.items()), flush=True)
        rows["passes"].append(row)
        save("streaming", rows)
    if len(rows["passes"]) > 2:
        rows["beside the second pass"] = changes(rows["passes"])
        print("percent beside the second pass:", rows["beside the second pass"])
    if arguments.window:
        pair = beside_recomputation(arguments.model, text, arguments.window, arguments.pairs)
        rows[f"recomputation of {arguments.window} tokens"] = pair
        print(f"{1000 * pair.ours:.3f} ms a token, recomputed {1000 * pair.theirs:.3f} ms: {pair} times as fast")
    save("streaming", rows)


def passes(model: gf.Model, text: Int[Tensor, " N"], cache: str, n_tokens: int) -> Iterator[Row]:
    """Read so many tokens, and give a row after each pass over the text."""
    module, process = cast(CausalModel, model.module), psutil.Process()
    begin = () if model.tokenizer is None else model.tokenizer.begin_ids
    with evaluating(model.module), progress_bar("streaming", n_tokens) as progress:
        state = cast(KVCache, module.begin(None, parse_policy(cache, model.config.context_length)))
        plan, logits, n_read = LazyPlan(module), None, 0
        for token in torch.tensor(begin, dtype=torch.int64):
            logits = logits_after(token, module, state, plan)
        while n_read < n_tokens:
            started, cpu, loss, n = time.perf_counter(), time.process_time(), 0.0, 0
            for token in text[: n_tokens - n_read]:
                if logits is not None:
                    loss += float(logits.logsumexp(0) - logits[token])
                    n += 1
                logits = logits_after(token, module, state, plan)
                n_read += 1
                if n_read % TOLD == 0:
                    progress(n_read, n_tokens)
            yield {
                "tokens": n_read,
                "perplexity": math.exp(loss / n),
                "ms_per_token": 1000 * (time.perf_counter() - started) / n,
                "cpu_ms_per_token": 1000 * (time.process_time() - cpu) / n,
                "rss_mib": process.memory_info().rss / 2**20,
            }


def changes(rows: list[Row]) -> dict[str, dict[str, float]]:
    """By how many percent each figure differs from that of the second pass: in the last one, and in all later ones."""
    second, *later = rows[1:]
    table: dict[str, dict[str, float]] = {}
    for name in ("perplexity", "ms_per_token", "cpu_ms_per_token", "rss_mib"):
        percent = [round(100 * (row[name] / second[name] - 1), 2) for row in later]
        table[name] = {"last": percent[-1], "least": min(percent), "most": max(percent)}
    return table


def beside_recomputation(source: str, text: Int[Tensor, " N"], window: int, pairs: int) -> Comparison:
    """Seconds a token under sinks, the cache being full, and with the latest tokens read anew, whose head reads one."""
    model = gf.load(source)
    if model.config.context_length < window:
        model = gf.load(source, context_length=window)
    module, tokens = cast(CausalModel, model.module), text.repeat(-(-(window + STEPS) // len(text)))
    with evaluating(model.module):
        state, plan = cast(KVCache, module.begin(None, sinks(N_SINKS, window - N_SINKS))), LazyPlan(module)
        module(tokens[None, :window], state)

        def stream() -> None:
            for token in tokens[window : window + STEPS]:
                logits_after(token, module, state, plan)

        def recompute() -> None:
            latest_logits(module, tokens[None, :window], None, None, 1)

        stream()
        recompute()
        return comparison([(seconds(stream) / STEPS, seconds(recompute)) for _ in range(pairs)])


if __name__ == "__main__":
    main()

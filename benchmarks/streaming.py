"""A text without end under sinks: memory, time a token and perplexity stay as they are.

Run: python benchmarks/streaming.py MODEL TEXT [--cache sinks:4+252] [--tokens 1000000] [--span 50000]. The beginning of
the text is read again and again, token by token; a row of the table is one pass over it.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import cast

import psutil
import torch
from paired import RESULTS

import glassformer as gf
from glassformer.evaluation.eval_mode import evaluating
from glassformer.evaluation.perplexity import read_tokens
from glassformer.evaluation.streaming import logits_after
from glassformer.inference.decode_plan import LazyPlan
from glassformer.models.spec import CausalModel
from glassformer.nn.kv_cache import KVCache, parse_policy


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--cache", default="sinks:4+252")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--span", type=int, default=50_000, help="tokens of the text that a pass reads")
    arguments = parser.parse_args()
    model = gf.load(arguments.model)
    module, process = cast(CausalModel, model.module), psutil.Process()
    text = torch.tensor(read_tokens(arguments.text, model.tokenizer)[: arguments.span].astype("int64"))
    rows: list[dict[str, float]] = []
    with evaluating(model.module):
        state = cast(KVCache, module.begin(None, parse_policy(arguments.cache, model.config.context_length)))
        plan = LazyPlan(module)
        logits, n_read = None, 0
        while n_read < arguments.tokens:
            started, cpu, loss, n = time.perf_counter(), time.process_time(), torch.zeros((), dtype=torch.float64), 0
            for token in text[: arguments.tokens - n_read]:
                if logits is not None:
                    loss -= logits[token] - logits.logsumexp(0)
                    n += 1
                logits = logits_after(token, module, state, plan)
            n_read += n + (n_read == 0)
            row = {
                "tokens": n_read,
                "perplexity": math.exp(float(loss) / n),
                "ms_per_token": 1000 * (time.perf_counter() - started) / n,
                "cpu_ms_per_token": 1000 * (time.process_time() - cpu) / n,
                "rss_mib": process.memory_info().rss / 2**20,
            }
            rows.append(row)
            print("  ".join(f"{name} {value:,.3f}" for name, value in row.items()), flush=True)
    content = {"cache": arguments.cache, "text": len(text), "passes": rows}
    (RESULTS / "streaming.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Training tokens a second, against a plain loop over `transformers`' GPT-2. Run: python benchmarks/training.py

Both train the same sizes on the same batches in float32: ours with the loop that `glassformer train` runs, theirs as a
reader of the documentation would write it, with torch.optim.AdamW, clip_grad_norm_ and sdpa attention.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from paired import RESULTS, Comparison, compare, gemm_peak, save
from torch.nn import functional

from glassformer.data.memmap import get_batch
from glassformer.training.load_config import resolve
from glassformer.training.tasks.language_model import LanguageModel
from glassformer.training.trainer import Trainer, build_module

SIZES = {
    "0.8M": {"n_layers": 4, "n_heads": 4, "d_model": 128, "context_length": 64, "batch_size": 12, "steps": 10},
    "10.6M": {"n_layers": 6, "n_heads": 6, "d_model": 384, "context_length": 256, "batch_size": 4, "steps": 1},
}
ALPHABET = "".join(chr(32 + i) for i in range(65))


def ours(size: dict[str, int], folder: Path) -> Callable[[], None]:
    """Some steps of our loop."""
    model = {name: size[name] for name in ("n_layers", "n_heads", "d_model", "context_length")}
    config = resolve(
        {
            "model": {"architecture": "gpt2", **model},
            "data": {"path": str(folder / "text.txt")},
            "batch_size": size["batch_size"],
            "steps": 10**6,
        }
    )
    task = LanguageModel(config, folder / "tokens", print)
    trainer = Trainer(config, task, build_module(config, task, torch.device("cpu")))

    def run() -> None:
        for _ in range(size["steps"]):
            trainer.accumulate()
            trainer.update()

    return run


def theirs(size: dict[str, int], tokens: np.ndarray) -> Callable[[], None]:
    """The same with `transformers` and torch alone."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(ALPHABET),
        n_positions=size["context_length"],
        n_embd=size["d_model"],
        n_layer=size["n_layers"],
        n_head=size["n_heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def run() -> None:
        for _ in range(size["steps"]):
            x, y = get_batch(tokens, size["batch_size"], size["context_length"])
            logits = model(x).logits
            loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    return run


def flops_per_token(size: dict[str, int]) -> int:
    """Of the matrix products, forward and backward; attention counts the half below the diagonal."""
    width, length = size["d_model"], size["context_length"]
    layer = 2 * 12 * width**2 + 2 * 2 * width * length // 2
    return 3 * (size["n_layers"] * layer + 2 * width * len(ALPHABET))


def measure(name: str, pairs: int) -> tuple[Comparison, dict[str, float]]:
    """Compare at one size."""
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(np.random.default_rng(0).choice(list(ALPHABET), size=100_000))
        (Path(folder) / "text.txt").write_text(text)
        tokens = np.random.default_rng(0).integers(len(ALPHABET), size=100_000).astype(np.uint16)
        peak = gemm_peak()
        found = compare(ours(size, Path(folder)), theirs(size, tokens), pairs=pairs, warmup=2)
    tokens_per_run = size["steps"] * size["batch_size"] * size["context_length"]
    figures = {
        "tokens_per_second": tokens_per_run / found.ours,
        "transformers_tokens_per_second": tokens_per_run / found.theirs,
        "gemm_peak_gflops": peak / 1e9,
        "share_of_peak": flops_per_token(size) * tokens_per_run / found.ours / peak,
    }
    return found, figures


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=SIZES)
    arguments = parser.parse_args()
    rows = {}
    table = [
        "| parameters | ours, tokens/s | transformers, tokens/s | times as fast (95 %) | share of the GEMM peak |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in arguments.sizes:
        comparison, figures = measure(name, arguments.pairs)
        rows[name] = {"comparison": asdict(comparison), **figures}
        table.append(
            f"| {name} | {figures['tokens_per_second']:,.0f} | {figures['transformers_tokens_per_second']:,.0f} "
            f"| {comparison} | {figures['share_of_peak']:.0%} of {figures['gemm_peak_gflops']:,.0f} GFLOP/s |"
        )
    print("\n".join(table))
    save("training", rows)
    (RESULTS / "training.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()

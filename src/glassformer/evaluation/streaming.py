"""How well and how fast a language model reads a text that is longer than its context, by what its cache keeps.

The experiment of Xiao et al. 2023, *StreamingLLM* (arXiv:2309.17453): figure 3 and tables 1 and 2. A text is read token
by token under each policy, each token is predicted from what the cache then holds, and each step is timed.

    dense            every token is kept: as far as the model has positions, and slower with each token
    window:n         the latest n tokens, which is n tokens and no sink
    sinks:k+m        the first k tokens and the latest m, n = k + m
    recomputation:n  nothing is kept: the latest n tokens are read anew for each one
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer import files
from glassformer.errors import ConfigError, DataError, MissingExtra
from glassformer.evaluation.eval_mode import evaluating
from glassformer.evaluation.perplexity import Loss
from glassformer.inference.decode_plan import LazyPlan
from glassformer.models import spec_of
from glassformer.models.spec import CausalModel, longest_text
from glassformer.nn import functional as F
from glassformer.nn.kv_cache import KVCache, Policy, full, sinks, window

Told = Callable[[int], object]  # how many tokens have been read

SINKS = (1, 2, 4, 8)  # the paper's, beside none
RECOMPUTED = 256  # of so many tokens of a text the context is read anew; each costs as much as n others
PLOTTED = 64  # points of a curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What one way to read a text comes to: −log p (nats) of the tokens at `positions`, and what a step costs."""

    name: str
    positions: list[int]
    losses: list[float] = field(repr=False)
    seconds_per_token: float  # the median of the last quarter
    cache_bytes: int  # at the end; 0 where nothing is kept

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return Loss(nats_per_token=float(np.mean(self.losses)), tokens=len(self.losses)).perplexity

    def curve(self) -> tuple[list[float], list[float]]:
        """Mean losses of spans of the text, and where these end."""
        spans = np.array_split(np.arange(len(self.losses)), min(PLOTTED, len(self.losses)))
        ends = [float(self.positions[span[-1]]) for span in spans]
        return ends, [float(np.mean(np.take(self.losses, span))) for span in spans]


def stream(
    module: nn.Module,
    text: Sequence[int] | np.ndarray,
    *,
    size: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Iterator[Streamed]:
    """Read the text in every way with a cache of `size` tokens; `progress(done, all)` is told tokens read."""
    tokens = torch.tensor(np.asarray(text).astype(np.int64))
    check_streaming(module, tokens, size)
    policies = [dense(module, len(tokens)), window(size), *(sinks(n, size - n) for n in SINKS if n < size)]
    every = max(1, (len(tokens) - 1) // RECOMPUTED)
    n = len(tokens) - 1
    total = len(policies) * n + len(range(0, n, every))
    for rank, policy in enumerate(policies):
        yield read(module, tokens, policy, partial(_told, progress, rank * n, total))
    yield read_anew(module, tokens, size, every, partial(_told, progress, len(policies) * n, total))


def _told(progress: Callable[[int, int], object], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def check_streaming(module: nn.Module, tokens: Int[Tensor, " N"], size: int) -> None:
    """Raise unless the text can be read with a cache of so many tokens."""
    config: Any = module.config
    longest = longest_text(config)
    if not 2 <= size <= longest:
        raise ConfigError(f"must be from 2 to {longest}, the model's context, not {size}.", setting="streaming")
    if len(tokens) <= size:
        raise DataError(f"The text has {len(tokens)} tokens, which a cache of {size} holds: none would ever leave.")
    if int(tokens.max()) >= config.vocab_size:
        raise DataError(f"The text has the token {tokens.max()}, but the model's vocabulary has {config.vocab_size}.")
    if not isinstance(cast(CausalModel, module).begin(None, window(size)), KVCache):
        raise ConfigError(f"is for models with a cache, which a {type(module).__name__} has not.", setting="streaming")


def dense(module: nn.Module, length: int) -> Policy:
    """A cache that keeps the whole text, or as much of it as the model has learned positions for."""
    config: Any = module.config
    try:
        spec_of(config).with_context(config, max(length, config.context_length))
    except ConfigError:
        length = config.context_length
    return full(max(length, 1))


def read(module: nn.Module, tokens: Int[Tensor, " N"], policy: Policy, progress: Told = lambda n: None) -> Streamed:
    """Predict each token from what the cache keeps of those before it."""
    model = cast(CausalModel, module)
    losses, seconds, plan = [], [], LazyPlan(module)
    with evaluating(module) as device:
        state = cast(KVCache, model.begin(None, policy))
        for i, (token, target) in enumerate(zip(tokens[:-1].to(device), tokens[1:].to(device), strict=True)):
            if state.room == 0:
                break
            started = time.perf_counter()
            logits = logits_after(token, model, state, plan)
            losses.append(float(F.cross_entropy(logits.float()[None], target[None])))
            seconds.append(time.perf_counter() - started)
            if i % 64 == 0:
                progress(i)
    n_bytes = sum(buffer.nbytes for layer in state.layers for buffer in layer.buffers)
    name = policy.name if policy.endless else "dense"
    return _streamed(name, list(range(1, len(losses) + 1)), losses, seconds, n_bytes)


def logits_after(token: Int[Tensor, ""], model: CausalModel, state: KVCache, plan: LazyPlan) -> Float[Tensor, " V"]:
    """The logits after one more token, by the compiled step of a text that is written, where the model has one."""
    logits = plan.step(token[None, None], state, None)
    return (model(token[None, None], state) if logits is None else logits)[0, -1]


def read_anew(
    module: nn.Module, tokens: Int[Tensor, " N"], size: int, every: int = 1, progress: Told = lambda n: None
) -> Streamed:
    """Predict some tokens, one of `every`, from a pass over the latest before it."""
    losses, seconds = [], []
    ends = range(1, len(tokens), every)
    with evaluating(module) as device:
        for i, end in enumerate(ends):
            started = time.perf_counter()
            logits = module(tokens[None, max(0, end - size) : end].to(device))[0, -1]
            losses.append(float(F.cross_entropy(logits.float()[None], tokens[end : end + 1].to(device))))
            seconds.append(time.perf_counter() - started)
            progress(i)
    return _streamed(f"recomputation:{size}", list(ends), losses, seconds, 0)


def _streamed(name: str, positions: list[int], losses: list[float], seconds: list[float], n_bytes: int) -> Streamed:
    late = seconds[-max(1, len(seconds) // 4) :]
    return Streamed(
        name=name,
        positions=positions,
        losses=losses,
        seconds_per_token=float(np.median(late)),
        cache_bytes=n_bytes,
    )


def plot(streamed: Sequence[Streamed], path: Path) -> None:
    """Draw the loss along the text, a curve for each way to read it: the paper's figure 3."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plot", "Drawing the losses") from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="tokens", ylabel="log perplexity (nats per token)")
    for each in streamed:
        axes.plot(*each.curve(), label=each.name, linewidth=1)
    axes.legend()
    with files.new_file(path) as new:
        figure.savefig(new, format="png", dpi=120)

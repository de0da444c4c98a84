"""The decode step without overhead: a module's weights and choices as tables, which one kernel runs through.

For one row of a small model, calling torch's operations takes longer than their arithmetic. A plan is made from
outside: its tables say where the module's parameters lie, so that nothing is copied and training goes on under it, and
it writes into the buffers of the module's own `KVCache`. So module and plan may take turns. It is the module's turn
where it has a part that no table says, where hooks, a recording or a choice of twins want to see it, and where numba is
missing.
Next to read: `decode_tables.py`, `kernels/decode_step.py`.
"""

import sys
import threading
import warnings
import weakref
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.inference.request import is_encoder_decoder
from glassformer.models.spec import longest_text
from glassformer.nn.attention import Attention
from glassformer.nn.dropout import Dropout
from glassformer.nn.kv_cache import KVCache, full
from glassformer.nn.memory import DecoderState
from glassformer.torch_internals import contents_of, hooks_of, hooks_of_all, is_observed
from glassformer.twins import Choice, current

MOST_ROWS = 16  # beyond, torch's products of matrices win
TOLERANCE = 1e-4  # of logits, and of the greatest of them where that is above 1
ROUNDED_TOLERANCE = 3e-2  # the same where vectors are rounded to 8 bits, and a last bit decides to which number
PROBE = 3  # tokens that module and plan read, to be compared
# Steps of a cache after which a plan looks at its module again: at hundreds of parts, which weights that are read in
# between have driven out of the caches, so that to look at them takes as long as some layers of a small model.
UNSEEN = 16

WORTH = 0.3  # seconds in a process's steps after which to load the kernel has cost no more than to go on without it
KERNEL = "glassformer.kernels.decode_step"

_plans: weakref.WeakKeyDictionary[nn.Module, "DecodePlan"] = weakref.WeakKeyDictionary()


def plan_for(module: Any) -> "DecodePlan | None":
    """The plan of a module, made again where its tables are others by now; None where the module itself runs."""
    if not isinstance(module, nn.Module):
        return None
    try:
        from glassformer.inference.decode_room import StepRoom
        from glassformer.inference.decode_tables import DecodeTables, NotCovered
    except ImportError:  # numba is missing
        return None
    try:
        tables = DecodeTables(module)
    except NotCovered:
        return None
    plan = _plans.get(module)
    if plan is not None and vars(plan.tables) == vars(tables) and plan.parts.are_unchanged:
        return plan if plan.is_right else None
    plan = DecodePlan(module, StepRoom(tables))
    if not plan.is_free:
        return None
    plan.compare(module)
    _plans[module] = plan
    return plan if plan.is_right else None


class LazyPlan:
    """The plan of a module, from when it is worth while: few steps of a small model end before numba is loaded."""

    spent: ClassVar[float] = 0.0  # about the seconds of steps without a plan; counted, so that they are always the same

    def __init__(self, module: Any) -> None:
        self._module = module
        self._plan: DecodePlan | None = None
        self._is_settled = False
        parts = list(module.modules()) if isinstance(module, nn.Module) else []
        self._seconds = 2e-5 * len(parts) + 2e-10 * sum(tensor.numel() for tensor in module.parameters())

    def step(
        self, tokens: Int[Tensor, "B T"], state: object, valid: Bool[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T V"] | None:
        """The logits as the plan has them; None where the module is to run."""
        if not self._is_settled:
            if KERNEL not in sys.modules and LazyPlan.spent < WORTH:
                LazyPlan.spent += self._seconds
                return None
            self._plan, self._is_settled = plan_for(self._module), True
        return None if self._plan is None else self._plan.step(tokens, state, valid)


class DecodePlan:
    """A module's tables, and whether they may be run in its place."""

    def __init__(self, module: nn.Module, room: Any) -> None:
        self.parts = Parts(module)
        self.is_right = True
        self.tables = room.tables
        self._room = room
        self._turn = threading.Lock()
        self._looks: weakref.WeakKeyDictionary[KVCache, Look] = weakref.WeakKeyDictionary()

    @property
    def is_free(self) -> bool:
        """Whether nobody wants to see the module's own operations now, and it computes what is in the tables."""
        return self.parts.are_plain and is_unwatched()

    def serves(self, state: KVCache) -> bool:
        """Whether it may be run for a cache: it looks at the module at first, and after some steps again."""
        if torch.is_grad_enabled() or not self.is_free:
            return False
        look = self._looks.get(state)
        if look is None or look.n_left == 0:
            if not self.parts.are_unchanged:
                return False
            look = self._looks[state] = Look(self.parts.memory)
        look.n_left -= 1
        return True

    @torch.inference_mode()
    def compare(self, module: Any) -> None:
        """Hold the plan against the module on a few tokens; one that differs is used no more, and a warning says so."""
        n = min(PROBE, longest_text(module.config) - 1)
        if n < 1:
            self.is_right = False
            return
        tokens = torch.arange(n)[None] % self.tables.n_tokens
        state = module.begin(probe_source(module.config), full(n + 1))
        module(tokens, state)
        expected, logits = module(tokens[:, :1], state.branch(torch.zeros(1, dtype=torch.long))), None
        if type(state) in (KVCache, DecoderState):
            logits = self.step(tokens[:, :1], state, None)
        tolerance = ROUNDED_TOLERANCE if self.tables.is_quantized else TOLERANCE
        allowed = tolerance * max(1.0, float(expected.abs().max()))
        self.is_right = logits is not None and torch.allclose(logits, expected, atol=allowed, rtol=0, equal_nan=True)
        if not self.is_right:
            name = type(module).__name__
            warnings.warn(f"The compiled decode step of this {name} differs: the module runs.", stacklevel=3)

    def step(
        self, tokens: Int[Tensor, "B T"], state: object, valid: Bool[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T V"] | None:
        """The logits after new tokens of each row, which the state takes in; None where the module is to run.

        Of several tokens, which come with padding behind them, none may make another leave.
        """
        n_texts, most = tokens.shape
        n_new = [most] * n_texts if valid is None else valid.sum(-1).tolist()
        rows = torch.arange(most) < torch.tensor(n_new).clamp(min=1)[:, None]
        if type(state) is not (DecoderState if self.tables.has_memory else KVCache) or not 0 < rows.sum() <= MOST_ROWS:
            return None
        beside, cache = (state, state.cache) if isinstance(state, DecoderState) else (None, state)
        if not state.holds(n_texts, torch.float32) or cache.policy.capacity > self.tables.n_places:
            return None
        if most > 1 and not self._takes(cache, n_new, rows, valid):
            return None
        if not self.serves(cache):
            return None
        ids = tokens[rows].tolist()
        if min(ids) < 0 or max(ids) >= self.tables.n_tokens or not self._turn.acquire(blocking=False):
            return None
        try:
            logits: Tensor = self._room.run(ids, n_new, cache, beside)
        finally:
            self._turn.release()
        if len(ids) == tokens.numel():
            return logits.view(n_texts, most, -1)
        padded = logits.new_zeros(n_texts, most, logits.shape[-1])
        padded[rows] = logits
        return padded

    def _takes(
        self, cache: KVCache, n_new: list[int], rows: Bool[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None
    ) -> bool:
        """Whether several tokens may come at once."""
        if self.tables.has_memory or self.tables.position_bias is not None or cache.static:
            return False
        if valid is not None and bool((valid & ~rows).any()):
            return False
        return all(n <= spare for n, spare in zip(n_new, cache.spares, strict=True))


@dataclass(slots=True)
class Look:
    """What a plan has seen of its module for a cache; the memory stays as long as that."""

    memory: list[Any]
    n_left: int = UNSEEN  # steps until the next look


def is_unwatched() -> bool:
    """Whether no mode, no choice of twins and no hook around all modules asks for their own operations."""
    return (
        not is_observed() and current() == Choice() and not torch.is_autocast_enabled("cpu") and not any(hooks_of_all())
    )


class Parts:
    """What a module is made of: whether that has changed since, and whether anybody watches it."""

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self._hooks = [hooks for part in parts for hooks in hooks_of(part)]
        self._contents = [names for part in parts for names in contents_of(part) if names]
        self._ids = self._ids_now()
        self._before = [value for names in self._contents for value in names.values()]  # alive, so that ids stay theirs
        self._tensors = [*module.parameters(), *module.buffers()]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._dropping = [part for part in parts if isinstance(part, Dropout | Attention)]

    @property
    def are_plain(self) -> bool:
        """Whether no hook is set, and nothing is trained, where dropout would change what comes."""
        return not any(self._hooks) and not any(part.training for part in self._dropping)

    @property
    def are_unchanged(self) -> bool:
        """Whether the same parts have the same parameters, in the same memory."""
        return self._ids == self._ids_now() and self._addresses == [tensor.data_ptr() for tensor in self._tensors]

    @property
    def memory(self) -> list[Any]:
        """What keeps the numbers in memory, whatever becomes of the module."""
        return [tensor.untyped_storage() for tensor in self._tensors]

    def _ids_now(self) -> list[int]:
        return [*map(id, chain.from_iterable(map(dict.values, self._contents)))]


def probe_source(config: Any) -> Tensor | None:
    """Something to encode for a model that has an encoder: a little sound, or a short text."""
    if not is_encoder_decoder(config):
        return None
    if hasattr(config, "n_mels"):
        n_frames: int = min(8, 2 * config.audio_context_length)
        return torch.linspace(-1, 1, n_frames * config.n_mels).view(1, config.n_mels, n_frames)
    vocab_size: int = getattr(config, "source_vocab_size", None) or config.vocab_size
    return torch.arange(min(PROBE, config.context_length))[None] % vocab_size

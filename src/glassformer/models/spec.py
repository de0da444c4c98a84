"""What a model's page tells the rest of the house: its configuration, its presets, how it starts and what it is for."""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.published.table import Published
from glassformer.nn.init import initialize
from glassformer.nn.kv_cache import Policy


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass of sizes and choices; its `__post_init__` refuses what cannot be built."""

    architecture: ClassVar[str]  # the name by which the model's page is known, also where pages share a module

    @property
    def vocab_size(self) -> int:
        """V: how many tokens the model knows."""

    @property
    def context_length(self) -> int:
        """How many tokens the model can read at once; where it has no such limit, what it was trained on."""


@runtime_checkable
class State(Protocol):
    """What a model has read so far, row by row of a batch, as `begin` returns it and `forward` moves it on."""

    @property
    def room(self) -> int:
        """How many tokens may be read at once in every row; 0 where one cannot go on."""

    @property
    def rooms(self) -> list[int]:
        """The same for each row."""

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times, or never."""

    def branch(self, rows: Tensor) -> Self:
        """A state of its own for these rows; this one stays as it is."""

    def join(self, other: Self) -> None:
        """Go on with the rows of another state of the same model too, behind these."""


@runtime_checkable
class Rewindable(State, Protocol):
    """A state that can forget the latest tokens, as drafts ask of it that are verified after they have been read."""

    @property
    def spares(self) -> list[int]:
        """How many tokens each row may take in and forget again."""

    def rewind(self, n_forgotten: Tensor) -> None:
        """Forget the latest tokens of each row, so many of them."""


@runtime_checkable
class CausalModel(Protocol):
    """What decoding asks of an autoregressive model (an `nn.Module`)."""

    config: Any

    def parameters(self) -> Iterator[Tensor]:
        """The weights."""

    def begin(self, source: Any, policy: Policy) -> State:
        """A state in which no token has been read yet; an encoder-decoder encodes the source here."""

    def __call__(self, tokens: Tensor, state: Any = None, valid: Tensor | None = None) -> Tensor:
        """The logits after each token; `state` moves on by these tokens."""


@runtime_checkable
class ReadsTexts(CausalModel, Protocol):
    """A causal model whose sources are texts, of different lengths within a batch."""

    def begin(self, source: Any, policy: Policy, source_valid: Tensor | None = None) -> State:
        """The same; `source_valid` is False at the source's padding."""


@runtime_checkable
class HasHead(CausalModel, Protocol):
    """A causal model that can be called in two halves, so that the logits of some tokens need not be computed."""

    def last_vectors(self, tokens: Tensor, state: Any = None, valid: Tensor | None = None) -> Tensor:
        """What the head reads of each token; `state` moves on by these tokens."""

    def unembed(self, x: Tensor, /) -> Tensor:
        """The logits of the token after each; those of one token do not depend on other tokens."""


# What a model takes in and gives back, which decides what the verbs can do with it.
KindName = Literal[
    "language-model", "encoder-decoder", "encoder", "image-classifier", "speech-recognizer", "word-vectors"
]
ENCODER_DECODERS: tuple[KindName, ...] = ("encoder-decoder", "speech-recognizer")  # of which the second writes
IN_WORDS: dict[KindName, str] = {
    "language-model": "a language model",
    "encoder-decoder": "an encoder-decoder",
    "encoder": "an encoder",
    "image-classifier": "an image classifier",
    "speech-recognizer": "a speech recognizer",
    "word-vectors": "a table of word vectors",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An architecture: its module, how that starts, what it is for, and how it stands in published files.

    Constructing `module` from a configuration allocates; `initialize` alone draws numbers, for all parameters.
    `published` is how Hugging Face's folders have it, which `models.specs` takes from the file of the same name in
    `published/`; an architecture without one has its own names in files, too, and only we read them.
    Parameters whose last names are `in_float32` are never rounded to less, whatever precision the others are in.
    """

    config: type[Any]
    module: Callable[[Any], nn.Module]
    presets: Mapping[str, Any]
    initialize: Callable[[Any, torch.Generator | None], None] = initialize
    kind: KindName = "language-model"
    published: Published | None = None
    in_float32: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The architecture's name, which its configurations declare."""
        architecture: str = self.config.architecture
        return architecture

    @property
    def model_types(self) -> frozenset[str]:
        """The types of a config.json that are read as this architecture."""
        return frozenset(() if self.published is None else self.published.model_types)

    def outline(self, config: Any) -> nn.Module:
        """The model without memory: its weights have shapes and nothing else, on torch's meta device."""
        too_large = ConfigError(f"no memory holds a model of these sizes: {config}.")
        try:
            with torch.device("meta"):
                module = self.module(config)
        except (RuntimeError, OverflowError, TypeError) as error:
            if TOO_LARGE.search(str(error)):
                raise too_large from None
            raise
        if sum(parameter.numel() for parameter in module.parameters()) > MAX_PARAMETERS:
            raise too_large
        if buffers := [name for name, _ in module.named_buffers()]:
            raise ConfigError(
                f"The architecture {self.name} has the buffer {buffers[0]}, which no file would hold: compute it in "
                "the model's forward, or make it a parameter."
            )
        return module

    def with_context(self, config: Any, length: int) -> Any:
        """The configuration of the same weights for texts of another length; raises where weights are of positions."""
        if "context_length" not in {each.name for each in fields(config)}:
            raise ConfigError(f"is for models of texts, and {self.name} has none.", setting="context_length")
        changed = replace(config, context_length=length)
        shapes, as_loaded = (
            {name: weight.shape for name, weight in self.outline(each).named_parameters()} for each in (changed, config)
        )
        if shapes != as_loaded:
            raise ConfigError(
                f"must be {config.context_length}, not {length}: {self.name} has a learned vector for each position, "
                "and no others.",
                setting="context_length",
            )
        return changed

    def precision(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """That of the parameter of this name in a model that is otherwise in `dtype`."""
        is_exact = name.rpartition(".")[2] in self.in_float32
        return torch.promote_types(dtype, torch.float32) if is_exact else dtype

    def convert(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Bring a module into a precision in place, each parameter into its own."""
        exact = {
            name: weight.data for name, weight in module.named_parameters() if self.precision(name, dtype) != dtype
        }
        module.to(dtype)
        for name, weight in module.named_parameters():
            if name in exact:
                weight.data = exact[name].to(self.precision(name, dtype))

    def build(self, config: Any, generator: torch.Generator | None = None) -> nn.Module:
        """The model with random weights, drawn from the generator, or from torch's own."""
        module = self.outline(config)
        set_parameters(
            module,
            {
                name: torch.full(weight.shape, math.nan, dtype=weight.dtype)
                for name, weight in module.named_parameters()
            },
        )
        self.initialize(module, generator)
        drawn = {name: weight for name, weight in module.named_parameters() if not weight.is_meta}
        if missing := [name for name, weight in drawn.items() if weight.isnan().any()]:
            raise ConfigError(
                f"The architecture {self.name} draws no numbers for {missing[0]}: its layer needs an `initialize`, or "
                "the spec one that sets all parameters."
            )
        return module


def set_parameters(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Let these very tensors be the parameters of those names; what modules share, they go on sharing."""
    parameters = {
        id(old): nn.Parameter(weights[name], requires_grad=old.requires_grad) for name, old in module.named_parameters()
    }
    for part in module.modules():
        for name, old in list(part.named_parameters(recurse=False)):
            setattr(part, name, parameters[id(old)])


def longest_text(config: Any) -> int:
    """How many tokens a model reads at once: no end of them where it knows of positions only how far apart they are."""
    return sys.maxsize if getattr(config, "relative_positions", False) else int(config.context_length)


MAX_PARAMETERS = 1 << 48
TOO_LARGE = re.compile("overflow|too large|out of range", re.IGNORECASE)  # of more than 2⁶³ bytes, as torch says it
# Ten times the deepest that anybody has trained: each layer costs memory before its weights are looked at.
MAX_LAYERS = 10_000


def check_sizes(config: Any, *names: str) -> None:
    """Raise unless each named field is a positive int that fits a tensor's axis, or a number of layers."""
    for name in names:
        value, of_layers = getattr(config, name), name.endswith("layers")
        most = MAX_LAYERS if of_layers else 2**31 - 1
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            limit = f"{most:,}" if of_layers else "2³¹ − 1"
            raise ConfigError(f"{name} must be a whole number from 1 to {limit}, not {value!r}.")


def check_choice(config: Any, name: str, choices: Sequence[object]) -> None:
    """Raise unless the named field is one of the choices."""
    if getattr(config, name) not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, choices))}, not {getattr(config, name)!r}.")


def check_fraction(config: Any, name: str) -> None:
    """Raise unless the named field is a number from 0 up to, not including, 1."""
    value = getattr(config, name)
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be at least 0 and below 1, not {value!r}.")


def check_positive(config: Any, name: str) -> None:
    """Raise unless the named field is a finite number above 0."""
    value = getattr(config, name)
    if not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ConfigError(f"{name} must be a positive number, not {value!r}.")


def check_heads(config: Any) -> None:
    """Raise unless the features divide evenly among the heads."""
    if config.d_model % config.n_heads:
        raise ConfigError(f"d_model {config.d_model} does not divide into {config.n_heads} heads.")


def check_labels(config: Any) -> None:
    """Raise unless the classes have a name each, or none at all, and are classes of a known kind."""
    check_choice(config, "problem_type", ("single-label", "multi-label", "regression"))
    if config.labels and len(config.labels) != config.n_classes:
        raise ConfigError(f"There are {len(config.labels)} labels for {config.n_classes} classes.")


def check_grid(config: Any) -> None:
    """Raise unless image_size and patch_size are heights and widths, and an image has a patch."""
    for name in ("image_size", "patch_size"):
        height, width = getattr(config, name)
        if not all(type(side) is int and 1 <= side < 2**15 for side in (height, width)):
            raise ConfigError(f"{name} must be two whole numbers from 1 to 2¹⁵ − 1, not {(height, width)}.")
    if 0 in config.grid:
        raise ConfigError(f"An image of {config.image_size} pixels has no patch of {config.patch_size}.")

"""What a model file tells the rest of the house: its configuration, its presets, and its names in published files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError, ExportError
from glassformer.nn.init import initialize
from glassformer.nn.kv_cache import Policy


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass of sizes and choices; its `__post_init__` refuses what cannot be built."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int: ...


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


# What a model takes in and gives back, which decides what the verbs can do with it.
Kind = Literal["language-model", "encoder-decoder", "encoder", "image-classifier", "speech-recognizer", "word-vectors"]
TWO_HALVES: tuple[Kind, ...] = ("encoder-decoder", "speech-recognizer")  # of which the second writes
IN_WORDS: dict[Kind, str] = {
    "language-model": "a language model",
    "encoder-decoder": "an encoder-decoder",
    "encoder": "an encoder",
    "image-classifier": "an image classifier",
    "speech-recognizer": "a speech recognizer",
    "word-vectors": "a table of word vectors",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """How parameters of ours stand in a published file: several of ours may be one of theirs.

    Names contain `{}` for the number of the layer, of which the configuration's field `layers` says how many there are.
    `read` and `write` turn one tensor of theirs into ours and back.
    """

    theirs: str
    ours: tuple[str, ...]
    read: Callable[[Tensor], Sequence[Tensor]]
    write: Callable[[Sequence[Tensor]], Tensor]
    layers: str = "n_layers"


def same(ours: str, theirs: str, layers: str = "n_layers") -> Rename:
    """The same tensor under another name."""
    return Rename(
        theirs=theirs, ours=(ours,), read=lambda tensor: [tensor], write=lambda tensors: tensors[0], layers=layers
    )


def transposed(ours: Sequence[str], theirs: str) -> Rename:
    """Weights that they store as (d_in, d_out), several of ours side by side: GPT-2's Conv1D."""
    return Rename(
        theirs=theirs,
        ours=tuple(ours),
        read=lambda tensor: tensor.mT.chunk(len(ours)),
        write=lambda tensors: torch.cat(list(tensors)).mT,
    )


def joined(ours: Sequence[str], theirs: str) -> Rename:
    """Several of our vectors or matrices, one below the other, in one of theirs."""
    return Rename(
        theirs=theirs,
        ours=tuple(ours),
        read=lambda tensor: tensor.chunk(len(ours)),
        write=lambda tensors: torch.cat(list(tensors)),
    )


def zeros(theirs: str, shape: tuple[int, ...]) -> Rename:
    """A tensor of theirs that our model has no need of, because all its numbers are zero."""

    def read(tensor: Tensor) -> Sequence[Tensor]:
        if tensor.any():
            raise ConfigError(f"{theirs} must be zero, since the configuration has no place for it.")
        return []

    return Rename(theirs=theirs, ours=(), read=read, write=lambda tensors: torch.zeros(shape))


def half_from_interleaved(ours: str, theirs: str, d_head: int) -> Rename:
    """Rows of a projection of ours whose rotary pairs are neighbours; theirs are d_head / 2 apart. See `nn/rope.py`."""

    def read(tensor: Tensor) -> Sequence[Tensor]:
        return [tensor.reshape(-1, 2, d_head // 2, tensor.shape[-1]).transpose(1, 2).flatten(0, 2)]

    def write(tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0].reshape(-1, d_head // 2, 2, tensors[0].shape[-1]).transpose(1, 2).flatten(0, 2)

    return Rename(theirs=theirs, ours=(ours,), read=read, write=write)


def no_import(config: Mapping[str, Any]) -> NoReturn:
    """What reading a config.json does for an architecture that Hugging Face does not have."""
    raise ConfigError("config.json: Hugging Face has no model of this architecture.")


def no_export(config: Any) -> NoReturn:
    """What writing a config.json does for an architecture that Hugging Face does not have."""
    raise ExportError(f"Hugging Face has no model that a {type(config).__name__} could stand for.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An architecture: its module, how that starts, and how Hugging Face calls its parts.

    Constructing `module` from a configuration allocates; `initialize` alone draws numbers, for all parameters.
    An architecture that Hugging Face does not have leaves out the three fields of that name; its `renames` then are
    its own names. `native_renames` are those of folders that we alone read, where they are others. `to_huggingface`
    raises `ExportError` for what the format cannot express. `ignored` are patterns of names in published files that
    hold no weights (masks, tables), `elsewhere` of weights that only other tasks use, which are left out;
    `base_prefix` is what files of the bare trunk lack; `tied` maps a name under which a file may repeat a tied tensor
    to the name that it has anyway. `other_types` are further model types of Hugging Face's that this architecture
    covers.
    """

    name: str
    config: type[Any]
    module: Callable[[Any], nn.Module]
    presets: Mapping[str, Any]
    renames: Callable[[Any], Sequence[Rename]]
    initialize: Callable[[Any, torch.Generator | None], None] = initialize
    native_renames: Callable[[Any], Sequence[Rename]] | None = None
    huggingface_type: str = ""
    from_huggingface: Callable[[Mapping[str, Any]], Any] = no_import
    to_huggingface: Callable[[Any], dict[str, Any]] = no_export
    kind: Kind = "language-model"
    ignored: tuple[str, ...] = field(default=())
    elsewhere: tuple[str, ...] = field(default=())
    base_prefix: str = ""
    other_types: tuple[str, ...] = field(default=())
    tied: Mapping[str, str] = field(default_factory=dict)

    def outline(self, config: Any) -> nn.Module:
        """The model without memory: its weights have shapes and nothing else, on torch's meta device."""
        too_large = ConfigError(f"no memory holds a model of these sizes: {config}.")
        try:
            with torch.device("meta"):
                module = self.module(config)
        except (RuntimeError, OverflowError, TypeError):  # a tensor of more than 2⁶³ bytes
            raise too_large from None
        if sum(parameter.numel() for parameter in module.parameters()) > MAX_PARAMETERS:
            raise too_large
        return module

    def build(self, config: Any, generator: torch.Generator | None = None) -> nn.Module:
        """The model with random weights, drawn from the generator, or from torch's own."""
        module = self.outline(config)
        set_parameters(
            module, {name: torch.empty(weight.shape, dtype=weight.dtype) for name, weight in module.named_parameters()}
        )
        self.initialize(module, generator)
        return module


def set_parameters(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Let these very tensors be the parameters of those names; what modules share, they go on sharing."""
    parameters = {
        id(old): nn.Parameter(weights[name], requires_grad=old.requires_grad) for name, old in module.named_parameters()
    }
    for part in module.modules():
        for name, old in list(part.named_parameters(recurse=False)):
            setattr(part, name, parameters[id(old)])


MAX_PARAMETERS = 1 << 48
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


def check_heads(config: Any) -> None:
    """Raise unless the features divide evenly among the heads."""
    if config.d_model % config.n_heads:
        raise ConfigError(f"d_model {config.d_model} does not divide into {config.n_heads} heads.")


# ---- what several architectures read in a config.json

ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}  # ours: Hugging Face's
SYNONYMS = {"gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}  # Hugging Face's: ours


def read_activation(config: Mapping[str, Any], name: str, default: str) -> str:
    """Our name of the activation that a setting names."""
    ours = {theirs: ours for ours, theirs in ACTIVATION_NAMES.items()} | SYNONYMS
    activation = config.get(name, default)
    if not isinstance(activation, str) or activation not in ours:
        raise ConfigError(f"config.json: {name} {activation!r} is not one of {', '.join(ours)}.")
    return ours[activation]


def check_settings(config: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Raise where a setting is there and is not the only value that is supported."""
    for name, only in supported.items():
        found = config.get(name, only)
        if type(found) is not type(only) or found != only:
            raise ConfigError(f"config.json: {name} = {found!r} is not supported; it must be {only!r}.")

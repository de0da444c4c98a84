"""Rotary settings in Hugging Face's folders: the base of the frequencies, and how they are scaled for long texts.

Version 4 of `transformers` writes them as `rope_theta` and `rope_scaling`, version 5 as `rope_parameters`; both read
the former, which is written here. What each kind of scaling does is in `nn/rope.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import FieldGroup, Settings
from glassformer.nn.rope import RopeScaling

ORIGINAL = "original_max_position_embeddings"
NAMES: Mapping[str, Mapping[str, str]] = {  # of each kind, ours: theirs
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},  # the original context is max_position_embeddings
    "yarn": {
        "factor": "factor",
        "original_context_length": ORIGINAL,
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "truncate": "truncate",
        "attention_factor": "attention_factor",
    },
    "longrope": {
        "factor": "factor",
        "original_context_length": ORIGINAL,
        "short_factors": "short_factor",
        "long_factors": "long_factor",
        "attention_factor": "attention_factor",
    },
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low_freq_factor",
        "high_freq_factor": "high_freq_factor",
        "original_context_length": ORIGINAL,
    },
}
OPTIONAL = ("beta_fast", "beta_slow", "truncate", "attention_factor")
LONGEST = 2.0**53  # beyond any context, and still a whole number


def rope_parameters(theirs: Settings) -> Mapping[str, Any]:
    """The settings that stand together, by either name; the older one counts first."""
    rope = theirs.get("rope_scaling") or theirs.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"the rotary settings must be an object, not {rope!r}.")
    return rope


def kind_of(rope: Mapping[str, Any]) -> Any:
    """The kind of scaling, by either name; longrope was called su once."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    return "longrope" if kind == "su" else kind


def partial_factor(theirs: Settings) -> Any:
    """The part of a head's features that turns."""
    return rope_parameters(theirs).get("partial_rotary_factor", theirs.get("partial_rotary_factor", 1.0))


def read_rope(theirs: Settings, theta: float, length: int) -> dict[str, Any]:
    """The context, the base and the scaling; `theta` and `length` are the defaults of a family.

    Files do not agree whether max_position_embeddings is the length before or after scaling (Gemma 3's "linear" names
    the latter, Qwen2.5's "yarn" the former). `transformers` refuses no text for its length; here the context is what
    they name, or `factor` times the original one where they name that, too, and it is more. Who knows better says so
    when the model is loaded (`context_length`); in a copy, a shorter one stands in our own file alone.
    """
    rope = rope_parameters(theirs)
    kind = kind_of(rope)
    if not isinstance(kind, str) or kind not in ("default", *NAMES):
        raise ConfigError(f"rope_type {kind!r} is not supported; default, {', '.join(NAMES)} are.")
    context = theirs.get("max_position_embeddings", length)
    scaling = None
    if kind != "default":
        original = next((one for one in (theirs.get(ORIGINAL), rope.get(ORIGINAL)) if one is not None), None)
        scaling = read_scaling(kind, rope, original, context)
        context = scaled_context(scaling, context, context if kind == "dynamic" else original)
    return {
        "context_length": context,
        "rope_theta": rope.get("rope_theta", theirs.get("rope_theta", theta)),
        "rope_scaling": scaling,
    }


def scaled_context(scaling: RopeScaling, context: Any, original: Any) -> Any:
    """The context that a file names, or the original one times the factor where that is more."""
    if scaling.kind == "llama3" or type(context) is not int or type(original) is not int or original > LONGEST:
        return context  # llama3's factor divides low frequencies alone: Llama 3.2 has 32, for 16 times the context
    return max(context, int(min(scaling.factor * original, LONGEST)))


def read_scaling(kind: str, rope: Mapping[str, Any], original: Any, context: Any) -> RopeScaling:
    """The scaling that the settings of its kind say; `original` is the context before it, where a file names that."""
    names = NAMES[kind]
    scaling = {
        ours: rope.get(name) for ours, name in names.items() if ours not in OPTIONAL or rope.get(name) is not None
    }
    if kind == "dynamic" or "original_context_length" in scaling:
        scaling["original_context_length"] = context if kind == "dynamic" or original is None else original
    if kind in ("yarn", "longrope") and scaling["factor"] is None:
        scaling["factor"] = context_factor(context, scaling["original_context_length"], kind)
    if kind == "yarn" and "attention_factor" not in scaling:
        scaling["attention_factor"] = yarn_attention_factor(rope, scaling["factor"])
    return from_mapping(RopeScaling, {"kind": kind, **scaling}, "rope_scaling.")


def context_factor(context: Any, original: Any, kind: str) -> float | None:
    """How many times the original context a file's context is, where it says nothing else."""
    if type(context) is not int or type(original) is not int or original < 1:
        return None
    return max(context / original, 1.0) if kind == "longrope" else context / original


def yarn_attention_factor(rope: Mapping[str, Any], factor: Any) -> float | None:
    """DeepSeek's two settings of what YaRN multiplies cos and sin by; None where they are not both in use."""
    scales: list[Any] = [rope.get(name) for name in ("mscale", "mscale_all_dim")]
    if not all(scales):
        return None
    if not all(isinstance(n, int | float) for n in (*scales, factor)) or not 1 <= factor <= LONGEST:
        raise ConfigError(
            f"mscale and mscale_all_dim must be numbers, and the factor from 1 on, not {scales}, {factor!r}."
        )
    over, under = (1 + 0.1 * float(scale) * math.log(factor) for scale in scales)
    return over / under if under else math.nan


def write_rope(ours: Any) -> dict[str, Any]:
    """The settings of any family."""
    scaling: RopeScaling | None = ours.rope_scaling
    context = ours.context_length
    if scaling is not None and scaling.kind == "dynamic":
        original = scaling.original_context_length
        if context != int(scaling.factor * original):
            raise ExportError(
                f"cannot express context_length = {context} with dynamic scaling by {scaling.factor} from {original}; "
                f"it always has the product of both, {int(scaling.factor * original)}."
            )
        context = original
    return {
        "max_position_embeddings": context,
        "rope_theta": ours.rope_theta,
        "rope_scaling": None if scaling is None else write_scaling(scaling),
    }


def write_scaling(scaling: RopeScaling) -> dict[str, Any]:
    """The settings of the kind that it is."""
    values = {name: getattr(scaling, ours) for ours, name in NAMES[scaling.kind].items()}
    if values.get("attention_factor", 0) is None:
        del values["attention_factor"]
    lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return {"rope_type": scaling.kind, **values, **lists}


def rope_of_all(theta: float, length: int) -> FieldGroup:
    """The context and the rotary settings of a family in which all features of a head turn."""

    def read(theirs: Settings) -> dict[str, Any]:
        if (partial := partial_factor(theirs)) != 1:
            raise ConfigError(f"partial_rotary_factor = {partial!r} is not supported; it must be 1.0.")
        return read_rope(theirs, theta, length)

    return FieldGroup(
        theirs=("max_position_embeddings", ORIGINAL, "rope_theta", "rope_scaling", "rope_parameters"),
        ours=("context_length", "rope_theta", "rope_scaling"),
        read=read,
        write=write_rope,
    )


def read_rotary(fraction: Any, theirs: Settings, *, d_model: int, n_heads: int) -> int:
    """How many features of a head turn where this part of them does; the sizes are a family's defaults."""
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise ConfigError(f"the part of a head that turns must be above 0 and at most 1, not {fraction!r}.")
    sizes = theirs.get("hidden_size", d_model), theirs.get("num_attention_heads", n_heads)
    d_head = theirs.get("head_dim") or 1
    if not all(type(n) is int and n > 0 for n in (*sizes, d_head)):
        raise ConfigError(
            f"hidden_size, num_attention_heads and head_dim must be whole numbers from 1 on, not {sizes}."
        )
    n = int((theirs.get("head_dim") or sizes[0] // sizes[1]) * fraction)
    if n < 2 or n % 2:
        raise ConfigError(f"{fraction} of a head's features are {n}, which do not turn in pairs.")
    return n


def write_rotary(ours: Any) -> float:
    """The part of a head that turns."""
    return fraction_of(ours.d_rotary or ours.d_head, ours.d_head)


def fraction_of(d_rotary: int, d_head: int) -> float:
    """The part that so many features are of a head, of which the same number is read again."""
    fraction = d_rotary / d_head
    return fraction if int(d_head * fraction) == d_rotary else math.nextafter(fraction, 1)

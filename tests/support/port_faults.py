"""Faults that ports of models really have, one function each, and the step that a comparison must name.

`step` is a pattern of "module function line" of the port's step; of a step that the port lacks, `lacks` is one of the
original's.
"""

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from glassformer.nn import attention, position_bias
from glassformer.nn import functional as F
from glassformer.nn.attend import naive
from glassformer.nn.mask import Causal, Everything
from glassformer.nn.rope import Rotation
from glassformer.tracing.compare import TracedStep
from support.ports import Port, port

Inject = Callable[[Any, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A fault of a port of this family."""

    family: str
    inject: Inject
    step: str = ""
    lacks: str = ""
    changes: tuple[tuple[str, Any], ...] = ()  # of the original's configuration

    def port(self, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Port:
        """The port with the fault in it."""
        made = port(self.family, seed, **dict(self.changes))
        with torch.no_grad():
            self.inject(made.ours, monkeypatch)
        return made

    def is_named_by(self, a: TracedStep | None, b: TracedStep | None) -> bool:
        """Whether a comparison has found it."""
        return _fits(self.step, b) or _fits(self.lacks, a)


def _fits(pattern: str, place: TracedStep | None) -> bool:
    if not pattern or place is None:
        return False
    step = place.operation
    return bool(re.search(pattern, f"{step.module} {step.source.function} {step.source.text}"))


def _swap(*names: str) -> Inject:
    """Two layers, or two weights, have each other's numbers."""

    def inject(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = (dict(_tensors(model, name)) for name in names)
        for name in first.keys() & second.keys():
            numbers = first[name].clone()
            first[name].copy_(second[name])
            second[name].copy_(numbers)

    return inject


def _tensors(model: Any, name: str) -> Any:
    part = _part(model, name)
    return [("", part)] if isinstance(part, torch.Tensor) else part.named_parameters()


def _part(model: Any, name: str) -> Any:
    for each in name.split("."):
        model = model[int(each)] if each.isdecimal() else getattr(model, each)
    return model


def _weight(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Inject:
    """A weight has other numbers."""

    def inject(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        weight = _part(model, name)
        weight.copy_(change(weight.clone()))

    return inject


def _set(name: str, value: Any) -> Inject:
    """A part, or a setting of one, is another."""

    def inject(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        owner, _, last = name.rpartition(".")
        setattr(_part(model, owner) if owner else model, last, value(model) if callable(value) else value)

    return inject


def _forward(name: str, forward: Callable[..., Any]) -> Inject:
    """A layer computes something else."""

    def inject(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        part = _part(model, name)
        part.forward = types.MethodType(forward, part)

    return inject


def _patched(owner: Any, name: str, value: Any) -> Inject:
    """A function is another."""
    return lambda model, monkeypatch: monkeypatch.setattr(owner, name, value)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda model: value


def _heads(weight: Any) -> Any:
    """The rows of four heads, the last head first."""
    return weight.unflatten(0, (4, -1)).flip(0).flatten(0, 1)


def _two_heads(weight: Any) -> Any:
    return weight.unflatten(0, (2, -1)).flip(0).flatten(0, 1)


def _every_head_turned(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("q_proj", "k_proj", "v_proj"):
        for weight in _part(model, f"blocks.1.attn.{name}").parameters():
            weight.copy_(_heads(weight.clone()))


def _in_half(layer: Any, x: torch.Tensor) -> Any:
    return ((x * 1e4).half() @ layer.weight.half().mT).to(x.dtype) / 1e4 + layer.bias


def _without_residual(block: Any, x: torch.Tensor, mask: Any, **where: Any) -> Any:
    x = x + block.attn(block.attn_norm(x), mask, rotation=where.get("rotation"), cache=where.get("cache"))
    x = block.mlp(block.mlp_norm(x))
    return x


def _wrong_heads(x: torch.Tensor, n_heads: int) -> Any:
    return x.reshape(*x.shape[:-2], n_heads, x.shape[-2], -1)


def _tiled(x: torch.Tensor, n_heads: int) -> Any:
    return x.repeat(1, n_heads // x.shape[-3], 1, 1)


def _later(self: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return (key >= 0) & (key <= query + 1)


def _earlier(self: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return (key >= 0) & ((key < query) | (key == 0))


def _all_allowed(self: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return (key >= 0) & (query >= -1)


def _interleaved(self: Rotation, x: torch.Tensor) -> Any:
    cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def _turned_back(self: Rotation, x: torch.Tensor) -> Any:
    cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


def _dropping(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = model.blocks[1].dropout
    dropout.p = 0.1
    dropout.train()


def _no_positions(self: Any, mask: Any) -> None:
    return None


def _one_way(distance: Any, n_buckets: int, max_distance: int, *, bidirectional: bool) -> Any:
    return position_bias.bucket_of_steps((-distance).clamp(min=0), n_buckets, max_distance)


def _no_mean(norm: Any, x: torch.Tensor) -> Any:
    return F.rms_norm(x, norm.weight, norm.eps) + norm.bias


def _with_mean(norm: Any, x: torch.Tensor) -> Any:
    x = x - x.mean(-1, keepdim=True)
    return F.rms_norm(x, norm.weight, norm.eps)


def _gate_last(mlp: Any, x: torch.Tensor) -> Any:
    return mlp.down_proj(mlp.gate_proj(x) * F.silu(mlp.up_proj(x)))


def _ungated(mlp: Any, x: torch.Tensor) -> Any:
    return mlp.down_proj(F.gelu(mlp.gate_proj(x)) * mlp.up_proj(x))


def _unbiased(part: Any, x: torch.Tensor) -> Any:
    return x @ part.weight.mT


ATTN = r"^blocks\.1\.attn\b"
GQA = (("num_key_value_heads", 2),)
FAULTS: dict[str, Fault] = {
    # GPT-2
    "gpt2: k and v swapped": Fault(
        "gpt2", _swap("blocks.1.attn.k_proj", "blocks.1.attn.v_proj"), r"1\.attn\.[kv]_proj"
    ),
    "gpt2: q and k swapped": Fault(
        "gpt2", _swap("blocks.0.attn.q_proj", "blocks.0.attn.k_proj"), r"0\.attn\.[qk]_proj"
    ),
    "gpt2: o_proj transposed": Fault(
        "gpt2", _weight("blocks.1.attn.o_proj.weight", lambda w: w.mT), r"1\.attn\.o_proj"
    ),
    "gpt2: scores not scaled": Fault("gpt2", _set("blocks.1.attn.scale", 1.0), r"1\.attn naive scores"),
    "gpt2: eps 1e-6 for 1e-5": Fault("gpt2", _set("blocks.1.attn_norm.eps", 1e-6), r"1\.attn_norm .*eps"),
    "gpt2: erf for tanh in GELU": Fault("gpt2", _set("blocks.1.mlp.activation", _always(F.gelu)), r"1\.mlp gelu"),
    "gpt2: ReLU for GELU": Fault("gpt2", _set("blocks.0.mlp.activation", _always(F.relu)), r"0\.mlp relu"),
    "gpt2: a token sees the next": Fault("gpt2", _patched(Causal, "__call__", _later), r"0\.attn naive .*mask"),
    "gpt2: a token does not see itself": Fault("gpt2", _patched(Causal, "__call__", _earlier), r"0\.attn naive .*mask"),
    "gpt2: norm after for before": Fault("gpt2", _set("blocks.1.norm_placement", "post"), r"1\.attn\.[qkv]_proj"),
    "gpt2: a bias lost": Fault(
        "gpt2",
        _weight("blocks.0.mlp.up_proj.bias", torch.zeros_like),
        r"0\.mlp\.up_proj .*bias",
        r"h\.0\.mlp\.c_fc .*bias",
    ),
    "gpt2: a bias of the wrong layer": Fault(
        "gpt2", _swap("blocks.0.mlp.down_proj.bias", "blocks.1.mlp.down_proj.bias"), r"0\.mlp\.down_proj .*bias"
    ),
    "gpt2: heads of q in another order": Fault(
        "gpt2", _weight("blocks.1.attn.q_proj.weight", _heads), r"1\.attn\.q_proj"
    ),
    "gpt2: all heads but o_proj in another order": Fault("gpt2", _every_head_turned, r"1\.attn\.[qkv]_proj"),
    "gpt2: heads split without a transpose": Fault(
        "gpt2", _patched(attention, "split_heads", _wrong_heads), r"0\.attn _wrong_heads"
    ),
    "gpt2: another head than the embedding": Fault(
        "gpt2", _set("lm_head.weight", lambda model: nn.Parameter(model.lm_head.weight.roll(1, 0))), r"^lm_head"
    ),
    "gpt2: positions off by one": Fault(
        "gpt2",
        _weight("position_embedding.weight", lambda w: w.roll(1, 0)),
        r"position_embedding|token_embedding\(tokens\) \+",
    ),
    "gpt2: no final norm": Fault("gpt2", _set("final_norm", _always(nn.Identity())), r"^$", r"^transformer\.ln_f"),
    "gpt2: no residual": Fault(
        "gpt2", _forward("blocks.0", _without_residual), r"^blocks\.1\.attn_norm", r"h\.0 .*residual"
    ),
    "gpt2: dropout left on": Fault("gpt2", _dropping, r"1\.dropout"),
    "gpt2: float16 overflows": Fault("gpt2", _forward("blocks.1.mlp.down_proj", _in_half), r"down_proj _in_half"),
    "gpt2: RMS norm for layer norm": Fault("gpt2", _forward("blocks.1.mlp_norm", _no_mean), r"1\.mlp_norm"),
    # Llama
    "llama: interleaved for half rotation": Fault(
        "llama", _patched(Rotation, "_turned", _interleaved), r"_interleaved"
    ),
    "llama: rotation the other way": Fault("llama", _patched(Rotation, "_turned", _turned_back), r"_turned_back"),
    "llama: gate and up swapped": Fault(
        "llama", _swap("blocks.1.mlp.gate_proj", "blocks.1.mlp.up_proj"), r"1\.mlp\.(gate|up)_proj"
    ),
    "llama: SiLU on the wrong half": Fault(  # which is the same as two weights swapped
        "llama", _forward("blocks.1.mlp", _gate_last), r"1\.mlp (silu|_gate_last)|1\.mlp\.(gate|up)_proj"
    ),
    "llama: GELU for SiLU": Fault("llama", _forward("blocks.1.mlp", _ungated), r"1\.mlp gelu"),
    "llama: eps 1e-5 for 1e-6": Fault("llama", _set("blocks.1.mlp_norm.eps", 1e-5), r"1\.mlp_norm .*eps"),
    "llama: heads of k in another order": Fault(
        "llama",
        _weight("blocks.1.attn.k_proj.weight", _two_heads),
        r"1\.attn\.k_proj",
        changes=GQA,
    ),
    "llama: keys tiled, not repeated": Fault(
        "llama", _patched(naive, "repeat_kv", _tiled), r"_tiled|naive (scores|return weights @ v)", changes=GQA
    ),
    "llama: tied for untied": Fault("llama", _set("lm_head.weight", lambda m: m.token_embedding.weight), r"^lm_head"),
    "llama: no scale of the final norm": Fault(
        "llama", _weight("final_norm.weight", torch.ones_like), r"^final_norm|^lm_head"
    ),
    "llama: layer norm for RMS norm": Fault("llama", _forward("blocks.1.attn_norm", _with_mean), r"1\.attn_norm"),
    # BERT
    "bert: norm before for after": Fault("bert", _set("encoder.blocks.1.norm_placement", "pre"), r"1\.attn_norm"),
    "bert: no types of tokens": Fault(
        "bert",
        _set("encoder.type_embedding", _always(None)),
        r"^encoder(\.embedding_norm)? ",
        r"embeddings .*token_type",
    ),
    "bert: eps 1e-5 for 1e-12": Fault("bert", _set("encoder.blocks.0.mlp_norm.eps", 1e-5), r"0\.mlp_norm .*eps"),
    "bert: tanh for erf in GELU": Fault(
        "bert", _set("encoder.blocks.1.mlp.activation", _always(F.gelu_tanh)), r"1\.mlp gelu"
    ),
    "bert: a mask that there is not": Fault(
        "bert", _patched(Everything, "__call__", Causal.__call__), r"0\.attn naive .*mask"
    ),
    "bert: q and v swapped": Fault(
        "bert", _swap("encoder.blocks.1.attn.q_proj", "encoder.blocks.1.attn.v_proj"), r"1\.attn\.[qv]_proj"
    ),
    # T5
    "t5: scores scaled": Fault(
        "t5", _set("encoder.blocks.1.attn.scale", None), r"encoder\.blocks\.1\.attn naive scores"
    ),
    "t5: no bias of positions": Fault(
        "t5",
        _patched(position_bias.RelativePositionBias, "forward", _no_positions),
        r"encoder.*naive",
        r"encoder.*bias",
    ),
    "t5: buckets of one direction": Fault(
        "t5",
        _patched(position_bias, "bucket", _one_way),
        r"^encoder.position_bias|encoder\.blocks\.0\.attn naive .*bias",
    ),
    "t5: k and v of cross-attention swapped": Fault(
        "t5",
        _swap("decoder.blocks.1.cross_attn.k_proj", "decoder.blocks.1.cross_attn.v_proj"),
        r"decoder\.blocks\.1\.cross_attn\.[kv]_proj",
    ),
    "t5: GELU for ReLU": Fault(
        "t5", _set("decoder.blocks.0.mlp.activation", _always(F.gelu)), r"decoder\.blocks\.0\.mlp gelu"
    ),
    "t5: head not scaled": Fault(
        "t5",
        _set("unembed", lambda m: m.lm_head.forward),
        r"T5 |^lm_head|^ .*linear",
        r"d_model|model_dim|hidden_size",
        (("scale_decoder_outputs", True),),
    ),
    # Whisper
    "whisper: q and k swapped": Fault(
        "whisper",
        _swap("decoder.blocks.1.attn.q_proj.weight", "decoder.blocks.1.attn.k_proj.weight"),
        r"decoder\.blocks\.1\.attn\.[qk]_proj",
    ),
    "whisper: no mask in the decoder": Fault(
        "whisper",
        _patched(Causal, "__call__", _all_allowed),
        r"decoder\.blocks\.0\.attn naive .*(mask|softmax)|softmax",
    ),
    "whisper: a kernel mirrored": Fault(
        "whisper", _weight("encoder.conv1.weight", lambda w: w.flip(-1)), r"encoder\.conv1"
    ),
    "whisper: the encoder's positions reversed": Fault(
        "whisper", _weight("encoder.position_embedding", lambda w: w.flip(0)), r"^encoder .*position_embedding"
    ),
    "whisper: no final norm of the encoder": Fault(
        "whisper", _set("encoder.final_norm", _always(nn.Identity())), r"^$", r"encoder\.layer_norm"
    ),
}

"""Scenes of models that nobody loads: the sizes of GPT-2 XL or GPT-3 as hatched shapes, with no number in them.

The layout is that of a recorded model, given items that are made from the configuration alone. Of a norm only its
output is shown, of a softmax only its result, and biases are left out, so that GPT-3's 96 layers of 96 heads stay
drawable.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from glassformer import models
from glassformer.tracing.trace import TensorKind, TensorRecord
from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.decoder import DECODER
from glassformer.viewer.layout.spine import Spine
from glassformer.viewer.scene import Arrow, Scene
from glassformer.viewer.windows import windows

Part = tuple[str, str, TensorKind, tuple[int, ...]]  # name, role, kind, shape
GPT3 = {"context_length": 2048, "d_model": 12288, "n_layers": 96, "n_heads": 96}  # Brown et al. 2020, table 2.1


def shapes_scene(name: str, config: Any, *, n_positions: int | None = None) -> Scene:
    """The scene of a model of this configuration, reading as many tokens as it can or so many."""
    sizes = sizes_of(config, n_positions or config.context_length)
    items = list(_items(sizes, config))
    canvas = Canvas()
    Spine(items, sizes, canvas, DECODER).lay_out()
    stream = canvas.stream(items)
    return Scene(
        model={
            "name": name,
            "class": type(config).__name__.removesuffix("Config"),
            "n_parameters": n_parameters(config),
            "config": {},
            "about": None,
            "random": False,
            "shapes_only": True,
        },
        lazy=False,
        tokens=[],
        sizes=sizes,
        groups=canvas.groups,
        blocks=canvas.blocks,
        arrows=[Arrow(a, b, "residual") for a, b in pairwise(stream)],
        stream=stream,
        logits=next(block.id for block in canvas.blocks if block.role == "logits"),
    )


def configuration(name: str) -> Any:
    """A preset's configuration, or GPT-3's, which nobody has published weights for."""
    return models.configure("gpt2", GPT3) if name == "gpt3" else models.configure(name, {})


def n_parameters(config: Any) -> int:
    """Counted on a device that allocates nothing."""
    module = models.spec_of(config).outline(config)
    return sum(parameter.numel() for parameter in module.parameters())


def sizes_of(config: Any, n_positions: int) -> dict[str, int]:
    """The lengths of the axes."""
    return {
        "T": n_positions,
        "S": n_positions,
        "C": config.d_model,
        "H": config.n_heads,
        "G": getattr(config, "n_kv_heads", config.n_heads),
        "D": config.d_head,
        "F": config.d_ff,
        "V": config.vocab_size,
        "L": config.n_layers,
    }


def _items(sizes: dict[str, int], config: Any) -> Iterator[Item]:
    t, c, f, v, h, g, d = (sizes[axis] for axis in "TCFVHGD")
    gated = hasattr(config, "rope_theta")
    yield _item("tokens", "tokens", "input", (1, t))
    yield _item("token_embedding.weight", "token_embedding", "weight", (v, c))
    if not gated:
        yield _item("position_embedding.weight", "position_embedding", "weight", (config.context_length, c))
    yield _item("x#1", "x", "computed", (1, t, c))
    gate_weight: Part = ("mlp.gate_proj.weight", "gate_weight", "weight", (f, c))
    gate: Part = ("mlp.gate", "gate", "computed", (1, t, f))
    norm = "norm_out" if getattr(config, "norm_placement", "pre") == "res-post" else "norm"
    attn_norm: Part = ("attn_norm.output", norm, "computed", (1, t, c))
    mlp_norm: Part = ("mlp_norm.output", norm, "computed", (1, t, c))
    parts: Sequence[Part] = (
        attn_norm,
        ("attn.q_proj.weight", "q_weight", "weight", (h * d, c)),
        ("attn.k_proj.weight", "k_weight", "weight", (g * d, c)),
        ("attn.v_proj.weight", "v_weight", "weight", (g * d, c)),
        ("attn.q", "q", "computed", (1, h, t, d)),
        ("attn.k", "k", "computed", (1, g, t, d)),
        ("attn.v", "v", "computed", (1, g, t, d)),
        ("attn.scores", "scores", "computed", (1, h, t, t)),
        ("attn.weights", "weights", "computed", (1, h, t, t)),
        ("attn.out#1", "out", "computed", (1, h, t, d)),
        ("attn.out", "heads", "computed", (1, t, h * d)),
        ("attn.o_proj.weight", "o_weight", "weight", (c, h * d)),
        ("attn.output", "attn_out", "computed", (1, t, c)),
        ("x#2", "x", "computed", (1, t, c)),
        mlp_norm,
        *([gate_weight] if gated else []),
        ("mlp.up_proj.weight", "up_weight", "weight", (f, c)),
        *([gate] if gated else []),
        ("mlp.hidden", "up", "computed", (1, t, f)),
        ("mlp.activated", "activated", "computed", (1, t, f)),
        ("mlp.down_proj.weight", "down_weight", "weight", (c, f)),
        ("mlp.output", "mlp_out", "computed", (1, t, c)),
        ("x", "x", "computed", (1, t, c)),
    )
    for layer in range(sizes["L"]):
        for name, role, kind, shape in parts:
            yield _item(f"blocks.{layer}.{name}", role, kind, shape)
    yield _item("final_norm.output", "final_norm", "computed", (1, t, c))
    yield _item("lm_head.weight", "lm_head", "weight", (v, c))
    yield _item("logits", "logits", "computed", (1, t, v))


def _item(name: str, role: str, kind: TensorKind, shape: tuple[int, ...]) -> Item:
    strides = [1]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    record = TensorRecord(
        id=-1, storage=-1, dtype=torch.float32, shape=shape, strides=tuple(strides), offset=0, kind=kind, name=name
    )
    if len(shape) == 4:  # heads, however many
        cell_windows = [window for head in range(shape[1]) for window in windows(_head(record, head))]
    else:
        cell_windows = windows(record)
    return Item(
        storage=-1, tensor=record, name=name, role=role, module=name.rpartition(".")[0], order=0, windows=cell_windows
    )


def _head(record: TensorRecord, head: int) -> TensorRecord:
    return TensorRecord(
        id=-1,
        storage=-1,
        dtype=record.dtype,
        shape=record.shape[2:],
        strides=record.strides[2:],
        offset=head * record.strides[1],
        kind=record.kind,
        name=f"{record.name}[{head}]",
    )

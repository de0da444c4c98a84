"""Small models of every kind that the viewer shows, recorded once for all tests."""

import functools
from typing import Any

import torch

import glassformer as gf
from foreign import FOREIGN, NEEDS_DECOMPOSING
from glassformer.tracing.record import record as record_module
from glassformer.tracing.trace import Trace
from glassformer.viewer.pack import pack_scene, record
from glassformer.viewer.scene import Scene, Token

LLAMA = {"vocab_size": 40, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "nano-sort": ("nano-sort", {}),
    "a wide vocabulary": ("gpt2", {**LLAMA, "vocab_size": 700, "n_layers": 1}),
    "fourteen layers": ("gpt2", {**LLAMA, "n_layers": 14, "d_model": 16, "n_heads": 2}),
    "llama": ("llama", {**LLAMA, "n_kv_heads": 2}),
    "llama without shared heads": ("llama", LLAMA),
    "llama interleaved": ("llama", {**LLAMA, "n_kv_heads": 1, "rope_style": "interleaved", "tied_head": True}),
    "no positions": ("llama", {**LLAMA, "position": "none", "ffn": "silu"}),
    "post-norm": ("llama", {**LLAMA, "norm_placement": "post"}),
    "no norm": ("llama", {**LLAMA, "norm_placement": "none"}),
}
ALL = (*OURS, *FOREIGN)


@functools.lru_cache(None)
def recorded(name: str) -> tuple[Trace, Scene]:
    """A model's trace and its scene."""
    if name in OURS:
        preset, changes = OURS[name]
        model = gf.load("nano-sort") if name == "nano-sort" else gf.build(preset, **changes)
        ids = [2, 1, 0, 1, 1, 2]
        trace = record(model.module, torch.tensor([ids]))
        tokens = [Token(i, "ABC"[i], "ABC"[i].encode().hex()) for i in ids]
        return trace, pack_scene(trace, module=model.module, config=model.config, name=name, tokens=tokens)
    module, inputs, keywords = FOREIGN[name]()
    trace = record_module(module, *inputs, decompose=name in NEEDS_DECOMPOSING, **keywords)
    return trace, pack_scene(trace, module=module, config={}, name=name, tokens=[])

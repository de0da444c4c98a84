"""Small models of every kind that the viewer shows, recorded once for all tests."""

import functools
from typing import Any

import torch

import glassformer as gf
from glassformer.features.log_mel import hann_window, mel_filters
from glassformer.inference.recorded_call import ModelCall, call_of, from_sound
from glassformer.nn.rope import RopeScaling
from glassformer.tracing.recorder import record as record_module
from glassformer.tracing.trace import Trace
from glassformer.viewer.pack import pack_scene, predicts, record
from glassformer.viewer.scene import Scene, Token
from support.foreign import FOREIGN
from support.tiny import DEEPSEEK, FAMILIES

LLAMA = {"vocab_size": 40, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 48}
LONGROPE = RopeScaling(kind="longrope", original_context_length=4, short_factors=(1.0, 1.5), long_factors=(2.0, 4.0))
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "nano-sort": ("nano-sort", {}),
    "a wide vocabulary": ("gpt2", {**LLAMA, "vocab_size": 700, "n_layers": 1}),
    "fourteen layers": ("gpt2", {**LLAMA, "n_layers": 14, "d_model": 16, "n_heads": 2}),
    "llama": ("llama", {**LLAMA, "n_kv_heads": 2}),
    "llama without shared heads": ("llama", LLAMA),
    "llama interleaved": ("llama", {**LLAMA, "n_kv_heads": 1, "rope_style": "interleaved", "tied_head": True}),
    **{name: (name, {**sizes, "context_length": 16}) for name, sizes in (FAMILIES | DEEPSEEK).items()},
    "yarn": ("llama", {**LLAMA, "rope_scaling": RopeScaling(kind="yarn", factor=4.0, original_context_length=8)}),
    "longrope": ("phi3", {**LLAMA, "d_rotary": 4, "rope_scaling": LONGROPE}),
    "dynamic": ("llama", {**LLAMA, "rope_scaling": RopeScaling(kind="dynamic", original_context_length=4)}),
    "gpt_neox": ("gpt_neox", LLAMA),
    "gpt_neox one after the other": ("gpt_neox", {**LLAMA, "parallel": False, "attn_bias": False}),
    "no positions": ("cs336", {**LLAMA, "position": "none", "ffn": "silu"}),
    "post-norm": ("cs336", {**LLAMA, "norm_placement": "post"}),
    "no norm": ("cs336", {**LLAMA, "norm_placement": "none"}),
}
SMALL = {"vocab_size": 11, "context_length": 8, "d_model": 8}
SEQ2SEQ = {**SMALL, "source_vocab_size": 9, "n_layers": 1, "kind": "gru"}
BOTH = {**SMALL, "n_encoder_layers": 2, "n_decoder_layers": 2, "n_heads": 2, "d_ff": 12}
UNROLLED: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {**SMALL, "kind": "rnn", "n_layers": 1}),
    "gru": ("rnn", {**SMALL, "kind": "gru", "n_layers": 2}),
    "lstm": ("rnn", {**SMALL, "kind": "lstm", "n_layers": 2}),
    "one vector between": ("seq2seq", {**SEQ2SEQ, "n_layers": 2}),
    "luong dot": ("seq2seq", {**SEQ2SEQ, "attention": "dot"}),
    "luong general": (
        "seq2seq",
        {**SEQ2SEQ, "attention": "general", "window": "local-p", "radius": 2, "kind": "lstm", "bidirectional": True},
    ),
    "luong fed": (
        "seq2seq",
        {**SEQ2SEQ, "attention": "concat", "window": "local-m", "radius": 1, "input_feeding": True, "n_layers": 2},
    ),
}
LUONG = ("luong dot", "luong general", "luong fed")
TWO_SPINES: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder-decoder": ("transformer", BOTH),
    "encoder-decoder pre-norm": (
        "transformer",
        {**BOTH, "norm_placement": "pre", "source_vocab_size": 9, "head_bias": True, "position_layout": "halves"},
    ),
    "bart": ("bart", BOTH),
    "t5": ("t5", {**BOTH, "d_head": 3, "n_buckets": 6, "max_distance": 5, "ffn": "geglu", "tied_head": False}),
}
VIT = {
    "image_size": (8, 12),
    "patch_size": (4, 4),
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_ff": 24,
    "n_classes": 5,
}
DINOV2 = {**{name: size for name, size in VIT.items() if name != "d_ff"}, "image_size": (8, 8), "mlp_ratio": 2}
BERT = {"vocab_size": 11, "context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 24}
WHISPER = {**BOTH, "audio_context_length": 16, "n_mels": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {  # which read something else than one text
    "vit": ("vit", VIT),
    "bert": ("bert", {**BERT, "n_layers": 2}),
    "bert without a head": ("bert", {**BERT, "head": "none"}),
    "bert for classes": ("bert", {**BERT, "head": "classes", "n_classes": 3}),
    "roberta": ("roberta", {**BERT, "n_layers": 2}),
    "distilbert": ("distilbert", BERT),
    "distilbert for classes": ("distilbert", {**BERT, "head": "classes"}),
    "whisper": ("whisper", WHISPER),
    "word2vec": ("word2vec", {"vocab_size": 11, "d_model": 8}),
    "vit with two heads": ("vit", {**VIT, "distillation": "head", "n_channels": 1}),
    "dinov2": ("dinov2", DINOV2),
    "dinov2 gated": ("dinov2", {**DINOV2, "ffn": "swiglu", "n_layers": 2}),
    "dinov2 without a head": ("dinov2", {**DINOV2, "head": "none"}),
    "deit without a head": ("vit", {**VIT, "distillation": "token", "head": "none"}),
    "vit with pixels left over": ("vit", {**VIT, "image_size": (9, 14), "final_norm": False, "head": "mlp"}),
}
ALL = (*OURS, *UNROLLED, *TWO_SPINES, *KINDS, *FOREIGN)


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
    if name in UNROLLED or name in TWO_SPINES:
        preset, changes = (UNROLLED | TWO_SPINES)[name]
        return of_pair(gf.build(preset, **changes), name)
    if name in KINDS:
        torch.manual_seed(0)
        architecture, changes = KINDS[name]
        model = gf.build(architecture, **changes)
        call, given = inputs_of(model)
        trace = record(model.module, *given, call=call, predicts=predicts(model.config))
        return trace, pack_scene(trace, module=model.module, config=model.config, name=name, tokens=[])
    module, inputs, keywords = FOREIGN[name]()
    trace = record_module(module, *inputs, **keywords)
    return trace, pack_scene(trace, module=module, config={}, name=name, tokens=[])


def of_pair(model: gf.Model, name: str) -> tuple[Trace, Scene]:
    """A pass over a source of five tokens, where the model reads one, and a target of four."""
    source, ids = [3, 1, 4, 1, 5], [2, 7, 1, 8]
    is_encoder_decoder = model.kind == "encoder-decoder"
    texts = [torch.tensor([source])] * is_encoder_decoder + [torch.tensor([ids])]
    words = {n: [Token(i, f"{letter}{i}", "") for i in given] for n, letter, given in ((0, "s", source), (1, "t", ids))}
    trace = record(model.module, *texts, call=call_of(model.module))
    return trace, pack_scene(
        trace,
        module=model.module,
        config=model.config,
        name=name,
        tokens=words[1],
        source=words[0] if is_encoder_decoder else [],
    )


def inputs_of(model: gf.Model) -> tuple[ModelCall, list[torch.Tensor]]:
    """What is called, and something that it reads; of sound as many samples as make no whole frame."""
    match model.kind:
        case "speech-recognizer":
            mel_filters(model.config.n_mels), hann_window()
            return from_sound, [torch.randn(3250) / 10, torch.tensor([[1, 2, 3]])]
        case "image-classifier":
            return call_of(model.module), [torch.rand(1, model.config.n_channels, *model.config.image_size)]
        case "word-vectors":
            return call_of(model.module), [torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])]
        case _:
            return call_of(model.module), [torch.tensor([[1, 2, 3, 4]])]

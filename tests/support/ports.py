"""Small random models of `transformers` and ours with the same weights: ports, right ones until a fault is put in."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassformer.checkpoints.huggingface import load_directory
from glassformer.nn.kv_cache import full
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Trace
from glassformer.twins import use
from support.parity import import_transformers

transformers = import_transformers()
SIZES = {"vocab_size": 43, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2(**changes: Any) -> Any:
    config = transformers.GPT2Config(**{**SIZES, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 16, **changes})
    return transformers.GPT2LMHeadModel(config)


def llama(**changes: Any) -> Any:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": 16, "tie_word_embeddings": False}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **sizes, **changes}))


def bert(**changes: Any) -> Any:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    sizes |= {"max_position_embeddings": 16}
    return transformers.BertModel(transformers.BertConfig(**{**SIZES, **sizes, **changes}), add_pooling_layer=False)


def t5(**changes: Any) -> Any:
    sizes = {"d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 2}
    sizes |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**{**SIZES, **sizes, **changes}))


def whisper(**changes: Any) -> Any:
    sizes: dict[str, Any] = {
        "d_model": 24,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "num_mel_bins": 5,
        "max_source_positions": 10,
    }
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
    sizes |= {"max_target_positions": 16, "decoder_start_token_id": 0, "begin_suppress_tokens": None}
    sizes |= {"suppress_tokens": None}
    return transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**{**SIZES, **sizes, **changes}))


MODELS: dict[str, Callable[..., Any]] = {"gpt2": gpt2, "llama": llama, "bert": bert, "t5": t5, "whisper": whisper}


@dataclass
class Port:
    """A module of `transformers` and ours, in float64, and what both read."""

    family: str
    theirs: Any
    ours: Any
    inputs: tuple[Any, ...]
    sources: tuple[Any, ...]

    def trace_of(self, module: nn.Module) -> Trace:
        """The recording of either."""
        with use("readable", attention="naive"):
            if module is self.theirs:
                if self.family == "t5":
                    tokens, source = self.inputs[0], self.sources[0]
                    return record(module, decompose=True, input_ids=source, decoder_input_ids=tokens)
                if self.family == "whisper":
                    tokens, source = self.inputs[0], self.sources[0]
                    return record(module, decompose=True, input_features=source, decoder_input_ids=tokens)
                return record(module, *self.inputs, decompose=True)
            if self.sources:
                call = lambda ours, tokens, source: ours(tokens, ours.begin(source, full(tokens.shape[1])))  # noqa: E731
                return record(module, *self.inputs, *self.sources, call=call, decompose=True)
            return record(module, *self.inputs, decompose=True)


def port(family: str, seed: int = 0, **changes: Any) -> Port:
    """A random small model, its weights far from where training would begin."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        theirs = MODELS[family](**changes).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        theirs.save_pretrained(Path(folder))
        ours: Any = load_directory(Path(folder))[1]
        tokens = torch.randint(3, 43, (2, 7))
        sources: tuple[Any, ...] = ()
        if family == "t5":
            sources = (torch.randint(3, 43, (2, 9)),)
        if family == "whisper":
            sources = (torch.randn(2, 5, 20, dtype=torch.float64),)
    return Port(family, theirs.double(), ours.double(), (tokens,), sources)

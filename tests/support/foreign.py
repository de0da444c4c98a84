"""Modules that others wrote, as they are installed, in random small sizes: name, module, inputs, keywords."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
TOKENS = torch.tensor([[3, 14, 15, 9, 26, 5, 35]])
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}


def _transformers(build: Callable[[Any], Case]) -> Callable[[], Case]:
    def case() -> Case:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import transformers

            transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
            torch.manual_seed(0)
            module, inputs, keywords = build(transformers)
            return module.eval(), inputs, keywords

    return case


def _gpt2(t: Any) -> Case:
    return t.GPT2LMHeadModel(t.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32)), (TOKENS,), {}


def _llama(t: Any) -> Case:
    config = t.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=50, max_position_embeddings=64)
    return t.LlamaForCausalLM(config), (TOKENS,), {}


def _bert(t: Any) -> Case:
    return t.BertModel(t.BertConfig(**SMALL, vocab_size=50, max_position_embeddings=64)), (TOKENS,), {}


def _vit(t: Any) -> Case:
    module = t.ViTForImageClassification(t.ViTConfig(**SMALL, image_size=16, patch_size=8))
    return module, (torch.randn(1, 3, 16, 16),), {}


def _whisper(t: Any) -> Case:
    config = t.WhisperConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=12,
        vocab_size=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return t.WhisperForConditionalGeneration(config), (torch.randn(1, 8, 20),), {"decoder_input_ids": TOKENS}


def _t5(t: Any) -> Case:
    config = t.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=50)
    return t.T5ForConditionalGeneration(config), (TOKENS,), {"decoder_input_ids": TOKENS}


def _torch_transformer() -> Case:
    torch.manual_seed(0)
    module = nn.Transformer(16, 2, 1, 1, 24, batch_first=True).eval()
    return module, (torch.randn(2, 5, 16), torch.randn(2, 4, 16)), {}


def _lstm() -> Case:
    torch.manual_seed(0)
    return nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True).eval(), (torch.randn(2, 5, 8),), {}


def _convolutional() -> Case:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.GroupNorm(2, 6),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
        nn.LogSoftmax(-1),
    )
    return module.eval(), (torch.randn(2, 1, 12, 12),), {}


FOREIGN: dict[str, Callable[[], Case]] = {
    "transformers GPT-2": _transformers(_gpt2),
    "transformers Llama": _transformers(_llama),
    "transformers BERT": _transformers(_bert),
    "transformers ViT": _transformers(_vit),
    "transformers Whisper": _transformers(_whisper),
    "transformers T5": _transformers(_t5),
    "torch.nn.Transformer": _torch_transformer,
    "torch.nn.LSTM": _lstm,
    "a small convolutional network": _convolutional,
}
TAKEN_APART = ("torch.nn.Transformer", "torch.nn.LSTM")  # one kernel each, with steps that nobody could see

"""A prompt's head reads the latest vectors alone: the same logits, and no others are computed, unless one watches."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassformer as gf
from glassformer.inference.engine import Engine
from glassformer.inference.latest_logits import latest_logits
from glassformer.inference.padding import left_padded
from glassformer.inference.quantize import quantize
from glassformer.inference.request import Request
from glassformer.models import spec_of
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.whisper import Decoder as WhisperDecoder
from glassformer.nn.kv_cache import full, parse_policy
from glassformer.nn.linear import Linear
from glassformer.tracing.recorder import record
from support.tolerances import assert_close

VOCAB, CONTEXT = 40, 32
SIZES = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 32}
DECODER = SIZES | {"n_layers": 2, "n_heads": 2}
HALVES = {"n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2, "d_ff": 16}
SMALL: dict[str, dict[str, Any]] = {
    "gpt2": DECODER,
    "llama": DECODER | {"n_kv_heads": 1, "d_ff": 32},
    "gemma2": DECODER | {"n_kv_heads": 1, "d_ff": 32, "d_head": 8, "logit_softcap": 3.0},
    "granite": DECODER | {"n_kv_heads": 1, "d_ff": 32, "logits_scaling": 4.0},
    "gpt_neox": DECODER,
    "rnn": SIZES,
    "transformer": SIZES | HALVES,
    "bart": SIZES | HALVES,
    "t5": {"vocab_size": VOCAB, "d_model": 32, "d_head": 16, **HALVES},
    "whisper": SIZES | HALVES | {"n_mels": 8, "audio_context_length": 6},
    "seq2seq": SIZES | {"source_vocab_size": VOCAB, "attention": "general", "input_feeding": True},
}


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors each call of a head reads in a row, seen from below it."""
    read: list[int] = []
    forward = Linear.forward

    def counted(self: Linear, x: Tensor) -> Tensor:
        if self.weight.shape[0] == VOCAB:
            read.append(x.shape[1])
        return forward(self, x)

    monkeypatch.setattr(Linear, "forward", counted)
    return read


def source_of(module: Any) -> Tensor | None:
    kind = spec_of(module.config).kind
    if kind == "speech-recognizer":
        return torch.randn(2, 8, 12)
    return torch.randint(2, VOCAB, (2, 5)) if kind == "encoder-decoder" else None


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_logits_of_the_latest_tokens_are_those_of_a_whole_call(name: str, widths: list[int]) -> None:
    torch.manual_seed(0)
    module: Any = gf.build(name, **SMALL[name]).module.eval()
    source = source_of(module)
    first, second = torch.randint(2, VOCAB, (2, 2, 9))
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, :4] = False
    for n in (1, 3, 9):
        whole, part = (module.begin(source, full(CONTEXT)) for _ in range(2))
        expected = module(first, whole, valid)[:, -n:]
        widths.clear()
        assert_close(latest_logits(module, first, part, valid, n), expected)
        assert widths == [n]
        assert_close(latest_logits(module, second, part, None, n), module(second, whole, None)[:, -n:])


@torch.inference_mode()
def test_a_prompt_has_the_logits_of_its_last_token_whatever_the_policy_and_the_padding(widths: list[int]) -> None:
    choose = random.Random(0)
    torch.manual_seed(0)
    module: Any = gf.build("llama", **SMALL["llama"]).module.eval()
    for cache in ("full", "window:7", "sinks:2+6"):
        policy = parse_policy(cache, CONTEXT)
        prompts = [[choose.randrange(VOCAB) for _ in range(choose.randint(1, 30))] for _ in range(3)]
        tokens, valid = left_padded(prompts)
        state, pieces = module.begin(None, policy), []
        while sum(piece.shape[1] for piece in pieces) < tokens.shape[-1]:
            at = sum(piece.shape[1] for piece in pieces)
            part = slice(at, at + state.room)
            pieces.append(module(tokens[:, part], state, None if valid is None else valid[:, part]))
        engine = Engine(module, policy)
        widths.clear()
        for prompt in prompts:
            engine.admit(Request(tokens=tuple(prompt), max_new_tokens=2))
        engine.step()
        assert sum(widths) == 1, "no logits of a prompt but the last ones are computed, however long it is"
        assert_close(engine._logits, torch.cat(pieces, 1)[:, -1])
        engine = Engine(module, policy)
        longest = max(prompts, key=len)
        expected = Engine(module, policy).remember(longest)
        assert expected.shape[1] == len(longest)
        assert_close(engine.remember(longest, n_logits=4), expected[:, -4:])


@torch.inference_mode()
def test_a_quantized_head_reads_the_latest_vectors_too() -> None:
    torch.manual_seed(0)
    module: Any = quantize(gf.build("llama", **SMALL["llama"]).module.eval(), "int8")
    tokens = torch.randint(VOCAB, (2, 9))
    with gf.use("readable"):
        assert_close(latest_logits(module, tokens, module.begin(None, full(9)), None, 1), module(tokens)[:, -1:])


class Doubled(GPT2):
    """Another forward over the same halves."""

    def forward(self, *inputs: Any) -> Tensor:
        return 2 * super().forward(*inputs)


@torch.inference_mode()
def test_who_watches_a_module_sees_all_of_its_logits(widths: list[int]) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (1, 9))
    module = GPT2(GPT2Config(**DECODER)).eval()
    seen: list[int] = []

    def watch(_: nn.Module, __: Any, logits: Tensor) -> None:
        seen.append(logits.shape[1])

    for part in (module, module.lm_head):
        hook = part.register_forward_hook(watch)
        latest_logits(module, tokens, None, None, 1)
        hook.remove()
    record(module, tokens, call=lambda module, tokens: latest_logits(module, tokens, None, None, 1))
    assert seen == [9, 9]
    assert widths == [9, 9, 9]
    latest_logits(module, tokens, None, None, 1)
    assert widths[-1] == 1


class DoubledDecoder(WhisperDecoder):
    """The same within a model of two halves."""

    def forward(self, *inputs: Any) -> Tensor:
        return 2 * super().forward(*inputs)


@torch.inference_mode()
def test_a_part_with_another_forward_is_called_as_it_is() -> None:
    torch.manual_seed(0)
    module: Any = gf.build("whisper", **SMALL["whisper"]).module.eval()
    module.decoder.__class__ = DoubledDecoder
    tokens, sound = torch.randint(2, VOCAB, (2, 9)), source_of(module)
    states = [module.begin(sound, full(CONTEXT)) for _ in range(2)]
    assert_close(latest_logits(module, tokens, states[0], None, 1), module(tokens, states[1])[:, -1:])


@torch.inference_mode()
def test_a_subclass_with_another_forward_is_called_as_it_is() -> None:
    torch.manual_seed(0)
    module = Doubled(GPT2Config(**DECODER)).eval()
    tokens = torch.randint(VOCAB, (1, 9))
    assert_close(latest_logits(module, tokens, None, None, 1), module(tokens)[:, -1:])

"""Beside an encoder, too, the compiled decode step gives what the module gives: over any source, padding and search."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassformer as gf
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.decode_plan import DecodePlan, plan_for
from glassformer.inference.quantize import quantize
from glassformer.models import specs
from glassformer.nn.kv_cache import full, parse_policy
from glassformer.nn.linear import Linear
from glassformer.nn.memory import DecoderState
from support.counts import count

VOCAB, CONTEXT = 37, 32
FAMILIES = ("whisper", "transformer", "bart", "t5")
WHISPER: Any = {"vocab_size": VOCAB, "context_length": CONTEXT, "audio_context_length": 12, "n_mels": 4}
WHISPER |= {"n_encoder_layers": 1, "n_decoder_layers": 2, "n_heads": 2, "d_model": 64}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    """Steps are made in inference mode, and with as many threads as they like."""
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def random_model(family: str, choose: random.Random) -> Any:
    """A small model of a family, with whatever choices it has and weights that matter."""
    n_heads, d_head = choose.choice([1, 2, 5]), choose.choice([4, 8, 18])
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "context_length": CONTEXT,
        "n_encoder_layers": 1,
        "n_decoder_layers": choose.choice([1, 3]),
        "n_heads": n_heads,
        "d_model": n_heads * d_head,
        "d_ff": choose.choice([5, 16, 70]),
    }
    activation = choose.choice(["gelu", "relu", "silu"])
    options: dict[str, dict[str, Any]] = {
        "whisper": {"n_mels": 4, "audio_context_length": 12},
        "transformer": {
            "activation": activation,
            "norm_placement": choose.choice(["pre", "post"]),
            "head_bias": choose.random() < 0.5,
            "scaled_embedding": choose.random() < 0.5,
            "tied_head": choose.random() < 0.5,
            "position_layout": choose.choice(["interleaved", "halves"]),
            "first_position": choose.choice([0, 2]),
            "source_vocab_size": choose.choice([None, 11]),
        },
        "bart": {"activation": activation, "scaled_embedding": choose.random() < 0.5},
        "t5": {
            "d_head": choose.choice([3, d_head]),
            "ffn": choose.choice(["geglu", "swiglu", activation]),
            "tied_head": choose.random() < 0.5,
            "n_buckets": choose.choice([4, 7]),
            "max_distance": choose.choice([6, 40]),
        },
    }
    module = specs()[family].build(specs()[family].config(**settings, **options[family])).eval()
    for parameter in module.parameters():
        parameter.copy_(parameter * 2 + 0.1 * torch.randn(parameter.shape))
    if family == "t5":  # whose scores are not divided by √d: its weights are
        for name, parameter in module.named_parameters():
            if "q_proj" in name:
                parameter.mul_(module.config.d_head**-0.5)
    return module


def random_state(module: Any, choose: random.Random, n_rows: int) -> DecoderState:
    """A state after texts of different lengths about sources of their own, or about one that all rows share."""
    n, share = choose.randint(1, 9), choose.random() < 0.4
    policy = parse_policy(choose.choice(["full", "window:5"]), CONTEXT)
    n_sources = 1 if share else n_rows
    state: DecoderState
    if hasattr(module.config, "n_mels"):
        state = module.begin(torch.randn(n_sources, 4, 2 * n), policy)
    else:
        valid = torch.rand(n_sources, n) < 0.6 if choose.random() < 0.7 else None  # of some rows nothing is valid
        source = torch.randint(getattr(module.config, "source_vocab_size", None) or VOCAB, (n_sources, n))
        state = module.begin(source, policy, valid)
    if share:
        state = state.again(n_rows, policy)
    n_read = choose.randint(1, 6)
    valid = None if choose.random() < 0.5 else torch.rand(n_rows, n_read) < 0.7
    module(torch.randint(VOCAB, (n_rows, n_read)), state, valid)
    return state


def test_a_plan_beside_an_encoder_gives_what_its_module_gives() -> None:
    for case in range(count("decode steps beside encoders")):
        choose = random.Random(case)
        torch.manual_seed(case)
        module, n_rows = random_model(FAMILIES[case % len(FAMILIES)], choose), choose.choice([1, 2, 5, 16])
        torch.set_num_threads(choose.choice([1, 2]))
        plan = plan_for(module)
        assert plan is not None, (case, module.config)
        state = random_state(module, choose, n_rows)
        other = state.branch(torch.arange(n_rows))
        for _ in range(choose.randint(1, 8)):
            if choose.random() < 0.3:
                rows = torch.randint(n_rows, (n_rows,))
                state.select(rows)
                other.select(rows)
            tokens = torch.randint(VOCAB, (n_rows, 1))
            valid = torch.rand(n_rows, 1) < 0.7 if choose.random() < 0.3 else None
            expected, logits = module(tokens, state, valid), plan.step(tokens, other, valid)
            assert logits is not None, (case, module.config)
            rows = slice(None) if valid is None else valid[:, 0]
            assert differ(logits[rows], expected[rows]) < 1e-4, (case, module.config)


def differ(one: Tensor, other: Tensor) -> float:
    """The greatest difference, of numbers above 1 relative to the greatest of them."""
    return float((one - other).abs().max()) / max(1.0, float(other.abs().max())) if one.numel() else 0.0


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_plan_of_a_quantized_whisper_rounds_as_this_does(quantization: Any) -> None:
    module: Any = gf.build("whisper", **WHISPER).module.eval()
    quantize(module, quantization)
    plan = plan_for(module)
    assert plan is not None
    state = module.begin(torch.randn(3, 4, 20), full(CONTEXT))
    module(torch.randint(VOCAB, (3, 2)), state)
    other = state.branch(torch.arange(3))
    for _ in range(6):
        tokens = torch.randint(VOCAB, (3, 1))
        logits = plan.step(tokens, other, None)
        assert logits is not None
        assert differ(logits, module(tokens, state)) < 2e-2


def test_a_search_gives_the_same_texts_with_and_without_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[bool] = []
    whole = DecodePlan.step

    def noted(self: DecodePlan, *arguments: Any) -> Tensor | None:
        logits = whole(self, *arguments)
        served.append(logits is not None)
        return logits

    monkeypatch.setattr(DecodePlan, "step", noted)
    for family in ("bart", "t5"):
        module = random_model(family, random.Random(1))
        with gf.use("readable"):
            expected = texts_of(module)
        assert not any(served)
        assert texts_of(module) == expected
        assert sum(served) >= 8
        served.clear()


def texts_of(module: Any) -> list[list[int]]:
    """What a beam search makes of two sources of different lengths."""
    source, valid = torch.arange(12).view(2, 6), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    sources: dict[str, Any] = {"source": source, "source_valid": valid}
    searches = beam_search(module, [[1], [1]], beams=Beams(n_beams=3), max_new_tokens=9, **sources)
    return [best.tokens for best, *_ in searches]


def test_what_a_plan_cannot_read_is_left_to_the_module() -> None:
    module: Any = gf.build("whisper", **WHISPER).module.eval()
    plan = plan_for(module)
    assert plan is not None
    tokens, sound = torch.tensor([[1]]), torch.randn(1, 4, 20)
    assert plan.step(tokens, module.begin(sound, full(9)), None) is None  # nothing has looked at the memory yet
    for policy, serves in ((full(CONTEXT), True), (full(CONTEXT + 1), False)):  # a place that the model does not have
        state = module.begin(sound, policy)
        module(tokens, state)
        assert (plan.step(tokens, state, None) is not None) == serves
    state.memories[0].kept = tuple(each.double() for each in state.memories[0].kept)
    assert plan.step(tokens, state, None) is None
    for change in (
        lambda attn: setattr(attn, "softcap", 3.0),
        lambda attn: setattr(attn, "q_norm", nn.LayerNorm(32)),
        lambda attn: setattr(attn, "q_proj", type("Own", (Linear,), {})(64, 64)),
    ):
        changed: Any = gf.build("whisper", **WHISPER).module.eval()
        change(changed.decoder.blocks[1].cross_attn)
        assert plan_for(changed) is None

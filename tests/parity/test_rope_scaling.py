"""Scaled rotary positions and `transformers`: the same numbers for a text at once and token by token, both ways."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.checkpoints.huggingface import load_directory
from glassformer.config import to_mapping
from glassformer.errors import GenerationError
from glassformer.inference.engine import Engine
from glassformer.inference.logits import Sampling
from glassformer.inference.request import Request
from glassformer.models.llama import LlamaConfig
from glassformer.models.phi3 import Phi3Config
from glassformer.models.published.rope import ORIGINAL
from glassformer.nn.kv_cache import full
from glassformer.nn.rope import KINDS
from support.counts import count
from support.parity import import_transformers
from support.scalings import random_scaling

transformers = import_transformers()

TOLERANCE = 1e-5  # in float64, but transformers computes norms and angles in float32 all the same
LENGTHS = (20, 30)  # of original contexts; a text of 48 tokens begins in them and leaves them


def assert_same_model(ours: Any, theirs: Any, tokens: torch.Tensor) -> None:
    """At once, and token by token after a prompt, which `transformers` must see first: it remembers lengths."""
    ours, theirs = ours.double().eval(), theirs.double().eval()
    state, past, begin = ours.begin(None, full(48)), transformers.DynamicCache(config=theirs.config), 0
    for end in (15, *range(16, 49)):
        piece = tokens[:, begin:end]
        expected = theirs(piece, past_key_values=past).logits
        torch.testing.assert_close(ours(piece, state), expected, atol=TOLERANCE, rtol=TOLERANCE)
        begin = end
    for length in (48, 12):
        text = tokens[:, :length]
        torch.testing.assert_close(ours(text), theirs(text).logits, atol=TOLERANCE, rtol=TOLERANCE)


def sizes(choose: random.Random) -> dict[str, Any]:
    n_kv_heads, d_head = choose.choice([1, 2]), choose.choice([4, 8, 12])
    n_heads = n_kv_heads * choose.choice([1, 2])
    return {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": d_head, "d_model": n_heads * d_head}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_scaled_llama_of_transformers_is_the_same_here(kind: str, tmp_path: Path) -> None:
    for seed in range(count("scaled models of transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        size = sizes(choose)
        scaling, settings = random_scaling(kind, choose, size["d_head"] // 2, 100.0, LENGTHS)
        context = scaling.original_context_length if kind == "dynamic" else 48
        config = transformers.LlamaConfig(
            vocab_size=30,
            max_position_embeddings=context,
            hidden_size=size["d_model"],
            num_hidden_layers=2,
            num_attention_heads=size["n_heads"],
            num_key_value_heads=size["n_kv_heads"],
            intermediate_size=24,
            rope_parameters=settings,
        )
        theirs = transformers.LlamaForCausalLM(config)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        scaled = 0 if kind in ("linear", "llama3") else int(scaling.original_context_length * scaling.factor)
        assert ours.config.context_length == max(context, scaled)
        assert_same_model(ours, theirs, torch.randint(30, (1, 48)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_scaled_llama_of_ours_is_the_same_in_transformers(kind: str, tmp_path: Path) -> None:
    for seed in range(count("scaled models to transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        size = sizes(choose)
        scaling, _ = random_scaling(kind, choose, size["d_head"] // 2, 100.0, LENGTHS)
        context = int(scaling.original_context_length * scaling.factor) if kind == "dynamic" else 48
        config = LlamaConfig(
            **size,
            vocab_size=30,
            context_length=context,
            n_layers=2,
            d_ff=24,
            rope_theta=100.0,
            rope_style=choose.choice(["half", "interleaved"]),
            rope_scaling=scaling,
        )
        model = gf.build("llama", **to_mapping(config))
        gf.save(model, tmp_path / f"{seed}")
        assert gf.load(tmp_path / f"{seed}").config == config
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / f"{seed}")
        assert_same_model(model.module, theirs, torch.randint(30, (1, 48)))


def test_a_context_that_only_our_file_says_is_said_at_saving(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = {"vocab_size": 11, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}
    for kind, context, says in (("yarn", 100, 256), ("yarn", 300, 0), ("linear", 100, 0), ("llama3", 100, 0)):
        original = {} if kind == "linear" else {"original_context_length": 64}
        scaling = {"kind": kind, "factor": 4.0, **original}
        model = gf.build("llama", **sizes, context_length=context, rope_scaling=scaling)
        folder = tmp_path / f"{kind}{context}"
        caplog.clear()
        gf.save(model, folder)
        assert gf.load(folder).config.context_length == context
        for name in ("glassformer.json", "manifest.json"):
            (folder / name).unlink()
        assert gf.load(folder).config.context_length == (says or context)
        assert [f"is {context} tokens: without it, it is read as {says}," in text for text in caplog.messages] == (
            [True] if says else []
        )


UNSCALED = {"vocab_size": 30, "max_position_embeddings": 20, "hidden_size": 16, "num_hidden_layers": 2}
UNSCALED |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24, "bos_token_id": None}


@pytest.mark.parametrize(
    ("family", "settings", "scaled"),
    [
        ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}}, 20),
        ("Llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0, ORIGINAL: 20}}, 80),
        ("Mistral", {"sliding_window": 22}, 20),
    ],
    ids=("linear", "yarn", "window"),
)
@torch.no_grad()
def test_a_text_beyond_max_position_embeddings_is_read_as_in_transformers(
    family: str, settings: dict[str, Any], scaled: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**UNSCALED, **settings, eos_token_id=None)
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for weight in theirs.parameters():
        weight.mul_(5)  # else all texts go on alike
    theirs.save_pretrained(tmp_path / "model")
    tokens = torch.randint(30, (1, 30))
    as_named = gf.load(tmp_path / "model")
    assert as_named.config.context_length == scaled
    if scaled == 20:
        with pytest.raises(GenerationError, match="The prompt has 30 tokens, but this model's context is 20"):
            as_named.generate_ids(tokens, max_new_tokens=1)
    ours = gf.load(tmp_path / "model", context_length=62)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-3, rtol=1e-4)
    expected = theirs.generate(tokens, max_new_tokens=32, do_sample=False, pad_token_id=0)
    assert torch.equal(ours.generate_ids(tokens, max_new_tokens=32, temperature=0.0), expected)
    gf.save(ours, tmp_path / "again")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert again.config.max_position_embeddings == gf.load(tmp_path / "again").config.context_length == 62
    torch.testing.assert_close(again(tokens).logits, theirs(tokens).logits, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_phi_3_with_two_lists_of_factors_and_features_that_stay(tmp_path: Path) -> None:
    for seed in range(count("scaled models of transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        size = sizes(choose) | {"d_head": 8}
        size["d_model"] = 8 * size["n_heads"]
        d_rotary = choose.choice([2, 4, 6, 8])
        scaling, settings = random_scaling("longrope", choose, d_rotary // 2, 100.0, LENGTHS)
        kind = choose.choice(["default", "longrope", "longrope"])
        outside = {"original_max_position_embeddings": settings.pop("original_max_position_embeddings")}
        if choose.random() < 0.5:
            del settings["factor"]
        if kind == "default":
            settings = {"rope_type": "default", "rope_theta": 100.0}
        config = transformers.Phi3Config(
            **outside,
            vocab_size=30,
            max_position_embeddings=48,
            hidden_size=size["d_model"],
            num_hidden_layers=2,
            num_attention_heads=size["n_heads"],
            num_key_value_heads=size["n_kv_heads"],
            intermediate_size=24,
            rope_parameters={**settings, "partial_rotary_factor": d_rotary / 8},
            pad_token_id=None,
        )
        theirs = transformers.Phi3ForCausalLM(config)
        theirs.save_pretrained(tmp_path / f"{seed}")
        _, ours = load_directory(tmp_path / f"{seed}")
        assert isinstance(ours.config, Phi3Config)
        assert ours.config.d_rotary == (0 if d_rotary == 8 else d_rotary)
        if kind == "longrope":
            assert ours.config.rope_scaling.long_factors == scaling.long_factors
        tokens = torch.randint(30, (1, 48))
        assert_same_model(ours, theirs, tokens)

        gf.save(gf.load(tmp_path / f"{seed}"), tmp_path / f"{seed} again")
        assert gf.load(tmp_path / f"{seed} again").config == ours.config
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / f"{seed} again")
        assert_same_model(ours, again, tokens)


@pytest.mark.parametrize("n_rows", [None, 3])
@torch.no_grad()
def test_texts_that_outgrow_the_original_context_go_on_as_phi_3_does_in_transformers(
    tmp_path: Path, n_rows: int | None
) -> None:
    """Each is read again at its own time, and not from a beginning that was read with other frequencies."""
    torch.manual_seed(3)
    scaling, _ = random_scaling("longrope", random.Random(3), 4, 100.0, (20,))
    sizes = {"vocab_size": 30, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "context_length": 48}
    model = gf.build("phi3", **sizes, rope_scaling=scaling)
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    gf.save(model, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").double()
    engine = Engine(model.to(dtype="float64").module, full(48), n_rows=n_rows)
    prompts = [torch.randint(30, (1, n)) for n in (7, 13, 20, 25)]
    engine.remember(prompts[3][0, :9].tolist())
    texts = {}
    for prompt in prompts:
        request = Request(tokens=tuple(prompt[0].tolist()), max_new_tokens=23, sampling=Sampling(temperature=0.0))
        texts[engine.admit(request)] = prompt[0].tolist()
    for new in engine.run():
        if new.token is not None:
            texts[new.sequence].append(new.token)
    for prompt, text in zip(prompts, texts.values(), strict=True):
        written = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=23, do_sample=False, pad_token_id=0
        )
        assert text == written[0].tolist()

"""Which tokens may come: the rules of generation_config.json against `transformers`, greedily and with beams."""

import itertools
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.constraints import Constraints, NoRepeat, constraints_of, say_what_is_not_followed
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from support.counts import count
from support.parity import import_transformers

transformers = import_transformers()

END, NEW = 2, 14


def spread(model: Any) -> Any:
    """With weights in which what comes next depends on the last token most of all, so that texts repeat and end."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    return model.eval()


def random_rules(choose: random.Random, vocab_size: int) -> dict[str, Any]:
    """Some of the rules, as a file has them."""
    rules: dict[str, Any] = {
        "no_repeat_ngram_size": choose.choice([1, 2, 3]),
        "min_length": choose.randint(1, 15),
        "min_new_tokens": choose.randint(1, 12),
        "suppress_tokens": choose.sample(range(3, vocab_size), 2),
        "begin_suppress_tokens": choose.sample(range(vocab_size), 2),
        "forced_eos_token_id": choose.choice([END, [END]]),
        "bad_words_ids": [[5], [6, 7], [8, 3]],
        "renormalize_logits": choose.random() < 0.5,
        "repetition_penalty": choose.choice([1.3, 0.8]),
    }
    return {name: value for name, value in rules.items() if choose.random() < 0.5}


def random_bart(choose: random.Random) -> Any:
    first = choose.choice([None, 0])
    config = transformers.BartConfig(
        vocab_size=24, max_position_embeddings=40, d_model=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=12, decoder_ffn_dim=12,
        forced_bos_token_id=first, forced_eos_token_id=None,
    )  # fmt: skip
    return spread(transformers.BartForConditionalGeneration(config))


def published(theirs: Any, rules: dict[str, Any], folder: Path) -> tuple[Any, gf.Model]:
    """The model as it is published with these rules, and ours; in float64, so that no choice is a tie."""
    theirs.save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | rules))
    model = gf.load(folder)
    model.module.double()
    return type(theirs).from_pretrained(folder).double(), model


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_encoder_decoders_follow_the_rules_as_transformers_does(tmp_path: Path) -> None:
    for seed in range(count("rules of generation")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        rules = random_rules(choose, 24)
        rules.pop("repetition_penalty", None)  # which translations do not follow
        theirs, model = published(random_bart(choose), rules, tmp_path / f"{seed}")
        ours: Any = model.module
        source = torch.randint(3, 24, (2, 6))
        begin = [ours.config.start_id] + ([] if ours.config.first_id is None else [ours.config.first_id])
        settings: dict[str, Any] = {"source": source, "max_new_tokens": NEW + 1 - len(begin)}
        settings |= {"stop_tokens": model.eos_ids, "constraints": model.constraints, "n_fixed": len(begin) - 1}
        texts: list[list[int]] = [[], []]
        for new in generate(ours, [begin] * 2, sampling=Sampling(temperature=0.0), **settings):
            texts[new.sequence].append(new.token)
        for n_beams in (1, 3):
            if n_beams > 1:
                found = beam_search(ours, [begin] * 2, beams=Beams(n_beams=n_beams), **settings)
                texts = [best.tokens for (best,) in found]
            expected = theirs.generate(source, num_beams=n_beams, do_sample=False, max_new_tokens=NEW)
            for row, text in zip(expected[:, len(begin) :].tolist(), texts, strict=True):
                assert row[: len(text)] == text, (seed, n_beams, model.constraints)
                assert set(row[len(text) :]) <= {theirs.config.pad_token_id}


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_language_models_follow_the_rules_as_transformers_does(tmp_path: Path) -> None:
    for seed in range(count("rules of generation")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        sizes = {"vocab_size": 24, "n_positions": 40, "n_embd": 8, "n_layer": 1, "n_head": 2}
        made = spread(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, eos_token_id=END)))
        rules = {"do_sample": False, **random_rules(choose, 24)}
        theirs, model = published(made, rules, tmp_path / f"{seed}")
        prompt = torch.randint(3, 24, (2, choose.randint(1, 5)))
        expected = theirs.generate(prompt, max_new_tokens=NEW, pad_token_id=END)
        found = model.generate_ids(prompt, max_new_tokens=NEW)  # what has ended is filled with its last token
        assert found.tolist() == expected.tolist(), (seed, rules)


@pytest.mark.parametrize("settings", [{"no_repeat_ngram_size": 2}, {"min_new_tokens": 9}, {"min_length": 9}])
@torch.no_grad()
@pytest.mark.usefixtures("unchecked")
def test_rules_are_settings_of_a_call_too_and_go_before_those_of_the_files(settings: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = gf.build("gpt2", vocab_size=6, context_length=40, d_model=8, n_layers=1, n_heads=2)
    model = model.having(eos_ids=frozenset(range(4)))
    (text,) = model.generate_ids([[4, 5]], max_new_tokens=12, temperature=0.0, **settings).tolist()
    if "no_repeat_ngram_size" in settings:
        pairs = list(itertools.pairwise(text))
        assert len(pairs) == len(set(pairs))
    else:
        assert len(text) >= 9
        assert not {0, 1, 2, 3} & set(text[:8])
    with pytest.raises(GenerationError, match="no sampling setting no_repeat"):
        model.generate_ids([[4, 5]], no_repeat=2)
    with pytest.raises(GenerationError, match="no sampling setting max_length"):
        model.generate_ids([[4, 5]], max_length=6)


@pytest.mark.usefixtures("unchecked")
def test_rules_that_only_files_have_are_no_settings_of_a_translation(tmp_path: Path) -> None:
    model = published(random_bart(random.Random(0)), {}, tmp_path)[1]
    with pytest.raises(GenerationError, match="no setting max_length of a translation; there are max_new_tokens"):
        model.translate("a", max_length=6)


def test_a_first_token_that_is_always_the_same_is_new() -> None:
    ends = frozenset({END})
    assert Constraints(min_new_tokens=4).rules(2, 9, ends, n_fixed=1) == Constraints(min_length=5).rules(2, 9, ends)
    assert Constraints(min_new_tokens=1).rules(2, 9, ends, n_fixed=1) == ()


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")
def test_what_is_not_searched_for_is_the_same_where_files_ask_for_renormalised_logits() -> None:
    torch.manual_seed(0)
    module: Any = spread(gf.build("gpt2", vocab_size=24, context_length=40, d_model=8, n_layers=1, n_heads=2).module)
    sampling = Sampling(temperature=0.0, repetition_penalty=1.3)
    plain, renormalised = (
        [
            (new.sequence, new.token)
            for new in generate(
                module,
                [[token, 3] for token in range(8)],
                max_new_tokens=NEW,
                sampling=sampling,
                constraints=Constraints(renormalize_logits=asked),
            )
        ]
        for asked in (False, True)
    )
    assert plain == renormalised


def test_no_n_tokens_come_in_the_same_order_twice() -> None:
    assert NoRepeat(1).repeating([4, 5, 4]) == {4, 5}
    assert NoRepeat(2).repeating([4, 5, 4]) == {5}
    assert NoRepeat(3).repeating([4, 5]) == set()
    assert NoRepeat(9).repeating([]) == set()


@pytest.mark.usefixtures("unchecked")
def test_rules_that_are_none_and_rules_of_strange_forms() -> None:
    assert constraints_of({"min_length": None, "suppress_tokens": [-1], "forced_eos_token_id": -1}) == Constraints()
    for wrong in ({"min_length": "9"}, {"suppress_tokens": [1.5]}, {"no_repeat_ngram_size": -1}, {"min_length": True}):
        with pytest.raises(ConfigError, match=f"generation_config.json: {next(iter(wrong))} must be"):
            constraints_of(wrong)


def test_what_is_not_followed_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    neutral = {"typical_p": 1.0, "encoder_no_repeat_ngram_size": 0, "guidance_scale": None, "force_words_ids": []}
    say_what_is_not_followed(neutral, searches=True, forces_first=False)
    assert not caplog.records
    asked = {"encoder_no_repeat_ngram_size": 4, "typical_p": 0.9, "num_beams": 4}
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            say_what_is_not_followed(asked, searches=True, forces_first=False)
    (record,) = caplog.records
    assert "asks for encoder_no_repeat_ngram_size, typical_p, which glassformer does not follow" in record.getMessage()
    say_what_is_not_followed({"num_beams": 5, "forced_bos_token_id": 0}, searches=False, forces_first=False)
    assert "forced_bos_token_id, num_beams" in caplog.text
    lengths = {"max_length": 6, "max_new_tokens": 3, "num_return_sequences": 4}
    say_what_is_not_followed(lengths, searches=False, forces_first=False)
    assert "for max_length, max_new_tokens, num_return_sequences, which" in caplog.text
    say_what_is_not_followed(lengths, searches=True, forces_first=False)
    assert "for max_new_tokens, num_return_sequences, which" in caplog.text


@pytest.mark.usefixtures("unchecked")
def test_a_search_goes_on_as_the_files_say(tmp_path: Path) -> None:
    said = {"num_beams": 2, "length_penalty": 2.0, "early_stopping": True}
    _, model = published(random_bart(random.Random(0)), said, tmp_path / "bart")
    assert model.beams == Beams(n_beams=2, length_penalty=2.0, early_stopping=True)
    assert gf.build("gpt2", n_layers=1, vocab_size=8).beams == Beams()
    _, model = published(random_bart(random.Random(0)), {"num_beams": "two"}, tmp_path / "wrong")
    with pytest.raises(ConfigError, match=r"generation_config.json: n_beams must be"):
        _ = model.beams

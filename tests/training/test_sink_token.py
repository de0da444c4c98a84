"""A learned sink: one special token stands before every span in training, and before every text later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import glassformer as gf
from glassformer.errors import ConfigError, TokenizerError
from glassformer.evaluation.perplexity import loss
from glassformer.evaluation.streaming import stream
from glassformer.training import tasks
from glassformer.training.config import RunConfig
from glassformer.training.loop import train
from training.runs import small

SINK = "<|sink|>"


def with_sink(folder: Path, **data: Any) -> RunConfig:
    return small(folder, data={"tokenizer": "bpe:280", "sink_token": SINK, **data}, steps=2, eval_interval=0)


def test_every_span_is_read_behind_the_token_and_predicted_whole(tmp_path: Path) -> None:
    task = tasks.LanguageModel(with_sink(tmp_path), tmp_path / "tokens", print)
    plain = tasks.LanguageModel(with_sink(tmp_path, sink_token=""), tmp_path / "plain", print)
    tokenizer = task.extras["tokenizer"]
    assert (plain.begin, task.begin) == ((), (tokenizer.special_tokens[SINK],))
    batch = task.batch(step=3, micro_step=1)
    (tokens,) = batch.inputs
    assert tokens.shape == batch.targets.shape == (3, 8)
    assert (tokens[:, 0] == task.begin[0]).all()
    assert torch.equal(tokens[:, 1:], batch.targets[:, :-1])
    assert not (batch.targets == task.begin[0]).any()
    again = tasks.LanguageModel(with_sink(tmp_path), tmp_path / "tokens", print)
    assert again.begin == task.begin, "a resumed run reads the tokenizer that it has written"
    prepared = with_sink(tmp_path, path=str(tmp_path / "tokens" / "text"))
    assert tasks.LanguageModel(prepared, tmp_path / "other", print).begin == task.begin


def test_a_trained_model_begins_with_it_here_and_in_transformers(tmp_path: Path) -> None:
    ended = train(with_sink(tmp_path), tmp_path / "run")
    assert ended.finished
    model = gf.load(tmp_path / "run")
    tokenizer = model.tokenizer
    assert tokenizer is not None
    sink = tokenizer.special_tokens[SINK]
    assert model.encode("the fox") == [sink, *tokenizer.encode("the fox")]

    folder = gf.save(model, tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = theirs("the fox", return_tensors="pt").input_ids
    assert ids[0].tolist() == model.encode("the fox")
    assert theirs.bos_token == SINK
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        torch.testing.assert_close(logits, model.module(ids), rtol=1e-4, atol=1e-5)

    text = np.array(tokenizer.encode("the lazy dog jumps over the quick brown fox. " * 4))
    (tmp_path / "read.txt").write_text("the lazy dog jumps over the quick brown fox. " * 4)
    whole = model.evaluate(str(tmp_path / "read.txt"))
    begun = np.stack([np.r_[sink, text[start : start + 7]] for start in range(0, len(text) - 7, 7)])
    with torch.inference_mode():
        logs = model.module(torch.from_numpy(begun)).log_softmax(-1)[:, 1:]
    targets = torch.from_numpy(np.stack([text[start + 1 : start + 8] for start in range(0, len(text) - 7, 7)]))
    by_hand = -logs.gather(-1, targets[..., None])
    measured = loss(model.module, text[: by_hand.numel() + 1], context_length=8, begin=(sink,))
    assert measured.nats_per_token == pytest.approx(float(by_hand.mean()), rel=1e-5)
    assert whole["loss"] == loss(model.module, text, context_length=8, begin=(sink,)).nats_per_token
    caches = model.evaluate(str(tmp_path / "read.txt"), streaming=4, limit=20)["caches"]
    assert isinstance(caches, list)
    expected = [each.perplexity for each in stream(model.module, np.r_[sink, text[:20]], size=4)]
    assert [row["perplexity"] for row in caches] == pytest.approx(expected)


def test_a_tokenizer_without_the_token_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="none of the special tokens of a CharTokenizer"):
        tasks.LanguageModel(with_sink(tmp_path, tokenizer="char"), tmp_path / "tokens", print)
    tasks.LanguageModel(with_sink(tmp_path, sink_token=""), tmp_path / "plain", print)
    prepared = with_sink(tmp_path, path=str(tmp_path / "plain" / "text"))
    with pytest.raises(ConfigError, match="does not begin the texts of the tokenizer"):
        tasks.LanguageModel(prepared, tmp_path / "other", print)

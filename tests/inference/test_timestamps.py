"""The rules of times, against the processor of `transformers`, and what they cut a window into."""

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glassformer.inference.timestamps import TimestampRules, spans_of
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens

A, B, C = 100, 200, 300  # words


@pytest.fixture(scope="module")
def speech(data_dir: Path) -> SpeechTokens:
    return SpeechTokens(Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken"), 51864)


def at(speech: SpeechTokens, seconds: float) -> int:
    return speech.first_time + round(seconds / 0.02)


def test_the_rules_are_those_of_transformers(speech: SpeechTokens) -> None:
    generation = pytest.importorskip("transformers.generation.logits_process")
    settings = SimpleNamespace(
        no_timestamps_token_id=speech.no_times,
        eos_token_id=speech.end_of_text,
        bos_token_id=speech.end_of_text,
        max_initial_timestamp_index=50,
        _detect_timestamp_from_logprob=True,
    )
    theirs = generation.WhisperTimeStampLogitsProcessor(settings, begin_index=1)
    choose = random.Random(0)
    for _ in range(60):
        times = sorted(choose.choices(range(400), k=choose.randint(0, 4)))
        written: list[int] = []
        for i, time in enumerate(times):
            written += [speech.first_time + time, *([choose.randrange(50_000)] * (1 if i % 2 == 0 else 0))]
        logits = torch.randn(speech.vocab_size) + torch.where(
            torch.arange(speech.vocab_size) >= speech.first_time, choose.choice([-4.0, 0.0, 4.0]), 0.0
        )
        expected = theirs(torch.tensor([[speech.start, *written]]), logits[None].clone())[0]
        filtered = TimestampRules(1, speech)(logits[None], [[speech.start, *written]])[0]
        assert torch.equal(filtered, expected), written


def test_a_window_is_cut_at_pairs_of_times(speech: SpeechTokens) -> None:
    tokens = [at(speech, 0), A, at(speech, 2.5), at(speech, 3), B, C, at(speech, 7), at(speech, 7), A]
    found, frames = spans_of(tokens, 3000, speech)
    assert [(part.start, part.end) for part in found] == [(0.0, 2.5), (3.0, 7.0)]
    assert found[1].tokens == tokens[3:7]
    assert frames == 700  # what comes after the last pair is heard again


def test_a_single_time_at_the_end_says_that_nothing_follows(speech: SpeechTokens) -> None:
    tokens = [at(speech, 0), A, at(speech, 2.5), at(speech, 3), B, at(speech, 7)]
    found, frames = spans_of(tokens, 2200, speech)
    assert [(part.start, part.end) for part in found] == [(0.0, 2.5), (3.0, 7.0)]
    assert frames == 2200


def test_text_without_a_pair_is_one_span(speech: SpeechTokens) -> None:
    one, frames = spans_of([at(speech, 0), A, B, at(speech, 4)], 2000, speech)
    assert [(part.start, part.end) for part in one] == [(0.0, 4.0)]
    assert frames == 2000
    for tokens in ([A, B], [at(speech, 0), A, B]):
        one, frames = spans_of(tokens, 2000, speech)
        assert [(part.start, part.end, part.tokens) for part in one] == [(0.0, 20.0, tokens)]
        assert frames == 2000

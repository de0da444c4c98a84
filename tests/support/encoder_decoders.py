"""Encoder-decoders of `transformers` and ours, held against each other: logits, greedy decoding and beam search."""

import copy
import random
from typing import Any

import torch
from torch import Tensor

from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.nn.kv_cache import full
from glassformer.twins import use

TOLERANCE = 1e-5  # in float64, but transformers computes scores in float32 all the same


def far_from_start(model: Any) -> None:
    """Give every parameter values that matter: biases are not 0 and norms not 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()


def sources(choose: random.Random, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Three texts of different lengths, padded on the right with whatever; and where they are texts."""
    length = choose.randint(2, 12)
    lengths = torch.tensor([length, choose.randint(1, length), choose.randint(1, length)])
    return torch.randint(vocab_size, (3, length)), torch.arange(length) < lengths[:, None]


def assert_the_same_encoder_decoder(ours: Any, theirs: Any, choose: random.Random, *, new_tokens: int) -> None:
    """Logits, greedy decoding and beam search agree; in float64, so that no choice is a tie but for rounding."""
    ours, theirs = copy.deepcopy(ours).double(), theirs.double()
    config = ours.config
    source, valid = sources(choose, getattr(config, "source_vocab_size", None) or config.vocab_size)
    tokens = torch.randint(config.vocab_size, (3, 9))
    expected = theirs(input_ids=source, attention_mask=valid.long(), decoder_input_ids=tokens).logits
    for mode in ("readable", "fast"):
        with use(mode):
            logits = ours(tokens, ours.begin(source, full(9), valid))
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)

    settings: dict[str, Any] = {"source": source, "source_valid": valid, "max_new_tokens": new_tokens}
    settings |= {"stop_tokens": frozenset({config.eos_id})}
    starts = [[config.start_id]] * 3
    greedy: list[list[int]] = [[], [], []]
    for new in generate(ours, starts, sampling=Sampling(temperature=0.0), **settings):
        greedy[new.sequence].append(new.token)
    asked: dict[str, Any] = {"attention_mask": valid.long(), "max_new_tokens": new_tokens, "do_sample": False}
    assert without_padding(theirs.generate(source, num_beams=1, **asked), config) == greedy

    beams = Beams(
        n_beams=4,
        length_penalty=choose.choice([1.0, 0.0, 0.6, 2.0, -1.0]),
        early_stopping=choose.choice([True, False, "never"]),
    )
    searched = beam_search(ours, starts, beams=beams, n_best=4, **settings)
    search = {"num_beams": 4, "length_penalty": beams.length_penalty, "early_stopping": beams.early_stopping}
    search |= {"num_return_sequences": 4, "return_dict_in_generate": True, "output_scores": True}
    expected_texts = theirs.generate(source, **asked, **search)
    assert without_padding(expected_texts.sequences, config) == [text.tokens for texts in searched for text in texts]
    scores = torch.tensor([text.score for texts in searched for text in texts])
    torch.testing.assert_close(scores, expected_texts.sequences_scores, atol=TOLERANCE, rtol=TOLERANCE)


def without_padding(sequences: Tensor, config: Any) -> list[list[int]]:
    """New tokens up to the one that ends the text."""
    rows: list[list[int]] = sequences[:, 1:].tolist()
    return [row[: row.index(config.eos_id) + 1] if config.eos_id in row else row for row in rows]

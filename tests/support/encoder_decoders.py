"""Encoder-decoders of `transformers` and ours, held against each other: logits, greedy decoding and beam search."""

import copy
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.nn.kv_cache import full
from glassformer.twins import use

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

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


TEXTS = ["a man rides a horse", "two dogs run over the snow", "she reads", "rows and rows of green corn"]


def saved_t5(folder: Path, texts: Sequence[str] = TEXTS) -> Any:
    """A small T5 and its tokenizer, which puts </s> behind a text, as transformers saves them."""
    learner = tokenizers.Tokenizer(tokenizers.models.Unigram())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=40, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    pieces = [tuple(each) for each in json.loads(learner.to_str())["model"]["vocab"]]
    tokenizer = transformers.T5Tokenizer(vocab=[*pieces, ("<extra_id_1>", 0.0), ("<extra_id_0>", 0.0)], extra_ids=2)
    tokenizer.save_pretrained(folder)
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=len(tokenizer), d_model=16, d_kv=5, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
        )
    )


def saved_bart(folder: Path, texts: Sequence[str] = TEXTS) -> Any:
    """The same of a BART, whose sources are read between <s> and </s>, and whose targets all begin with <s>."""
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    tokenizer = transformers.BartTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.save_pretrained(folder)
    config = transformers.BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        forced_eos_token_id=None,
    )
    theirs = transformers.BartForConditionalGeneration(config)
    theirs.generation_config.forced_bos_token_id = 0
    return theirs

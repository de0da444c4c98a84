"""Texts to texts by an encoder-decoder: sources in batches of similar length, and the targets' tokens to text again.

Beam search (`beam.py`) writes whole texts; greedy decoding (`generate.py`), which is one beam, writes as it reads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from glassformer.data.pairs import Order, Ragged
from glassformer.errors import GenerationError
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.constraints import UNCONSTRAINED, Constraints
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.inference.streaming_text import Piece, stream_text
from glassformer.models.spec import longest_text
from glassformer.tokenizers import Tokenizer


def translate(
    module: nn.Module,
    texts: Sequence[str],
    *,
    source_tokenizer: Tokenizer,
    tokenizer: Tokenizer,
    beams: Beams,
    constraints: Constraints = UNCONSTRAINED,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
) -> Iterator[Piece]:
    """The translations, the shortest sources first; a piece says which text it belongs to, the last why that ended.

    With one beam texts come as they are written. Without `max_new_tokens` a target may have twice as many tokens as
    its source and 50 more, or fewer by the `constraints`, which say what may come. Special tokens have no text. A text
    without a token stays empty. What cannot be served raises at once.
    """
    config: Any = module.config
    begin, end = around_source(source_tokenizer, config.eos_id if source_tokenizer is tokenizer else None)
    encoded = [source_tokenizer.encode(text.strip(), allowed_special="none") for text in texts]
    sources = [[*begin, *tokens, *end] for tokens in encoded if tokens]
    places = [place for place, tokens in enumerate(encoded) if tokens]  # of the sources among the texts
    for place, source in zip(places, sources, strict=True):
        if len(source) > longest_text(config):
            raise GenerationError(
                f"Text {place + 1} has {len(source):,} tokens, and this model reads {config.context_length:,} at most: "
                f"cut it into sentences."
            )
    if batch_size < 1:
        raise GenerationError(f"must be at least 1, not {batch_size}.", setting="batch_size")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise GenerationError(f"must be at least 1, not {max_new_tokens}.", setting="max_new_tokens")
    empty = (Piece(sequence=place, text="", finish="stop") for place, tokens in enumerate(encoded) if not tokens)
    return _run(module, empty, places, Ragged.of(sources), tokenizer, beams, constraints, max_new_tokens, batch_size)


def around_source(tokenizer: Tokenizer, eos_id: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens between which a source is read: as its tokenizer's files say, which need not say what ends it.

    `eos_id` does where neither they nor the tokenizer do.
    """
    end = tokenizer.eos_id if tokenizer.eos_id is not None else eos_id
    return tokenizer.begin_ids, tokenizer.end_ids or (() if end is None else (end,))


def target_begins(config: Any) -> list[int]:
    """The tokens before the first that the model chooses: the one that stands before a target, and its first one where
    that is always the same."""
    first = getattr(config, "first_id", None)
    return [config.start_id] if first is None else [config.start_id, first]


def _run(
    module: nn.Module,
    empty: Iterator[Piece],
    places: list[int],
    sources: Ragged,
    tokenizer: Tokenizer,
    beams: Beams,
    constraints: Constraints,
    max_new_tokens: int | None,
    batch_size: int,
) -> Iterator[Piece]:
    yield from empty
    this: Any = module
    config = this.config
    unwritten = frozenset(tokenizer.special_tokens.values()) | {config.eos_id}
    for rows in Order(sources.lengths, batch_size, seed=0).in_turn():
        source, valid = sources.padded(rows, config.pad_id)
        starts = [target_begins(config)] * len(rows)
        limits = 2 * sources.lengths[rows] + 50
        if constraints.max_length:
            limits = limits.clip(1, max(constraints.max_length - len(starts[0]), 1))
        settings: dict[str, Any] = {
            "source": source,
            "source_valid": valid,
            "max_new_tokens": max_new_tokens or limits.tolist(),
            "stop_tokens": frozenset({config.eos_id}),
            "n_tokens": tokenizer.vocab_size,
            "constraints": constraints,
            "n_fixed": len(starts[0]) - 1,
        }
        if beams.n_beams == 1:
            new = generate(this, starts, sampling=Sampling(temperature=0.0), **settings)
            pieces = stream_text(
                new, tokenizer, prompts=[()] * len(rows), eos_ids=settings["stop_tokens"], unwritten=unwritten
            )
        else:
            hypotheses = beam_search(this, starts, beams=beams, **settings)
            pieces = (
                Piece(
                    sequence=number,
                    text=tokenizer.decode(token for token in best.tokens if token not in unwritten),
                    finish=best.finish,
                )
                for number, (best,) in enumerate(hypotheses)
            )
        for piece in pieces:
            yield replace(piece, sequence=places[rows[piece.sequence]])

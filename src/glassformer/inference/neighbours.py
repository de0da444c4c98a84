"""The words nearest to a word: those whose vectors point most nearly the same way.

Mikolov et al. 2013 (arXiv:1301.3781), §4. The vectors come from a file, or are a model's token embedding.
"""

import difflib
from dataclasses import dataclass

import torch
from torch import nn

from glassformer.checkpoints.word_vectors import WordVectors
from glassformer.errors import DataError, TokenizerError
from glassformer.inference.embed import unit
from glassformer.tokenizers.base import Tokenizer

MAX_SPELLINGS = 100_000  # words, of the first ones, among which a misspelt one is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another word, and the cosine of the angle between its vector and the given word's."""

    word: str
    cosine: float


def nearest(vectors: WordVectors, word: str, n: int = 10) -> list[Neighbour]:
    """The n nearest words, the nearest first, without the word itself; of equally near ones, the first in the list."""
    if n < 1:
        raise DataError(f"must be at least 1, not {n}.", setting="n")
    place = _place(vectors, word)
    directions = unit(vectors.vectors)
    cosines = directions @ directions[place]
    order = cosines.sort(descending=True, stable=True).indices.tolist()
    neighbours = [other for other in order if other != place][:n]
    return [Neighbour(word=vectors.words[other], cosine=float(cosines[other])) for other in neighbours]


def _place(vectors: WordVectors, word: str) -> int:
    """Where a word stands in the list; tokens often begin with the space before a word, and words are often small."""
    for spelling in (word, f" {word}", word.lower()):
        if spelling in vectors.words:
            return vectors.words.index(spelling)
    near = difflib.get_close_matches(word, vectors.words[:MAX_SPELLINGS], n=3)
    hint = f" Near in spelling: {', '.join(near)}." if near else ""
    raise TokenizerError(f"There is no vector for {word!r} among {len(vectors.words):,} words.{hint}")


def embedding_of(module: nn.Module, tokenizer: Tokenizer) -> WordVectors:
    """The rows of a model's token embedding, each with the text of its token; bytes that are no text stay escaped."""
    weights = (weight for name, weight in module.named_parameters() if name.endswith("token_embedding.weight"))
    table = next(weights).detach().float()
    words: dict[str, int] = {}
    for id in sorted(tokenizer.vocab):
        if id < len(table):
            words.setdefault(tokenizer.token_bytes(id).decode(errors="backslashreplace"), id)
    return WordVectors(words=tuple(words), vectors=table[torch.tensor(list(words.values()))])

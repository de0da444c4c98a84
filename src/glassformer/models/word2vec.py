"""Word vectors: two embeddings, whose products say which words stand together.

Mikolov et al. 2013 (arXiv:1301.3781), §3.1 for CBOW, which guesses a word from those around it, and §3.2 for the
skip-gram model, which guesses the others from one; 2013 (arXiv:1310.4546), §2, for what they are trained with. The
module is the same for both, and what is asked of it differs. Next to read: `nn/negative_sampling.py`,
`checkpoints/word_vectors.py`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.models.spec import ModelSpec, check_choice, check_sizes
from glassformer.nn import init
from glassformer.nn.embedding import Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Word2VecConfig:
    """Sizes of the tables, and what training asks them; the defaults are those of the published Google News vectors."""

    architecture: ClassVar[str] = "word2vec"

    vocab_size: int = 3_000_000
    d_model: int = 300
    window: int = 5  # words on either side that count as standing together
    algorithm: Literal["cbow", "skip-gram"] = "cbow"
    n_negative: int = 5  # words from the noise for each that is seen

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "d_model", "window", "n_negative")
        check_choice(self, "algorithm", ("cbow", "skip-gram"))

    @property
    def context_length(self) -> int:
        """Words of a stretch of text: one, and those around it."""
        return 2 * self.window + 1


class Word2Vec(nn.Module):
    """How well each candidate word goes with the given ones: v′ · h, h being the mean of their vectors.

    CBOW gives the words around a place, and asks for the word in it; skip-gram gives one word, and asks for another
    one around it. The vectors that are used later are those of `token_embedding`.
    """

    def __init__(self, config: Word2VecConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.context_embedding = Embedding(config.vocab_size, config.d_model)

    def forward(
        self,
        tokens: Int[Tensor, "B W"],
        candidates: Int[Tensor, "B K"],
        valid: Bool[Tensor, "B W"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """The score of each candidate; `valid` is False where a window has no word."""
        vectors = self.token_embedding(tokens)
        present = torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid
        total = (vectors * present[..., None]).sum(-2)
        n_words = present.sum(-1, keepdim=True).clamp(min=1)
        h = total / n_words
        contexts = self.context_embedding(candidates)
        scores: Tensor = (contexts * h[:, None]).sum(-1)
        return scores


def initialize(model: Word2Vec, generator: torch.Generator | None) -> None:
    """As the published code starts: vectors within ± 1 / 2C, contexts 0."""
    init.uniform(model.token_embedding.weight, 1 / (2 * model.config.d_model), generator)
    init.constant(model.context_embedding.weight, 0.0)


PRESETS = {
    "word2vec": Word2VecConfig(),
    "word2vec-small": Word2VecConfig(vocab_size=10_000, d_model=100, algorithm="skip-gram"),
}


SPEC = ModelSpec(
    config=Word2VecConfig,
    module=Word2Vec,
    initialize=initialize,
    presets=PRESETS,
    kind="word-vectors",
)

"""Words that stand together get vectors whose product is large: CBOW and skip-gram, with negative sampling.

Mikolov et al. 2013 (arXiv:1301.3781; arXiv:1310.4546, §2.2 and §2.3). A batch is drawn from the text with replacement;
the weights move by the run's optimizer and not word by word, as in the published code. What a place's neighbours are
follows that code: rare words are not there, of frequent ones only some, and the window is 1 … `window` words wide.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints import safetensors, word_vectors
from glassformer.data.word_corpus import count_words, numbers_of
from glassformer.errors import ConfigError, DataError
from glassformer.evaluation.eval_mode import evaluating
from glassformer.kinds.kind import Progress
from glassformer.models.spec import KindName
from glassformer.nn.negative_sampling import keep_probability, negative_sampling_loss, noise
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.word_level import WordTokenizer
from glassformer.training.config import RunConfig, bpe_size, paths_of, within
from glassformer.training.events import Figures
from glassformer.training.tasks.task import Batch, PredictionTask, Say, quietly
from glassformer.training.world import ALONE, World

UNKNOWN = "<unk>"  # token 0, which stands for what has no vector
PREPARED = "words.safetensors"
VECTORS = "vectors.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class WordData:
    """A text, and which of its words get vectors."""

    path: str = ""  # a text, or several with commas between
    validation_path: str = ""  # the same for validation; empty: the end of `path` is held out
    validation_fraction: float = 0.1  # how much of `path` that is
    tokenizer: str = "auto"  # the words of the text, or the folder of a run of this task, whose words they are
    min_count: int = 5  # words that come less often are left out
    subsample: float = 1e-4  # words with a larger share of the text are partly left out; 0: none

    def __post_init__(self) -> None:
        within("data.validation_fraction", self.validation_fraction, 0, 0.9)
        within("data.min_count", self.min_count, 1, 2**53)
        within("data.subsample", self.subsample, 0, 1)
        bpe_size("data.tokenizer", self.tokenizer)


class WordEmbedding(PredictionTask):
    """Words that stand near a word, told from others."""

    kind: ClassVar[KindName] = "word-vectors"
    data_config = WordData
    unit = "words"

    def __init__(self, config: RunConfig, folder: Path, say: Say) -> None:
        data = config.data
        assert isinstance(data, WordData)
        self.config = config
        model: Any = config.model_config()
        self.window, self.n_negative, self.cbow = model.window, model.n_negative, model.algorithm == "cbow"
        if not (folder / PREPARED).is_file():
            prepare(data, self.window, folder, say)
        arrays = {name: array.numpy() for name, array in safetensors.read(folder / PREPARED).items()}
        self.tokenizer = Tokenizer.load(folder)
        self.training, self.validation, counts = arrays["training"], arrays["validation"], arrays["counts"]
        self.settings = {"vocab_size": self.tokenizer.vocab_size}
        self.extras = {"tokenizer": self.tokenizer}
        self.noise = noise(torch.from_numpy(counts)).cumsum(0).numpy()
        kept = keep_probability(torch.from_numpy(counts), data.subsample) if data.subsample else None
        self.keep = np.ones(len(counts)) if kept is None else kept.numpy()
        self.batches_a_pass = max(int(self.keep[self.training].sum()) // config.batch_size, 1)
        self._pass: tuple[int, Int[np.ndarray, " kept"]] = (-1, self.training)

    def batch(self, step: int, micro_step: int, world: World = ALONE) -> Batch:
        """Places of the text, of whose frequent words each pass leaves out others."""
        number = world.batch_number(step, micro_step, self.config.accumulation)
        of_text = number // self.batches_a_pass
        if self._pass[0] != of_text:
            self._pass = of_text, self._thinned(self.training, np.random.default_rng((self.config.seed, 1, of_text)))
        return self.of(self._pass[1], np.random.default_rng((self.config.seed, step, world.micro_batch(micro_step))))

    def _thinned(self, words: Int[np.ndarray, " N"], random: np.random.Generator) -> Int[np.ndarray, " kept"]:
        """Without some of the frequent words (§2.3); never too short for one window."""
        kept = words[random.random(len(words)) < self.keep[words]]
        return kept if len(kept) > 2 * self.window else words

    def of(self, words: Int[np.ndarray, " N"], random: np.random.Generator) -> Batch:
        """Some positions of the text: (input words, candidates, which inputs count); the first candidate is right."""
        n, window = self.config.batch_size, self.window
        places = random.integers(window, len(words) - window, size=n)
        if self.cbow:
            offsets = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])
            inputs = words[places[:, None] + offsets]
            valid = np.abs(offsets) <= random.integers(1, window + 1, size=(n, 1))
            targets = words[places]
        else:
            distances = np.arange(window, 0, -1) / (
                window * (window + 1) / 2
            )  # of 1 … window: as a random width has it
            away = 1 + random.choice(window, size=n, p=distances)
            inputs, valid = words[places][:, None], np.ones((n, 1), dtype=bool)
            targets = words[places + np.where(random.random(n) < 0.5, -away, away)]
        negatives = np.searchsorted(self.noise, random.random((n, self.n_negative)), side="right")
        candidates = np.concatenate([targets[:, None], negatives.clip(max=len(self.noise) - 1)], axis=1)
        arrays = (inputs, candidates, valid)
        tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return Batch(inputs=tensors, targets=torch.zeros(n, dtype=torch.int64), count=n)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> tuple[Float[Tensor, ""], int]:
        """How badly the right candidates are told from those of the noise, and how many there are."""
        return negative_sampling_loss(logits[:, 0], logits[:, 1:], reduction="sum"), batch.count

    @property
    def evaluation_batches(self) -> tuple[int, int]:
        """As many as have the validation text's length."""
        if len(self.validation) <= 2 * self.window:
            return 0, 0
        batches = math.ceil(len(self.validation) / self.config.batch_size)
        return self.config.eval_batches or batches, batches

    def evaluate(self, module: nn.Module, progress: Progress = quietly) -> Figures:
        """The loss at places of the validation text, the same each time."""
        if len(self.validation) <= 2 * self.window:
            return {}
        random = np.random.default_rng(self.config.seed)
        words = self._thinned(self.validation, random)
        n_batches, _ = self.evaluation_batches
        total, count = 0.0, 0
        with evaluating(module) as device:
            for number in range(1, n_batches + 1):
                batch = self.of(words, random).to(device)
                loss, units = self.loss(self.logits(module, batch).float(), batch)
                total, count = total + float(loss), count + units
                progress(number, n_batches)
        return {"loss": total / count}

    def write_extras(self, folder: Path, module: nn.Module) -> None:
        """vectors.txt, which other programs read too."""
        vectors = word_vectors.WordVectors(
            words=tuple(self.tokenizer.vocab[id].decode() for id in range(1, self.tokenizer.vocab_size)),
            vectors=dict(module.named_parameters())["token_embedding.weight"][1 : self.tokenizer.vocab_size],
        )
        word_vectors.write(folder / VECTORS, vectors, "word2vec", overwrite=True)  # of the run that is resumed


def prepare(data: WordData, window: int, folder: Path, say: Say) -> None:
    """Count the words, and write the text as their numbers, into a folder with which a resumed run goes on."""
    paths = paths_of(data.path)
    tokenizer = vocabulary(data, say)
    ids = {word: id for id, word in enumerate(tokenizer.tokens) if word != UNKNOWN}
    training = numbers_of(paths, ids)
    if data.validation_path:
        validation = numbers_of(paths_of(data.validation_path), ids)
    else:
        n_training = int(len(training) * (1 - data.validation_fraction))
        training, validation = training[:n_training], training[n_training:]
    if len(training) <= 2 * window:
        raise DataError(
            f"{data.path} has {len(training):,} words that come {data.min_count} times or more, without what is held "
            f"out; a window of {window} needs more than {2 * window}: take more text, or lower data.min_count."
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    arrays = {
        "training": training,
        "validation": validation,
        "counts": np.bincount(training, minlength=tokenizer.vocab_size),
    }
    safetensors.write(folder / PREPARED, {name: torch.from_numpy(array) for name, array in arrays.items()})


def vocabulary(data: WordData, say: Say) -> WordTokenizer:
    """The words of the text that are frequent enough, or those of another run."""
    if data.tokenizer == "auto":
        counted = count_words(paths_of(data.path))
        words = [word for word, count in counted.most_common() if count >= data.min_count]
        say(f"{len(words):,} words come {data.min_count} times or more, of {len(counted):,}.")
        return WordTokenizer([UNKNOWN, *words], [UNKNOWN], lowercase=True)
    learned = data.tokenizer == "char" or bpe_size("data.tokenizer", data.tokenizer)
    tokenizer = None if learned else Tokenizer.load(data.tokenizer)
    if not isinstance(tokenizer, WordTokenizer) or tokenizer.tokens[:1] != [UNKNOWN]:
        raise ConfigError('data.tokenizer must be "auto" or that of a run of this task, whose tokens are words.')
    return tokenizer

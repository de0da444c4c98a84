"""What kinds of models there are to the rest of the house: what one reads, what runs on it, and how it goes on.

A kind is one module of this package with a `KIND`. What differs by the kind belongs there.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.about import About
from glassformer.errors import GenerationError, GlassformerError
from glassformer.inference.beam import Beams
from glassformer.inference.constraints import Constraints
from glassformer.inference.logits import without
from glassformer.inference.recorded_call import ModelCall
from glassformer.models.spec import IN_WORDS, KindName
from glassformer.tokenizers import Tokenizer

Given = str | Path | Sequence[int]  # a text, the path of a file, or a text's token ids
FIRST_TEXTS = ("The cat sat on the mat because it was", "The cat sat", "CBABBC", "the cat sat", "cat")
Pass = tuple[ModelCall, tuple[Tensor, ...]]  # what is called with the module, and with which inputs
Metrics = dict[str, Any]  # by their names; a list has details
Progress = Callable[[int, int], None]  # (units that are done, of how many)


@runtime_checkable
class ModelLike(Protocol):
    """What is asked of a model here; `api.Model` has it."""

    @property
    def module(self) -> nn.Module:
        """The architecture's module, in eval mode."""

    @property
    def config(self) -> Any:
        """The architecture's own record of sizes."""

    @property
    def kind(self) -> KindName:
        """The name of its kind."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """That of the text which the model reads and writes; of an encoder-decoder, of the target."""

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """That of an encoder-decoder's source, where it differs from the target's."""

    @property
    def no_tokenizer(self) -> str:
        """Why there is no tokenizer, as a sentence; empty where there is one."""

    @property
    def processor(self) -> Any:
        """What brings images or sound into the form that the model reads, where its files say."""

    @property
    def about(self) -> About | None:
        """What it does, where its files say."""

    @property
    def suppressed(self) -> frozenset[int]:
        """The token ids that are never written."""

    @property
    def constraints(self) -> Constraints:
        """What its files say about which tokens may come, these included."""

    @property
    def beams(self) -> Beams:
        """How a search goes on and ends, as its files say, or as usual."""

    @property
    def note(self) -> str:
        """What was assumed while the model was read, as a sentence for the user."""

    def encode(self, prompt: str) -> list[int]:
        """The prompt's tokens."""


def text_tokenizer(model: ModelLike) -> Tokenizer | None:
    """The tokenizer of what people type: of an encoder-decoder, that of the source."""
    return model.source_tokenizer or model.tokenizer


def needs_tokenizer(model: ModelLike) -> Tokenizer:
    """The model's tokenizer; a model without one cannot read or write a text."""
    if model.tokenizer is None:
        raise GenerationError(
            f"This model came without a tokenizer. {model.no_tokenizer}".rstrip(),
            python="Put one beside its weights (tokenizer.json), or give it tokens with generate_ids.",
            command="glassformer convert MODEL FOLDER --tokenizer FILE makes a copy that has one.",
        )
    return model.tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a model reads in one pass; what of it there is follows from the model's kind.

    `tokens` are those of the text, which an encoder-decoder and a recognizer of speech write on token by token.
    """

    tokens: tuple[int, ...] = ()
    source: tuple[int, ...] = ()  # the text that is translated, or the words that a word is compared with
    image: Float[Tensor, "1 K H W"] | None = None
    sound: Float[Tensor, " N"] | None = None  # at 16 kHz
    label: str = ""  # the name of the file
    note: str = ""  # what was made up, where something was not given

    def and_then(self, token: int) -> "Inputs":
        """The same with one more token."""
        return replace(self, tokens=(*self.tokens, token))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of model.

    `encode` gives the tokens of a text, with those that stand around it for this kind, and `of_tokens` what is read
    for them; both are None where no text is read but a file, of what `reads` says. `of_file` reads that, and `made_up`
    stands for one where nothing was given. `call` is what runs. `verb` is the command for it, `about` what it does.
    `measure(model, data, progress=…, …)` says how good a model is, by the figures that papers give; its other arguments
    are its settings.
    """

    name: KindName
    verb: str
    call: Callable[[ModelLike, Inputs], Pass]
    about: About  # what such models do
    encode: Callable[[ModelLike, str], list[int]] | None = None
    of_tokens: Callable[[ModelLike, Sequence[int]], Inputs] | None = None
    of_file: Callable[[ModelLike, Path], Inputs] | None = None
    made_up: Callable[[ModelLike], Inputs] | None = None
    measure: Callable[..., Metrics] | None = None
    n_example: int = 8  # tokens of an example, where the model has no tokenizer
    reads: str = "a text"
    writes: bool = False  # a text, token by token
    writes_first: bool = False  # its first token too: the prompt is another text, or no text at all

    def verb_for(self, model: ModelLike) -> str:
        """The command for this model: an encoder with a head for classes is not for its vectors."""
        return "classify" if getattr(model.config, "head", "") == "classes" else self.verb

    @property
    def reads_text(self) -> bool:
        """Whether it reads a text, not a file."""
        return self.encode is not None

    @property
    def measure_settings(self) -> tuple[str, ...]:
        """The names of what `measure` can be told."""
        named = () if self.measure is None else inspect.signature(self.measure).parameters.values()
        return tuple(each.name for each in named if each.kind is each.KEYWORD_ONLY and each.name != "progress")

    def read(self, model: ModelLike, given: Given) -> Inputs:
        """What a user gave as the model's inputs: token ids, a text, or the path of an image or a recording."""
        if self.of_file is not None and isinstance(given, str | Path):
            return self.of_file(model, Path(given))
        if self.of_tokens is None:
            raise self._reads_no_text()
        return self.of_tokens(model, self.tokens(model, str(given)) if isinstance(given, str | Path) else given)

    def tokens(self, model: ModelLike, text: str) -> list[int]:
        """The tokens of a text, with those that stand around it."""
        if self.encode is None:
            raise self._reads_no_text()
        return self.encode(model, text)

    def example(self, model: ModelLike) -> Inputs:
        """Something to begin with: a text that the tokenizer can write, or what stands for a picture or a sound."""
        if self.made_up is not None:
            return self.made_up(model)
        for text in FIRST_TEXTS if text_tokenizer(model) is not None else ():
            with suppress(GlassformerError):
                inputs = self.read(model, text)
                self.call(model, inputs)
                return inputs
        vocab_size = getattr(model.config, "source_vocab_size", None) or model.config.vocab_size
        n = min(self.n_example, model.config.context_length)
        return self.read(model, [i * (vocab_size // 8 or 1) % vocab_size for i in range(1, n + 1)])

    def begun(self, model: ModelLike, inputs: Inputs) -> Inputs:
        """With the first token that the model writes itself, where there is none yet beside the one that begins a text.

        For T = 1, (B, H · D) and (B, H, 1, D) are the same memory: a recording would not show how heads are joined.
        """
        if not self.writes_first or len(inputs.tokens) > 1 or model.config.context_length == 1:
            return inputs
        call, arguments = self.call(model, inputs)
        n_tokens = None if model.tokenizer is None else model.tokenizer.vocab_size
        with torch.no_grad():
            logits = without(call(model.module, *arguments)[:, -1, :n_tokens], model.suppressed)
        return inputs.and_then(int(logits.argmax()))

    def _reads_no_text(self) -> GenerationError:
        return GenerationError(f"The model is {IN_WORDS[self.name]}: give it the file of {self.reads}, no text.")

"""Conversations: a prompt from messages, the tokens at which an answer ends, and turns that go on from what was read.

`chat_template.py` has how messages become a text; here the text becomes tokens, and the engine continues them.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from glassformer.checkpoints.chat_templates import DEFAULT, TOOL_USE, file_of, special_tokens_of, templates_of
from glassformer.errors import GenerationError
from glassformer.inference.chat_template import ChatMessage, ChatTemplate, Tools
from glassformer.inference.engine import Engine
from glassformer.inference.logits import derived_seed
from glassformer.inference.plain_text import encode_marked, marked, marked_messages
from glassformer.inference.request import Request
from glassformer.inference.stopping import StopStrings, stops_within
from glassformer.inference.streaming_text import Piece, stream_text
from glassformer.tokenizers import Tokenizer


def template_of(
    contents: Mapping[str, bytes], tokenizer: Tokenizer, *, name: str = "", tools: Tools | None = None
) -> ChatTemplate:
    """The template of this name in a checkpoint's files; without one, that for tools where there are some."""
    templates = templates_of(contents)
    if not templates:
        raise GenerationError(
            "The model has no chat template, which would say how it reads a conversation: it continues texts.",
            python="`generate` does that.",
            command="glassformer generate does that.",
        )
    usual = TOOL_USE if tools and TOOL_USE in templates else DEFAULT
    if (name or usual) not in templates:
        raise GenerationError(
            f"There is no chat template {name or usual!r}: the model has {', '.join(templates)}.", setting="template"
        )
    if not templates[name or usual].strip():
        raise GenerationError(
            f"The chat template {name or usual!r} in the model's files is empty, and would leave out all messages. Put "
            f"the one with which the model was published into {file_of(name or usual)}, beside its weights.",
            python="Without one, `generate` continues texts.",
            command="Without one, glassformer generate continues texts.",
        )
    return ChatTemplate(text=templates[name or usual], tokens=special_tokens_of(contents, tokenizer))


class ChatPrompt(NamedTuple):
    """A conversation as a model reads it, and the tokens that end its answer for the template."""

    tokens: tuple[int, ...]
    end_ids: frozenset[int]


def prompt_of(
    template: ChatTemplate, tokenizer: Tokenizer, messages: Sequence[ChatMessage], *, tools: Tools | None = None
) -> ChatPrompt:
    """The tokens of a conversation up to where the answer begins.

    What begins a text, the template has written. Special tokens in messages are text, and no tokens.
    """
    messages, tools = marked_messages(messages, tokenizer), marked(tools, tokenizer)
    text, behind = template.render_with_end(messages, tools=tools)
    return ChatPrompt(tuple(encode_marked(text, tokenizer)), end_ids(behind, tokenizer))


def end_ids(behind: str, tokenizer: Tokenizer) -> frozenset[int]:
    """The special token with which what stands behind an answer begins, such as <|im_end|>; perhaps there is none."""
    tokens = [token for token in tokenizer.special_tokens if behind.lstrip().startswith(token)]
    return frozenset(tokenizer.special_tokens[token] for token in sorted(tokens, key=len)[-1:])


def without_margin(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Answers without the white space before them, which belongs to the layout of the conversation."""
    begun: set[int] = set()
    for piece in pieces:
        text = piece.text if piece.sequence in begun else piece.text.lstrip()
        if text:
            begun.add(piece.sequence)
        if text or piece.finish:
            yield replace(piece, text=text)


@dataclass(slots=True, kw_only=True)
class Conversation:
    """Messages that go on: every question is answered in the light of those before it.

    The engine keeps what it has read and written lately, with which the next turn begins; it is read again from where a
    template, or the tokens of an answer's text, first differ. Special tokens that the model writes within an answer are
    no part of its text, nor of what is read of it later. `request` says how tokens are chosen and when an answer ends;
    it is asked anew, with a seed of its own, for each answer.
    """

    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate
    request: Request
    stop: Sequence[str] = ()
    tools: Tools | None = None
    messages: list[ChatMessage] = field(default_factory=list)

    @property
    def system(self) -> str:
        """What the model is told before all else, "" where it is told nothing."""
        first = self.messages[0] if self.messages else {}
        return str(first.get("content", "")) if first.get("role") == "system" else ""

    @system.setter
    def system(self, text: str) -> None:
        others = self.messages[1:] if self.system else self.messages
        self.messages = [*([{"role": "system", "content": text}] if text else []), *others]

    def reset(self) -> None:
        """Forget all but what the model is told before all else."""
        self.messages = self.messages[: 1 if self.system else 0]

    @property
    def context_length(self) -> int:
        """How many positions the model has."""
        return int(self.engine.module.config.context_length)

    @property
    def n_tokens(self) -> int:
        """How many tokens the conversation has so far."""
        if not self.messages:
            return 0
        messages = marked_messages(self.messages, self.tokenizer)
        text = self.template.render(messages, tools=self.tools, add_generation_prompt=False)
        return len(encode_marked(text, self.tokenizer))

    def ask(self, question: str) -> Generator[Piece]:
        """The answer in pieces. What cannot be served raises at once, and the conversation is as it was.

        An answer that is left before its end stays in the conversation as far as it has come.
        """
        messages = [*self.messages, {"role": "user", "content": question}]
        prompt = prompt_of(self.template, self.tokenizer, messages, tools=self.tools)
        endings = stops_within(self.tokenizer.special_tokens, self.stop)
        stop_tokens = self.request.stop_tokens | prompt.end_ids | endings
        seed = derived_seed(self.request.sampling.seed, len(messages))
        sampling = replace(self.request.sampling, seed=seed)
        request = replace(self.request, tokens=prompt.tokens, stop_tokens=stop_tokens, sampling=sampling)
        request.check(self.engine.module.config, self.engine.policy)
        StopStrings(self.stop)  # refuses an empty one
        return self._answer(messages, request)

    def _answer(self, messages: list[ChatMessage], request: Request) -> Generator[Piece]:
        sequence, answer, finished = -1, "", False
        try:
            sequence = self.engine.admit(request)
            tokens = (replace(new, sequence=0) for new in self.engine.run())
            pieces = stream_text(
                tokens,
                self.tokenizer,
                prompts=[request.tokens],
                stop=self.stop,
                eos_ids=request.stop_tokens,
                unwritten=self.tokenizer.skipped_ids,
            )
            for piece in without_margin(pieces):
                answer += piece.text
                finished = piece.finish is not None
                yield piece
        finally:
            self.engine.cancel(sequence)
            if finished or answer:
                self.messages = [*messages, {"role": "assistant", "content": answer.strip()}]

"""From tokens to text as it streams: no broken characters, and nothing of a stop string."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from glassformer.inference.request import NewToken
from glassformer.inference.stopping import Finish, StopStrings
from glassformer.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the text of one sequence; `finish` says why it ended, with the last piece."""

    sequence: int
    text: str
    finish: Finish | None


def stream_text(
    tokens: Iterator[NewToken],
    tokenizer: Tokenizer,
    *,
    prompts: Sequence[Sequence[int]] = ((),),
    stop: Sequence[str] = (),
    eos_ids: frozenset[int] = frozenset(),
    unwritten: frozenset[int] = frozenset(),
    cancel: Callable[[int], object] = lambda sequence: None,
) -> Iterator[Piece]:
    """The text of the new tokens, one prompt a sequence: the text of a token may depend on what stands before it.

    A sequence ends before the first stop string. The tokens `eos_ids`, at which a text ends, have none of their own:
    where the sequence goes on after one, or after several in a row, an empty line stands there. Those `unwritten` have
    none either, and nothing stands for them. `cancel` is called with a sequence that has met a stop string: the decode
    engine need not go on with it.
    """
    streams = [(SequenceText(tokenizer, prompt), StopStrings(stop)) for prompt in prompts]
    return _stream(tokens, dict(enumerate(streams)), eos_ids, unwritten, cancel)


def watched(tokens: Iterable[NewToken], watch: Callable[[NewToken], object]) -> Iterator[NewToken]:
    """The same tokens; `watch` is called with each before its text is made."""
    for new in tokens:
        watch(new)
        yield new


def _stream(
    tokens: Iterator[NewToken],
    running: dict[int, tuple["SequenceText", StopStrings]],
    eos_ids: frozenset[int],
    unwritten: frozenset[int],
    cancel: Callable[[int], object],
) -> Iterator[Piece]:
    for new in tokens:
        if new.sequence not in running:
            continue
        stream, stop = running[new.sequence]
        text = ""
        if new.token in eos_ids:
            text = "" if new.finish is not None else stream.begin_anew(new.token)
        elif new.token not in unwritten:
            text = stream.push(new.token)
        if new.finish is not None:
            text += stream.finish()
        text = stop.take(text, last=new.finish is not None)
        finish = "stop" if stop.met else new.finish
        if finish is not None:
            del running[new.sequence]
            cancel(new.sequence)
        if text or finish:
            yield Piece(sequence=new.sequence, text=text, finish=finish)
        if not running:
            return


class SequenceText:
    """The text of one sequence; tokens that end a text begin another, behind an empty line."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._stream = tokenizer.stream(prompt)
        self._between_texts = False

    def push(self, token: int) -> str:
        """What is sure of the text, now that one more token has come."""
        self._between_texts = False
        return self._stream.push(token)

    def begin_anew(self, end: int) -> str:
        """What is left of the text that has ended with this token, and what stands between it and the next."""
        text = self._stream.finish() + "\n\n" * (not self._between_texts)
        self._stream = self._tokenizer.stream((end,))
        self._between_texts = True
        return text

    def finish(self) -> str:
        """What is left of the text."""
        return self._stream.finish()

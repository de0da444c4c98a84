"""From tokens to text as it streams: no broken characters, and nothing of a stop string."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from glassformer.errors import GenerationError
from glassformer.inference.request import Finish, NewToken
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
    cancel: Callable[[int], object] = lambda sequence: None,
) -> Iterator[Piece]:
    """The text of the new tokens, one prompt a sequence: the text of a token may depend on what stands before it.

    A sequence ends before the first stop string. The tokens `eos_ids`, at which a text ends, have none of their own:
    where the sequence goes on after one, or after several in a row, an empty line stands there. `cancel` is called with
    a sequence that has met a stop string: the decode engine need not go on with it.
    """
    if not all(stop):
        raise GenerationError("A stop string must have at least one character.")
    return _stream(tokens, tokenizer, prompts, stop, eos_ids, cancel)


def _stream(
    tokens: Iterator[NewToken],
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    stop: Sequence[str],
    eos_ids: frozenset[int],
    cancel: Callable[[int], object],
) -> Iterator[Piece]:
    running = {sequence: HeldBack(tokenizer, prompt, stop) for sequence, prompt in enumerate(prompts)}
    for new in tokens:
        if new.sequence not in running:
            continue
        held = running[new.sequence]
        if new.token not in eos_ids:
            held.push(new.token)
        elif new.finish is None:
            held.begin_anew(new.token)
        text = held.take(last=new.finish is not None)
        finish = "stop" if held.stopped else new.finish
        if finish is not None:
            del running[new.sequence]
            cancel(new.sequence)
        if text or finish:
            yield Piece(sequence=new.sequence, text=text, finish=finish)
        if not running:
            return


class HeldBack:
    """The text of one sequence, less what may turn out to be the beginning of a stop string."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stream = tokenizer.stream(prompt)
        self._stop = stop
        self._text = ""
        self._between = False  # two texts
        self.stopped = False

    def push(self, token: int) -> None:
        """One more token has come."""
        self._text += self._stream.push(token)
        self._between = False

    def begin_anew(self, end: int) -> None:
        """One text has ended with this token, and another begins."""
        self._text += self._stream.finish() + "\n\n" * (not self._between)
        self._stream = self._tokenizer.stream((end,))
        self._between = True

    def take(self, *, last: bool) -> str:
        """The text that is sure by now; `last` says that no more will come."""
        if last:
            self._text += self._stream.finish()
        found = [self._text.find(stop) for stop in self._stop if stop in self._text]
        if found:
            self.stopped = True
            return self._text[: min(found)]
        unsure = 0 if last else max((overlap(self._text, stop) for stop in self._stop), default=0)
        sure = len(self._text) - unsure
        text, self._text = self._text[:sure], self._text[sure:]
        return text


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`.

    >>> overlap("the en", "end")
    2
    """
    return max((n for n in range(1, min(len(text), len(stop)) + 1) if text.endswith(stop[:n])), default=0)

"""What a Whisper's tokens mean beyond text: where a transcript begins, its language and task, and times.

Radford et al. 2022, §2.3 and figure 1 (arXiv:2212.04356). The special tokens follow the ordinary ones in one order:

    <|endoftext|> <|startoftranscript|> <|en|> <|zh|> … <|translate|> <|transcribe|> <|startoflm|> <|startofprev|>
    <|nospeech|> <|notimestamps|> <|0.00|> <|0.02|> … <|30.00|>

so all of them follow from the number of ordinary tokens and the size of the vocabulary. Large-v3 has 100 languages, the
others 99.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import punctuation
from typing import Literal

from glassformer.errors import ConfigError, GenerationError
from glassformer.tokenizers.base import Tokenizer

SpeechTask = Literal["transcribe", "translate"]

_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
)
LANGUAGES = tuple(_CODES.split())
WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")  # written without spaces between words
N_TIMES = 1501  # 0.00 to 30.00 seconds
SECONDS_PER_TIME = 0.02
N_OTHERS = 8  # special tokens that are neither a language nor a time
_SYMBOLS = '" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』'
_DOUBLED = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
SYMBOLS = (*_SYMBOLS.split(), *_DOUBLED.split())
MUSIC = "♩♪♫♬♭♮♯"


@dataclass(frozen=True)
class SpeechTokens:
    """The special tokens of a Whisper whose text tokens are those of `tokenizer`."""

    tokenizer: Tokenizer
    vocab_size: int  # of the model: ordinary and special tokens

    def __post_init__(self) -> None:
        """Refuse a vocabulary whose sizes are those of no Whisper."""
        if not 99 <= self.n_languages <= len(LANGUAGES):
            raise ConfigError(
                f"A tokenizer of {self.end_of_text} tokens is not that of a Whisper with {self.vocab_size}: English "
                "models (51864) need GPT-2's, the others (51865, 51866) OpenAI's multilingual one."
            )

    @cached_property
    def end_of_text(self) -> int:
        """<|endoftext|>, the first after the ordinary tokens."""
        special = set(self.tokenizer.special_tokens.values())
        return sum(id not in special for id in self.tokenizer.vocab)

    @property
    def n_languages(self) -> int:
        """How many languages the vocabulary has a token for."""
        return self.vocab_size - self.end_of_text - N_OTHERS - N_TIMES

    @property
    def multilingual(self) -> bool:
        """Whether the model knows more than English; English models have the tokens and never saw them."""
        return self.vocab_size > 51864

    @property
    def start(self) -> int:
        """<|startoftranscript|>."""
        return self.end_of_text + 1

    @property
    def languages(self) -> dict[str, int]:
        """Each language's token by its code."""
        return {code: self.start + 1 + i for i, code in enumerate(LANGUAGES[: self.n_languages])}

    @property
    def translate(self) -> int:
        """<|translate|>: into English."""
        return self.start + 1 + self.n_languages

    @property
    def transcribe(self) -> int:
        """<|transcribe|>: in the language that is spoken."""
        return self.translate + 1

    @property
    def start_of_previous(self) -> int:
        """<|startofprev|>, before the text that came before."""
        return self.translate + 3

    @property
    def no_speech(self) -> int:
        """<|nospeech|>."""
        return self.translate + 4

    @property
    def no_times(self) -> int:
        """<|notimestamps|>."""
        return self.translate + 5

    @property
    def first_time(self) -> int:
        """<|0.00|>; the last token of all is <|30.00|>."""
        return self.translate + 6

    @property
    def names(self) -> tuple[str, ...]:
        """How the special tokens are written, from `end_of_text` to `no_times`."""
        control_tokens = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
        names = ("endoftext", "startoftranscript", *self.languages, *control_tokens)
        return tuple(f"<|{name}|>" for name in names)

    def opening(self, language: str, task: SpeechTask) -> list[int]:
        """What a transcript begins with: for English models only <|startoftranscript|>."""
        if not self.multilingual:
            if language != "en" or task != "transcribe":
                raise GenerationError(
                    f"This model transcribes English alone, and cannot {task}"
                    f"{'' if language == 'en' else f' {language!r}'}: take a multilingual one."
                )
            return [self.start]
        if language not in self.languages:
            raise GenerationError(f"{language!r} is no language of this model: {', '.join(self.languages)}.")
        return [self.start, self.languages[language], self.translate if task == "translate" else self.transcribe]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, in which nothing is special."""
        return self.tokenizer.encode(text, allowed_special="none")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        return self.tokenizer.decode([token for token in tokens if token < self.end_of_text])

    @cached_property
    def never_text(self) -> list[int]:
        """Tokens that no transcript has: marks of speakers, music and noises, and what the rules themselves place.

        A hyphen or an apostrophe may stand inside words, not at their beginning. Of a note that takes several tokens
        the first is left out, which only such symbols share (U+2640 to U+267F).
        """
        never = {self.encode(" -")[0], self.encode(" '")[0]}
        for symbol in [*SYMBOLS, *MUSIC]:
            for tokens in (self.encode(symbol), self.encode(f" {symbol}")):
                if len(tokens) == 1 or symbol in MUSIC:
                    never.add(tokens[0])
        never -= set(self.encode(" "))  # which in a small vocabulary stands alone before a symbol, and before words
        return sorted(never | {self.start, *range(self.translate, self.no_times)})

    def words(self, tokens: Sequence[int], language: str) -> list[list[int]]:
        """Text tokens, word by word; a word has the space before it, and punctuation is one of its own."""
        characters = self.whole_characters(tokens)
        if language in WITHOUT_SPACES:
            return characters
        words: list[list[int]] = []
        for character in characters:
            text = self.decode(character)
            if not words or text.startswith(" ") or text.strip() in punctuation:
                words.append(list(character))
            else:
                words[-1] += character
        return words

    def whole_characters(self, tokens: Sequence[int]) -> list[list[int]]:
        """Tokens in the smallest groups whose bytes are whole characters."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        groups: list[list[int]] = [[]]
        for token in tokens:
            groups[-1].append(token)
            decoder.decode(self.tokenizer.decode_bytes([token]))
            waiting, _ = decoder.getstate()
            if not waiting:
                groups.append([])
        return [group for group in groups if group]

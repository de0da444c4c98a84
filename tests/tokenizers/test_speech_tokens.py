"""The special tokens of published Whispers, tokens that no transcript has, and words out of tokens."""

import random
import string
from pathlib import Path

import pytest

from glassformer.errors import ConfigError, GenerationError
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import LANGUAGES, SpeechTokens
from support.counts import count


@pytest.fixture(scope="module")
def english(data_dir: Path) -> SpeechTokens:
    return SpeechTokens(Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken"), 51864)


@pytest.fixture(scope="module")
def multilingual(data_dir: Path) -> SpeechTokens:
    path = data_dir / "tokenizers" / "whisper-multilingual.tiktoken"
    return SpeechTokens(Tokenizer.load(path, pattern="gpt2"), 51865)


def test_the_tokens_of_the_english_models(english: SpeechTokens) -> None:
    assert (english.end_of_text, english.start, english.translate, english.transcribe) == (50256, 50257, 50357, 50358)
    assert (english.start_of_previous, english.no_speech, english.no_times) == (50360, 50361, 50362)
    assert english.first_time == 50363
    assert not english.multilingual
    assert english.opening("en", "transcribe") == [50257]


def test_the_tokens_of_the_multilingual_models(multilingual: SpeechTokens) -> None:
    assert (multilingual.end_of_text, multilingual.start) == (50257, 50258)
    assert (multilingual.translate, multilingual.transcribe, multilingual.no_times) == (50358, 50359, 50363)
    assert multilingual.first_time + 1500 == multilingual.vocab_size - 1
    languages = multilingual.languages
    assert (languages["en"], languages["zh"], languages["su"], "yue" in languages) == (50259, 50260, 50357, False)
    assert multilingual.opening("de", "translate") == [50258, 50261, 50358]


def test_large_v3_has_a_language_more(multilingual: SpeechTokens) -> None:
    large = SpeechTokens(multilingual.tokenizer, 51866)
    assert large.languages["yue"] == 50358
    assert (large.translate, large.first_time) == (50359, 50365)
    assert len(set(LANGUAGES)) == 100


@pytest.mark.parametrize("vocab_size", [51863, 51866, 50257, 99])
def test_a_tokenizer_that_does_not_fit_is_refused(english: SpeechTokens, vocab_size: int) -> None:
    with pytest.raises(ConfigError, match="is not that of a Whisper"):
        SpeechTokens(english.tokenizer, vocab_size)


def test_a_language_or_task_that_the_model_lacks_is_refused(english: SpeechTokens, multilingual: SpeechTokens) -> None:
    with pytest.raises(GenerationError, match="English alone"):
        english.opening("de", "transcribe")
    with pytest.raises(GenerationError, match="English alone"):
        english.opening("en", "translate")
    with pytest.raises(GenerationError, match="no language of this model"):
        multilingual.opening("yue", "transcribe")


def test_tokens_that_no_transcript_has_are_those_of_transformers(
    english: SpeechTokens, multilingual: SpeechTokens
) -> None:
    published = pytest.importorskip("transformers.models.whisper.configuration_whisper")
    for speech, listed in ((english, published.NON_SPEECH_TOKENS), (multilingual, published.NON_SPEECH_TOKENS_MULTI)):
        ordinary = {token for token in listed if token < speech.end_of_text}
        assert {token for token in speech.never_text if token < speech.end_of_text} == ordinary
        assert set(listed) - ordinary <= set(speech.never_text)


def test_text_and_tokens(english: SpeechTokens) -> None:
    tokens = english.encode("ask not <|endoftext|>")
    assert english.end_of_text not in tokens
    assert english.decode([english.start, *tokens, english.first_time]) == "ask not <|endoftext|>"


def test_words_have_their_spaces_and_points_stand_alone(english: SpeechTokens) -> None:
    tokens = english.encode(" Ask not, unquestioningly: why?")
    assert [english.decode(word) for word in english.words(tokens, "en")] == [
        " Ask",
        " not",
        ",",
        " unquestioningly",
        ":",
        " why",
        "?",
    ]


def test_chinese_is_cut_at_characters_and_never_inside_one(multilingual: SpeechTokens) -> None:
    tokens = multilingual.encode("你好，龘𠜎世界")
    words = [multilingual.decode(word) for word in multilingual.words(tokens, "zh")]
    assert "".join(words) == "你好，龘𠜎世界"
    assert "\ufffd" not in "".join(words)
    assert len(words) >= 4


def test_words_together_are_the_tokens(multilingual: SpeechTokens) -> None:
    choose = random.Random(0)
    letters = string.ascii_letters + string.punctuation + "  äé龘𠜎한🙂\n"
    for _ in range(count("texts in words")):
        tokens = multilingual.encode("".join(choose.choices(letters, k=choose.randint(0, 30))))
        if choose.random() < 0.3:
            tokens = [choose.randrange(50_000) for _ in tokens]  # bytes that are no characters
        for language in ("en", "zh"):
            words = multilingual.words(tokens, language)
            assert [token for word in words for token in word] == tokens
            assert all(words)

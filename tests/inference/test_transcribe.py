"""Real recordings, word for word as the references say; sound without speech; and recordings longer than a window."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from glassformer import checkpoints
from glassformer.data.audio import read_audio
from glassformer.errors import GenerationError
from glassformer.features.log_mel import SAMPLE_RATE, log_mel
from glassformer.inference import whisper_decoding
from glassformer.inference.quantize import quantize
from glassformer.inference.transcribe import Options, Transcript, listen, nothing_moves, transcribe
from glassformer.inference.whisper_decoding import (
    DecodingResult,
    FallbackThresholds,
    compression_ratio,
    detect_language,
    evidence,
    likeliest,
)
from glassformer.models.whisper import Whisper, WhisperConfig
from glassformer.nn.kv_cache import Policy, full
from glassformer.nn.memory import DecoderState
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens
from support.counts import count
from support.noises import MUSIC, NOISES
from support.noises import sound as sound_of
from support.spoken import digits_of, errors, spoken_digits, words_of


@pytest.fixture(scope="module")
def tiny(data_dir: Path) -> tuple[Whisper, SpeechTokens]:
    module: Any = checkpoints.load(data_dir / "whisper" / "tiny.en.pt", from_pickle=True).module
    return module, SpeechTokens(Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken"), module.config.vocab_size)


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> dict[str, Any]:
    return json.loads((data_dir / "whisper" / "tiny.en.reference.json").read_text())


@pytest.fixture(scope="module")
def jfk(tiny: tuple[Whisper, SpeechTokens], data_dir: Path) -> Transcript:
    return transcribe(*tiny, data_dir / "audio" / "jfk-16k.wav", Options(word_times=True))


@pytest.fixture
def upper_half(tiny: tuple[Whisper, SpeechTokens]) -> Iterator[None]:
    """Words are timed by all heads in the upper half of the decoder, as openai-whisper does with a file's path."""
    module, _ = tiny
    published, module.config = module.config, dataclasses.replace(module.config, alignment_heads=())
    yield
    module.config = published


@pytest.mark.usefixtures("upper_half")
def test_a_speech_word_for_word_with_its_times(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path, reference: dict[str, Any]
) -> None:
    expected = reference["transcribe"]
    jfk = transcribe(*tiny, data_dir / "audio" / "jfk-16k.wav", Options(word_times=True))
    assert jfk.text == expected["text"]
    assert jfk.language == "en"
    for found, wanted in zip(jfk.segments, expected["segments"], strict=True):
        assert (found.text, found.tokens) == (wanted["text"], wanted["tokens"])
        assert found.start == pytest.approx(wanted["start"], abs=0.1)
        assert found.end == pytest.approx(wanted["end"], abs=0.1)
        for word, (text, start, end) in zip(found.words, wanted["words"], strict=True):
            assert word.text == text
            assert word.start == pytest.approx(start, abs=0.1)
            assert word.end == pytest.approx(end, abs=0.1)


ONSETS = (  # seconds: openai-whisper 20250625, tiny.en by its name, which brings the published alignment heads
    *(0.0, 0.76, 1.06, 1.46, 1.76, 2.26, 3.88, 4.52, 5.7, 6.02, 6.36, 6.76, 7.02, 7.26),
    *(8.06, 8.66, 8.94, 9.28, 9.5, 9.72, 9.92, 10.22),
)


def test_words_are_timed_by_the_published_alignment_heads(jfk: Transcript) -> None:
    words = [word for segment in jfk.segments for word in segment.words]
    assert [word.start for word in words] == pytest.approx(ONSETS, abs=0.05)
    assert words[-1].end == pytest.approx(10.5, abs=0.05)


def test_times_rise_and_stay_within_the_recording(jfk: Transcript) -> None:
    times = [time for part in jfk.segments for word in part.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(word.start < word.end for part in jfk.segments for word in part.words)
    assert times[0] >= 0
    assert times[-1] <= jfk.duration == 11.0
    assert all(0 < word.probability <= 1 for part in jfk.segments for word in part.words)


def test_without_times_the_greedy_tokens_are_the_references(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path, reference: dict[str, Any]
) -> None:
    expected = reference["greedy_without_timestamps"]
    found = transcribe(*tiny, data_dir / "audio" / "jfk-16k.wav", Options(times=False))
    (only,) = found.segments
    assert only.tokens == expected["tokens"]
    assert only.mean_logprob == pytest.approx(expected["avg_logprob"], abs=1e-3)
    assert only.no_speech == pytest.approx(expected["no_speech_prob"], abs=1e-3)
    assert (only.start, only.end) == (0.0, 11.0)


def test_prompts_of_a_telephone_have_no_more_errors_than_the_reference(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path
) -> None:
    folder = data_dir / "audio" / "asterisk"
    clips = json.loads((folder / "tiny.en.reference.json").read_text())["clips"]
    ours = theirs = 0
    for clip in clips[: count("telephone prompts")]:
        found = transcribe(*tiny, folder / clip["file"], Options(times=False))
        ours += errors(words_of(clip["text"]), words_of(found.text))
        theirs += errors(words_of(clip["text"]), words_of(clip["whisper"]))
    assert ours <= theirs


def test_a_whisper_in_8_bits_writes_the_same_words(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path, reference: dict[str, Any]
) -> None:
    module: Any = checkpoints.load(data_dir / "whisper" / "tiny.en.pt", from_pickle=True).module.eval()
    quantize(module, "int8")
    found = transcribe(module, tiny[1], data_dir / "audio" / "jfk-16k.wav")
    assert words_of(found.text) == words_of(reference["transcribe"]["text"])


TEN_MINUTES = """
import sys
from collections.abc import Iterator
from pathlib import Path
from glassformer import checkpoints
from glassformer.tokenizers.speech_tokens import SpeechTokens
from glassformer.inference.transcribe import Options, transcribe
from glassformer.tokenizers import Tokenizer
module = checkpoints.load(Path(sys.argv[1]), from_pickle=True).module
speech = SpeechTokens(Tokenizer.load(Path(sys.argv[2])), module.config.vocab_size)
found = transcribe(module, speech, Path(sys.argv[3]), Options(word_times=True))
status = Path("/proc/self/status").read_text().splitlines()
(most,) = [int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")]
print(found.duration, found.text.lower().count("country"), most)
"""


@pytest.mark.slow
def test_ten_minutes_take_less_than_a_gigabyte(data_dir: Path, tmp_path: Path) -> None:
    speech, rate = soundfile.read(data_dir / "audio" / "jfk-16k.wav", dtype="int16")
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 1) as file:
        for _ in range(55):
            file.write(speech)
    files = (data_dir / "whisper" / "tiny.en.pt", data_dir / "tokenizers" / "gpt2.tiktoken", tmp_path / "long.wav")
    done = subprocess.run([sys.executable, "-c", TEN_MINUTES, *files], capture_output=True, text=True, check=True)
    duration, said, megabytes = done.stdout.split()
    assert float(duration) == 605
    assert 105 <= int(said) <= 110  # twice each time; a window's seam may cost a word
    assert int(megabytes) < 1000


def test_a_loop_is_not_chosen_for_being_likelier_than_a_text_that_was_said() -> None:
    assert likeliest([-0.1, -0.5, -0.4], [5.0, 1.5, 1.6], 2.4) == 2
    assert likeliest([-0.5, -0.1, -0.4], [5.0, 4.5, 4.6], 2.4) == 1


# openai-whisper's errors in each of these sequences, by `benchmarks/hearing.py`
OPENAIS_DIGIT_ERRORS = (22, 15, 39, 28, 18, 26, 13, 27, 19, 57)


@pytest.mark.slow
def test_sequences_of_digits_have_no_more_errors_than_openais(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path
) -> None:
    ours = 0
    for seed in range(len(OPENAIS_DIGIT_ERRORS)):
        sound, digits = spoken_digits(data_dir / "audio" / "fsdd", seed)
        ours += errors(digits, digits_of(transcribe(*tiny, sound).text))
    assert ours <= sum(OPENAIS_DIGIT_ERRORS)


# ---- nothing is said


def sounds() -> dict[str, Tensor]:
    n = 60 * SAMPLE_RATE
    seconds = torch.arange(n) / SAMPLE_RATE
    return {
        "silence": torch.zeros(n),
        "white noise": torch.randn(n) * 0.1,
        "quiet noise": torch.randn(n) * 0.001,
        "a tone": (2 * torch.pi * 440 * seconds).sin() * 0.5,
        "a hum": (2 * torch.pi * 100 * seconds).sin() * 0.1,
    }


@pytest.mark.parametrize("name", ["silence", "white noise", "quiet noise", "a tone", "a hum"])
def test_sound_without_speech_has_no_words(name: str, tiny: tuple[Whisper, SpeechTokens]) -> None:
    sound = sounds()[name]
    length = len(sound) if os.environ.get("GLASSFORMER_FULL") == "1" else 31 * SAMPLE_RATE
    assert transcribe(*tiny, sound[:length]).segments == ()


@pytest.mark.parametrize("kind", list(NOISES)[: count("kinds of noise")])
def test_noise_made_by_code_has_no_words(kind: str, tiny: tuple[Whisper, SpeechTokens]) -> None:
    assert transcribe(*tiny, sound_of(NOISES[kind], 30)).segments == ()


@pytest.mark.parametrize("kind", list(MUSIC)[: count("kinds of music")])
def test_music_made_by_code_has_no_words(kind: str, tiny: tuple[Whisper, SpeechTokens]) -> None:
    assert transcribe(*tiny, sound_of(MUSIC[kind], 30)).segments == ()


def test_words_that_were_said_have_evidence_and_words_of_habit_have_none(
    tiny: tuple[Whisper, SpeechTokens], data_dir: Path
) -> None:
    module, speech = tiny

    def memory(sound: Tensor) -> DecoderState:
        return listen(module, log_mel(torch.cat([sound, torch.zeros(30 * SAMPLE_RATE)]))[:, :3000])

    def nats(sound: DecoderState, text: str) -> float:
        return evidence(module, sound, silence, speech.encode(text), [speech.start, speech.no_times], speech)

    silence, chirps = memory(torch.zeros(1)), memory(sound_of(NOISES["chirps"], 10))
    prompt = memory(read_audio(data_dir / "audio" / "asterisk" / "vm-delete.wav"))
    assert nats(prompt, " Press 7 to delete this message.") > 4
    assert nats(prompt, " I'm going to go to the next one.") < 1
    assert nats(chirps, " I'm going to go to the next one." * 5) < 0.5
    assert nats(chirps, " ... !") == math.inf  # nothing that could have been said


def test_speech_moves_and_a_hum_does_not(data_dir: Path) -> None:
    for sound in (sounds()["silence"], sounds()["white noise"], sounds()["a hum"]):
        assert nothing_moves(log_mel(sound[: 5 * SAMPLE_RATE]))
    for path in sorted((data_dir / "audio" / "fsdd").glob("*_0.wav")):
        assert not nothing_moves(log_mel(read_audio(path)))


# ---- a model that says what it is told, to see how windows follow each other


class Scripted(Whisper):
    """Hears nothing and writes, window after window, the tokens of a script; keeps the prompts that it was shown."""

    def __init__(self, script: list[list[int]]) -> None:
        super().__init__(WhisperConfig(d_model=4, n_encoder_layers=1, n_decoder_layers=1, n_heads=1))
        self.script, self.prompts, self.window, self.place = script, [], -1, 0
        self.eval()

    def forward(self, tokens: Tensor, state: Any, valid: Tensor | None = None) -> Tensor:
        state.step(tokens, valid)
        if tokens.shape[1] > 1 or int(tokens[0, 0]) == 50257:
            self.prompts.append(tokens[0].tolist())
            self.window, self.place = self.window + 1, 0
        elif self.place > len(self.script[self.window]):  # another text behind the same prompt
            self.window, self.place = self.window + 1, 1
        logits = torch.zeros(*tokens.shape, self.config.vocab_size)
        wanted = [*self.script[self.window], 50256][self.place]
        logits[:, -1, wanted] = 50.0
        self.place += 1
        return logits


def at(seconds: float) -> int:
    return 50363 + round(seconds / 0.02)


@pytest.fixture
def speech(tiny: tuple[Whisper, SpeechTokens]) -> SpeechTokens:
    return tiny[1]


def test_windows_move_on_by_the_last_time_and_show_what_came_before(speech: SpeechTokens) -> None:
    ask, what = speech.encode(" ask"), speech.encode(" what")
    script = [
        [at(0), *ask, at(10), at(10), *what, at(20), at(20), *ask],  # the last is cut off: heard again from 20 s on
        [at(0), *what, at(30)],
        [at(1), *ask, at(9.5)],
    ]
    model = Scripted(script)
    moments: list[tuple[float, float]] = []
    sound = torch.randn(59 * SAMPLE_RATE) * (torch.arange(59 * SAMPLE_RATE) % 8000 > 4000)
    found = transcribe(model, speech, sound, progress=lambda done, all: moments.append((done, all)))
    assert [(part.start, part.end, part.text) for part in found.segments] == [
        (0.0, 10.0, " ask"),
        (10.0, 20.0, " what"),
        (20.0, 50.0, " what"),
        (50.0, 59.0, " ask"),  # a lone span begins with its window; no text goes on after the recording
    ]
    assert moments == [(20.0, 59.0), (50.0, 59.0), (59.0, 59.0)]
    first = [at(0), *ask, at(10), at(10), *what, at(20)]
    assert model.prompts[:2] == [[50257], [50360, *first, 50257]]
    assert model.prompts[2] == [50360, *first, at(0), *what, at(30), 50257]


def test_a_prompt_stands_before_the_first_window(speech: SpeechTokens) -> None:
    model = Scripted([[at(0), *speech.encode(" ask"), at(2)]])
    sound = torch.randn(2 * SAMPLE_RATE) * (torch.arange(2 * SAMPLE_RATE) > SAMPLE_RATE)
    transcribe(model, speech, sound, Options(prompt="Kennedy"))
    assert model.prompts == [[50360, *speech.encode(" Kennedy"), 50257]]
    with pytest.raises(GenerationError, match="can be shown 223"):
        transcribe(model, speech, sound, Options(prompt="a b c d " * 100))


def test_a_text_that_repeats_itself_is_tried_again_at_a_higher_temperature(speech: SpeechTokens) -> None:
    loop = speech.encode(" and" * 60)
    model = Scripted([[at(0), *loop, at(9)], [at(0), *speech.encode(" ask not"), at(9)]])
    sound = torch.randn(9 * SAMPLE_RATE) * (torch.arange(9 * SAMPLE_RATE) % 8000 > 4000)
    found = transcribe(model, speech, sound)
    assert [(part.text, part.temperature) for part in found.segments] == [(" ask not", 0.2)]
    patient = Scripted([[at(0), *loop, at(9)]])
    thresholds = FallbackThresholds(temperatures=(0.0, 0.2), max_compression=1e9)
    assert transcribe(patient, speech, sound, Options(thresholds=thresholds)).segments[0].compression > 2.4


def drawn(*texts: tuple[float, float, float, float]) -> Iterator[DecodingResult]:
    """Texts of which only the figures matter: log-probability, compression, probability of no speech, evidence."""
    for i, (mean_logprob, compression, no_speech, nats) in enumerate(texts):
        yield DecodingResult(
            tokens=[i],
            mean_logprob=mean_logprob,
            no_speech=no_speech,
            compression=compression,
            temperature=i / 5,
            evidence=nats,
        )


SURE, LOOP, GUESS = (-0.4, 1.5), (-0.25, 3.2), (-1.05, 1.5)  # the loop is confident, and fails for its compression


@pytest.mark.parametrize(
    ("texts", "chosen", "silent"),
    [
        ([(*LOOP, 0.7, 3.0), (*GUESS, 0.7, 3.0)], 0, False),  # a confident text loses neither to a guess nor to silence
        ([(*LOOP, 0.3, 3.0), (-0.3, 2.8, 0.3, 3.0), (*GUESS, 0.3, 3.0)], 1, False),  # the least repetitive
        ([(*LOOP, 0.7, 3.0), (*SURE, 0.7, 3.0), (*GUESS, 0.7, 3.0)], 1, False),  # the first that passes ends the search
        ([(*GUESS, 0.7, 3.0), (*SURE, 0.7, 3.0)], 0, True),  # silence by the published rule
        ([(*GUESS, 0.3, 3.0), (-1.2, 1.5, 0.3, 3.0)], 1, False),  # as published: all are guesses, the last stays
        ([(*LOOP, 0.7, 0.1), (*SURE, 0.7, 3.0)], 0, True),  # no speech is likely, and the text is habit
        ([(*LOOP, 0.3, 0.1), (*SURE, 0.3, 0.2)], 1, True),  # all texts are habit
        ([(*LOOP, 0.3, 0.1), (*SURE, 0.3, 3.0)], 1, False),  # another text does come from the sound
        ([(*LOOP, 0.3, 0.1), (*GUESS, 0.3, 3.0)], 0, True),  # and a guess does not outweigh habit
    ],
)
def test_which_text_of_a_window_is_kept(
    texts: list[tuple[float, float, float, float]],
    chosen: int,
    silent: bool,
    speech: SpeechTokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writings = list(drawn(*texts))
    following = iter(writings)
    window = SimpleNamespace(sample=lambda *_, **__: next(following))
    monkeypatch.setattr(whisper_decoding, "SpeechWindow", lambda *_, **__: window)
    monkeypatch.setattr(whisper_decoding, "evidence", lambda *arguments: writings[arguments[3][0]].evidence)
    thresholds = FallbackThresholds(temperatures=tuple(written.temperature for written in writings))
    module, state = Scripted([]), DecoderState(torch.zeros(1, 1, 4), 1, full(1))
    kept = whisper_decoding.decode_with_fallback(
        module, state, lambda: state, speech, thresholds, previous=[], opening=[speech.start], times=True, seed=0
    )
    assert kept.tokens == [chosen]
    assert kept.silent(thresholds) is silent


def test_compression() -> None:
    assert compression_ratio("ask not what your country can do for you") < 1.5
    assert compression_ratio("you " * 100) > 10


def test_the_same_seed_draws_the_same_text(tiny: tuple[Whisper, SpeechTokens], data_dir: Path) -> None:
    thresholds = FallbackThresholds(temperatures=(1.0,), best_of=2)
    path = data_dir / "audio" / "asterisk" / "vm-delete.wav"
    one, other = (transcribe(*tiny, path, Options(thresholds=thresholds, seed=3)) for _ in range(2))
    assert one == other


def test_the_language_is_the_likeliest_token(data_dir: Path) -> None:
    path = data_dir / "tokenizers" / "whisper-multilingual.tiktoken"
    speech = SpeechTokens(Tokenizer.load(path, pattern="gpt2"), 51865)
    config = WhisperConfig(vocab_size=51865, d_model=4, n_encoder_layers=1, n_decoder_layers=1, n_heads=1)
    model = Whisper(config).eval()
    heard = listen(model, torch.randn(80, 3000))
    with torch.no_grad():
        model.decoder.final_norm.bias.fill_(1)
        model.decoder.final_norm.weight.zero_()
        model.decoder.token_embedding.weight.zero_()
        model.decoder.token_embedding.weight[speech.languages["cy"]] = 1
    found = detect_language(model, heard, speech)
    assert len(found) == 99
    assert next(iter(found)) == "cy"
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)


class Polyglot(Whisper):
    """Takes quiet sound for Japanese in which nothing is said, and loud sound for the Chinese word 谢谢."""

    def __init__(self, speech: SpeechTokens) -> None:
        super().__init__(WhisperConfig(vocab_size=51865, d_model=4, n_encoder_layers=1, n_decoder_layers=1, n_heads=1))
        (word,) = speech.encode("谢谢")
        first, later = speech.first_time, speech.first_time + 100
        self.following = {speech.transcribe: first, first: word, word: later, later: speech.end_of_text}
        self.speech = speech
        self.eval()

    def begin(self, source: Tensor, policy: Policy) -> DecoderState:
        """The memory is one number, the loudest of the sound."""
        return DecoderState(source.amax().expand(1, 1, 1), 1, policy)

    def forward(self, tokens: Tensor, state: Any, valid: Tensor | None = None) -> Tensor:
        loud, speech = float(state.memory[0, 0, 0]) > 1, self.speech
        logits = torch.zeros(*tokens.shape, self.config.vocab_size)
        last = int(tokens[0, -1])
        if last == speech.start:
            logits[:, -1, speech.languages["zh" if loud else "ja"]] = 50.0
        elif loud:
            logits[:, -1, self.following.get(last, speech.end_of_text)] = 50.0
        else:
            logits[:, :, speech.no_speech] = 50.0
        return logits


def test_the_language_is_that_of_the_first_window_that_holds_speech(data_dir: Path) -> None:
    path = data_dir / "tokenizers" / "whisper-multilingual.tiktoken"
    speech = SpeechTokens(Tokenizer.load(path, pattern="gpt2"), 51865)
    module = Polyglot(speech)
    moving = torch.randn(30 * SAMPLE_RATE) * (torch.arange(30 * SAMPLE_RATE) % 8000 > 4000)
    silence, quiet = torch.zeros(30 * SAMPLE_RATE), moving * 1e-3
    found = transcribe(module, speech, torch.cat([silence, quiet, moving]))
    assert (found.language, found.text) == ("zh", "谢谢")
    assert found.segments[0].start == 60
    assert transcribe(module, speech, torch.cat([moving, quiet])).language == "zh"
    nothing = transcribe(module, speech, torch.cat([silence, quiet]))
    assert (nothing.language, nothing.segments) == ("ja", ())

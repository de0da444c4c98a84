"""`transformers` transcribes with a Whisper that we write: processor, special tokens and what `generate` asks for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from glassformer import api, checkpoints
from glassformer.inference.transcribe import Options, transcribe
from glassformer.models.whisper import PRESETS, Whisper, WhisperConfig
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.speech_tokens import SpeechTokens
from support.parity import import_transformers

transformers = import_transformers()


@pytest.fixture(scope="module")
def exported(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real tiny.en with OpenAI's ranks, as a folder."""
    model = api.load(data_dir / "whisper" / "tiny.en.pt", from_pickle=True)
    heads = dataclasses.replace(model.config, alignment_heads=PRESETS["whisper-tiny.en"].alignment_heads)
    module: Any = model.module
    module.config = heads
    tokenizer = Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken")
    return checkpoints.save(module, tmp_path_factory.mktemp("whisper") / "tiny.en", tokenizer=tokenizer)


def test_transformers_writes_down_what_we_do(exported: Path, data_dir: Path) -> None:
    wave, rate = soundfile.read(data_dir / "audio" / "jfk-16k.wav", dtype="float32")
    ours = api.load(exported)
    assert ours.tokenizer is not None
    module: Any = ours.module
    speech = SpeechTokens(ours.tokenizer, ours.config.vocab_size)
    expected = transcribe(module, speech, torch.from_numpy(wave), Options(times=False))

    processor = transformers.AutoProcessor.from_pretrained(exported)
    assert type(processor).__name__ == "WhisperProcessor"
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(exported).eval()
    features = processor(wave, sampling_rate=rate, return_tensors="pt").input_features
    found = theirs.generate(features, return_token_timestamps=True, do_sample=False)
    texts = processor.batch_decode(found["sequences"], skip_special_tokens=True)
    assert texts == [expected.text]
    assert "ask what you can do for your country" in expected.text
    times = found["token_timestamps"][0]
    assert times.diff().min() >= 0
    assert 9 < times[-1] <= 11


def test_special_tokens_are_those_of_transformers(exported: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    ours = api.load(exported).tokenizer
    assert ours is not None
    speech = SpeechTokens(ours, 51864)
    assert theirs.convert_tokens_to_ids(list(speech.names)) == list(range(speech.end_of_text, speech.first_time))
    assert theirs(" Hello you!").input_ids == [speech.start, speech.no_times, *speech.encode(" Hello you!"), 50256]
    read = json.loads((exported / "generation_config.json").read_text())
    assert read["alignment_heads"] == [list(head) for head in PRESETS["whisper-tiny.en"].alignment_heads]
    assert read["is_multilingual"] is False
    assert "lang_to_id" not in read


@torch.no_grad()
def test_transformers_chooses_language_and_task_by_their_tokens(data_dir: Path, tmp_path: Path) -> None:
    """A model of several languages, with random weights: the beginning that is asked for, and none of our mistakes."""
    config = WhisperConfig(
        vocab_size=51865,
        audio_context_length=50,
        d_model=8,
        n_encoder_layers=1,
        n_decoder_layers=2,
        n_heads=2,
        alignment_heads=((1, 0), (1, 1)),
    )
    tokenizer = Tokenizer.load(data_dir / "tokenizers" / "whisper-multilingual.tiktoken", pattern="gpt2")
    speech = SpeechTokens(tokenizer, config.vocab_size)
    folder = checkpoints.save(Whisper(config), tmp_path / "a", tokenizer=tokenizer)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    assert theirs.generation_config.alignment_heads == [[1, 0], [1, 1]]
    sound = torch.randn(1, 80, 100)
    asked = {"language": "german", "task": "translate", "max_new_tokens": 4, "do_sample": False}
    found = theirs.generate(sound, return_dict_in_generate=True, output_scores=True, **asked)
    assert found["sequences"][0, :4].tolist() == [*speech.opening("de", "translate"), speech.no_times]
    never = found["scores"][0][0] == -torch.inf
    assert never.nonzero().flatten().tolist() == sorted({*speech.never_text, *speech.encode(" "), speech.end_of_text})
    (folder / "glassformer.json").unlink()
    (folder / "manifest.json").unlink()
    assert checkpoints.load(folder).config == config

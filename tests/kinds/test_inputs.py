"""From what people have to what a model reads: texts, ids, pictures, recordings, or nothing at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import glassformer as gf
from glassformer.errors import DataError, GenerationError
from glassformer.features.log_mel import log_mel
from glassformer.kinds import kind_of
from glassformer.kinds.kind import Inputs
from glassformer.tokenizers import CharTokenizer
from support.tiny import TINY


def read(model: gf.Model, given: Any) -> Inputs:
    return kind_of(model).read(model, given)


def example(model: gf.Model) -> Inputs:
    return kind_of(model).example(model)


def tiny(name: str, **changes: Any) -> gf.Model:
    return gf.build(name, **{**TINY[name], **changes})


def test_a_language_model_begins_with_a_text_that_it_can_read():
    assert example(gf.load("nano-sort")).tokens == (2, 1, 0, 1, 1, 2)  # CBABBC
    without = gf.build("gpt2", vocab_size=50, n_layers=1, d_model=8, n_heads=1, context_length=5)
    assert example(without).tokens == (6, 12, 18, 24, 30)
    few = example(gf.build("gpt2", vocab_size=3, d_model=8, n_heads=1))
    assert few.tokens
    assert all(0 <= token < 3 for token in few.tokens)


@pytest.mark.parametrize("name", TINY)
def test_every_kind_has_an_example_that_it_reads(name: str):
    model = tiny(name)
    call, arguments = kind_of(model).call(model, kind_of(model).example(model))
    with torch.no_grad():
        assert call(model.module, *arguments).shape[-1] == model.config.vocab_size


def test_a_translator_reads_its_source_to_the_end_and_begins_with_its_start_token():
    model = tiny("transformer", start_id=3, eos_id=4)
    given = kind_of(model).read(model, [5, 6, 7])
    assert (given.source, given.tokens) == ((5, 6, 7), (3,))
    tokenizer = CharTokenizer("abcdefghijk")  # has no token that ends a text, and the vocabulary is shared
    both = model.having(tokenizer=tokenizer)
    assert read(both, "cab").source == (2, 0, 1, 4)
    ours = model.having(tokenizer=None, source_tokenizer=CharTokenizer("cab"))
    assert read(ours, "cab").source == (0, 1, 2)


def test_a_word_is_compared_with_those_that_go_with_it_best():
    model = gf.build("word2vec", vocab_size=40, d_model=6)
    with torch.no_grad():
        model.module.context_embedding.weight.normal_()
    given = kind_of(model).read(model, [7])
    call, arguments = kind_of(model).call(model, given)
    scores = call(model.module, *arguments)[0]
    assert torch.equal(scores, scores.sort(descending=True).values)
    everything = call(model.module, torch.tensor([[7]]), torch.arange(40)[None])[0]
    torch.testing.assert_close(scores, everything.sort(descending=True).values[: len(scores)])


def test_a_picture_of_any_size_becomes_one_of_the_models(tmp_path: Path):
    Image.fromarray(np.full((30, 50, 3), 255, np.uint8)).save(tmp_path / "white.png")
    model = tiny("vit")
    given = kind_of(model).read(model, tmp_path / "white.png")
    assert given.label == "white.png"
    assert "scaled" in given.note  # nobody has said how
    assert given.image is not None
    assert torch.equal(given.image, torch.ones(1, 3, 8, 8))
    with pytest.raises(GenerationError, match="4 channels"):
        read(tiny("vit", n_channels=4), tmp_path / "white.png")


def test_a_recording_becomes_a_window_that_ends_in_silence(tmp_path: Path):
    sound = np.sin(np.arange(800) / 5).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", sound, 16_000, subtype="FLOAT")
    model = tiny("whisper")
    given = kind_of(model).read(model, tmp_path / "tone.wav")
    assert given.sound is not None
    assert given.sound.shape == (2 * 6 * 160,)
    assert np.array_equal(given.sound[:800].numpy(), sound)
    assert not given.sound[800:].any()
    call, (waveform, tokens) = kind_of(model).call(model, given)
    mel = log_mel(waveform, 5)[None]
    with torch.no_grad():
        torch.testing.assert_close(call(model.module, waveform, tokens), model(mel, tokens))
    soundfile.write(tmp_path / "long.wav", np.tile(sound, 9), 16_000, subtype="FLOAT")
    long = kind_of(model).read(model, tmp_path / "long.wav").sound
    assert long is not None
    assert np.array_equal(long.numpy(), np.tile(sound, 9)[:1920])


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("transformer", "cab", "came without a tokenizer"),
        ("vit", [1, 2], "give it the file of a picture, no text"),
        ("whisper", [1, 2], "give it the file of a recording, no text"),
        ("bert", [1] * 9, "9 tokens do not fit this model's context of 8"),
        ("transformer", [1] * 9, "9 tokens do not fit this model's context of 8"),
        ("seq2seq", [9], "Token 9 is not in the model's source vocabulary of 9"),
        ("seq2seq", [], "An empty source"),
        ("rnn", [11], "Token 11 is not in the model's vocabulary of 11"),
        ("bert", [], "is empty"),
    ],
)
def test_what_a_model_cannot_read_is_said_in_a_sentence(name: str, given: Any, reason: str):
    model = tiny(name)
    with pytest.raises(GenerationError, match=reason):
        kind_of(model).call(model, kind_of(model).read(model, given))


@pytest.mark.parametrize("name", ["vit", "whisper"])
def test_a_file_that_is_not_there_or_is_something_else_is_named(name: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing\.bin"):
        read(tiny(name), tmp_path / "nothing.bin")
    (tmp_path / "text.txt").write_text("no picture and no sound\n" * 20)
    with pytest.raises(DataError, match=r"text\.txt"):
        read(tiny(name), str(tmp_path / "text.txt"))


@pytest.mark.parametrize("name", ["transformer", "seq2seq", "whisper"])
def test_what_writes_has_begun_to_write_where_it_is_shown(name: str):
    model = gf.build(name, **TINY[name])
    given = kind_of(model).example(model)
    shown = kind_of(model).begun(model, given)
    assert shown.tokens[:1] == given.tokens[:1]
    assert len(shown.tokens) >= 2
    call, read = kind_of(model).call(model, given)
    if len(given.tokens) == 1:
        with torch.no_grad():
            assert shown.tokens[1] == int(call(model.module, *read)[0, -1].argmax())
    assert kind_of(model).begun(model, shown) == shown, "once there is something, the visitor goes on"


# ---- the facade: the same from Python as from the command line


def test_a_picture_is_classified_from_a_file_an_image_and_pixels(tmp_path: Path) -> None:
    model = tiny("vit")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    picture.save(tmp_path / "noise.png")
    pixels = read(model, tmp_path / "noise.png").image
    assert pixels is not None
    guesses = model.classify(tmp_path / "noise.png", picture, pixels[0], top_k=2)
    assert [len(of_one) for of_one in guesses] == [2, 2, 2]
    assert guesses[0] == guesses[1] == guesses[2]
    assert guesses[0][0].probability >= guesses[0][1].probability


def test_texts_become_vectors_whose_products_are_cosines() -> None:
    model = tiny("bert").having(tokenizer=CharTokenizer("abcdefghij"))
    vectors = model.embed("abc", "cab", "hij")
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    raw = model.embed("abc", normalise=False)
    torch.testing.assert_close(raw / raw.norm(), vectors[:1])


def test_a_recording_is_transcribed_with_the_settings_of_options(data_dir: Path) -> None:
    from glassformer.tokenizers import Tokenizer

    whisper = data_dir / "whisper" / "tiny.en.pt"
    ranks = Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken")
    model = gf.load(whisper, from_pickle=True).having(tokenizer=ranks)
    clip = data_dir / "audio" / "asterisk" / "vm-delete.wav"
    assert model.transcribe(clip, times=False).text.strip() == "Press 7 to delete this message."
    with pytest.raises(GenerationError, match="There is no setting colour; there are language, task"):
        model.transcribe(clip, colour="blue")


@pytest.mark.parametrize(
    ("name", "verb"), [("gpt2", "classify"), ("vit", "transcribe"), ("bert", "transcribe"), ("gpt2", "embed")]
)
def test_a_verb_for_another_kind_of_model_says_which_kind_it_takes(name: str, verb: str) -> None:
    with pytest.raises(GenerationError, match=r"This takes an? .*, and the model is an? "):
        getattr(tiny(name), verb)("anything")

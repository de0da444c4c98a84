"""Every kind of model in the viewer: what its passes hold, what it can do, how it goes on, and what the page gets."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import glassformer as gf
from glassformer import models
from glassformer.data.images import read_idx
from glassformer.errors import GenerationError
from glassformer.features.image_processor import ImageProcessor
from glassformer.features.log_mel import log_mel
from glassformer.inference.logits import Sampling
from glassformer.kinds import kind_of, kinds
from glassformer.kinds.kind import Inputs
from glassformer.tokenizers import CharTokenizer
from glassformer.tracing.check import check
from glassformer.viewer.export import export_folder
from glassformer.viewer.session import Session
from support.counts import count
from support.published import MNIST_VIT
from support.tiny import TINY

SIZES: dict[str, dict[str, Any]] = TINY | {"word2vec": {"vocab_size": 11, "d_model": 4}}
GREEDY = Sampling(temperature=0.0)


@lru_cache(None)
def tiny(name: str) -> gf.Model:
    torch.manual_seed(0)
    room = {"context_length": 16} if "context_length" in SIZES[name] else {}
    return gf.build(name, **SIZES[name] | room)


def opened(name: str) -> Session:
    session = Session(tiny(name), name=name)
    model = tiny(name)
    session.start(kind_of(model).example(model))
    return session


def logits_of(model: gf.Model, given: Inputs) -> Tensor:
    """What the model itself says, called as everybody calls it."""
    tokens, source = torch.tensor([given.tokens]), torch.tensor([given.source])
    with torch.no_grad():
        match model.kind:
            case "image-classifier":
                assert given.image is not None
                return model(given.image)
            case "speech-recognizer":
                assert given.sound is not None
                return model(log_mel(given.sound, model.config.n_mels)[None], tokens)
            case "encoder-decoder":
                return model(source, tokens)
            case "word-vectors":
                return model.module(tokens, source)
            case _:
                return model(tokens)


def test_every_architecture_is_viewed_here():
    assert set(SIZES) == set(models.specs())


@pytest.mark.parametrize("name", SIZES)
def test_a_pass_holds_what_the_model_says_and_every_number_of_it_recomputes(name: str):
    session = opened(name)
    step = session.step(0, 0)
    said = logits_of(tiny(name), step.inputs)
    output = "scores" if name == "word2vec" else "logits"
    torch.testing.assert_close(step.trace[output].value, said)
    if output == "logits":
        torch.testing.assert_close(step.trace["probs"].value, torch.softmax(said, -1))
    report = check(step.trace, cells=count("cells of a model"))
    assert report.failures == []


@pytest.mark.parametrize("name", SIZES)
def test_the_page_gets_all_blocks_and_what_can_be_done(name: str, tmp_path: Path):
    session, model = opened(name), tiny(name)
    scene = session.step(0, 0).scene.to_json()
    assert len(scene["blocks"]) > 10
    sees = model.kind == "image-classifier"  # patches have names
    n_tokens = scene["sizes"]["T"] if sees else len(session.step(0, 0).inputs.tokens)
    assert len(scene["tokens"]) == n_tokens
    assert len(scene["source"]) == len(session.step(0, 0).inputs.source)
    can = session.to_json(live=True)["can"]
    assert can["generate"] == (model.kind in ("language-model", "encoder-decoder", "speech-recognizer"))
    assert can["text"] is (None if model.kind in ("image-classifier", "speech-recognizer") else False)
    assert (export_folder(session, tmp_path / "view") / "pack.json").stat().st_size > 10_000


@pytest.mark.parametrize("name", [name for name in SIZES if kinds()[models.specs()[name].kind].writes])
def test_next_is_the_most_likely_token_and_the_text_grows_by_it(name: str):
    session, model = opened(name), tiny(name)
    for number in range(2):
        before = session.step(0, number)
        expected = int(logits_of(model, before.inputs)[0, -1].argmax())
        info = session.next(0, GREEDY)
        assert [token["id"] for token in info["tokens"]] == [*before.inputs.tokens, expected]
        after = session.step(0, number + 1)
        assert after.inputs.source == before.inputs.source
        torch.testing.assert_close(after.trace["logits"].value, logits_of(model, after.inputs))


@pytest.mark.parametrize("name", ["transformer", "whisper"])
def test_what_the_encoder_computed_is_kept_once(name: str):
    session = opened(name)
    session.next(0, GREEDY)
    traces = [session.step(0, number).trace for number in range(2)]
    first, second = (trace.storages[trace["memory"].record.storage].bytes for trace in traces)
    assert first.data_ptr() == second.data_ptr()
    assert traces[0]["logits"].shape != traces[1]["logits"].shape


@pytest.mark.parametrize("name", ["bert", "vit", "word2vec"])
def test_what_writes_no_text_has_no_next_token(name: str):
    with pytest.raises(GenerationError, match="which writes no text"):
        opened(name).next(0, GREEDY)


@pytest.mark.parametrize("name", ["vit", "whisper"])
def test_the_page_cannot_name_a_file_of_the_server(name: str):
    with pytest.raises(GenerationError, match="no text"):
        Session(tiny(name), name=name).run(text="/etc/hostname")


def test_a_translation_shows_both_texts_each_by_its_own_tokenizer():
    model = tiny("seq2seq")
    both = model.having(tokenizer=CharTokenizer("ABCDEFGHIJK"), source_tokenizer=CharTokenizer("abcdefghi"))
    session = Session(both, name="seq2seq")
    run = session.run(text="cab")
    assert run.label["en"] == "cab"
    assert [token.text for token in run.steps[0].scene.source] == list("cab")
    start, first = (token.text for token in run.steps[0].tokens)
    assert start == "C"  # start_id 2
    assert first in "ABCDEFGHIJK"
    session.next(run.id, GREEDY)
    assert run.steps[1].tokens[2].text in "ABCDEFGHIJK"
    assert session.to_json(live=True)["can"]["text"] is True
    assert [piece["text"] for piece in session.tokenize("cab")] == ["cab"]
    assert [token["text"] for token in session.vocabulary([0, 1])] == ["A", "B"]


def test_a_picture_is_a_block_and_its_classes_have_names(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    model = gf.build("vit", **TINY["vit"], labels=("cat", "dog", "bird"))
    session = Session(model, name="vit")
    run = session.start(kind_of(model).read(model, tmp_path / "noise.png"))
    assert run.label["en"] == "noise.png"
    assert [token["text"] for token in session.vocabulary()] == ["cat", "dog", "bird"]
    images = [block for block in run.steps[0].scene.blocks if block.kind == "input"]
    assert sum(block.size[0] * block.size[1] for block in images) == pixels.size


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_the_classes_of_a_text_have_names_and_what_tells_amounts_chooses_none(name: str):
    model = gf.build(name, **TINY[name], head="classes", n_classes=3, labels=("good", "bad", "neither"))
    session = Session(model, name=name)
    step = session.run(tokens=[0, 1, 2]).steps[0]
    assert [token["text"] for token in session.vocabulary([0, 2])] == ["good", "neither"]
    assert step.scene.blocks[step.scene.logits].name == "logits"
    amounts = Session(gf.build(name, **TINY[name], head="classes", problem_type="regression"), name=name)
    assert amounts.run(tokens=[0, 1]).steps[0].scene.logits is None
    masked = Session(gf.build(name, **TINY[name]), name=name)
    masked.run(tokens=[0, 1])
    assert masked.vocabulary() == []


@pytest.mark.parametrize("head", [{"problem_type": "multi-label"}, {"problem_type": "regression"}, {"n_classes": 1}])
@pytest.mark.parametrize("name", ["bert", "vit"])
def test_of_classes_that_exclude_no_other_no_softmax_is_shown(name: str, head: dict[str, Any]):
    of_text = {"head": "classes"} if name == "bert" else {}
    model = gf.build(name, **{**TINY[name], **of_text, **head})
    step = Session(model, name=name).start(kind_of(model).example(model)).steps[0]
    roles = {block.role for block in step.scene.blocks}
    assert step.scene.logits is None
    assert roles & {"logits", "class_logits"}
    assert not roles & {"probs", "class_probs"}


def test_a_sound_is_seen_from_its_waveform_on():
    trace = opened("whisper").step(0, 0).trace
    sound = trace["waveform"].value
    torch.testing.assert_close(trace["mel"].value, log_mel(sound, 5))
    assert trace["windowed"].value.shape == (len(sound) // 160, 400)


def test_a_published_speller_says_its_words_step_by_step(data_dir: Path):
    reference = json.loads((data_dir / "seq2seq" / "g2p_en.reference.json").read_text())
    model = gf.load(data_dir / "seq2seq" / "g2p_en-checkpoint20.npz")
    session = Session(model, name="g2p")
    run = session.run(text="attention")
    for _ in reference["predictions"]["attention"][1:]:  # the first one is there already
        session.next(run.id, GREEDY)
    assert [token.text for token in run.steps[-1].tokens[1:]] == reference["predictions"]["attention"]


def test_a_published_classifier_sees_a_real_digit(data_dir: Path, tmp_path: Path):
    digits = read_idx(data_dir / "images" / "mnist" / "t10k-images-idx3-ubyte.gz")
    Image.fromarray(digits[0]).save(tmp_path / "digit.png")
    model = gf.load(data_dir / "vit" / "vit_mnist.pth", from_pickle=True, **MNIST_VIT)
    model = model.having(processor=ImageProcessor(size=None, mean=(0.1307,), std=(0.3081,)))
    step = Session(model, name="vit").start(kind_of(model).read(model, tmp_path / "digit.png")).steps[0]
    assert int(step.trace["probs"].value.argmax()) == 7
    reference = json.loads((data_dir / "vit" / "vit_mnist.reference.json").read_text())
    said = torch.tensor(reference["logits_first_3"][0])
    torch.testing.assert_close(step.trace["logits"].value[0], said, atol=1e-4, rtol=0)


def test_a_session_begins_what_a_visitor_types_as_the_command_line_does():
    for name in ("transformer", "seq2seq"):
        model = gf.build(name, **TINY[name])
        session = Session(model, name=name)
        (step,) = session.run(tokens=[1, 2, 3]).steps
        assert step.inputs == kind_of(model).begun(model, kind_of(model).read(model, [1, 2, 3]))
        assert len(step.inputs.tokens) == 2

"""Which chapters a model is told by: those that fit it and no others, and all that they point at is there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer import checkpoints
from glassformer.data.images import read_idx_set
from glassformer.features.image_processor import ImageProcessor
from glassformer.viewer.chapters import check_chapters, load_chapters
from glassformer.viewer.pack import pack_scene, record
from glassformer.viewer.scene import Scene
from glassformer.viewer.session import Session
from support.published import MNIST_VIT
from support.tiny import FAMILIES
from support.viewed import recorded

CORE = "overview training tokens embedding layer-norm query-key-value scores softmax mixing heads residual mlp stack "
CORE += "sampling generation scale"
INSIDE_A_LAYER = "layer-norm query-key-value scores softmax mixing heads residual mlp"
OF_AN_ENCODER = "tokens embedding query-key-value scores softmax mixing heads mlp"  # norms stand after the sums
FITTING = {
    "nano-sort": CORE,
    "llama": f"{CORE} llama rope",
    "llama without shared heads": f"{CORE} llama rope",
    "mistral": f"{CORE} llama rope",
    "qwen2": f"{CORE} llama rope",
    "qwen3": f"{CORE} llama rope",
    "phi3": f"{CORE} llama rope",
    "olmo2": f"{CORE.replace('layer-norm ', '')} rope",  # whose norms stand after sublayers
    "mixtral": f"{CORE.replace('mlp ', '')} rope",  # whose networks are several
    "qwen3_moe": f"{CORE.replace('mlp ', '')} rope",
    "deepseek_v2": f"{CORE.replace('query-key-value ', '')} llama",  # keys and values are made of latents
    "deepseek_v3": f"{CORE.replace('query-key-value ', '')} llama",
    "gemma2": f"{CORE} rope",
    "gemma3": f"{CORE} rope",
    "gpt_neox": f"{CORE} rope",
    "longrope": f"{CORE} llama rope",
    "granite": f"{CORE} llama rope",
    "smollm3": f"{CORE} llama rope",
    "no positions": CORE,
    "vit": f"image {INSIDE_A_LAYER}",
    "bert": f"both-ways {OF_AN_ENCODER}",
    "bert without a head": f"both-ways {OF_AN_ENCODER}",
    "bert for classes": f"both-ways {OF_AN_ENCODER}",
    "roberta": f"both-ways {OF_AN_ENCODER}",
    "distilbert": f"both-ways {OF_AN_ENCODER}",
    "distilbert for classes": f"both-ways {OF_AN_ENCODER}",
    "word2vec": "word-vectors",
    "vit with two heads": f"image {INSIDE_A_LAYER}",
    "dinov2": f"image {INSIDE_A_LAYER}",
    "dinov2 gated": f"image {INSIDE_A_LAYER}",
    "dinov2 without a head": INSIDE_A_LAYER,
    "deit without a head": INSIDE_A_LAYER,
    "vit with pixels left over": f"image {INSIDE_A_LAYER}",
}


def told_by(scene: Scene) -> set[str]:
    """The chapters that apply, of which nothing may be wrong."""
    reports = [report for report in check_chapters(scene, load_chapters()) if report.applies]
    assert [problem for report in reports for problem in report.problems] == []
    assert all(4 <= report.steps <= 9 for report in reports)
    return {report.chapter for report in reports}


@pytest.mark.parametrize("name", FITTING)
def test_a_model_is_told_by_the_chapters_that_fit_it(name: str) -> None:
    assert told_by(recorded(name)[1]) == set(FITTING[name].split())


def test_a_model_whose_first_layer_does_not_rotate_is_not_told_how_it_does() -> None:
    model = gf.build("smollm3", **{**FAMILIES["smollm3"], "rotary_layers": (False, True)})
    trace = record(model.module, torch.tensor([[1, 2, 3]]))
    scene = pack_scene(trace, module=model.module, config=model.config, name="smollm3", tokens=[])
    assert told_by(scene) == set(FITTING["smollm3"].split()) - {"rope"}


def test_a_recognizer_of_speech_is_told_by_its_chapter_first() -> None:
    reports = check_chapters(recorded("whisper")[1], load_chapters())
    assert next(report.chapter for report in reports if report.applies) == "speech"
    (speech,) = (report for report in reports if report.chapter == "speech")
    assert speech.problems == []
    assert speech.steps == 9


def test_the_columns_of_sound_stand_for_the_frames() -> None:
    scene = recorded("whisper")[1]
    found = {block.role: block for block in reversed(scene.blocks) if block.step_of is None}
    assert found["waveform"].size == (20, 160)
    for role in ("frames", "windowed", "power", "log_mel", "first_conv"):
        assert found[role].size[0] == scene.sizes["U"] == 20
    assert found["second_conv"].size[0] == scene.sizes["N"] == 10


def test_a_mask_is_spoken_of_only_where_there_is_one() -> None:
    roles = {name: {block.role for block in recorded(name)[1].blocks} for name in ("nano-sort", "vit")}
    assert "allowed" in roles["nano-sort"]
    assert "allowed_all" not in roles["nano-sort"]
    assert "allowed_all" in roles["vit"]
    assert "allowed" not in roles["vit"]


def test_a_patch_stands_over_its_vector_and_its_column_of_the_stream() -> None:
    scene = recorded("vit")[1]
    found = {
        role: [block for block in scene.blocks if block.role == role] for role in ("patches", "patch_vectors", "x")
    }
    (patches,), (vectors,) = found["patches"], found["patch_vectors"]
    assert patches.pos[0] == vectors.pos[0] == found["x"][0].pos[0] + 1
    assert patches.pos[1] < vectors.pos[1] < found["x"][0].pos[1] < found["x"][1].pos[1]
    assert [token.text for token in scene.tokens] == ["[class]", "0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]


def test_the_pieces_of_a_picture_are_its_patches() -> None:
    trace, scene = recorded("vit")
    picture = trace["images"].value[0]
    pieces = [block for block in scene.blocks if block.role == "image"]
    assert len(pieces) == 6 * 3
    for number, block in enumerate(pieces):
        patch, channel = divmod(number, 3)
        row, column = divmod(patch, 3)
        assert block.start == (4 * column, 4 * row)
        assert block.label.en == f"Patch {row},{column}"
        cells = trace.storages[block.storage].bytes
        flat = torch.empty(0).set_(cells)
        shown = flat.as_strided(block.size[::-1], block.strides[::-1], block.offset)
        assert torch.equal(shown, picture[channel, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4])


def test_a_published_llama_is_told_by_its_chapters(data_dir: Path) -> None:
    session = Session(gf.load(data_dir / "llama" / "stories260K.bin"), name="stories260K")
    scene = session.run(text="Once upon a time").steps[0].scene
    assert told_by(scene) == set(FITTING["llama"].split())


def test_a_published_vit_is_told_by_its_chapters(data_dir: Path) -> None:
    published: Any = checkpoints.load(data_dir / "vit" / "vit_mnist.pth", from_pickle=True, options=MNIST_VIT)
    folder = data_dir / "images" / "mnist"
    digits = read_idx_set(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
    pixels = ImageProcessor(size=None, mean=(0.1307,), std=(0.3081,)).normalise(digits.pixels[:1])
    trace = record(published.module, pixels)
    reference = json.loads((data_dir / "vit" / "vit_mnist.reference.json").read_text())
    assert trace["logits"].value.argmax().item() == reference["first_32_pred"][0]
    scene = Session.of_trace(trace).step(0, 0).scene
    assert told_by(scene) == set(FITTING["vit"].split())

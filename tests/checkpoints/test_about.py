"""What a model does is kept beside its weights, and told on the page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import glassformer as gf
from glassformer import files
from glassformer.checkpoints.about import About, read_about
from glassformer.kinds import kinds
from glassformer.viewer.session import Session

ABOUT = About(en="It counts", zh="它会数数", input="1, 2", output="3")


def test_what_a_model_does_is_saved_read_and_told(tmp_path: Path) -> None:
    model = gf.load("nano-sort")
    assert model.about == About(
        en="It sorts six letters", zh="它把六个字母按字母顺序排好", input="CBABBC", output="ABBBCC"
    )
    assert "".join(model.generate("CBABBC", max_new_tokens=6, temperature=0.0)) == model.about.output
    gf.save(gf.api.Model(replace(model.checkpoint, about=ABOUT)), tmp_path / "model")
    again = gf.load(tmp_path / "model")
    assert again.about == ABOUT
    session = Session(again, name="again")
    session.run(text="CB")
    assert session.to_json(live=False)["model"]["about"] == {
        "en": "It counts",
        "zh": "它会数数",
        "input": "1, 2",
        "output": "3",
    }


def test_who_says_nothing_is_told_of_by_its_kind_and_random_weights_do_nothing(tmp_path: Path) -> None:
    model = gf.load("nano-sort")
    silent = Session(gf.api.Model(replace(model.checkpoint, about=None)), name="silent")
    silent.run(text="CB")
    assert silent.step(0, 0).scene.model["about"]["en"] == "It reads a text and says which token comes next"
    random = Session(gf.build("gpt2", vocab_size=5, context_length=4, d_model=8, n_layers=1, n_heads=1), name="random")
    random.run(tokens=[1])
    assert random.step(0, 0).scene.model["about"] is None
    assert all(not text.endswith((".", "。")) for kind in kinds().values() for text in (kind.about.en, kind.about.zh))


@pytest.mark.parametrize(
    "value", ["sorts", {"en": "It sorts"}, {"en": "a", "zh": 3}, {"en": "a" * 301, "zh": ""}, {"x": ""}]
)
def test_something_else_is_refused_in_a_sentence(value: Any, tmp_path: Path) -> None:
    assert read_about(None) is None
    folder = tmp_path / "model"
    gf.save(gf.load("nano-sort"), folder)
    ours = json.loads((folder / "glassformer.json").read_text()) | {"about": value}
    (folder / "glassformer.json").write_text(json.dumps(ours))
    (folder / files.MANIFEST).unlink()
    with pytest.raises(gf.GlassformerError, match="about"):
        gf.load(folder)

"""`view`, `trace` and `explain` of models that read no prompt: a picture, a source to translate."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from support.commands import run


def test_a_picture_is_recorded_verified_and_explained(tmp_path: Path) -> None:
    Image.fromarray(np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)).save(tmp_path / "digit.png")
    model = ("preset:vit-mnist", "--input", str(tmp_path / "digit.png"))
    kept = run("trace", *model, "--out", str(tmp_path / "digit.gft"), "--json")
    assert (kept.returncode, json.loads(kept.stdout)["computed_cells"] > 10_000) == (0, True)
    checked = run("trace", "--check", str(tmp_path / "digit.gft"), "--cells", "500")
    assert checked.returncode == 0
    told = json.loads(run("explain", *model, "--cell", "patches[0,0,1]", "--json").stdout)
    assert told["value"] == np.float32((1 / 255 - 0.5) / 0.5)


def test_a_translator_is_exported_with_the_tokens_that_it_wrote(tmp_path: Path) -> None:
    page = tmp_path / "page"
    done = run("view", "preset:seq2seq-g2p", "--tokens", "3,4,2", "--steps", "2", "--export", str(page))
    assert (done.returncode, "3 recorded steps" in done.stdout) == (0, True)
    steps = json.loads((page / "pack.json").read_text())["steps"]
    assert [len(step["scene"]["tokens"]) for step in steps] == [2, 3, 4]
    assert [[token["id"] for token in step["scene"]["source"]] for step in steps] == [[3, 4, 2]] * 3


def test_a_picture_that_was_made_up_is_said_to_be(tmp_path: Path) -> None:
    done = run("view", "preset:vit-mnist", "--export", str(tmp_path / "page.html"))
    assert done.returncode == 0
    assert "its weights are random" in done.stderr
    assert "The picture is noise" in done.stderr

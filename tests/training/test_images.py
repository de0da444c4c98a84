"""Classes of pictures as a task: from all three kinds of files, changed as asked, learned, resumed, watched."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glassformer as gf
from glassformer.config import merge, to_mapping
from glassformer.errors import ConfigError, DataError, GlassformerError
from glassformer.training.config import RunConfig
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.training.tasks.images import ImageClassification
from glassformer.viewer.watch import Watch
from training.runs import everything

VIT = {"architecture": "vit", "patch_size": [4, 4], "d_model": 16, "n_layers": 1, "n_heads": 2}
NAMES = ("bottom", "left", "right", "top")  # which half of a picture is bright
SIDE = 8


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, of which one half is bright, and the number of that half."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % len(NAMES)
    pixels = random.integers(0, 100, size=(n, SIDE, SIDE))
    half = SIDE // 2
    for picture, label in zip(pixels, labels, strict=True):
        bright = {"bottom": np.s_[half:], "left": np.s_[:, :half], "right": np.s_[:, half:], "top": np.s_[:half]}
        picture[bright[NAMES[label]]] += 120
    return pixels.astype(np.uint8), labels.astype(np.uint8)


def as_folder(folder: Path, n: int, seed: int) -> str:
    for number, (picture, label) in enumerate(zip(*pictures(n, seed), strict=True)):
        (folder / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / NAMES[label] / f"{number:03}.png")
    return str(folder)


def as_idx(folder: Path, n: int, seed: int) -> str:
    folder.mkdir()
    for name, array in zip(("images", "labels"), pictures(n, seed), strict=True):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())
    return f"{folder / 'images'}, {folder / 'labels'}"


def as_npz(folder: Path, n: int, seed: int) -> str:
    folder.mkdir()
    (x_train, y_train), (x_test, y_test) = pictures(n, seed), pictures(40, seed + 1)
    np.savez(folder / "all.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return str(folder / "all.npz")


def config(path: str, **changes: Any) -> RunConfig:
    settings = {
        "model": VIT,
        "data": {"path": path},
        "batch_size": 16,
        "steps": 6,
        "accumulation": 2,
        "eval_interval": 0,
        "save_interval": 3,
        "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
        "schedule": {"kind": "constant", "warmup_steps": 2},
    }
    return resolve(merge(settings, changes))


SIZED = {"image_size": [SIDE, SIDE], "n_channels": 1}


def made(path: str, folder: Path, **changes: Any) -> ImageClassification:
    return ImageClassification(config(path, **changes), folder / "tokens", lambda sentence: None)


@pytest.mark.parametrize("write", [as_folder, as_idx, as_npz])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_it_learns_from_every_kind_of_files(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "training", 160, 0)
    validation = path if write is as_npz else write(tmp_path / "validation", 40, 1)
    model = SIZED if write is as_folder else {}
    run = config(
        path,
        model=model,
        data={"validation_path": validation},
        steps=150,
        accumulation=1,
        save_interval=0,
        eval_batches=2,
        optimizer={"lr": 3e-3},
    )
    ended = train(run, tmp_path / "run")
    assert ended.figures["accuracy"] >= 0.75, "one in four is right by chance"
    found = gf.load(tmp_path / "run")
    assert found.kind == "image-classifier"
    assert found.config.image_size == (SIDE, SIDE)
    assert found.config.labels == (NAMES if write is as_folder else ())
    pixels, labels = pictures(40, 2)
    assert found.processor is not None
    answers = found(found.processor([Image.fromarray(picture) for picture in pixels])).argmax(-1)  # type: ignore[operator]
    assert (answers == torch.from_numpy(labels)).float().mean() >= 0.75


def test_a_batch_has_pictures_of_the_set_and_their_classes(tmp_path: Path) -> None:
    task = made(as_idx(tmp_path / "all", 40, 0), tmp_path)
    assert len(task.training) + len(task.validation or ()) == 40
    known = {picture.tobytes(): int(label) for picture, label in zip(*pictures(40, 0), strict=True)}
    (images,), targets = task.batch(3, 1).inputs, task.batch(3, 1).targets
    for image, target in zip(images, targets, strict=True):
        pixels = ((image[0] * 0.5 + 0.5) * 255).round().to(torch.uint8)
        assert known[pixels.numpy().tobytes()] == target
    assert not torch.equal(images, task.batch(3, 0).inputs[0])


def test_pictures_are_changed_as_asked_and_those_of_validation_are_not(tmp_path: Path) -> None:
    path = as_idx(tmp_path / "all", 40, 0)
    plain = made(path, tmp_path)
    (given,) = plain.batch(0, 0).inputs
    (flipped,) = made(path, tmp_path, data={"flip": True}).batch(0, 0).inputs
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, given, strict=True)]
    assert 0 < sum(mirrored) < len(given)
    (shifted,) = made(path, tmp_path, data={"shift": 2}).batch(0, 0).inputs
    for new, old in zip(shifted, given, strict=True):
        wide = torch.nn.functional.pad(old, (2, 2, 2, 2), value=-1.0)
        windows = wide.unfold(1, SIDE, 1).unfold(2, SIDE, 1).flatten(1, 2)[0]
        assert any(torch.equal(window, new[0]) for window in windows)
    cropped = made(path, tmp_path, data={"crop": 4})
    assert cropped.settings["image_size"] == (4, 4)
    (small,) = cropped.batch(0, 0).inputs
    for new, old in zip(small, given, strict=True):
        assert any(torch.equal(window, new[0]) for window in old[0].unfold(0, 4, 1).unfold(1, 4, 1).flatten(0, 1))
    seen: list[torch.Tensor] = []
    sizes = {name: value for name, value in VIT.items() if name != "architecture"}
    module = gf.build("vit", **sizes, **cropped.settings).module
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    cropped.evaluate(module)
    assert cropped.validation is not None
    middles = cropped.validation.pixels[:, :, 2:6, 2:6].float() / 255
    torch.testing.assert_close(torch.cat(seen), (middles - 0.5) / 0.5)


@pytest.mark.parametrize("write", [as_folder, as_idx])
def test_believed_too_easily_a_run_is_not_resumed_on_other_images(tmp_path: Path, write: Any) -> None:
    """One image more, and the draw of those held out is another: some would be trained on."""
    path = write(tmp_path / "images", 40, 0)
    changes = {"model": SIZED if write is as_folder else {}, "save_interval": 0}
    train(config(path, steps=2, **changes), tmp_path / "run")
    train(config(path, steps=3, **changes), tmp_path / "run", resume=True)
    if write is as_folder:
        Image.new("L", (SIDE, SIDE)).save(tmp_path / "images" / "top" / "one more.png")
    else:
        data = bytearray((tmp_path / "images" / "images").read_bytes())
        data[-1] ^= 1
        (tmp_path / "images" / "images").write_bytes(data)
    with pytest.raises(DataError, match=r"not what the run began with \(.*then.*now"):
        train(config(path, steps=4, **changes), tmp_path / "run", resume=True)


def test_a_resumed_run_is_the_one_that_was_not_stopped(tmp_path: Path) -> None:
    path = as_idx(tmp_path / "all", 40, 0)
    changes = {"model": {"dropout": 0.2}, "data": {"flip": True, "shift": 1}}
    train(config(path, **changes), tmp_path / "whole")
    train(config(path, steps=3, **changes), tmp_path / "half")
    train(config(path, **changes), tmp_path / "half", resume=True)
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")


def test_a_page_can_watch_it(tmp_path: Path) -> None:
    watch = Watch(name="images", on_first=lambda session: None)
    train(config(as_idx(tmp_path / "all", 40, 0), steps=2), tmp_path / "run", on_event=watch)
    assert watch.session.runs


def test_another_task_begins_with_the_weights_of_a_run_but_for_its_classes(tmp_path: Path) -> None:
    train(config(as_folder(tmp_path / "four", 40, 0), model=SIZED), tmp_path / "first")
    (tmp_path / "two").mkdir()
    for name in ("left", "right"):
        (tmp_path / "four" / name).rename(tmp_path / "two" / name)
    run = config(str(tmp_path / "two"), optimizer={"lr": 0.0})
    begun = {**to_mapping(run), "model": {"from": str(tmp_path / "first")}}
    train(resolve(begun), tmp_path / "second")
    first, second = gf.load(tmp_path / "first"), gf.load(tmp_path / "second")
    assert second.config.labels == ("left", "right")
    for (name, old), new in zip(first.module.named_parameters(), second.module.parameters(), strict=True):
        assert name.startswith("head") or torch.equal(old, new)


def one_class_missing(folder: Path) -> str:
    for name in NAMES[:3]:
        (folder / name).mkdir(parents=True)
        Image.new("L", (SIDE, SIDE)).save(folder / name / "a.png")
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"data": {"path": ""}}, DataError, "An image classifier needs something to learn from"),
        ({"data": {"path": "{root}/all/images"}}, DataError, "two IDX files, pictures and labels"),
        ({"data": {"path": "{root}/nowhere"}}, DataError, "no file .*nowhere"),
        ({"data": {"validation_path": "{root}/missing"}, "model": SIZED}, DataError, "different classes"),
        ({"data": {"crop": 8}}, ConfigError, "data.crop is 8, and the pictures have 8 x 8"),
        ({"data": {"crop": -1}}, ConfigError, "data.crop must be from 0"),
        ({"model": {"n_classes": 7}}, ConfigError, "n_classes is 7, but the data says 4"),
        ({"model": {"image_size": [9, 9]}}, ConfigError, "image_size is .*, but the data says"),
        ({"task": "sort"}, ConfigError, "trains a language model, and this is an image classifier"),
        ({"data": {"path": "{root}/strange.npz"}}, DataError, "number them from 0 on"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[GlassformerError], sentence: str
) -> None:
    path = as_idx(tmp_path / "all", 40, 0)
    one_class_missing(tmp_path / "missing")
    np.savez(tmp_path / "strange.npz", x_train=pictures(4, 0)[0], y_train=np.array([0, 1, 2, 4000]))
    data = {name: str(value).format(root=tmp_path) for name, value in changes.get("data", {}).items() if name != "crop"}
    if "validation_path" in data:
        data["path"] = as_folder(tmp_path / "four", 8, 0)
    with pytest.raises(error, match=sentence):
        train(config(path, **merge(changes, {"data": data})), tmp_path / "run")
    assert not (tmp_path / "run").exists()

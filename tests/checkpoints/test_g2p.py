"""g2p_en's published network says the published phonemes; a file that is not it is refused."""

import copy
import json
import random
import string
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from checkpoints.hostile import refused
from glassformer import checkpoints
from glassformer.checkpoints.formats.g2p import CONFIG, LETTERS, OURS, PHONEMES, SOURCE, TARGET
from glassformer.models.seq2seq import Seq2Seq
from glassformer.nn.kv_cache import full
from support.counts import count
from support.oracles import Array
from support.tolerances import assert_close

LONGEST = 20  # phonemes that g2p_en gives a word at most
NAME = "g2p_en-checkpoint20.npz"


@pytest.fixture(scope="module")
def model(data_dir: Path) -> Any:
    return checkpoints.load(data_dir / "seq2seq" / NAME).module


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((data_dir / "seq2seq" / "g2p_en.reference.json").read_text())
    return content


def spell(word: str) -> list[int]:
    """A word's letters and its end."""
    return [*SOURCE.encode(word), SOURCE.special_tokens["</s>"]]


def phonemes(tokens: list[int]) -> list[str]:
    """The phonemes of a target, up to its end."""
    end = tokens.index(CONFIG.eos_id) if CONFIG.eos_id in tokens else len(tokens)
    return TARGET.decode(tokens[:end]).split()


@torch.no_grad()
def say(model: Any, words: list[str]) -> list[list[str]]:
    """The likeliest phonemes of each word, all words in one batch."""
    spelled = [spell(word) for word in words]
    longest = max(map(len, spelled))
    source = torch.tensor([letters + [CONFIG.pad_id] * (longest - len(letters)) for letters in spelled])
    valid = torch.arange(longest) < torch.tensor([[len(letters)] for letters in spelled])
    state = model.begin(source, full(LONGEST), valid)
    tokens, said = torch.full((len(words), 1), CONFIG.start_id), []
    for _ in range(LONGEST):
        tokens = model(tokens, state).argmax(-1)
        said.append(tokens)
    return [phonemes(row) for row in torch.cat(said, 1).tolist()]


def test_the_words_of_the_reference_get_its_phonemes(model: Any, reference: dict[str, Any]) -> None:
    predictions = reference["predictions"]
    assert len(predictions) == 8
    assert say(model, list(predictions)) == list(predictions.values())
    assert [say(model, [word])[0] for word in predictions] == list(predictions.values())


def test_letters_phonemes_and_sizes_are_those_of_the_reference(model: Any, reference: dict[str, Any]) -> None:
    assert list(LETTERS) == reference["graphemes"]
    assert list(PHONEMES) == reference["phonemes"]
    assert OURS.keys() == reference["arrays"].keys()
    for name, parameter in model.named_parameters():
        assert list(parameter.shape) == reference["arrays"][next(k for k, ours in OURS.items() if ours == name)]


def cell(x: Array, h: Array, w: dict[str, Array], part: str) -> Array:
    """g2p_en's grucell, in float64."""
    r_x, z_x, n_x = np.split(w[f"{part}_w_ih"] @ x + w[f"{part}_b_ih"], 3)
    r_h, z_h, n_h = np.split(w[f"{part}_w_hh"] @ h + w[f"{part}_b_hh"], 3)
    r, z = 1 / (1 + np.exp(-r_x - r_h)), 1 / (1 + np.exp(-z_x - z_h))
    n = np.tanh(n_x + r * n_h)
    out: Array = (1 - z) * n + z * h
    return out


def test_logits_are_those_of_its_own_code(model: Any, data_dir: Path) -> None:
    """After each phoneme that g2p_en chooses, for random words."""
    with np.load(data_dir / "seq2seq" / NAME) as archive:
        w = {name: archive[name].astype(np.float64) for name in archive.files}
    wide: Any = copy.deepcopy(model).double()
    choose = random.Random(0)
    for _ in range(count("words spoken")):
        word = "".join(choose.choices(string.ascii_lowercase + "'", k=choose.randint(1, 14)))
        h = np.zeros(256)
        for letter in spell(word):
            h = cell(w["enc_emb"][letter], h, w, "enc")
        said, logits = [CONFIG.start_id], []
        while len(said) <= LONGEST and said[-1] != CONFIG.eos_id:
            h = cell(w["dec_emb"][said[-1]], h, w, "dec")
            logits.append(w["fc_w"] @ h + w["fc_b"])
            said.append(int(logits[-1].argmax()))
        state = wide.begin(torch.tensor([spell(word)]), full(LONGEST))
        assert_close(wide(torch.tensor([said[:-1]]), state)[0], np.stack(logits))
        assert say(wide, [word]) == [phonemes(said[1:])]


def test_it_can_be_kept_as_a_folder_of_ours(model: Any, tmp_path: Path) -> None:
    again: Any = checkpoints.load(checkpoints.save(model, tmp_path / "g2p")).module
    assert say(again, ["glass", "former"]) == say(model, ["glass", "former"])


def test_what_is_no_letter_is_unknown_and_capitals_are_letters() -> None:
    assert spell("Ab'ö") == [3, 4, 1, 1, 2]
    assert phonemes([22, 10, 3, 22]) == ["B", "AH0"]


# Files from strangers, without the published one


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    weights = dict(Seq2Seq(CONFIG).named_parameters())
    return {theirs: weights[ours].detach().numpy() for theirs, ours in OURS.items()}


def test_an_archive_is_read_weight_for_weight(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **arrays)
    found = dict(checkpoints.load(tmp_path / "model.npz").module.named_parameters())
    assert all(torch.equal(found[ours], Tensor(arrays[theirs])) for theirs, ours in OURS.items())


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a missing array": lambda a: a.pop("fc_b"),
    "an array too many": lambda a: a.update(more=a["fc_b"]),
    "another shape": lambda a: a.update(fc_b=a["fc_b"][:-1]),
    "another width": lambda a: a.update(enc_w_hh=a["enc_w_hh"][:, :-1]),
    "float64": lambda a: a.update(fc_b=a["fc_b"].astype(np.float64)),
    "whole numbers": lambda a: a.update(fc_b=a["fc_b"].astype(np.int32)),
    "objects, which are pickles": lambda a: a.update(fc_b=np.array([{}, None], dtype=object)),
    "NaN": lambda a: a.update(fc_b=a["fc_b"] * np.nan),
    "a number alone": lambda a: a.update(fc_b=np.float32(1)),
    "nothing": lambda a: a.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_archive_of_something_else_is_refused(
    change: Callable[[dict[str, Any]], object], arrays: dict[str, Any], tmp_path: Path
) -> None:
    changed = dict(arrays)
    change(changed)
    np.savez(tmp_path / "model.npz", **changed)
    with refused(tmp_path / "model.npz"):
        checkpoints.load(tmp_path / "model.npz")


def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "model.npz", fc_b=np.zeros(50_000_000, dtype=np.float32))
    with refused(tmp_path / "model.npz"):
        checkpoints.load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 1000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 5)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2.5,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'quatsch', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
        "__import__('os').abort()",
        "(" * 9000,
    ],
)
def test_an_array_whose_header_lies_is_refused(header: str, tmp_path: Path) -> None:
    text = header.encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("fc_b.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    with refused(tmp_path / "model.npz"):
        checkpoints.load(tmp_path / "model.npz")


def test_random_bytes_never_crash_the_reader(arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, **arrays)
    good, choose = path.read_bytes(), random.Random(0)
    for _ in range(40):
        spoiled = bytearray(good[: choose.choice([len(good), choose.randrange(len(good))])])
        for _ in range(3):
            start = choose.choice([0, max(len(spoiled) - 1000, 0)])  # the first header, and the list of members
            spoiled[choose.randrange(start, min(start + 1000, len(spoiled)))] = choose.randrange(256)
        path.write_bytes(spoiled)
        try:
            found = checkpoints.load(path)
        except checkpoints.CheckpointError:
            continue
        assert all(parameter.isfinite().all() for parameter in found.module.parameters())

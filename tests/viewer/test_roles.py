"""The table of roles: a row is whole, in both languages, and serves something."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import glassformer.viewer
from glassformer.viewer.roles import LAYER, TABLE, UNKNOWN, groups, label, readings_of, role_of, roles

VIEWER = Path(glassformer.viewer.__file__).parent
UNLABELLED = {"position_encoding"}  # shown by its own name


def words_of_the_code() -> set[str]:
    """Every string in the viewer's code, and every name in it of a shape, `head_{}` or `f"{name}_bias"`."""
    trees = [ast.parse(path.read_text()) for path in VIEWER.rglob("*.py")]
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_row_has_words_in_both_languages() -> None:
    for name, role in roles().items():
        if name in UNLABELLED:
            assert role.label is None, name
        else:
            assert role.label is not None, name
            assert role.label.en, name
            assert role.label.zh, name
    for name, text in groups().items():
        assert text.en, name
        assert text.zh, name
        assert text.en.count("{}") == text.zh.count("{}") <= 1, name


def test_every_role_is_given_by_a_path_or_by_a_layout() -> None:
    words = words_of_the_code()
    made = {f"{name}{version}" for name in "qkv" for version in ("_normed", "_rotated", "_shared")}
    unused = [name for name, role in roles().items() if not role.paths and name not in words | made]
    assert unused == []
    assert [name for name in groups() if name not in words | {"forwards"}] == []  # that is a module's name


def test_no_path_stands_twice() -> None:
    paths = [path for row in tomllib.loads(TABLE.read_text("utf-8"))["roles"].values() for path in row.get("paths", ())]
    assert len(paths) > 150
    assert len(set(paths)) == len(paths)


def test_an_axis_is_a_letter() -> None:
    for name, role in roles().items():
        assert all(re.fullmatch("[A-Z]?", letter) for letter in role.axes), name


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("tokens", "tokens"),
        ("blocks.3.attn.q_proj.weight", "q_weight"),
        ("decoder.blocks.0.cross_attn.scores", "scores"),
        ("encoder.layers.1.backwards.h", "h"),
        ("encoder.type_embedding.output", "type_embedded"),
        ("final_norm.weight", "norm_weight"),
        ("somebody.elses", None),
    ],
)
def test_a_path_gives_its_role(path: str, role: str | None) -> None:
    assert next((reading.role for reading in readings_of(path)), None) == role


def test_the_stream_of_a_layer_is_told_from_what_the_layer_is_given() -> None:
    assert [(reading.rank > 0, reading.given) for reading in readings_of("blocks.2.x")] == [
        (False, False),
        (True, True),
    ]
    assert [(reading.rank > 0, reading.given) for reading in readings_of("x")] == [(False, False), (True, False)]
    assert LAYER.match("decoder.blocks.12.mlp.up") is not None


def test_what_has_no_row_is_called_by_its_own_name() -> None:
    assert role_of("c_attn") is UNKNOWN
    assert label("c_attn", "h.0.c_attn.weight", False).zh == "c_attn.weight"
    assert label("scores", "blocks.0.attn.scores", False).en == "Scores"
    assert label("scores", "blocks.0.attn.scores#1", True).en == "scores"

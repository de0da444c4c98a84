"""Tables of published settings and tensors: each row in both directions, and each table whole."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor

from glassformer import models
from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import (
    ArchitectureClass,
    Field,
    FieldGroup,
    OurConstant,
    TheirConstant,
    WriteOnly,
)
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import joined, modules, same, transposed

TABLES = {name: spec.published for name, spec in models.specs().items() if spec.published is not None}


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    architecture: ClassVar[str] = "toy"

    d_model: int = 4
    n_layers: int = 2
    n_experts: int = 3
    activation: str = "gelu_tanh"
    norm_placement: str = "pre"


TOY = Published(
    config=ToyConfig,
    name="Toy",
    model_types=("toy",),
    fields=(
        Field("hidden", "d_model", default=8, aliases=("width",), must_agree=True),
        Field("depth", "n_layers", default=None, null=7),
        Field("act", "activation", default="new", values={"new": "gelu_tanh", "tanh": "gelu_tanh", "relu": "relu"}),
        OurConstant("norm_placement", "pre", converted=("post",)),
        OurConstant("n_experts", 3),
        TheirConstant("rotary", False),
        WriteOnly("architectures", ["ToyModel"]),
    ),
    tensors=lambda config: [
        same("embedding", "wte"),
        *modules({"blocks.{i}.experts.{e}.up": "h.{i}.e.{e}.w1"}),
        joined([f"blocks.{{i}}.{name}" for name in "qkv"], "h.{i}.qkv", rows=(4, 2, 2)),
    ],
    indices={"i": "n_layers", "e": "n_experts"},
)


def test_a_setting_is_read_and_written_by_the_same_row() -> None:
    config = ToyConfig(d_model=6, n_layers=1, activation="relu")
    written = TOY.to_huggingface(config)
    assert written == {
        "architectures": ["ToyModel"],
        "model_type": "toy",
        "hidden": 6,
        "width": 6,
        "depth": 1,
        "act": "relu",
        "rotary": False,
    }
    assert TOY.from_huggingface(written) == config
    assert TOY.settings == written.keys() - {"model_type"}


def test_what_a_file_leaves_out_is_as_transformers_has_it() -> None:
    assert TOY.from_huggingface({}) == ToyConfig(d_model=8, n_layers=7)
    assert TOY.from_huggingface({"depth": None}) == TOY.from_huggingface({})


def test_of_several_names_for_a_value_the_first_is_written() -> None:
    assert TOY.from_huggingface({"act": "tanh"}) == TOY.from_huggingface({"act": "new"})
    assert TOY.to_huggingface(ToyConfig())["act"] == "new"


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"act": "elu"}, "config.json: act 'elu' is not one of new, tanh, relu."),
        ({"act": ["new"]}, r"config.json: act \['new'\] is not one of"),
        ({"rotary": True}, "config.json: rotary = True is not supported; it must be False."),
        ({"rotary": 0}, "config.json: rotary = 0 is not supported; it must be False."),
        ({"hidden": 4, "width": 5}, "config.json: hidden and width must be equal, not 4 and 5."),
        ({"hidden": 4}, "config.json: hidden and width must be equal, not 4 and 8."),
        ({"depth": "two"}, "n_layers must be a whole number"),
    ],
    ids=str,
)
def test_a_setting_that_no_model_of_ours_has_is_refused_by_name(theirs: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TOY.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_experts": 2}, "Hugging Face's Toy cannot express n_experts = 2; it always has 3."),
        ({"activation": "silu"}, "Hugging Face's Toy cannot express activation = 'silu'; it always has 'gelu_tanh' or"),
    ],
    ids=str,
)
def test_a_field_that_no_model_of_theirs_has_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        TOY.to_huggingface(ToyConfig(**changes))
    assert TOY.to_huggingface(ToyConfig(norm_placement="post"))["hidden"] == 4  # the tensors say it


def test_the_class_of_a_file_says_what_stands_on_the_trunk() -> None:
    row = ArchitectureClass("activation", {"A": ("one", "x"), "B": ("two", "y"), "C": ("two", "x")})
    values = [row.read({"model_type": kind})["activation"] for kind in ("one", "two", "three", [])]
    assert values == ["x", "y", "x", "x"]
    assert row.read({"model_type": "two", "architectures": ["C", "A"]}) == {"activation": "x"}
    assert row.write(ToyConfig(activation="y")) == {"architectures": ["B"], "model_type": "two"}
    with pytest.raises(ConfigError, match="is none of A, B, C"):
        row.read({"architectures": [3]})
    with pytest.raises(ExportError, match="it always has 'x' or 'y'"):
        row.write(ToyConfig())


def test_names_have_an_index_for_layers_and_one_for_experts() -> None:
    names = {theirs: ours for theirs, ours, _ in TOY.renames(ToyConfig())}
    assert len(names) == 1 + 2 * (2 * 3 + 1)
    assert names["h.1.e.2.w1.bias"] == ["blocks.1.experts.2.up.bias"]
    assert names["h.0.qkv"] == ["blocks.0.q", "blocks.0.k", "blocks.0.v"]


@pytest.mark.parametrize("make", [joined, transposed])
def test_a_fused_matrix_may_have_parts_of_unequal_height(make: Any) -> None:
    rule = make(["q", "k", "v"], "qkv", rows=(4, 2, 2))
    parts = [torch.randn(n, 3) for n in (4, 2, 2)]
    fused: Tensor = rule.write(parts)
    assert fused.shape == ((8, 3) if make is joined else (3, 8))
    assert all(torch.equal(one, other) for one, other in zip(rule.read(fused), parts, strict=True))


# The tables of this package


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_every_field_of_the_configuration_once(name: str) -> None:
    ours = [field for row in TABLES[name].fields for field in row.our_names]
    assert sorted(ours) == sorted(field.name for field in dataclasses.fields(TABLES[name].config))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_every_setting_once(name: str) -> None:
    theirs = [setting for row in TABLES[name].fields for setting in row.their_names]
    assert len(theirs) == len(set(theirs))


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.model_types])
def test_a_default_is_that_of_transformers(name: str) -> None:
    theirs = transformers.AutoConfig.for_model(TABLES[name].model_types[0]).to_dict()
    for row in TABLES[name].fields:
        if isinstance(row, Field) and row.null is None:  # what is null there follows from other settings
            assert theirs.get(row.theirs, row.default) == row.default, row.theirs
        if isinstance(row, TheirConstant):
            assert theirs.get(row.theirs, row.value) == row.value, row.theirs


def test_a_group_says_what_it_reads_and_writes() -> None:
    for table in TABLES.values():
        config = table.config()
        for row in table.fields:
            if isinstance(row, FieldGroup):
                assert row.read({}).keys() == set(row.our_names)
                assert set(row.write(config)) <= set(row.their_names)


def test_importing_the_package_imports_no_model() -> None:
    code = "import sys, glassformer; print([name for name in sys.modules if name.startswith('glassformer.models')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

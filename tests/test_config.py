"""Settings from files and flags become frozen dataclasses, and errors name the setting."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.config import MAX_BYTES, from_mapping, merge, nest, read_mapping, to_mapping
from glassformer.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    n_layers: int = 12
    dropout: float = 0.0
    tied: bool = True
    style: Literal["half", "interleaved"] = "half"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    name: str
    model: Model = field(default_factory=Model)
    seed: int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"seed must be at least 0, not {self.seed}.")


def test_a_nested_mapping_becomes_nested_dataclasses() -> None:
    run = from_mapping(
        Run,
        {
            "name": "a",
            "model": {"n_layers": 2, "dropout": 0, "style": "interleaved"},
            "seed": 3,
            "betas": [0.5, 1],
            "files": ["x", "y"],
        },
    )
    assert run == Run(
        name="a",
        model=Model(n_layers=2, dropout=0.0, style="interleaved"),
        seed=3,
        betas=(0.5, 1.0),
        files=("x", "y"),
    )
    assert type(run.model.dropout) is float


def test_what_is_not_given_has_its_default() -> None:
    assert from_mapping(Run, {"name": "a"}) == Run(name="a")
    assert from_mapping(Run, {"name": "a", "model": {}}).model == Model()
    assert from_mapping(Run, {"name": "a", "seed": None}).seed is None
    assert from_mapping(Run, {"name": "a", "model": Model(n_layers=5)}).model.n_layers == 5


@given(
    st.builds(
        Run,
        name=st.text(),
        seed=st.none() | st.integers(min_value=0),
        betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        files=st.lists(st.text()).map(tuple),
        model=st.builds(Model, n_layers=st.integers(), dropout=st.floats(0, 1), tied=st.booleans()),
    )
)
def test_from_mapping_undoes_to_mapping(run: Run) -> None:
    assert from_mapping(Run, to_mapping(run)) == run


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({}, "The setting name is missing"),
        ({"name": "a", "model": {"n_layer": 2}}, "There is no setting model.n_layer. Did you mean model.n_layers?"),
        ({"name": "a", "zzz": 1}, "There is no setting zzz. The settings here are name, model, seed, betas, files"),
        ({"name": 3}, "name must be a text, not 3"),
        ({"name": "a", "model": {"n_layers": 2.0}}, "model.n_layers must be a whole number, not 2.0"),
        ({"name": "a", "model": {"n_layers": True}}, "model.n_layers must be a whole number, not True"),
        ({"name": "a", "model": {"dropout": "0.1"}}, "model.dropout must be a number, not '0.1'"),
        ({"name": "a", "model": {"dropout": True}}, "model.dropout must be a number, not True"),
        ({"name": "a", "model": {"dropout": 10**400}}, "model.dropout must be a number, not 1000"),
        ({"name": "a", "model": {"tied": 1}}, "model.tied must be true or false, not 1"),
        ({"name": "a", "model": {"style": "whole"}}, "model.style must be one of half, interleaved, not 'whole'"),
        ({"name": "a", "model": {"style": []}}, "model.style must be one of half, interleaved, not []"),
        ({"name": "a", "model": 3}, "model must be a table of settings, not 3"),
        ({"name": "a", "model": None}, "model must be a table of settings, not None"),
        ({"name": "a", "seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"name": "a", "seed": -1}, "seed must be at least 0"),
        ({"name": "a", "betas": [0.9]}, "betas must have 2 entries, not 1"),
        ({"name": "a", "betas": 0.9}, "betas must be a list, not 0.9"),
        ({"name": "a", "betas": [0.9, "b"]}, "betas must be a number, not 'b'"),
        ({"name": "a", "files": "x"}, "files must be a list, not 'x'"),
        ({"name": "a", "files": [1]}, "files must be a text, not 1"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(mapping: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Run, mapping)
    assert says in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["name", "model", "seed", "betas", "files"]), JSON_VALUES)
def test_any_content_of_a_file_is_a_configuration_or_a_config_error(key: str, value: object) -> None:
    try:
        run = from_mapping(Run, {"name": "a"} | {key: value})
    except ConfigError:
        return
    assert isinstance(run.name, str)
    assert isinstance(run.model, Model)
    assert run.seed is None or type(run.seed) is int
    assert all(type(beta) is float for beta in run.betas)


def test_flags_nest_by_their_dots() -> None:
    assert nest({"model.n-layers": "2", "model.style": "half", "lr": "3e-4"}) == {
        "model": {"n_layers": "2", "style": "half"},
        "lr": "3e-4",
    }


def test_the_text_of_a_flag_is_read_by_the_type_of_its_setting() -> None:
    flags = {
        "name": "42",
        "model.n-layers": "2",
        "model.dropout": "1",
        "model.tied": "false",
        "model.style": "interleaved",
        "seed": "3",
        "betas": "[0.9, 0.95]",
        "files": '["a", "1"]',
    }
    run = from_mapping(Run, nest(flags))
    model = Model(n_layers=2, dropout=1.0, tied=False, style="interleaved")
    assert run == Run(name="42", model=model, seed=3, betas=(0.9, 0.95), files=("a", "1"))
    assert type(run.name) is str


@pytest.mark.parametrize(
    "text", ["42", "true", "2024-01-01", "[1]", "sinks:4+252", "C:\\x", "", "'quoted'", "nan", "9" * 5000]
)
def test_a_text_setting_takes_the_text_of_its_flag_as_it_is(text: str) -> None:
    assert from_mapping(Run, nest({"name": text})).name == text


@pytest.mark.parametrize(
    ("flag", "text", "says"),
    [
        ("model.n_layers", "two", "model.n_layers must be a whole number, not 'two'"),
        ("model.n_layers", "2.0", "model.n_layers must be a whole number, not 2.0"),
        ("model.n_layers", "9" * 5000, "model.n_layers must be a whole number"),
        ("model.tied", "yes", "model.tied must be true or false, not 'yes'"),
        ("model.style", "1", "model.style must be one of half, interleaved, not '1'"),
        ("betas", "0.9,0.95", "betas must be a list, not '0.9,0.95'"),
        ("betas", "[" * 100_000, "betas must be a list"),
        ("files", "[1]", "files must be a text, not 1"),
        ("model", "small", "model must be a table of settings, not 'small'"),
    ],
)
def test_the_text_of_a_flag_that_is_not_of_the_setting_s_type_is_refused(flag: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Run, {"name": "a", **nest({flag: text})})
    assert says in str(caught.value)


@pytest.mark.parametrize("names", [("model", "model.n_layers"), ("model.n_layers", "model")])
def test_a_flag_cannot_be_a_value_and_a_table_in_either_order(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="both as a value and as a table"):
        nest(dict.fromkeys(names, "2"))


def test_merge_goes_table_by_table_and_changes_neither() -> None:
    base = {"model": {"n_layers": 2, "style": "half"}, "seed": 1}
    over = {"model": {"n_layers": 3}, "name": "b"}
    assert merge(base, over) == {"model": {"n_layers": 3, "style": "half"}, "seed": 1, "name": "b"}
    assert base == {"model": {"n_layers": 2, "style": "half"}, "seed": 1}
    assert merge({"model": 1}, {"model": {"n_layers": 3}}) == {"model": {"n_layers": 3}}
    assert merge({"model": {"n_layers": 3}}, {"model": 1}) == {"model": 1}


def test_toml_and_json_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\n[model]\nn_layers = 2\n')
    (tmp_path / "a.json").write_text(json.dumps({"name": "a", "model": {"n_layers": 2}}))
    assert (
        read_mapping(tmp_path / "a.toml")
        == read_mapping(tmp_path / "a.json")
        == {"name": "a", "model": {"n_layers": 2}}
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", b"name = ", "is not valid TOML"),
        ("a.json", b'{"name": ', "is not valid JSON"),
        ("a.json", b"[" * 100_000, "is not valid JSON"),
        ("a.json", b'{"n": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        ("a.json", b"[1, 2]", "must hold a JSON object, not a list"),
        ("a.json", b'{"lr": 1, "lr": 2}', "the key 'lr' comes twice"),
        ("a.json", b'{"lr": 1e999}', "the number 1e999 is too large"),
        ("a.json", b'{"lr": NaN}', "NaN is not a number of JSON"),
        ("a.json", b"\xff\xfe{}", "is not UTF-8"),
        ("a.json", b" " * (MAX_BYTES + 1), "a configuration has at most"),
        ("none.json", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_configuration_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_mapping(tmp_path / name)
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(tmp_path)

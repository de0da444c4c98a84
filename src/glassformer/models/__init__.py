"""Architectures, one a file: configuration, module, presets.

A page that defines `SPEC` adds its model to the command line, conversion and the tests.

A page says what the model is. How it stands in published files is said in `published/`, in a file of the same name.
"""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from glassformer.config import defaults_of, from_mapping, merge
from glassformer.errors import ConfigError
from glassformer.models.spec import ModelConfig, ModelSpec
from glassformer.registration import check_free

_registered: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add an architecture from outside of this package; its `published` table, if it has one, is in the spec itself.

    Raises `ConfigError` where its name, a preset's, or a model type of its table is another architecture's, and where
    its table leaves out a parameter of a preset: its weights would be lost when they are written.
    """
    for name, other in specs().items():
        owner, module = other.config.__module__, spec.config.__module__
        if name == spec.name:
            check_free("an architecture", name, owner, module)
            continue
        for preset in spec.presets.keys() & other.presets.keys():
            check_free("a preset", preset, owner, module)
        for model_type in spec.model_types & other.model_types:
            check_free("a model type", model_type, owner, module)
    for preset, config in spec.presets.items():
        _check_table(spec, preset, config)
    _registered[spec.name] = spec


def _check_table(spec: ModelSpec, preset: str, config: Any) -> None:
    if spec.published is not None:
        parameters = {name for name, _ in spec.outline(config).named_parameters()}
        in_table = {name for _, names, _ in spec.published.renames(config) for name in names}
        if different := sorted(parameters ^ in_table):
            where = "the table has no row for it" if different[0] in parameters else "the model has no such parameter"
            raise ConfigError(f"The table of {spec.name} does not fit its preset {preset}: {different[0]}, {where}.")


def specs() -> dict[str, ModelSpec]:
    """Every architecture by its name: those of this package, and those that were registered."""
    return {**_ours(), **_registered}


@cache
def _ours() -> dict[str, ModelSpec]:
    """The pages of this package, each with its table of published names, which is in `published`."""
    tables = importlib.import_module(f"{__name__}.published").__path__
    with_table = {entry.name for entry in pkgutil.iter_modules(tables)}
    by_name: dict[str, ModelSpec] = {}
    for entry in pkgutil.iter_modules(__path__):
        spec = getattr(importlib.import_module(f"{__name__}.{entry.name}"), "SPEC", None)
        if spec is not None and entry.name in with_table:
            table = importlib.import_module(f"{__name__}.published.{entry.name}").PUBLISHED
            spec = dataclasses.replace(spec, published=table)
        if spec is not None:
            by_name[spec.name] = spec
    return by_name


def spec_of(config: ModelConfig) -> ModelSpec:
    """The architecture that a configuration declares."""
    return specs()[config.architecture]


def presets() -> dict[str, ModelConfig]:
    """Every preset of every architecture by its name."""
    return {name: config for spec in specs().values() for name, config in spec.presets.items()}


ABLATIONS = {"norm_placement": "pre", "ffn": "swiglu", "position": "rope"}


def as_declared_now(architecture: str, settings: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What runs and folders of earlier versions say, as it is said now: CS336's ablations were settings of a Llama."""
    if architecture != "llama" or not ABLATIONS.keys() & settings.keys():
        return architecture, settings
    if any(settings.get(name, value) != value for name, value in ABLATIONS.items()):
        of_llama, of_cs336 = (defaults_of(specs()[name].config) for name in ("llama", "cs336"))
        return "cs336", {name: of_llama[name] for name in of_cs336 if name in of_llama} | dict(settings)
    return architecture, {name: value for name, value in settings.items() if name not in ABLATIONS}


def configure(name: str, changes: Mapping[str, Any], where: str = "") -> ModelConfig:
    """The configuration of a preset, or the defaults of an architecture, with some fields changed.

    A size that the preset leaves to follow from others, such as d_ff, follows the changed ones. Errors name a field
    with `where` before it.
    """
    known = presets()
    name, changes = as_declared_now(name, changes)
    if name in known:
        base: Any = known[name]
        config_class: type[Any] = type(base)
        follows = [field.name for field in dataclasses.fields(base) if field.type is int and field.default == 0]
        settings = {
            field.name: getattr(base, field.name)
            for field in dataclasses.fields(base)
            if field.name not in follows or dataclasses.replace(base, **{field.name: 0}) != base
        }
    elif name in specs():
        settings, config_class = {}, specs()[name].config
    else:
        near = difflib.get_close_matches(name, [*known, *specs()], n=1)
        hint = f"Did you mean {near[0]}?" if near else f"The presets are {', '.join(known)}."
        raise ConfigError(f"There is no preset {name!r}. {hint}")
    config: ModelConfig = from_mapping(config_class, merge(settings, changes), where)
    return config

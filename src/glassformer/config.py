"""From nested mappings (TOML, JSON, flags) to frozen dataclasses, with errors that name the setting.

    from_mapping(RunConfig, {"model": {"n_layers": 2}})
    from_mapping(RunConfig, nest({"model.n_layers": "2"}))      as flags give it

A dataclass declares the settings and their types; its `__post_init__` refuses values that cannot work. The text of a
flag is read by the type of its setting: 42 is a number of layers, and as good a name as any.
"""

import dataclasses
import difflib
import sys
import tomllib
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from glassformer import strict_json
from glassformer.errors import ConfigError

T = TypeVar("T")

MAX_BYTES = 4 << 20  # no configuration is larger; a larger file is something else


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a TOML or JSON file, which must be a table at the top."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{path} has {size:,} bytes; a configuration has at most {MAX_BYTES:,}.")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None
    if path.suffix == ".json":
        return strict_json.parse(text.encode(), str(path), error=ConfigError)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


class FlagText(str):
    """A value that came as the text of a flag; `from_mapping` knows the type that it is to be read as."""

    __slots__ = ()


def nest(flags: Mapping[str, str]) -> dict[str, Any]:
    """Dotted names to nested tables of what the flags say."""
    nested: dict[str, Any] = {}
    for name, text in flags.items():
        *path, last = name.replace("-", "_").split(".")
        table = nested
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--{name}: {part} is given both as a value and as a table.")
        if isinstance(table.get(last), dict):
            raise ConfigError(f"--{name}: {last} is given both as a value and as a table.")
        table[last] = FlagText(text)
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over` in place of its own, table by table.

    >>> merge({"model": {"n_layers": 4, "d_model": 64}}, {"model": {"n_layers": 2}})
    {'model': {'n_layers': 2, 'd_model': 64}}
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """An instance of a dataclass; an unknown key or a value of the wrong type is an error that names it."""
    hints = get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"Did you mean {where}{near[0]}?" if near else f"The settings here are {', '.join(fields)}."
            raise ConfigError(f"There is no setting {where}{key}. {hint}")
        values[key] = _convert(hints[key], value, f"{where}{key}")
    required = [
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"The setting {where}{missing[0]} is missing.")
    return cls(**values)


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested tables that `from_mapping` makes the same dataclass from."""
    return dataclasses.asdict(config)


def defaults_of(config: Any) -> dict[str, Any]:
    """The default of every field of a dataclass."""
    return {field.name: field.default for field in dataclasses.fields(config)}


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(option for option in options if option is not type(None)), value, name)
    if isinstance(value, FlagText):
        value = _read_flag(hint, value)
    if origin is Literal:
        if value in get_args(hint) and type(value) in {type(option) for option in get_args(hint)}:
            return value
        raise ConfigError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}.")
    if origin is Mapping or origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {value!r}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, not {value!r}.")
        parts = get_args(hint)
        if parts[-1] is Ellipsis:
            parts = parts[:1] * len(value)
        if len(parts) != len(value):
            raise ConfigError(f"{name} must have {len(parts)} entries, not {len(value)}.")
        return tuple(_convert(part, item, name) for part, item in zip(parts, value, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {value!r}.")
        return from_mapping(hint, value, f"{name}.")
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise ConfigError(f"{name} must be {WORDS[hint]}, not {value!r}.")
    return value


def _read_flag(hint: Any, text: FlagText) -> Any:
    """What TOML makes of the text; where a text is wanted, or one of several, it stays as it is."""
    if hint is not str and not (
        get_origin(hint) is Literal and all(isinstance(option, str) for option in get_args(hint))
    ):
        with suppress(ValueError, RecursionError):
            return tomllib.loads(f"value = {text}")["value"]
    return str(text)


WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}

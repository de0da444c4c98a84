"""The formats in which models are published, one module each; a new module is a new format."""

import importlib
import pkgutil
from functools import cache

from glassformer.checkpoints.formats.format import Format
from glassformer.errors import ConfigError

_registered: dict[str, Format] = {}


def register(new: Format) -> None:
    """Add a format from outside of this package."""
    if new.name in {each.name for each in _ours()}:
        raise ConfigError(f"There is a format {new.name!r} already; the new one needs a name of its own.")
    _registered[new.name] = new


def all_formats() -> tuple[Format, ...]:
    """Every format: those of this package, and those that were registered."""
    return *_ours(), *_registered.values()


@cache
def _ours() -> tuple[Format, ...]:
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return tuple(module.FORMAT for module in modules if hasattr(module, "FORMAT"))

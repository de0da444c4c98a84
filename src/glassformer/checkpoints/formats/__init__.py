"""The formats in which models are published, one module each; a new module is a new format."""

import importlib
import pkgutil
from functools import cache

from glassformer.checkpoints.formats.format import Format
from glassformer.registration import check_free

_registered: dict[str, Format] = {}


def register(new: Format) -> None:
    """Add a format from outside of this package."""
    owners = {each.name: each.read.__module__ for each in all_formats()}
    check_free("a format", new.name, owners.get(new.name), new.read.__module__)
    _registered[new.name] = new


def all_formats() -> tuple[Format, ...]:
    """Every format: those of this package, and those that were registered."""
    return *_ours(), *_registered.values()


@cache
def _ours() -> tuple[Format, ...]:
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return tuple(module.FORMAT for module in modules if hasattr(module, "FORMAT"))

"""The formats in which models are published, one module each; a new module is a new format."""

import importlib
import pkgutil
from functools import cache

from glassformer.checkpoints.formats.format import Format


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format of this package."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return tuple(module.FORMAT for module in modules if hasattr(module, "FORMAT"))

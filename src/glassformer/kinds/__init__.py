"""The kinds of models, one module each: what they read, an example of it, what runs on it, and how it goes on."""

import importlib
import pkgutil
from functools import cache

from glassformer.kinds.kind import Kind, ModelLike
from glassformer.models.spec import KindName


@cache
def kinds() -> dict[KindName, Kind]:
    """Every kind by its name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {module.KIND.name: module.KIND for module in modules if hasattr(module, "KIND")}


def kind_of(model: ModelLike) -> Kind:
    """The kind that a model is of."""
    return kinds()[model.kind]

"""The Transformer you can see through: build, train, run and look into any Transformer.

Public names are loaded when first used, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.api import Model as Model
    from glassformer.api import build as build
    from glassformer.api import load as load
    from glassformer.api import save as save
    from glassformer.api import trace as trace
    from glassformer.errors import GlassformerError as GlassformerError
    from glassformer.inference.logits import Sampling as Sampling
    from glassformer.tokenizers import Tokenizer as Tokenizer
    from glassformer.tracing.explain import explain as explain
    from glassformer.twins import use as use

__version__ = "0.1.0"

_HOME = {
    "GlassformerError": "errors",
    "Model": "api",
    "Sampling": "inference.logits",
    "Tokenizer": "tokenizers",
    "build": "api",
    "explain": "tracing.explain",
    "load": "api",
    "save": "api",
    "trace": "api",
    "use": "twins",
}
__all__ = ["GlassformerError", "Model", "Sampling", "Tokenizer", "build", "explain", "load", "save", "trace", "use"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'glassformer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"glassformer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

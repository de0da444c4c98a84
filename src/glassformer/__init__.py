"""The Transformer you can see through: build, train, run and look into any Transformer.

Public names are loaded when first used, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.api import Model as Model
    from glassformer.api import build as build
    from glassformer.api import compare as compare
    from glassformer.api import load as load
    from glassformer.api import load_trace as load_trace
    from glassformer.api import save as save
    from glassformer.api import trace as trace
    from glassformer.api import view as view
    from glassformer.errors import GlassformerError as GlassformerError
    from glassformer.inference.logits import Sampling as Sampling
    from glassformer.tokenizers import Tokenizer as Tokenizer
    from glassformer.tracing.attribute import attribute as attribute
    from glassformer.tracing.explain import explain as explain
    from glassformer.tracing.explain import why as why
    from glassformer.tracing.intervene import ablate_head as ablate_head
    from glassformer.tracing.intervene import activation_patching as activation_patching
    from glassformer.tracing.intervene import attention_patterns as attention_patterns
    from glassformer.tracing.intervene import logit_lens as logit_lens
    from glassformer.tracing.trace import Trace as Trace
    from glassformer.twins import use as use

__version__ = "0.1.0"

_HOME = {
    "GlassformerError": "errors",
    "Model": "api",
    "Sampling": "inference.logits",
    "Tokenizer": "tokenizers",
    "Trace": "api",  # which hands it its verbs
    "ablate_head": "tracing.intervene",
    "activation_patching": "tracing.intervene",
    "attention_patterns": "tracing.intervene",
    "attribute": "tracing.attribute",
    "build": "api",
    "compare": "api",
    "explain": "tracing.explain",
    "load": "api",
    "load_trace": "api",
    "logit_lens": "tracing.intervene",
    "save": "api",
    "trace": "api",
    "use": "twins",
    "view": "api",
    "why": "tracing.explain",
}
__all__ = [
    "GlassformerError",
    "Model",
    "Sampling",
    "Tokenizer",
    "Trace",
    "ablate_head",
    "activation_patching",
    "attention_patterns",
    "attribute",
    "build",
    "compare",
    "explain",
    "load",
    "load_trace",
    "logit_lens",
    "save",
    "trace",
    "use",
    "view",
    "why",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'glassformer' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"glassformer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""Readable equations and their fast twins: one mechanism, chosen from outside.

A readable function is decorated with the name of the module that holds its fast twin; the twin has the same name and
signature there. `use("fast")`, the default, runs twins; `use("readable")` runs the equations as they are written.
Attention has backends instead of twins (`nn/attend/`); `use(attention=...)` picks one of them by name.

Where a twin's library is missing, the readable function runs, and a warning says so once.
"""

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar

from glassformer.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["readable", "fast"]

ATTENTION = ("auto", "naive", "tiled", "sdpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What runs now: `mode` for equations, `attention` for the backend ("auto" follows the mode)."""

    mode: Mode = "fast"
    attention: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A readable function and where its fast twin lives."""

    readable: Callable[..., object]
    fast_module: str

    @property
    def name(self) -> str:
        return f"{self.readable.__module__.removeprefix('glassformer.')}.{self.readable.__name__}"

    def fast(self) -> Callable[..., object] | None:
        """The fast twin, or None where its library is missing."""
        try:
            module = importlib.import_module(self.fast_module)
        except ImportError as error:
            warnings.warn(f"{self.name}: the readable form runs, since {error}", stacklevel=3)
            return None
        twin: Callable[..., object] = getattr(module, self.readable.__name__)
        return twin


TWINS: dict[str, Twin] = {}
_choice: ContextVar[Choice] = ContextVar("choice", default=Choice())  # noqa: B039  (it is frozen)


def current() -> Choice:
    """The choice in force in this context."""
    return _choice.get()


@contextmanager
def use(mode: Mode | None = None, *, attention: str | None = None) -> Iterator[None]:
    """Run the `with` block in the given mode and with the given attention backend; None leaves a choice as it is."""
    if mode not in (None, "readable", "fast"):
        raise ConfigError(f'use({mode!r}): the modes are "readable" and "fast".')
    if attention is not None and attention not in ATTENTION:
        raise ConfigError(f"attention={attention!r}: the backends are {', '.join(ATTENTION)}.")
    now = _choice.get()
    token = _choice.set(Choice(mode=mode or now.mode, attention=attention or now.attention))
    try:
        yield
    finally:
        _choice.reset(token)


def twin(fast_module: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare that the function of the same name in `fast_module` is the decorated function's fast twin."""

    def decorate(readable: Callable[P, R]) -> Callable[P, R]:
        entry = Twin(readable=readable, fast_module=fast_module)
        TWINS[entry.name] = entry
        found: list[Callable[P, R]] = []  # empty until first used, so that importing loads no library

        @functools.wraps(readable)
        def either(*args: P.args, **kwargs: P.kwargs) -> R:
            if _choice.get().mode == "readable":
                return readable(*args, **kwargs)
            if not found:
                found.append(entry.fast() or readable)  # type: ignore[arg-type]
            return found[0](*args, **kwargs)

        return either

    return decorate

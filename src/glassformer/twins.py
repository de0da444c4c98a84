"""Readable equations and their fast twins: one mechanism, chosen from outside.

A readable function is decorated with the name of the module that holds its fast twin; the twin has the same name and
signature there. `use("fast")`, the default, runs twins; `use("readable")` runs the equations as they are written.
Attention has backends instead of twins (`nn/attend/` registers them); `use(attention=...)` picks one of them by name.

Where a twin's library is missing, the readable function runs, and a warning says so once.
"""

import functools
import importlib
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

from glassformer.errors import ConfigError
from glassformer.registration import check_free

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["readable", "fast"]


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
        """Module and function, as in `nn.functional.softmax`."""
        return f"{self.readable.__module__.removeprefix('glassformer.')}.{self.readable.__name__}"

    def fast(self) -> Callable[..., object] | None:
        """The fast twin, or None where its library is missing, which is said once for each library."""
        try:
            module = importlib.import_module(self.fast_module)
        except ImportError as error:
            if str(error) not in _missing:
                _missing.add(str(error))
                warnings.warn(f"{self.name}: the readable form runs, since {error}", stacklevel=3)
            return None
        twin: Callable[..., object] = getattr(module, self.readable.__name__)
        return twin


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to attend: `fn` and `supports` take what `nn.attend.attend` takes.

    Under "auto" the backends with the highest `priority` are asked first.
    """

    name: str
    fn: Callable[..., Any]
    supports: Callable[..., bool] = lambda *operands, **settings: True
    priority: int = 0

    def __call__(self, q: Any, k: Any, v: Any, mask: Any, **settings: Any) -> Any:
        """What `fn` gives; raises `ConfigError` where it does not support the call."""
        if not self.supports(q, k, v, mask, **settings):
            asked = [
                f", {name} {value}" if isinstance(value, int | float) else f", {name}"
                for name, value in settings.items()
                if value is not None and not (isinstance(value, int | float) and value == 0)
            ]
            raise ConfigError(
                f'The "{self.name}" attention backend does not support this call ({q.dtype} on {q.device.type}, '
                f'{mask.rule}{"".join(asked)}): use "auto", which picks one that does.'
            )
        return self.fn(q, k, v, mask, **settings)


_missing: set[str] = set()  # what has been said of libraries
TWINS: dict[str, Twin] = {}
BACKENDS: dict[str, Backend] = {}  # in the order in which "auto" asks them


def register(backend: Backend) -> None:
    """Let `use(attention=…)` choose the backend by its name, and "auto" by its priority."""
    owner = BACKENDS[backend.name].fn.__module__ if backend.name in BACKENDS else None
    check_free("an attention backend", backend.name, owner, backend.fn.__module__)
    BACKENDS[backend.name] = backend
    in_order = sorted(BACKENDS.values(), key=lambda backend: (-backend.priority, backend.name))
    BACKENDS.clear()
    BACKENDS.update({backend.name: backend for backend in in_order})


def backend_named(name: str) -> Backend:
    """The registered backend of that name; raises `ConfigError` with the names where there is none."""
    if name not in BACKENDS:
        raise ConfigError(f"attention={name!r}: the backends are auto, {', '.join(BACKENDS)}.")
    return BACKENDS[name]


class _Block:
    """A `with use(…)` of some thread, and the threads that had begun before it."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.before = weakref.WeakSet(threading.enumerate())


_choice: ContextVar[Choice | None] = ContextVar("choice", default=None)
_blocks: list[_Block] = []  # open ones of all threads, the latest last
_inherited: weakref.WeakKeyDictionary[threading.Thread, Choice] = weakref.WeakKeyDictionary()  # once a block is closed


def current() -> Choice:
    """The choice in force in this context.

    Python hands no context variable to a new thread, so a thread that has not chosen takes over the choice of the
    latest block that was open when it began, and keeps it.
    """
    choice = _choice.get()
    if choice is None:
        thread = threading.current_thread()
        around = [block.choice for block in _blocks.copy() if thread not in block.before]
        choice = _inherited.get(thread) or (around[-1] if around else Choice())
        _choice.set(choice)
    return choice


@contextmanager
def use(mode: Mode | None = None, *, attention: str | None = None) -> Iterator[None]:
    """Run the `with` block, and threads started inside it, in a mode and with a backend; None leaves a choice as it is.

    Threads that run already go on as they did. Where several threads have such blocks open at once, a thread that
    starts then takes over the choice of the block that was opened last.
    """
    if mode not in (None, "readable", "fast"):
        raise ConfigError(f'use({mode!r}): the modes are "readable" and "fast".')
    if BACKENDS and attention not in (None, "auto"):  # before they are registered, `attend` says it
        backend_named(attention)
    now = current()
    block = _Block(Choice(mode=mode or now.mode, attention=attention or now.attention))
    token = _choice.set(block.choice)
    _blocks.append(block)
    try:
        yield
    finally:
        _blocks.remove(block)
        for thread in threading.enumerate():
            if thread not in block.before:
                _inherited.setdefault(thread, block.choice)
        _choice.reset(token)


def twin(fast_module: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare that the function of the same name in `fast_module` is the decorated function's fast twin."""

    def decorate(readable: Callable[P, R]) -> Callable[P, R]:
        entry = Twin(readable=readable, fast_module=fast_module)
        TWINS[entry.name] = entry
        implementations: list[Callable[P, R]] = []  # empty until first used, so that importing loads no library

        @functools.wraps(readable)
        def either(*args: P.args, **kwargs: P.kwargs) -> R:
            if current().mode == "readable":
                return readable(*args, **kwargs)
            if not implementations:
                implementations.append(entry.fast() or readable)  # type: ignore[arg-type]
            return implementations[0](*args, **kwargs)

        return either

    return decorate

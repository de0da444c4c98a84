"""Windows of attention in a config.json: one that all layers have, or one that some have.

A window that is no smaller than the context stays, since the same weights may be asked to read longer texts.
Next to read: `nn/mask.py`, for what a window lets a query see.
"""

from collections.abc import Sequence
from typing import Any

from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import FieldGroup, Settings
from glassformer.models.spec import MAX_LAYERS


def window_of_all(default: int | None = None) -> FieldGroup:
    """`sliding_window` alone, which all layers have."""
    return FieldGroup(
        theirs=("sliding_window",),
        ours=("sliding_windows",),
        read=lambda theirs: of_all(read_size(theirs, default)),
        write=lambda ours: {"sliding_window": only_window(ours) or None},
    )


def read_size(theirs: Settings, default: int | None) -> int:
    """`sliding_window` in tokens, 0 where a query sees all that a text can have."""
    size = theirs.get("sliding_window", default)
    if size is None:
        return 0
    if type(size) is not int or size < 1:
        raise ConfigError(f"sliding_window must be a whole number from 1 on, or null, not {size!r}.")
    return size


def of_all(size: int) -> dict[str, Any]:
    """Our field for a window that all layers have."""
    return {"sliding_windows": (size,) if size else ()}


def only_window(ours: Any) -> int:
    """The window that all layers have, or 0; raises where they differ."""
    sizes = {ours.local.get(i, 0) for i in range(ours.n_layers)}
    if len(sizes) > 1:
        raise ExportError(f"cannot express sliding_windows = {ours.sliding_windows}; it has one for all layers.")
    return int(sizes.pop())


def read_layers(theirs: Settings) -> dict[str, Any]:
    """Windows of one size: in the layers that `layer_types` says, or else in those from `max_window_layers` on."""
    size = read_size(theirs, 4096) if theirs.get("use_sliding_window", False) else 0
    n_layers, first = read_n_layers(theirs, 32), theirs.get("max_window_layers", 28)
    if type(first) is not int:
        raise ConfigError(f"max_window_layers must be a whole number, not {first!r}.")
    return cycle_of(by_type(theirs, size, [i >= first for i in range(n_layers)]))


def read_n_layers(theirs: Settings, default: int) -> int:
    """How many layers there are, which is believed only within what a model can have."""
    n_layers = theirs.get("num_hidden_layers", default)
    if type(n_layers) is not int or not 1 <= n_layers <= MAX_LAYERS:
        raise ConfigError(f"num_hidden_layers must be a whole number from 1 to {MAX_LAYERS:,}, not {n_layers!r}.")
    return n_layers


def by_type(theirs: Settings, size: int, has_window: Sequence[bool]) -> list[int]:
    """The window of each layer as `layer_types` says; where that is left out, those that are to have one have it."""
    kinds = {"full_attention": 0, "sliding_attention": size}
    types = theirs.get("layer_types")
    if types is None:
        return [size if one else 0 for one in has_window]
    if not isinstance(types, list) or len(types) != len(has_window) or any(str(kind) not in kinds for kind in types):
        raise ConfigError(f"layer_types must name {' or '.join(kinds)} for each of the {len(has_window)} layers.")
    return [kinds[str(kind)] for kind in types]


def cycle_of(windows: Sequence[int]) -> dict[str, Any]:
    """Our field for these windows: the shortest run of them that comes again and again; none where no layer has one."""
    if not any(windows):
        return {"sliding_windows": ()}
    return {"sliding_windows": shortest_run(windows)}


def shortest_run(values: Sequence[Any]) -> tuple[Any, ...]:
    """The fewest values that are all of these when they come again and again."""
    length = next(n for n in range(1, len(values) + 1) if all(a == b for a, b in zip(values, values[n:], strict=False)))
    return tuple(values[:length])


def write_layers(ours: Any) -> dict[str, Any]:
    """The same, both counted and named."""
    local = ours.local
    return {"use_sliding_window": bool(local), "max_window_layers": min(local, default=ours.n_layers), **by_turns(ours)}


def by_turns(ours: Any) -> dict[str, Any]:
    """The size that all windows have, and which layers have one."""
    local = ours.local
    if len(set(local.values())) > 1:
        raise ExportError(f"cannot express sliding_windows = {ours.sliding_windows}; they are all of one size there.")
    return {
        "sliding_window": next(iter(local.values()), None),
        "layer_types": [f"{'sliding' if i in local else 'full'}_attention" for i in range(ours.n_layers)],
    }


WINDOWS_BY_LAYER = FieldGroup(  # Qwen's
    theirs=("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
    ours=("sliding_windows",),
    read=read_layers,
    write=write_layers,
)


def windows_by_turns(n_layers: int, pattern: int, *, named: bool) -> FieldGroup:
    """Gemma's: all layers but every `pattern`-th have one, unless `layer_types` says otherwise.

    With `named`, for Gemma 3, a file may name another pattern. `n_layers` is how many there are by default.
    """

    def read(theirs: Settings) -> dict[str, Any]:
        every = theirs.get("sliding_window_pattern", pattern) if named else pattern
        if type(every) is not int or every < 1:
            raise ConfigError(f"sliding_window_pattern must be a whole number from 1 on, not {every!r}.")
        has_window = [(i + 1) % every > 0 for i in range(read_n_layers(theirs, n_layers))]
        return cycle_of(by_type(theirs, read_size(theirs, 4096), has_window))

    def write(ours: Any) -> dict[str, Any]:
        theirs = by_turns(ours)
        # `transformers` builds masks of both kinds whether or not a layer has a window, and no window may be null.
        return theirs | {"sliding_window": theirs["sliding_window"] or ours.context_length}

    return FieldGroup(
        theirs=("sliding_window", "layer_types", *["sliding_window_pattern"] * named),
        ours=("sliding_windows",),
        read=read,
        write=write,
    )

"""Windows of attention in a config.json: one that all layers have, or one that some have.

A window that is no smaller than the context is none. Next to read: `nn/mask.py`, for what a window lets a query see.
"""

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
    length = theirs.get("max_position_embeddings")
    return 0 if type(length) is int and size >= length else size


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
    kinds = {"full_attention": 0, "sliding_attention": size}
    n_layers, first = theirs.get("num_hidden_layers", 32), theirs.get("max_window_layers", 28)
    types = theirs.get("layer_types")
    if type(n_layers) is not int or not 1 <= n_layers <= MAX_LAYERS:
        raise ConfigError(f"num_hidden_layers must be a whole number from 1 to {MAX_LAYERS:,}, not {n_layers!r}.")
    if type(first) is not int:
        raise ConfigError(f"max_window_layers must be a whole number, not {first!r}.")
    if types is None:
        windows = [size if i >= first else 0 for i in range(n_layers)]
    elif isinstance(types, list) and len(types) == n_layers and all(str(kind) in kinds for kind in types):
        windows = [kinds[str(kind)] for kind in types]
    else:
        raise ConfigError(f"layer_types must name {' or '.join(kinds)} for each of the {n_layers} layers.")
    return of_all(windows[0]) if len(set(windows)) == 1 else {"sliding_windows": tuple(windows)}


def write_layers(ours: Any) -> dict[str, Any]:
    """The same, both counted and named."""
    local = ours.local
    if len(set(local.values())) > 1:
        raise ExportError(f"cannot express sliding_windows = {ours.sliding_windows}; they are all of one size there.")
    return {
        "use_sliding_window": bool(local),
        "sliding_window": next(iter(local.values()), None),
        "max_window_layers": min(local, default=ours.n_layers),
        "layer_types": [f"{'sliding' if i in local else 'full'}_attention" for i in range(ours.n_layers)],
    }


WINDOWS_BY_LAYER = FieldGroup(  # Qwen's
    theirs=("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
    ours=("sliding_windows",),
    read=read_layers,
    write=write_layers,
)

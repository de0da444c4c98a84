"""Where the sound stands that an encoder hears: above its stream, a column of every tensor for every 10 ms.

waveform  frames  windowed  spectrum  power  mel │ log-mel │
                                                          the first convolution, and what its activation makes of it
                                                          the second, which moves on by two columns at a time
                                                          │ x │ positions
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from glassformer.viewer.items import Item
from glassformer.viewer.layout.spine import Spine
from glassformer.viewer.scene import Group
from glassformer.viewer.windows import CellWindow

ROW = ("log_mel", "mel", "power", "spectrum", "windowed", "frames")  # from the right


def sizes_of(items: Sequence[Item]) -> dict[str, int]:
    """The lengths of the axes that only sound has; none where nothing is heard."""
    shapes = {item.role: item.tensor.shape for item in items if item.step_of is None}
    if "log_mel" not in shapes or "first_conv" not in shapes:
        return {}
    sizes = {"U": shapes["log_mel"][-2], "M": shapes["log_mel"][-1]}
    return sizes | {letter: shapes[role][-1] for letter, role in (("W", "frames"), ("K", "power")) if role in shapes}


def stem(spine: Spine, group: Group) -> int:
    """Upwards from the stream's first level; returns the right edge."""
    right = spine.t + spine.gap
    spine.put(spine.find("", "x"), 0, 0, group)
    spine.put(spine.find("", "positions"), right, -2, group)
    spine.put(spine.find("", "position_embedding"), right, 0, group)
    y, convolutions = 0, spine.group("stem", "stem", group)
    below = spine.by_role.get(("", "conv_below"), [])
    for number, name in ((1, "second_conv"), (0, "first_conv")):
        y -= spine.c + 2 * spine.pad
        convolve(spine, name, below[number] if len(below) == 2 else None, y, convolutions)
        padded = spine.find("", f"{name}_padded")
        if padded:
            y -= spine.view.size(padded)[1] + spine.pad
            spine.put(padded, 0, y, convolutions)
    hear(spine, y - spine.pad, spine.group("sound", "sound", group))
    edges = [block.pos[0] + block.size[0] for block in spine.canvas.blocks if block.group == convolutions.id]
    return max(right, *edges)


def convolve(spine: Spine, name: str, below: Item | None, y: int, group: Group) -> None:
    """The sums, right of them what the activation makes of them, left of them the weights, a window's in a row."""
    weight = spine.find("", f"{name}_weight")
    if weight:
        d_out, n_inputs = weight.tensor.shape[0], prod(weight.tensor.shape[1:])
        flat = CellWindow(offset=weight.tensor.offset, strides=(1, n_inputs), size=(n_inputs, d_out))
        spine.placed.add(weight)
        spine.canvas.put(weight, flat, group, (-4 - n_inputs, y, 0), spine.view.axes(weight))
    spine.put(spine.find("", f"{name}_bias"), -2, y, group)
    x = 0
    for item in (spine.find("", name), below, spine.find("", "entering") if name == "first_conv" else None):
        if item:
            spine.put(item, x, y, group)
            x += spine.view.size(item)[0] + spine.gap


def hear(spine: Spine, bottom: int, group: Group) -> None:
    """From the waveform to the log-mel frames, in a row that ends above the stream."""
    row = [item for role in ROW for item in spine.by_role.get(("", role), [])[-1:]]
    waveforms = [*spine.by_role.get(("", "frames"), [])[:-1], *spine.by_role.get(("", "mirrored"), [])]
    for mirrored in waveforms:
        mirrored.role = "mirrored"
    waveforms += spine.by_role.get(("", "waveform"), [])
    strides = [item.tensor.strides[0] for item in spine.by_role.get(("", "frames"), [])]
    hop = min(strides, default=0)  # frames are first seen in the waveform itself, one hop apart
    top, x = bottom - max([hop, *(spine.view.size(item)[1] for item in row)]), 0
    for number, item in enumerate(row):
        x -= (spine.view.size(item)[0] + 4 * spine.gap) if number else 0
        spine.put(item, x, top, group)
    for waveform in waveforms:
        spine.placed.add(waveform)
        pieces = in_columns(waveform, hop)
        x -= sum(window.size[0] for window in pieces) + 4 * spine.gap
        for number, window in enumerate(pieces):
            axes = ("", "") if number else ("U", "")
            spine.canvas.put(waveform, window, group, (x + number * pieces[0].size[0], top, 0), axes)


def in_columns(waveform: Item, hop: int) -> list[CellWindow]:
    """Samples in columns of as many as there are from one frame to the next, and those that are left over."""
    offset, n = waveform.windows[0].offset, prod(waveform.windows[0].size)
    whole = CellWindow(offset=offset, strides=(hop, 1), size=(n // hop, hop))
    if n % hop == 0:
        return [whole]
    leftover = replace(whole, offset=offset + n - n % hop, size=(1, n % hop), index=f"[{n - n % hop}:{n}]")
    return [leftover] if n < hop else [whole, leftover]

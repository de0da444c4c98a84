"""Where the sound stands that an encoder hears: above its stream, a column of every tensor for every 10 ms.

waveform  frames  windowed  spectrum  power  filters  mel │ log-mel │
                                                          the first convolution, and what its activation makes of it
                                                          the second, which moves on by two columns at a time
                                                          │ x │ positions
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from glassformer.viewer.layout.decoder import Decoder
from glassformer.viewer.roles import Item
from glassformer.viewer.scene import Group
from glassformer.viewer.windows import Window

ROW = ("log_mel", "mel", "mel_filters", "power", "spectrum", "windowed", "frames")  # from the right


def sizes_of(items: Sequence[Item]) -> dict[str, int]:
    """The lengths of the axes that only sound has; none where nothing is heard."""
    found = {item.role: item.tensor.shape for item in items if item.step_of is None}
    if "log_mel" not in found or "conv1" not in found:
        return {}
    sizes = {"U": found["log_mel"][-2], "M": found["log_mel"][-1]}
    return sizes | {letter: found[role][-1] for letter, role in (("W", "frames"), ("K", "power")) if role in found}


def stem(spine: Decoder, group: Group) -> int:
    """Upwards from the stream's first level; returns the right edge."""
    right = spine.t + spine.gap
    spine.put(spine.find("", "x"), 0, 0, group)
    spine.put(spine.find("", "positions"), right, -2, group)
    spine.put(spine.find("", "position_embedding"), right, 0, group)
    y, convolutions = 0, spine.group("stem", "stem", group)
    below = spine.by_role.get(("", "conv_below"), [])
    for number in (2, 1):
        y -= spine.c + 2 * spine.pad
        convolve(spine, f"conv{number}", below[number - 1] if len(below) == 2 else None, y, convolutions)
        padded = spine.find("", f"conv{number}_padded")
        if padded:
            y -= spine.view.size(padded)[1] + spine.pad
            spine.put(padded, 0, y, convolutions)
    hear(spine, y - spine.pad, spine.group("sound", "sound", group))
    ends = [block.pos[0] + block.size[0] for block in spine.board.blocks if block.group == convolutions.id]
    return max(right, *ends)


def convolve(spine: Decoder, name: str, below: Item | None, y: int, group: Group) -> None:
    """The sums, right of them what the activation makes of them, left of them the weights, a window's in a row."""
    weight = spine.find("", f"{name}_weight")
    if weight:
        d_out, n_inputs = weight.tensor.shape[0], prod(weight.tensor.shape[1:])
        flat = Window(offset=weight.tensor.offset, strides=(1, n_inputs), size=(n_inputs, d_out))
        spine.placed.add(weight)
        spine.board.put(weight, flat, group, (-4 - n_inputs, y, 0), spine.view.axes(weight))
    spine.put(spine.find("", f"{name}_bias"), -2, y, group)
    x = 0
    for item in (spine.find("", name), below, spine.find("", "entering") if name == "conv1" else None):
        if item:
            spine.put(item, x, y, group)
            x += spine.view.size(item)[0] + spine.gap


def hear(spine: Decoder, bottom: int, group: Group) -> None:
    """From the waveform to the log-mel frames, in a row that ends above the stream."""
    row = [item for role in ROW for item in spine.by_role.get(("", role), [])[-1:]]
    waveform = spine.find("", "waveform")
    hop = waveform.tensor.shape[0] // spine.sizes["U"] if waveform else 0
    top, x = bottom - max([hop, *(spine.view.size(item)[1] for item in row)]), 0
    for number, item in enumerate(row):
        x -= (spine.view.size(item)[0] + 4 * spine.gap) if number else 0
        spine.put(item, x, top, group)
    if waveform:
        n = waveform.tensor.shape[0]
        whole = Window(offset=waveform.tensor.offset, strides=(hop, 1), size=(n // hop, hop))
        x -= n // hop + 1 + 4 * spine.gap
        spine.placed.add(waveform)
        spine.board.put(waveform, whole, group, (x, top, 0), ("U", ""))
        if n % hop:
            last = replace(whole, offset=whole.offset + n - n % hop, size=(1, n % hop), index=f"[{n - n % hop}:{n}]")
            spine.board.put(waveform, last, group, (x + n // hop, top, 0))

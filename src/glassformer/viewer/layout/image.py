"""Where the blocks of an image classifier stand: a picture cut into patches, above the spine of a decoder.

A patch is one position: its pixels, its vector and its column of the stream stand under each other, and what was
learned for the class token stands beside the patches' vectors, where it joins them.

    the picture, cut apart
      its patches, a column each
    c its patches' vectors          │ weights
    │ x │ then with positions added │ positions
    … layers …
    what the class token's column says of the classes, alone or with the mean of the patches' columns
"""

from collections.abc import Iterator, Sequence

from glassformer.viewer.canvas import Canvas
from glassformer.viewer.items import Item
from glassformer.viewer.layout.spine import Plan, Spine, sizes_of
from glassformer.viewer.scene import Group, Text, Token
from glassformer.viewer.windows import CellWindow

NEEDED = {"image", "patches", "patch_vectors", "class_token", "x", "q", "k", "scores", "weights", "out", "up"}
MOST_PIECES = 1024  # into which a picture is cut


def place(items: Sequence[Item], canvas: Canvas) -> dict[str, int] | None:
    """An image classifier's blocks, and the lengths of its axes; None where the items are none's."""
    by_role = {item.role: item for item in items if item.step_of is None}
    if not set(by_role) >= NEEDED or by_role["patches"].tensor.shape[0] != 1:
        return None
    if "logits" in by_role and len(by_role["logits"].tensor.shape) != 2:
        return None
    *_, n_patches, n_pixels = by_role["patches"].tensor.shape
    sizes = sizes_of(items) | {"P": n_patches, "I": n_pixels}
    Spine(items, sizes, canvas, IMAGE_CLASSIFIER).lay_out()
    return sizes


def embedding(spine: Spine, group: Group) -> int:
    """Upwards from the stream's first level."""
    right, pitch = spine.t + spine.gap, spine.c + spine.pad
    spine.put(spine.find("", "positions"), right, -2, group)
    spine.put(spine.find("", "position_embedding"), right, 0, group)
    streams = spine.by_role["", "x"]
    for n, stream in enumerate(streams, 1):
        spine.put(stream, 0, (n - len(streams)) * pitch, group)
    y = -len(streams) * pitch
    before = spine.t - spine.sizes["P"]  # tokens that stand before the patches
    for x, role in enumerate(("class_token", "distillation_token")[:before]):
        spine.put(spine.find("", role), x, y, group)
    put_patches(spine, before, y, spine.canvas.group("patchify", "patchify", group))
    return right + spine.sizes["I"]


def put_patches(spine: Spine, x: int, y: int, group: Group) -> None:
    """Upwards from the level of the patches' vectors."""
    right = spine.t + spine.gap
    spine.put(spine.find("", "patch_vectors"), x, y, group)
    spine.put(spine.find("", "patch_bias"), right, y, group)
    spine.put(spine.find("", "patch_weight"), right + 2, y, group)
    image, patches = spine.find("", "image"), spine.find("", "patches")
    assert image is not None
    assert patches is not None
    y -= spine.sizes["I"] + spine.pad
    spine.put(patches, x, y, group)
    image_group = spine.canvas.group("images", "picture", group)
    if len(image.tensor.shape) == 6:
        cut_apart(spine, image, x, y - spine.pad, image_group)
    else:  # some pixels are in no patch
        spine.put(image, x, y - spine.pad - spine.view.size(image)[1], image_group)
    names = position_names(spine, image)
    spine.canvas.tokens = [Token(id=-1 - n, text=name, bytes=name.encode().hex()) for n, name in enumerate(names)]


def position_names(spine: Spine, image: Item) -> list[str]:
    """Of the positions: a patch by its row and column."""
    n_patches = spine.sizes["P"]
    across = image.tensor.shape[4] if len(image.tensor.shape) == 6 else n_patches
    before = ("[class]", "[distillation]")[: spine.t - n_patches]
    return [*before, *(f"{p // across},{p % across}" for p in range(n_patches))]


def cut_apart(spine: Spine, image: Item, x: int, bottom: int, group: Group) -> None:
    """The pixels of each patch, with a gap around them; channels stand behind each other."""
    piece_windows = list(pieces(image))
    (width, height), rows = piece_windows[0][1].size, 1 + piece_windows[-1][0][0]
    gap = max(1, width // 8)
    top = bottom - rows * (height + gap)
    spine.placed.add(image)
    for (row, column, channel), window in piece_windows:
        at = x + column * (width + gap), top + row * (height + gap), -channel * spine.pitch
        block = spine.canvas.put(image, window, group, at, spine.view.axes(image))
        if rows > 1:
            block.label = Text(f"Patch {row},{column}", f"图像块 {row},{column}")


def output(spine: Spine, x: int, y: int) -> None:
    """The last norm beside the last stream, and under the class token's column what it says."""
    group = spine.canvas.group("output", "output", spine.model)
    spine.norm("final_norm", 0, x, y, group, -1)
    y += spine.c + spine.pad
    joined = spine.find("", "head_joined")
    if joined:
        spine.put(spine.find("", "patch_mean"), x + 1 + spine.gap, y, group)
        spine.put(joined, x, y, group)
        y += spine.view.size(joined)[1] + spine.pad
    hidden = spine.find("", "head_hidden")
    if hidden:
        weighted(spine, hidden, "head_in", x, y, group)
        spine.put(spine.find("", "head_activated"), x + spine.gap, y, group)
        y += spine.view.size(hidden)[1] + spine.pad
    for role, strip in (("logits", ""), ("exponentials", "highest"), ("probs", "total")):
        item = spine.find("", role)
        if item:
            if role == "logits":
                weighted(spine, item, "head", x, y, group)
            else:
                spine.put(item, x, y, group)
            spine.put(spine.find("", strip), x, y - 2, group)
            x += 1 + spine.gap


def weighted(spine: Spine, product: Item, name: str, x: int, y: int, group: Group) -> None:
    """A product, and left of it the bias and the weights that it was made with."""
    spine.put(product, x, y, group)
    spine.put(spine.find("", f"{name}_bias"), x - 2, y, group)
    weight = spine.find("", f"{name}_weight")
    if weight:
        spine.put(weight, x - 3 - spine.view.size(weight)[0], y, group)


def pieces(image: Item) -> Iterator[tuple[tuple[int, int, int], CellWindow]]:
    """Of a picture recorded by channels, rows and columns of patches: the place of each piece, and its pixels.

    Where they would be too many, the picture is one piece.
    """
    _, channels, rows, height, columns, width = image.tensor.shape
    if channels * rows * columns > MOST_PIECES:
        rows, height, columns, width = 1, rows * height, 1, columns * width
    _, of_channel, of_row, of_line, of_column, of_pixel = image.tensor.strides
    for row in range(rows):
        for column in range(columns):
            for channel in range(channels):
                yield (
                    (row, column, channel),
                    CellWindow(
                        offset=image.tensor.offset + channel * of_channel + row * of_row + column * of_column,
                        strides=(of_pixel, of_line),
                        size=(width, height),
                        start=(column * width, row * height),
                        index=f"[0,{channel},{row},:,{column},:]",
                    ),
                )


IMAGE_CLASSIFIER = Plan(embedding=embedding, output=output)

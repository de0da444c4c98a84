"""A scene as a drawing in SVG, made without a browser: each block a box, seen from the front and a bit from above."""

from html import escape

from glassformer.viewer.scene import Block, Scene

Corner = tuple[float, float]
MOST = 600  # boxes, the largest first: what is smaller is not seen beside them
DEPTH, AWAY = 3.0, (0.45, -0.3)  # of a box, and where a unit of depth goes on paper
MARGIN = 0.04  # of the picture, on each side
COLOURS = {  # of the face, the top and the side
    "weight": ("#5b8fd6", "#7fabe6", "#41699f"),
    "gradient": ("#c28a3a", "#dba95e", "#94682b"),
    "input": ("#a58ad6", "#bda8e4", "#7d68a5"),
}
COMPUTED = ("#37b58f", "#6fd1b3", "#27846a")


def drawing(scene: Scene, width: int = 640, height: int = 400) -> str:
    """The whole model in a frame of this size, in CSS pixels; one that is taller than wide lies on its side."""
    blocks = sorted(scene.blocks, key=lambda block: -block.size[0] * block.size[1])[:MOST]
    blocks.sort(key=lambda block: (block.pos[2], block.pos[1]))
    faces = [_faces(block) for block in blocks]
    if width > height and _is_tall(blocks):
        faces = [[[(y, x) for x, y in face] for face in each] for each in faces]
    corners = [corner for each in faces for face in each for corner in face]
    left, top = (min(corner[i] for corner in corners) for i in (0, 1))
    right, bottom = (max(corner[i] for corner in corners) for i in (0, 1))
    scale = (1 - 2 * MARGIN) * min(width / max(right - left, 1), height / max(bottom - top, 1))
    offset = (width - scale * (left + right)) / 2, (height - scale * (top + bottom)) / 2

    def path(corners: list[Corner]) -> str:
        points = [f"{scale * x + offset[0]:.1f} {scale * y + offset[1]:.1f}" for x, y in corners]
        return f"M{'L'.join(points)}Z"

    drawn = []
    for block, of_block in zip(blocks, faces, strict=True):
        for colour, face in zip(COLOURS.get(block.kind, COMPUTED), of_block, strict=True):
            drawn.append(f'<path fill="{colour}" d="{path(face)}"/>')
    title = escape(str(scene.model["name"]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{title}</title>{''.join(drawn)}</svg>"
    )


def _faces(block: Block) -> list[list[Corner]]:
    """The corners of its front, its top and its right side, on paper."""
    x0, y0, z0 = block.pos
    x1, y1 = x0 + block.size[0], y0 + block.size[1]

    def at(x: float, y: float, z: float) -> Corner:
        return x - AWAY[0] * z, y - AWAY[1] * z

    back = z0 - DEPTH
    front = [at(x0, y0, z0), at(x1, y0, z0), at(x1, y1, z0), at(x0, y1, z0)]
    top = [at(x0, y0, z0), at(x0, y0, back), at(x1, y0, back), at(x1, y0, z0)]
    side = [at(x1, y0, z0), at(x1, y0, back), at(x1, y1, back), at(x1, y1, z0)]
    return [front, top, side]


def _is_tall(blocks: list[Block]) -> bool:
    right, bottom = (max(block.pos[i] + block.size[i] for block in blocks) for i in (0, 1))
    return bottom - min(block.pos[1] for block in blocks) > right - min(block.pos[0] for block in blocks)

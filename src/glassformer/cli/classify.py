"""`glassformer classify`: what is in pictures, and how they are cut into patches."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.loading import RUNNING, Running, load
from glassformer.cli.output import print_json, print_line, progress_bar, remark, remarks

if TYPE_CHECKING:
    from torch import Tensor

    from glassformer.api import Model
    from glassformer.features.image_processor import ImageProcessor
    from glassformer.inference.classify import Guess

app = App(
    name="classify",
    help_epilogue="Example:  glassformer classify runs/vit-mnist digit.png --patches",
)


@app.default
def classify(
    model: str,
    /,
    *image: Path,
    top_k: int = 5,
    patches: Flag = False,
    batch_size: int = 8,
    processor: Path | None = None,
    running: Running = RUNNING,
    json: Flag = False,
) -> None:
    """Say what is in pictures: PNG, JPEG, WebP, BMP, GIF, PPM. A file that cannot be read does not stop the others.

    Parameters
    ----------
    model
        A directory with a Vision Transformer, a published file, a name on the Hub (org/name), or preset:NAME for random
        weights.
    image
        The pictures.
    top_k
        How many classes to show, the likeliest first.
    patches
        Show how the pictures are cut; at a terminal with the picture itself.
    batch_size
        Pictures at once.
    processor
        The folder whose preprocessor_config.json says how pictures are resized and scaled, where it is not the model's.
    json
        Print one JSON object with all pictures.
    """
    from glassformer.cli.patches import Grid
    from glassformer.errors import ConfigError
    from glassformer.kinds.image import chosen_processor

    if not image:
        raise ConfigError("Name at least one picture to classify.")
    for name, value in {"--top-k": top_k, "--batch-size": batch_size}.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    loaded = load(model, "image-classifier", opening=running)
    with remarks():
        prepare = chosen_processor(loaded, processor)
    results, broken = [], 0
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("classifying", len(image))) if json else None
        for number, (path, guesses) in enumerate(_classify(loaded, prepare, image, top_k, batch_size), 1):
            if progress is not None:
                progress(number)
            if guesses is None:
                broken += 1
                continue
            grid = Grid.of(path, prepare, loaded.config) if patches else None
            if json:
                cut = {} if grid is None else {"pixels": grid.size, "patch": grid.patch, "patches": grid.patches}
                results.append({"file": str(path), "classes": [asdict(guess) for guess in guesses], **cut})
                continue
            print_line(str(path))
            if grid is not None:
                grid.show()
            for guess in guesses:
                print_line(f"  {guess.probability:7.2%}  {guess.label}")
    if json:
        print_json({"pictures": results, "broken": broken})
    if broken:
        sys.exit(2)


def _classify(
    loaded: "Model", prepare: "ImageProcessor", paths: Sequence[Path], top_k: int, batch_size: int
) -> Iterator[tuple[Path, "list[Guess] | None"]]:
    """The likeliest classes of each picture; None for one that cannot be read, which is said."""
    import torch

    from glassformer.inference.classify import classify

    if prepare.size is None and prepare.crop is None:
        batch_size = 1  # each has a size of its own
    for first in range(0, len(paths), batch_size):
        batch = paths[first : first + batch_size]
        ready = {
            path: images for path in batch if (images := _read(prepare, path, loaded.config.patch_size)) is not None
        }
        top_classes = classify(loaded.module, torch.cat(list(ready.values())), top_k=top_k) if ready else []
        guesses = dict(zip(ready, top_classes, strict=True))
        yield from ((path, guesses.get(path)) for path in batch)


def _read(prepare: "ImageProcessor", path: Path, patch: tuple[int, int]) -> "Tensor | None":
    from glassformer.data.images import open_image
    from glassformer.errors import ConfigError, DataError

    try:
        images = prepare([open_image(path)])
        height, width = images.shape[-2:]
        if height >= patch[0] and width >= patch[1]:
            return images
        remark(f"{path}: a picture of {height} x {width} pixels has no patch of {patch[0]} x {patch[1]}.")
    except DataError as error:
        remark(error.at_command_line())
    except ConfigError as error:
        remark(error.about(path).at_command_line())
    return None

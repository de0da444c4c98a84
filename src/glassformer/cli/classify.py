"""`glassformer classify`: what is in pictures, and how they are cut into patches; of which class texts are."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    *inputs: str,
    top_k: int = 5,
    patches: Flag = False,
    batch_size: int = 8,
    processor: Path | None = None,
    running: Running = RUNNING,
    json: Flag = False,
) -> None:
    """Say what is in pictures: PNG, JPEG, WebP, BMP, GIF, PPM. A file that cannot be read does not stop the others.

    An encoder of texts with a head for classes, such as BERT's, says of which class texts are.

    Parameters
    ----------
    model
        A directory with a Vision Transformer or an encoder, a published file, a name on the Hub (org/name), or
        preset:NAME for random weights.
    inputs
        The pictures, or the texts.
    top_k
        How many classes to show, the likeliest first.
    patches
        Show how the pictures are cut; at a terminal with the picture itself.
    batch_size
        Pictures or texts at once.
    processor
        The folder whose preprocessor_config.json says how pictures are resized and scaled, where it is not the model's.
    json
        Print one JSON object with all pictures, or all texts.
    """
    from glassformer.cli.patches import Grid
    from glassformer.errors import ConfigError
    from glassformer.kinds.image import chosen_processor

    if not inputs:
        raise ConfigError("Name at least one picture to classify, or give a text to a model that reads texts.")
    for name, value in {"--top-k": top_k, "--batch-size": batch_size}.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    loaded = load(model, "image-classifier", "encoder", opening=running)
    if loaded.kind == "encoder":
        for name, is_set in {"--patches": patches, "--processor": processor is not None}.items():
            if is_set:
                raise ConfigError(f"{name} is for pictures, and the model reads texts.")
        _classify_texts(loaded, inputs, top_k, batch_size, json=json)
        return
    with remarks():
        prepare = chosen_processor(loaded, processor)
    paths = [Path(each) for each in inputs]
    results, broken = [], 0
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("classifying", len(inputs))) if json else None
        for number, (path, guesses) in enumerate(_classify(loaded, prepare, paths, top_k, batch_size), 1):
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
                print_line(line_of(guess, loaded.config))
    if json:
        print_json({"pictures": results, "broken": broken})
    if broken:
        sys.exit(2)


def _classify_texts(loaded: "Model", texts: Sequence[str], top_k: int, batch_size: int, *, json: bool) -> None:
    from glassformer.kinds import encoder

    results = []
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        for text, guesses in zip(batch, encoder.classify(loaded, batch, top_k=top_k), strict=True):
            if json:
                results.append({"text": text, "classes": [asdict(guess) for guess in guesses]})
                continue
            print_line(text)
            for guess in guesses:
                print_line(line_of(guess, loaded.config))
    if json:
        print_json({"texts": results})


def line_of(guess: "Guess", config: Any) -> str:
    """How likely a class is, by its name; of a model of one class, whether it is that, which need not have a name."""
    label = guess.label
    if config.n_classes == 1:
        label = f"that it is {label}" if config.labels else ""
    return f"  {guess.probability:7.2%}  {label}".rstrip()


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

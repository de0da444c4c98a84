"""`glassformer gallery`: a static site of walks through models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.output import new_destination, print_json, print_line, progress_bar, remark

app = App(
    name="gallery",
    help_epilogue="Example:  glassformer gallery site nano-sort runs/sort",
)


@app.default
def gallery(
    out: Path,
    models: tuple[str, ...] = ("nano-sort",),
    /,
    *,
    steps: int = 5,
    overwrite: Flag = False,
    json: Flag = False,
) -> None:
    """Write a site of models that one walks through: an index with pictures, and a page for each, in two languages.

    It opens from the disk, and any web server serves it; the pages need no network.

    Parameters
    ----------
    out
        The folder of the site.
    models
        What `glassformer view` takes: checkpoint directories, published files, names on the Hub, nano-sort, presets
        (preset:NAME),
        shapes:NAME, and what `glassformer trace` has recorded.
    steps
        Let each model that writes go on by so many of its most likely tokens, which the page steps through.
    overwrite
        Replace a site that is already there.
    json
        Print the pages as one JSON object.
    """
    from glassformer.cli.view import session_of
    from glassformer.errors import ConfigError
    from glassformer.kinds import kind_of
    from glassformer.viewer.gallery import write_gallery

    if steps < 0:
        raise ConfigError(f"--steps must be at least 0, not {steps}.")
    new_destination(out, overwrite=overwrite, folder=True, reads=models)

    def sessions() -> Iterator[Any]:
        for model in models:
            session = session_of(model, None, None, seed=0, steps=0)
            if session.model is not None and kind_of(session.model).writes:
                go_on(session, steps)
            yield session

    with progress_bar("gallery", len(models)) as report:
        done: list[str] = []

        def on_page(page: str) -> None:
            done.append(page)
            report(len(done), len(models), page)

        pages = write_gallery(sessions(), out, overwrite=overwrite, on_page=on_page)
    if json:
        print_json({"path": str(out), "pages": pages})
        return
    size = sum(file.stat().st_size for file in out.iterdir())
    print_line(f"{out}: {len(pages)} {'page' if len(pages) == 1 else 'pages'}, {size / 1e6:.2f} MB")
    remark(f"Open {out / 'index.html'} in a browser.")


def go_on(session: Any, steps: int) -> None:
    """Let the session's run go on by so many of its most likely tokens, as far as its context goes."""
    from glassformer.inference.logits import Sampling

    run = session.runs[0]
    room = session.model.config.context_length - len(run.steps[-1].inputs.tokens)
    for _ in range(min(steps, room)):
        session.next(run.id, Sampling(temperature=0.0))

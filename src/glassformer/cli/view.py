"""`glassformer view`: walk through a model in the browser, or keep that walk in a file."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect, unless
from glassformer.cli.loading import OPENING, ContextLength, Opening, opened
from glassformer.cli.output import new_destination, print_json, print_line, print_table, progress_bar, remark

app = App(
    name="view",
    help_epilogue="Example:  glassformer view nano-sort --input CBABBC",
)


@app.default
def view(
    model: str,
    /,
    *,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    tokens: str | None = None,
    export: Path | None = None,
    overwrite: Flag = False,
    steps: int = 0,
    check: Flag = False,
    seed: int = 0,
    host: str = "127.0.0.1",
    port: int = 0,
    allow_host: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    open: bool | None = None,
    context_length: ContextLength = None,
    opening: Opening = OPENING,
    json: Flag = False,
) -> None:
    """Walk through a model in 3D, in the browser: every number that it computed, and where it came from.

    The numbers are computed on the CPU, in float32.

    Parameters
    ----------
    model
        A checkpoint directory, a published file, a name on the Hub (org/name), nano-sort, preset:NAME (random weights),
        shapes:NAME (how large a preset or gpt3 is, with no numbers), or what `glassformer trace` has recorded.
    input
        What the model reads first: a text, of which - reads it from standard input, or the file of a picture or of a
        recording, where the model sees or hears.
    tokens
        The ids of a text instead, with commas between.
    export
        Write the page with its numbers to one file (.html), which opens from the disk, or to a folder for a web server.
    overwrite
        Replace an export that is already there.
    steps
        Let the model continue by so many of its most likely tokens first.
    check
        Check that all chapters fit this model: all that they point at is there, in both languages.
    seed
        Of the random weights of preset:NAME.
    host
        The address to listen on; others than this machine's own are reached by whoever has the key.
    port
        0 takes a free one.
    allow_host
        A name besides localhost that the server may be called by; can be given several times.
    open
        Open the browser; by default at a terminal.
    json
        Print the report of --check, or where the page is, as JSON.
    """
    from glassformer.errors import ConfigError
    from glassformer.viewer.export import export as write
    from glassformer.viewer.export import is_file

    if not 0 <= port < 2**16:
        raise ConfigError(f"--port must be from 0 to 65,535, not {port}; 0 takes a free one.")
    if check and export is not None:
        raise ConfigError("--check looks at the chapters, --export writes the page: give one of them.")
    if steps < 0:
        raise ConfigError(f"--steps must be at least 0, not {steps}.")
    if check or export is not None:
        page = {"host": unless(host, "127.0.0.1"), "port": port, "allow_host": allow_host, "open": open}
        no_effect(f"with --{'check' if check else 'export'}, which serves no page", **page)
    if not model.startswith("preset:"):
        no_effect("on a model that has its weights", seed=seed)
    if export is None:
        no_effect("without --export", overwrite=overwrite)
    else:
        read = [path for path in (model, input) if path is not None]
        new_destination(export, overwrite=overwrite, folder=not is_file(export), reads=read)
    session = session_of(model, input, tokens, seed=seed, steps=steps, opening=opening, context_length=context_length)
    if check:
        from glassformer.viewer.chapters import check_chapters, load_chapters

        step = session.step(0, 0)
        numbers = step.trace if any(block.tensor >= 0 for block in step.scene.blocks) else None  # shapes have none
        reports = check_chapters(step.scene, load_chapters(), numbers)
        show(reports, json=json)
        sys.exit(0 if all(report.passed for report in reports) else 1)
    if export is not None:
        path = write(session, export, overwrite=overwrite)
        size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
        if json:
            print_json({"path": str(path), "bytes": size})
        else:
            print_line(f"{path}: {size / 1e6:.2f} MB, {sum(len(run.steps) for run in session.runs)} recorded steps")
            remark("Open it in a browser." if path.is_file() else f"Serve it:  python -m http.server -d {path}")
        return
    opens = sys.stderr.isatty() if open is None else open
    serve(session, host=host, port=port, hosts=allow_host, open=opens, json=json)


def session_of(
    model: str,
    text: str | None,
    tokens: str | None,
    *,
    seed: int,
    steps: int,
    opening: Opening = OPENING,
    context_length: int | None = None,
) -> Any:
    """The session of what the command line names, with its first run."""
    from glassformer import api
    from glassformer.cli.trace import inputs_of, is_trace
    from glassformer.errors import ConfigError
    from glassformer.inference.logits import Sampling
    from glassformer.kinds import kind_of
    from glassformer.viewer.session import Session

    if is_trace(model) or model.startswith("shapes:"):
        if text is not None or tokens is not None or steps or context_length is not None:
            raise ConfigError(f"{model} is not run: leave out --input, --tokens, --steps and --context-length.")
        if not is_trace(model):
            return Session.of_shapes(model.removeprefix("shapes:"))
        return Session.of_trace(api.load_trace(model), name=Path(model).name)
    preset = model.removeprefix("preset:")
    length: dict[str, Any] = {} if context_length is None else {"context_length": context_length}
    loaded = opened(model, opening, **length) if preset == model else api.build(preset, seed=seed, **length)
    with progress_bar("recording", None):
        session = Session(loaded, name=Path(preset).name)
        inputs = kind_of(loaded).example(loaded) if text is None and tokens is None else inputs_of(loaded, text, tokens)
        run = session.start(inputs)
        for _ in range(steps):
            session.next(run.id, Sampling(temperature=0.0))
    for note in filter(None, (loaded.note, inputs.note)):
        remark(f"{model}: {note}.")
    return session


def serve(session: Any, *, host: str, port: int, hosts: tuple[str, ...], open: bool, json: bool = False) -> None:
    """Show a session until Ctrl-C."""
    from glassformer.viewer.serve import LOOPBACK, listen, open_browser
    from glassformer.viewer.serve import serve as run

    def ready(address: str) -> None:
        print_json({"url": address}) if json else print_line(address)
        sys.stdout.flush()
        if host not in LOOPBACK:
            remark("Whoever gets this address can use the model from the network; what is sent is not encrypted.")
        remark("Ctrl-C ends it.")
        if open:
            open_browser(address)

    with listen(host, port) as listening:
        run(session, listening, hosts=hosts, on_ready=ready)


def show(reports: Any, *, json: bool) -> None:
    """What the check of each chapter came to."""
    if json:
        print_json([asdict(report) for report in reports])
        return
    figures = ("steps", "selectors", "problems")
    print_table(
        ("chapter", *figures),
        [
            (report.chapter, f"{report.steps}", f"{report.selectors}", f"{len(report.problems)}")
            if report.applies
            else (report.chapter, f"does not apply: no {report.missing[0]}", "", "")
            for report in reports
        ],
        right=figures,
    )
    for report in reports:
        for problem in report.problems:
            print_line(f"{report.chapter}: {problem}")
    n_problems = sum(len(report.problems) for report in reports)
    n_shown = sum(report.applies for report in reports)
    print_line(f"{n_shown} of {len(reports)} chapters fit this model, {n_problems} problems")

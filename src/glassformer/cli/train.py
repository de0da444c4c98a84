"""`glassformer train`: run a configuration, with any of its settings as a flag, or go on with a run."""

import dataclasses
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect, unless
from glassformer.cli.output import print_json, print_table, remark

if TYPE_CHECKING:
    from glassformer.training.config import RunConfig
    from glassformer.training.events import Ended, OnEvent
    from glassformer.viewer.session import Session

app = App(
    name="train",
    usage="Usage: glassformer train CONFIG [OPTIONS] [SETTINGS]",
    help_epilogue="Example:  glassformer train sort --name sort-quickly --steps 200 --overwrite",
)


@app.default
def train(
    *config: Annotated[str, Parameter(allow_leading_hyphen=True)],
    resume: Path | None = None,
    runs: Path = Path("runs"),
    overwrite: Flag = False,
    settings: Flag = False,
    view: Flag = False,
    json: Flag = False,
) -> None:
    """Train a model from a configuration, or go on with a run.

    Parameters
    ----------
    config
        A TOML or JSON file of settings, a configuration that comes with the package, by its name, or a preset's name;
        after it, settings by their paths. Without it, --model.from MODEL goes on from a checkpoint's weights.
    resume
        Go on with the run in this folder, from its newest checkpoint.
    runs
        The folder of runs; this one gets a folder in it by its name.
    overwrite
        Remove the run that is there under the same name.
    settings
        List all settings, with what the configuration sets and the defaults, and end.
    view
        Open a page that shows the model while it learns: the loss, the weights and their gradients.
    json
        Print one JSON object at the end, instead of a table.
    """
    from glassformer.config import nest
    from glassformer.errors import ConfigError
    from glassformer.training.load_config import load_run_config
    from glassformer.training.loop import train as run
    from glassformer.training.report import all_of, reports
    from glassformer.training.run_folder import SETTINGS

    named, flags = parse(config)
    overrides = nest(flags)
    if settings and not named and not flags and resume is None:
        list_settings(setting_defaults(), json=json)
        return
    begins = bool(overrides.get("model", {}).keys() & {"from", "preset", "architecture"})
    if len(named) + (resume is not None) != 1 and not (begins and not named and resume is None):
        raise ConfigError(
            "Name one configuration or preset, or a run with --resume, and not both; a checkpoint is named with "
            "--model.from."
        )
    if resume is not None and overwrite:
        raise ConfigError("--resume goes on with a run, and --overwrite removes it: give one of them.")
    if resume is not None:
        no_effect("with --resume, which names the run's folder", runs=unless(runs, Path("runs")))
    if settings:
        no_effect("with --settings, which trains nothing", overwrite=overwrite, view=view)
    if resume is not None and "data" in overrides:
        raise ConfigError("A resumed run goes on with the text that it began with: leave out --data.")
    if resume is not None and not (resume / SETTINGS).is_file():
        raise ConfigError(f"There is no run in {resume}: --resume takes the folder of one, such as runs/sort.")
    source = resume / SETTINGS if resume is not None else named[0] if named else None
    chosen = load_run_config(source, overrides)
    if settings:
        list_settings(values_of(chosen), json=json)
        return
    folder = resume if resume is not None else runs / chosen.name
    page = watching(chosen.name) if view else nullcontext()
    with reports(folder, quiet=json) as report, page as watch:
        on_event = report if watch is None else all_of(watch, report)
        ended = run(chosen, folder, resume=resume is not None, overwrite=overwrite, on_event=on_event)
    if json:
        print_json({"folder": str(folder), "step": ended.step, "figures": dict(ended.figures)})
    exit_if_interrupted(ended)


def exit_if_interrupted(ended: "Ended") -> None:
    """End as shells say of a program that a signal has ended."""
    if ended.interrupted_by == signal.SIGPIPE:  # what waits in stderr has no reader, and the interpreter would try
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    if ended.interrupted_by is not None:
        sys.exit(128 + ended.interrupted_by)


@contextmanager
def watching(name: str) -> "Iterator[OnEvent]":
    """A listener with a page of its own; at a terminal the page stays after the run, until Ctrl-C."""
    from glassformer.viewer.serve import listen, open_browser, served
    from glassformer.viewer.watch import Watch

    with ExitStack() as stack:

        def begin(session: "Session") -> None:
            address = stack.enter_context(served(session, stack.enter_context(listen("127.0.0.1", 0))))
            remark(f"Watch it learn:  {address}")
            if sys.stderr.isatty():
                open_browser(address)

        watch = Watch(name=name, on_first=begin)
        yield watch
        if watch.ended and watch.ended.finished and watch.session.runs and sys.stderr.isatty():
            remark("The page stays until Ctrl-C.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()


def parse(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The configurations named, and the settings that flags give by dotted name, read against the fields there are."""
    settings: dict[str, str] = {}
    named: tuple[str, ...] = ()

    def collect(*names: str, **values: str | None) -> None:
        nonlocal named
        named = names
        settings.update({name.replace("__", "."): value for name, value in values.items() if value is not None})

    parameters = [inspect.Parameter("names", inspect.Parameter.VAR_POSITIONAL, annotation=str)]
    parameters += [
        inspect.Parameter(
            name.replace(".", "__"),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, Parameter(name=spellings(name), allow_leading_hyphen=True)],
        )
        for name in setting_defaults()
    ]
    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    reader = App(print_error=False, exit_on_error=False, help_flags=[], version_flags=[])
    reader.default(collect)
    reader(tokens, result_action="return_none")
    return named, settings


def spellings(name: str) -> tuple[str, ...]:
    """A flag with hyphens, and with underscores."""
    return tuple(dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}")))


def setting_defaults() -> dict[str, Any]:
    """Every setting by its dotted name, with its default; of a model, those of all architectures."""
    from glassformer.models import specs
    from glassformer.training.config import RunConfig
    from glassformer.training.tasks import TASKS

    defaults: dict[str, Any] = {f"model.{name}": "" for name in ("preset", "architecture", "from", "embedding_init")}
    collect_defaults(RunConfig, "", defaults)
    for task in TASKS.values():
        for name, default in collect_defaults(task.data_config, "data.", {}).items():
            defaults.setdefault(name, default)
    for spec in specs().values():
        for name, default in collect_defaults(spec.config, "model.", {}).items():
            defaults.setdefault(name, default)
    return defaults


def collect_defaults(cls: Any, prefix: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass and of the dataclasses in it."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        inner = [option for option in (hint, *get_args(hint)) if dataclasses.is_dataclass(option)]
        if inner:
            collect_defaults(inner[0], f"{prefix}{field.name}.", defaults)
        elif field.name not in ("model", "data"):  # whose settings are those of the architectures and tasks
            defaults[f"{prefix}{field.name}"] = field.default
    return defaults


def values_of(config: "RunConfig") -> dict[str, Any]:
    """Every setting of a run by its dotted name; of a model, those of its architecture."""
    from glassformer.config import to_mapping

    return flat({**to_mapping(config), "model": {**config.model, **to_mapping(config.model_config())}}, "")


def flat(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested tables as one, by dotted names."""
    settings: dict[str, Any] = {}
    for name, value in table.items():
        settings |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return settings


def list_settings(values: Mapping[str, Any], *, json: bool) -> None:
    """Print the table of settings, with the defaults of those that have another value."""
    if json:
        print_json(dict(values))
        return
    defaults = setting_defaults()
    rows = [
        (f"--{name.replace('_', '-')}", repr(value), "" if defaults.get(name, value) == value else repr(defaults[name]))
        for name, value in values.items()
    ]
    print_table(("setting", "value", "default, where it is another"), rows)

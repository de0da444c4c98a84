"""From what a file, flags and a checkpoint say to the settings of a run: the one place that looks things up for them.

    load_run_config("configs/shakespeare-char.toml", {"steps": 500})
    load_run_config("nano-sort")                      a preset: its model, and defaults for the rest
    load_run_config("shakespeare-char")               a configuration that comes with the package
    load_run_config(None, {"model": {"from": "gpt2"}})  a checkpoint's model, and defaults for the rest

What comes out is resolved: `model` has the configuration of the checkpoint that it is `from`, `task` is a name in
`TASKS`, `data` the record of that task. Next to read: `config.py` for what the settings are.
"""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from glassformer import config, hub, models
from glassformer.checkpoints import huggingface
from glassformer.errors import ConfigError
from glassformer.models.spec import IN_WORDS, ModelConfig
from glassformer.training.config import DataConfig, RunConfig, model_config
from glassformer.training.tasks import TASKS

logger = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[1] / "configs"  # the folder of this name at the root of the repository


def load_run_config(source: str | Path | None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of `read_settings`, with `overrides` on top, table by table, and defaults for the rest."""
    overrides = overrides or {}
    if source is not None:
        settings = read_settings(source)
    else:
        pretrained = str(overrides.get("model", {}).get("from", ""))
        settings = {"name": f"{Path(pretrained).resolve().name.partition('@')[0]}-tuned"} if pretrained else {}
    return resolve(config.merge(settings, overrides))


def read_settings(source: str | Path) -> dict[str, Any]:
    """What a TOML or JSON file sets, a preset, or a configuration of the package (`sort` or `configs/sort.toml`)."""
    path = Path(source)
    if path.is_file() or (path.suffix in (".toml", ".json") and not (CONFIGS / path.name).is_file()):
        return {"name": path.stem, **config.read_mapping(path)}
    if str(source) in models.presets():
        task = {"task": "sort"} if str(source) == "nano-sort" else {}
        return {"name": str(source), "model": {"preset": str(source)}, **task}
    packaged = CONFIGS / f"{path.stem}.toml"
    if str(source) in (packaged.stem, f"configs/{packaged.name}") and packaged.is_file():
        return {"name": packaged.stem, **config.read_mapping(packaged)}
    if path.is_dir():
        raise ConfigError(
            f"{source} is a folder: --resume {source} goes on with a run, --model.from {source} begins a new one with "
            f"its weights."
        )
    names = sorted(file.stem for file in CONFIGS.glob("*.toml"))
    near = difflib.get_close_matches(str(source), [*models.presets(), *names], n=1)
    hint = f"Did you mean {near[0]}?" if near else f"The presets are {', '.join(models.presets())}."
    raise ConfigError(
        f"{source} is no file of settings (.toml, .json), no configuration of the package ({', '.join(names)}) and no "
        f"preset. {hint}"
    )


def resolve(settings: Mapping[str, Any]) -> RunConfig:
    """The record of a run whose settings may leave its task, its data's record and its checkpoint to be looked up."""
    tables = {name: settings.get(name, {}) for name in ("model", "data")}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {table!r}.")
    model = with_pretrained(tables["model"])
    resolved = model_config(model)
    task = task_of(settings.get("task", "auto"), resolved)
    values = config.to_mapping(resolved)  # flags come as text, and only the model's own fields say what they mean
    return config.from_mapping(
        RunConfig,
        {
            **settings,
            "task": task,
            "model": {name: values.get(name, str(value)) for name, value in model.items()},
            "data": data_of(task, tables["data"], pretrained=str(model.get("from", ""))),
        },
    )


def with_pretrained(model: Mapping[str, Any]) -> dict[str, Any]:
    """`model` with the configuration of the checkpoint that the run begins with, unless it has it already."""
    pretrained = model.get("from")
    if not pretrained or not isinstance(pretrained, str) or "architecture" in model:
        return dict(model)
    folder, name = Path(pretrained), hub.parse(pretrained)
    if name is not None and not name.file and not folder.exists():
        fetched = hub.fetch(name)
        folder, model = fetched.path, {**model, "from": str(fetched.path)}
        logger.warning("The run begins with %s.", fetched.origin)
    if not folder.is_dir():
        raise ConfigError(f"model.from names the folder of a checkpoint or of a run, and there is no {folder}.")
    checkpoint_config = huggingface.check_directory(folder)
    architecture = models.spec_of(checkpoint_config).name
    return {"architecture": architecture, **config.to_mapping(checkpoint_config), **model}


def task_of(task: Any, model: ModelConfig) -> str:
    """The task's name; of "auto", that of the first task that trains the model's kind."""
    kind = models.spec_of(model).kind
    if task not in ("auto", *TASKS):
        raise ConfigError(f"task must be one of auto, {', '.join(TASKS)}, not {task!r}.")
    fitting = [name for name, each in TASKS.items() if each.kind == kind]
    if task == "auto":
        if not fitting:
            raise ConfigError(f"No task trains {IN_WORDS[kind]}: the tasks are {', '.join(TASKS)}.")
        return fitting[0]
    if task not in fitting:
        raise ConfigError(f"task = {str(task)!r} trains {IN_WORDS[TASKS[task].kind]}, and this is {IN_WORDS[kind]}.")
    return str(task)


def data_of(task: str, table: Mapping[str, Any], *, pretrained: str) -> DataConfig:
    """The record of the task's data. A setting of another task's is refused, unless it says what it says anyway.

    Runs of earlier versions saved the settings of all tasks. The tokenizer is the checkpoint's where none is named.
    """
    own = {}
    for name, value in table.items():
        owners = [other for other, each in TASKS.items() if name in data_fields(each.data_config)]
        if owners and name not in data_fields(TASKS[task].data_config):
            record = TASKS[owners[0]].data_config
            if getattr(config.from_mapping(record, {name: value}, "data."), name) != data_fields(record)[name]:
                raise ConfigError(f"data.{name} is a setting of {', '.join(owners)}, and this run's task is {task}.")
        else:
            own[name] = value
    if pretrained and "tokenizer" in data_fields(TASKS[task].data_config) and own.get("tokenizer", "auto") == "auto":
        own["tokenizer"] = pretrained
    data: DataConfig = config.from_mapping(TASKS[task].data_config, own, "data.")
    return data


def data_fields(record: type[Any]) -> dict[str, Any]:
    """The defaults of a record by name."""
    return {field.name: field.default for field in fields(record)}

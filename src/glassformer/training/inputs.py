"""The files that a run is to read: whether they are there."""

from pathlib import Path

from glassformer.data.download import CORPORA
from glassformer.errors import DataError
from glassformer.models.spec import IN_WORDS
from glassformer.training.config import TASK_KINDS, RunConfig


def check_files(config: RunConfig, run: Path) -> None:
    """Raise unless all files that the settings name are there, and outside the run's own folder."""
    if config.task == "sort" and config.data.path:
        raise DataError("The sorting task makes its own data: leave out data.path, or train another preset on it.")
    if config.task != "sort" and not config.data.path:
        what = IN_WORDS[TASK_KINDS[config.task]]
        raise DataError(f"{what[0].upper()}{what[1:]} needs something to learn from: set data.path (--data.path FILE).")
    of_model = {
        f"model.{name}": [Path(config.model[name])] for name in ("from", "embedding_init") if name in config.model
    }
    for name, paths in (({} if config.task == "sort" else config.data.files()) | of_model).items():
        for path in paths:
            if not path.exists():
                known = [
                    corpus.name for corpus in CORPORA.values() if path.name in [file.name for file in corpus.files]
                ]
                hint = f" Fetch it:  glassformer data get {known[0]} --out {path.parent}" if known else ""
                raise DataError(f"There is no file {path}, which the settings name under {name}.{hint}")
            if path.resolve().is_relative_to(run.resolve()):
                raise DataError(f"{path} is in the folder that the run itself gets, {run}: move it elsewhere first.")

"""The files that a run is to read: whether they are there."""

from pathlib import Path

from glassformer.data.download import CORPORA
from glassformer.errors import DataError
from glassformer.models.spec import IN_WORDS
from glassformer.training.config import FILES, DataConfig, RunConfig, bpe_size, paths_of
from glassformer.training.tasks import TASKS


def check_files(config: RunConfig, run: Path) -> None:
    """Raise unless all files that the settings name are there, and outside the run's own folder."""
    if config.task != "sort" and not config.data.path:
        what = IN_WORDS[TASKS[config.task].kind]
        raise DataError(f"{what[0].upper()}{what[1:]} needs something to learn from: set data.path (--data.path FILE).")
    of_model = {
        f"model.{name}": [Path(config.model[name])] for name in ("from", "embedding_init") if name in config.model
    }
    for name, paths in (files_of(config.data) | of_model).items():
        for path in paths:
            if not path.exists():
                corpora = [
                    corpus.name for corpus in CORPORA.values() if path.name in [file.name for file in corpus.files]
                ]
                hint = f" Fetch it:  glassformer data get {corpora[0]} --out {path.parent}" if corpora else ""
                raise DataError(f"There is no file {path}, which the settings name under {name}.{hint}")
            if path.resolve().is_relative_to(run.resolve()):
                raise DataError(f"{path} is in the folder that the run itself gets, {run}: move it elsewhere first.")


def files_of(data: DataConfig) -> dict[str, list[Path]]:
    """The files and folders that the settings of the data name, by setting."""
    named = {name: getattr(data, name, "") for name in FILES}
    files = {f"data.{name}": paths_of(value) for name, value in named.items() if value}
    tokenizer = getattr(data, "tokenizer", "auto")
    if tokenizer not in ("auto", "char") and not bpe_size("data.tokenizer", tokenizer):
        files["data.tokenizer"] = [Path(tokenizer)]
    return files

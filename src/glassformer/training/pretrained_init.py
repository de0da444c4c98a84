"""The weights that a run begins with where they are not random: `[model]`'s from and embedding_init.

from = "whisper-tiny.en"          a folder with a checkpoint or a run: all weights, its configuration and tokenizer
embedding_init = "vectors.txt"    word vectors, in the rows of the token embedding whose words they are
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassformer import checkpoints, files
from glassformer.checkpoints import word_vectors
from glassformer.checkpoints.build import check_finite
from glassformer.config import to_mapping
from glassformer.errors import CheckpointMismatch, ConfigError
from glassformer.training.config import RunConfig
from glassformer.training.tasks.task import Say, Task


def load_pretrained(module: nn.Module, config: RunConfig, task: Task, say: Say) -> None:
    """Overwrite random weights with those that the settings name, if any."""
    if config.model.get("from"):
        take_weights(module, Path(config.model["from"]), task, say)
    if config.model.get("embedding_init"):
        take_vectors(module, Path(config.model["embedding_init"]), task, say)


@torch.no_grad()
def take_weights(module: nn.Module, folder: Path, task: Task, say: Say) -> None:
    """Those of a checkpoint, one at a time. What the data wants of another size, such as the classes, starts anew.

    What the checkpoint has beside them, such as its licence, goes along with what is learned from it.
    """
    checkpoint, weights = checkpoints.read(folder)
    if checkpoint.is_quantized:
        raise ConfigError(f"{folder}, which model.from names, is quantized, and training needs floating point numbers.")
    pretrained, wanted = to_mapping(checkpoint.config), to_mapping(module.config)
    for name, value in wanted.items():
        if pretrained.get(name, value) != value and name not in (*task.settings, "dropout"):
            raise CheckpointMismatch(
                f"{folder}, which model.from names, has {name} = {pretrained[name]!r}, and the settings {value!r}: "
                f"leave out model.{name}."
            )
    for name, parameter in module.named_parameters():
        weight = weights.get(name)
        if weight is not None and weight.shape == parameter.shape:
            with files.errors_about(folder):
                check_finite(name, weight)
            parameter.copy_(weight)
        else:
            say(f"{name} of {tuple(parameter.shape)} starts anew: the data asks for another size than {folder} has.")
    tokenizer = task.extras.get("tokenizer")
    if tokenizer and checkpoint.tokenizer and tokenizer.vocab != checkpoint.tokenizer.vocab:
        say(f"The tokens are others than those that {folder} was trained with: leave out data.tokenizer to keep them.")
    rest = checkpoint.rest.after_training()
    for note in rest.left_out:
        say(f"The model leaves out {note}")
    task.extras = {**task.extras, "rest": rest}


@torch.no_grad()
def take_vectors(module: nn.Module, path: Path, task: Task, say: Say) -> None:
    """Word vectors for the tokens that are whole words; the other rows stay random."""
    tokenizer = task.extras.get("tokenizer")
    tables: list[Any] = [
        weight for name, weight in module.named_parameters() if name.endswith("token_embedding.weight")
    ]
    if tokenizer is None or not tables:
        raise ConfigError("model.embedding_init is for models of tokens, and this one has no token embedding.")
    vectors = word_vectors.read(path)
    if vectors.note:
        say(f"{path}: {vectors.note}.")
    rows, has_vector = word_vectors.embedding_rows(vectors, tokenizer)
    table = tables[0]
    if rows.shape[1] != table.shape[1]:
        raise CheckpointMismatch(
            f"The vectors of {path} have {rows.shape[1]} numbers, and the model's {table.shape[1]}: make d_model equal."
        )
    if not has_vector.any():
        raise CheckpointMismatch(f"{path} has a vector for none of the tokens: the vocabulary must be of words.")
    table[: len(rows)][has_vector] = rows[has_vector].to(table)
    say(f"{int(has_vector.sum()):,} of {len(rows):,} tokens start with their vectors in {path}.")

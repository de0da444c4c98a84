"""Small runs for the tests: settings, and what a run has left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from glassformer.checkpoints import safetensors, training_state
from glassformer.config import merge
from glassformer.training.config import RunConfig
from glassformer.training.load_config import resolve
from glassformer.training.tasks import TASKS
from glassformer.training.trainer import Trainer, build_module

TEXT = "the quick brown fox jumps over the lazy dog. " * 40

SMALL: dict[str, Any] = {
    "model": {
        "architecture": "gpt2",
        "context_length": 8,
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "dropout": 0.2,
    },
    "batch_size": 3,
    "accumulation": 3,
    "steps": 12,
    "eval_interval": 5,
    "save_interval": 4,
    "optimizer": {"lr": 0.01},
    "schedule": {"warmup_steps": 3},
    "seed": 5,
}


def small(folder: Path, **changes: Any) -> RunConfig:
    """A language model on a text in this folder, or, with task="sort", the sorting task."""
    (folder / "text.txt").write_text(TEXT)
    return resolve(merge(merge(SMALL, {"data": {"path": str(folder / "text.txt")}}), changes))


def sorting(**changes: Any) -> RunConfig:
    """A sorting run of a few steps."""
    model = {"preset": "nano-sort", "n_layers": 1, "d_model": 12, "dropout": 0.1}
    return resolve(merge(SMALL, {"task": "sort", **changes}) | {"model": model})


def newest_checkpoint(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def everything(run: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bytes of weights and optimizer in the newest checkpoint, by name, and its values."""
    folder = newest_checkpoint(run)
    tensors, values = training_state.read_state(folder)
    tensors |= safetensors.read(folder / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, values


def of_task(task: str, folder: Path, **changes: Any) -> RunConfig:
    """A run of each task on a little data of different lengths, without dropout."""
    model, data = OF_TASK[task](folder)
    settings = {"task": task, "model": model, "data": data, "batch_size": 6, "steps": 4, "eval_interval": 0}
    return resolve(merge(settings, changes))


def trainer_of(config: RunConfig, folder: Path) -> Trainer:
    """A model on the CPU before its first step; what its task prepares is in a folder."""
    task = TASKS[config.task](config, folder / "tokens", lambda text: None)
    return Trainer(config, task, build_module(config, task, torch.device("cpu")))


def _text(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (folder / "text.txt").write_text(TEXT)
    return {**SMALL["model"], "dropout": 0.0}, {"path": str(folder / "text.txt")}


def _words(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    _, data = _text(folder)
    return {"architecture": "word2vec", "d_model": 8, "window": 2}, {**data, "subsample": 0.0}


def _pairs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    lines = (f"{'a ' * (n % 7 + 1)}.\t{'b ' * (n * n % 19 + 1)}.\n" for n in range(60))
    (folder / "pairs.tsv").write_text("".join(lines))
    sizes = {"context_length": 64, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2, "d_ff": 16}
    model = {"architecture": "transformer", "d_model": 8, "dropout": 0.0, **sizes}
    return model, {"path": str(folder / "pairs.tsv"), "tokenizer": "bpe:300"}


def _images(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(0)
    arrays = {"x_train": random.integers(256, size=(40, 8, 8), dtype=np.uint8), "y_train": np.arange(40) % 4}
    np.savez(folder / "images.npz", **arrays)  # type: ignore[arg-type]
    model = {"architecture": "vit", "patch_size": [4, 4], "d_model": 8, "n_layers": 1, "n_heads": 2, "dropout": 0.0}
    return model, {"path": str(folder / "images.npz")}


def _recordings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    random, lines = np.random.default_rng(0), []
    for n in range(18):
        soundfile.write(folder / f"{n}.wav", random.normal(size=1600 * (n % 5 + 1)).astype(np.float32) / 10, 16_000)
        lines.append(f"{n}.wav\t{'la ' * (n % 6 + 1)}\n")
    (folder / "recordings.tsv").write_text("".join(lines))
    lengths = {"context_length": 32, "audio_context_length": 25, "n_mels": 8}
    sizes = {"d_model": 8, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2}
    data = {"path": str(folder / "recordings.tsv"), "tokenizer": "bpe:260", "validation_fraction": 0.0}
    return {"architecture": "whisper", **lengths, **sizes}, data


OF_TASK: dict[str, Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]] = {
    "language-model": _text,
    "sort": lambda folder: ({"preset": "nano-sort", "n_layers": 1, "d_model": 12, "dropout": 0.0}, {}),
    "translation": _pairs,
    "image-classification": _images,
    "speech-recognition": _recordings,
    "word-vectors": _words,
}

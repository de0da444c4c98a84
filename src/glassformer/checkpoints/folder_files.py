"""The files of a Hugging Face folder, parsed at the door: who needs a setting asks this record, not the disk.

What is in which file is said in `huggingface.py`.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from glassformer import files, strict_json
from glassformer.checkpoints import pickles, safetensors
from glassformer.errors import CheckpointCorrupt, CheckpointError

CONFIG, OURS, WEIGHTS = "config.json", "glassformer.json", "model.safetensors"
GENERATION, PROCESSOR = "generation_config.json", "preprocessor_config.json"
ADAPTER = "adapter_config.json"  # of peft's, such as LoRA
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INDEX = f"{WEIGHTS}.index.json"
PICKLED = "pytorch_model.bin"  # of folders before 2023; read where the user allows it, never written
PICKLED_INDEX = f"{PICKLED}.index.json"
NATIVE = "glassformer"  # the model type of what only we read
MAX_BYTES = 4 << 20  # of a file of settings


def check_size(name: str, size: int, max_bytes: int) -> None:
    """Raise for a file with more bytes than are read of one."""
    if size > max_bytes:
        raise CheckpointCorrupt(f"{name} has {size:,} bytes; at most {max_bytes:,} are read here.")


class FolderFiles:
    """A folder, and what has been read of it: every file of settings is opened once, and so is a header of weights.

    Messages begin with a file's name; who opens the folder says which one it is (`files.errors_about`).
    """

    def __init__(self, path: Path, *, from_pickle: bool = False) -> None:
        self.path, self.from_pickle = path, from_pickle
        self._contents: dict[str, bytes] = {}
        self._settings: dict[str, dict[str, Any]] = {}

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).exists()

    def content(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """The bytes of a file; raises `CheckpointError` for one that is too large, or lies outside of the folder."""
        if name not in self._contents:
            path = files.file_in(self.path, name)
            check_size(name, path.stat().st_size, max_bytes)
            self._contents[name] = path.read_bytes()
        return self._contents[name]

    def settings(self, name: str) -> Mapping[str, Any]:
        """The object in a file of settings, empty where there is no such file."""
        if not self.has(name):
            return {}
        if name not in self._settings:
            self._settings[name] = strict_json.parse(self.content(name), name)
        return self._settings[name]

    @property
    def is_native(self) -> bool:
        """Whether the tensors are as they are here, since nobody else was to read them."""
        return self.settings(CONFIG).get("model_type") == NATIVE

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors, mapped from the file or from all its shards; from pickles where that is allowed."""
        if self.has(WEIGHTS):
            return safetensors.read(files.file_in(self.path, WEIGHTS))
        if self.has(INDEX):
            return self._sharded(INDEX, safetensors.read)
        pickled = [name for name in (PICKLED, PICKLED_INDEX) if self.has(name)]
        if pickled and not self.from_pickle:
            raise self.only_pickled()
        if PICKLED in pickled:
            return pickles.load_state(files.file_in(self.path, PICKLED))
        if pickled:
            return self._sharded(PICKLED_INDEX, pickles.load_state)
        if any(map(self.has, (ADAPTER, *ADAPTER_WEIGHTS))):
            raise self.only_adapter()
        raise CheckpointError(f"There is neither {WEIGHTS} nor {INDEX}.")

    @staticmethod
    def only_pickled() -> CheckpointError:
        """What is said where the weights are pickled, and that is not allowed."""
        return CheckpointError(
            f"its weights are there as {PICKLED} alone, a pickle, which can run code when it is opened.",
            python="from_pickle=True reads its tensors and nothing else.",
            command="--from-pickle reads its tensors and nothing else.",
        )

    def only_adapter(self) -> CheckpointError:
        """What is said where there are no weights but what changes those of another model."""
        base = self.settings(ADAPTER).get("base_model_name_or_path")
        of_base = f" of {base[:200]!r}" if isinstance(base, str) and base else ""
        return CheckpointError(
            f"this is an adapter{of_base}, not a model: merge it into its base first, by peft's merge_and_unload, and "
            "save what comes of it."
        )

    def shards(self, index: str) -> list[str]:
        """The files that an index names."""
        return sorted(set(self._weight_map(index).values()))

    def _weight_map(self, index: str) -> dict[str, str]:
        """The file of each tensor, as an index has it."""
        suffix = Path(index.removesuffix(".index.json")).suffix
        file_of = strict_json.parse(self.content(index, strict_json.MAX_BYTES), index).get("weight_map")
        if not isinstance(file_of, dict) or not all(
            isinstance(name, str) and name.endswith(suffix) for name in file_of.values()
        ):
            raise CheckpointCorrupt(f"{index}: weight_map must map each tensor to a {suffix} file.")
        return file_of

    def _sharded(self, index: str, read: Callable[[Path], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The tensors of all the files that an index names."""
        file_of = self._weight_map(index)
        shards: list[Mapping[str, Tensor]] = []
        for shard in self.shards(index):
            content = read(files.file_in(self.path, shard))
            listed = {tensor for tensor, name in file_of.items() if name == shard}
            if content.keys() != listed:
                tensor = min(content.keys() ^ listed)
                raise CheckpointCorrupt(f"{index} and {shard[:200]!r} disagree about the tensor {tensor[:200]!r}.")
            shards.append(content)
        return ChainMap(*cast("list[dict[str, Tensor]]", shards))  # which is only read

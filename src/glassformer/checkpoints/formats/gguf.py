"""GGUF, llama.cpp's files: a model with its tokenizer and chat template, quantized or not, in one file.

What the file says becomes what a folder of Hugging Face's would say, and is read by the tables of `models/published/`:
`gguf_families.py` has the names of settings and tensors, `gguf_tokenizer.py` those of the tokenizer, `gguf_file.py` the
container. Quantized weights are read as the float32 numbers that they stand for, or kept as they are.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints import ggml_blocks, gguf_card, gguf_families, gguf_tokenizer, names
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.gguf_families import GGUFFamily
from glassformer.checkpoints.gguf_file import MAGIC, GGUFFile
from glassformer.checkpoints.rest import CARD, Rest
from glassformer.checkpoints.tokenizer_files import Tokenizers
from glassformer.errors import CheckpointCorrupt, ConfigError, TokenizerError
from glassformer.models import spec_of, specs
from glassformer.models.published.tensors import Rename
from glassformer.nn.quantized import replaceable
from glassformer.nn.quantized_matrix import QuantizedRows, to_int8

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
EXPERT = "{e}"
OWN_CONTEXT = "glassformer.context_length"  # of a copy that reads less than its rotary scaling allows
COMPARED_BYTES = 1 << 20  # at once


def sniff(source: Source) -> bool:
    """Whether it begins as such files do."""
    return source.head.startswith(MAGIC)


def read(source: Source) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters, each dequantized when it is asked for."""
    file = GGUFFile(source.path)
    theirs = _settings(file)
    contents, held = _contents(file, theirs)
    return contents, names.OurTensors(FolderTensors(file, theirs), held)


def read_quantized(source: Source) -> tuple[Contents, Mapping[str, Tensor | QuantizedRows]]:
    """The same, with matrices in the blocks that they have in the file; of what cannot run so, Q8_0 is made."""
    file = GGUFFile(source.path)
    theirs = _settings(file)
    contents, held = _contents(file, theirs)
    tensors = names.OurTensors(FolderTensors(file, theirs), held)
    rows = names.OurTensors(FolderTensors(RowNumbers(file), theirs), held)
    weights = KeptWeights(file, tensors, rows, contents.config)
    return replace(contents, is_quantized=weights.has_blocks), weights


def _contents(file: GGUFFile, theirs: Mapping[str, Any]) -> tuple[Contents, dict[str, tuple[list[str], Rename]]]:
    """What is beside the weights, and for each of their tensors what it holds."""
    config = _with_own_context(configuration_of(theirs), file.metadata)
    tensors = FolderTensors(file, theirs)
    held = names.checked({name: tensors.outline(name) for name in tensors}, config)
    tokenizer, eos_ids, rest = _texts(file.metadata)
    if (card := gguf_card.card_of(file.metadata)) is not None:
        rest = replace(rest, contents={**rest.contents, CARD: card})
    contents = Contents(
        config=config,
        tokenizer=tokenizer.tokenizer,
        no_tokenizer=tokenizer.missing,
        eos_ids=eos_ids,
        rest=rest,
    )
    return contents, held


ANOTHER_TOKENIZER = (
    "The folder that the file was converted from opens with its own tokenizer, whose tokenizer.json can also be named "
    "here, as --tokenizer of convert or having(tokenizer=…)."
)

FORMAT = Format(name="GGUF", files=".gguf of llama.cpp", sniff=sniff, read=read, read_quantized=read_quantized)


class FolderTensors(Mapping[str, Tensor]):
    """The tensors of a GGUF file under the names, and in the layout, of Hugging Face's folders."""

    def __init__(self, file: "GGUFFile | RowNumbers", theirs: Mapping[str, Any]) -> None:
        self._file = file
        _, family = gguf_families.family_of(file.metadata)
        self._places: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {}
        self._experts: dict[str, int] = {}  # of a tensor with all, which one
        for name in file:
            if name not in gguf_families.ROPE_TENSORS and not (name == HEAD and theirs["tie_word_embeddings"]):
                self._add(name, family, theirs)

    def _add(self, name: str, family: GGUFFamily, theirs: Mapping[str, Any]) -> None:
        """A tensor of the file, or those that it has of all experts."""
        folder_name, change = family.folder_name(name), family.change(name, theirs)
        if EXPERT not in folder_name:
            self._place(folder_name, name, change)
            return
        shape, n = self._file.stored[name].shape, theirs.get("num_local_experts", theirs.get("num_experts"))
        if len(shape) != 3 or shape[0] != n:
            raise CheckpointCorrupt(f"{name} is {shape}, and should have a matrix for each of {n} experts.")
        for i in range(n):
            self._place(folder_name.replace(EXPERT, str(i)), name, change)
            self._experts[folder_name.replace(EXPERT, str(i))] = i

    def _place(self, folder_name: str, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Where a folder's tensor is in the file; an expert may be there by itself or among all."""
        if folder_name in self._places:
            raise CheckpointCorrupt(f"{name} has an expert that {self._places[folder_name][0]} has, too.")
        self._places[folder_name] = name, change

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of that name."""
        theirs, change = self._places[name]
        if name in self._experts:
            return change(self._file.part(theirs, self._experts[name]))
        return change(self._file[theirs])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def outline(self, name: str) -> Tensor:
        """The tensor without its numbers."""
        theirs, change = self._places[name]
        outline = self._file.outline(theirs)
        return change(outline[0] if name in self._experts else outline)


class RowNumbers(Mapping[str, Tensor]):
    """A file with, in place of each row of a tensor, its number, twice: rows are counted through the whole file.

    What is made of such a matrix on the way to a parameter says which rows that has, whatever the tables do with it.
    """

    def __init__(self, file: GGUFFile) -> None:
        self.metadata, self.stored, self.outline = file.metadata, file.stored, file.outline
        n_rows = [math.prod(each.shape[:-1]) for each in file.stored.values()]
        self.first = dict(zip(file.stored, accumulate(n_rows, initial=0), strict=False))

    def __getitem__(self, name: str) -> Tensor:
        """The numbers of a tensor's rows."""
        shape = self.stored[name].shape[:-1]
        numbers = torch.arange(self.first[name], self.first[name] + math.prod(shape))
        return numbers.reshape(*shape, 1).expand(*shape, 2)

    def part(self, name: str, i: int) -> Tensor:
        """Those of one of its matrices."""
        return self[name][i]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def tensor_of(self, row: int) -> str:
        """The tensor that has the row of this number."""
        names = list(self.first)
        return names[bisect_right(list(self.first.values()), row) - 1]


class KeptWeights(Mapping[str, Tensor | QuantizedRows]):
    """Our parameters: `QuantizedRows` where a layer can run so, and the file has the matrix in blocks."""

    def __init__(self, file: GGUFFile, tensors: names.OurTensors, rows: names.OurTensors, config: Any) -> None:
        self._file, self._tensors, self._rows, self._numbers = file, tensors, rows, RowNumbers(file)
        module = spec_of(config).outline(config)
        layers = {id(layer.weight) for _, layer in replaceable(module)}
        self._matrices = {name for name, weight in module.named_parameters() if id(weight) in layers}

    @property
    def has_blocks(self) -> bool:
        """Whether some are in blocks."""
        return any(self._place(name) is not None for name in self._matrices)

    def _place(self, name: str) -> tuple[str, Tensor] | None:
        """The tensor that holds a parameter in blocks, and the rows of it; None where there are no such."""
        rows = self._rows[name]
        if rows.ndim != 2 or rows.shape[1] != 2 or not bool((rows[:, 0] == rows[:, 1]).all()):
            return None  # more than rows has been moved
        place = self._numbers.tensor_of(int(rows[0, 0]))
        stored, first = self._file.stored[place], self._numbers.first[place]
        within = rows[:, 0] - first
        if stored.format.dequantize is None or int(within.max()) >= math.prod(stored.shape[:-1]) or within.min() < 0:
            return None
        return place, within

    def __getitem__(self, name: str) -> Tensor | QuantizedRows:
        """The parameter of that name."""
        where = self._place(name) if name in self._matrices else None
        if where is None:
            return self._tensors[name]
        place, rows = where
        stored = self._file.stored[place]
        if stored.format.name not in ggml_blocks.KEPT:
            return to_int8(self._tensors[name])
        start, stop = int(rows.min()), int(rows.max()) + 1  # of an expert, its part alone
        n_bytes = stored.n_bytes // math.prod(stored.shape[:-1])
        data = self._file.raw(place)[start * n_bytes : stop * n_bytes]
        matrix = ggml_blocks.levels_and_scales(data, stored.format, (stop - start, stored.shape[-1]))
        return matrix.take(rows - start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _settings(file: GGUFFile) -> dict[str, Any]:
    gguf_families.family_of(file.metadata)
    if EMBEDDING not in file:
        raise CheckpointCorrupt(f"it has no {EMBEDDING}, as models have that read tokens.")
    rope_tensors = [name for name in gguf_families.ROPE_TENSORS if name in file]
    for name in rope_tensors:
        if (n_bytes := file.stored[name].n_bytes) > COMPARED_BYTES:
            raise CheckpointCorrupt(f"{name} has {n_bytes:,} bytes, more than heads are wide.")
    return gguf_families.settings_of(
        file.metadata,
        tied=HEAD not in file or _alike(file, EMBEDDING, HEAD),
        vocab_size=file.stored[EMBEDDING].shape[0],
        rope_tensors={name: file[name].float() for name in rope_tensors},
    )


def configuration_of(theirs: Mapping[str, Any]) -> Any:
    """Our configuration of a config.json, by the table of the family that is published under this model type."""
    for spec in specs().values():
        if spec.published is not None and theirs["model_type"] in spec.published.model_types:
            try:
                return spec.published.from_huggingface(theirs)
            except ConfigError as error:
                raise ConfigError(
                    error.anywhere().replace("config.json", "its metadata, as in config.json", 1)
                ) from None
    raise ConfigError(f"a model of the type {theirs['model_type']!r} is not known here.")


def _with_own_context(config: Any, metadata: Mapping[str, Any]) -> Any:
    """With the shorter context of a copy of ours; other files' settings mean the longest that a scaling allows."""
    length = metadata.get(OWN_CONTEXT)
    if length is None:
        return config
    if type(length) is not int or not 1 <= length <= config.context_length:
        raise CheckpointCorrupt(f"{OWN_CONTEXT} must be from 1 to {config.context_length:,}, not {str(length)[:40]}.")
    return replace(config, context_length=length)


def _alike(file: GGUFFile, one: str, other: str) -> bool:
    """Whether two tensors are the same to the byte: a tied head that is stored twice."""
    if (file.stored[one].shape, file.stored[one].format) != (file.stored[other].shape, file.stored[other].format):
        return False
    a, b = file.raw(one), file.raw(other)
    return all(
        bytes(a[i : i + COMPARED_BYTES]) == bytes(b[i : i + COMPARED_BYTES]) for i in range(0, len(a), COMPARED_BYTES)
    )


def _texts(metadata: Mapping[str, Any]) -> tuple[Tokenizers, frozenset[int], Rest]:
    """The tokenizer, or why there is none; the tokens that end a text; and what goes along into a folder."""
    if not gguf_tokenizer.is_in(metadata):
        return Tokenizers(), frozenset(), Rest()
    try:
        contents, eos_ids = gguf_tokenizer.files_of(metadata), gguf_tokenizer.end_ids(metadata)
    except TokenizerError as error:
        return Tokenizers(missing=f"{error.anywhere()} {ANOTHER_TOKENIZER}"), frozenset(), Rest()
    tokenizer = gguf_tokenizer.read(contents)
    if tokenizer.missing:
        tokenizer = tokenizer._replace(missing=f"{tokenizer.missing} {ANOTHER_TOKENIZER}")
    roles = {name: gguf_tokenizer.token_id(metadata, role) for role, name in gguf_tokenizer.ROLES.items()}
    ids = {f"{name}_id": id for name, id in roles.items() if id is not None and name in ("bos_token", "pad_token")}
    rest = Rest(config=ids, generation=ids, contents=contents, tokenizer=tokenizer.tokenizer, eos_ids=eos_ids)
    return tokenizer, eos_ids, rest

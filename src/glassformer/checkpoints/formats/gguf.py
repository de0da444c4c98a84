"""GGUF, llama.cpp's files: a model with its tokenizer and chat template, quantized or not, in one file.

What the file says becomes what a folder of Hugging Face's would say, and is read by the tables of `models/published/`:
`gguf_families.py` has the names of settings and tensors, `gguf_tokenizer.py` those of the tokenizer, `gguf_file.py` the
container. Quantized weights are read as the float32 numbers that they stand for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from glassformer.checkpoints import gguf_card, gguf_families, gguf_tokenizer, names
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.gguf_families import GGUFFamily
from glassformer.checkpoints.gguf_file import MAGIC, GGUFFile
from glassformer.checkpoints.rest import CARD, Rest
from glassformer.checkpoints.tokenizer_files import Tokenizers
from glassformer.errors import CheckpointCorrupt, ConfigError, TokenizerError
from glassformer.models import specs

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
    return contents, names.OurTensors(tensors, held)


ANOTHER_TOKENIZER = (
    "The folder that the file was converted from opens with its own tokenizer, whose tokenizer.json can also be named "
    "here, as --tokenizer of convert or having(tokenizer=…)."
)

FORMAT = Format(name="GGUF", files=".gguf of llama.cpp", sniff=sniff, read=read)


class FolderTensors(Mapping[str, Tensor]):
    """The tensors of a GGUF file under the names, and in the layout, of Hugging Face's folders."""

    def __init__(self, file: GGUFFile, theirs: Mapping[str, Any]) -> None:
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
    if not any(name.startswith(gguf_tokenizer.KEY) for name in metadata):
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

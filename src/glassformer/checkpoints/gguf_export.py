"""A model with its tokenizer as one GGUF file, which llama.cpp and what is built on it run.

The settings are written, read again as any file's and compared: what GGUF cannot say is refused, not left out. Matrices
are F32, F16 or Q8_0; vectors, routers and learned positions always F32, rows that do not divide into blocks F16.
Next to read: `formats/gguf.py`, the other direction.
"""

from collections.abc import Mapping
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassformer import files
from glassformer.checkpoints import gguf_card, gguf_families, gguf_file, gguf_tokenizer, huggingface, names, quantized
from glassformer.checkpoints.build import check_finite
from glassformer.checkpoints.chat_templates import templates_of
from glassformer.checkpoints.formats.format import Contents
from glassformer.checkpoints.formats.gguf import EMBEDDING, HEAD, OWN_CONTEXT, configuration_of
from glassformer.checkpoints.gguf_families import FAMILIES, LONGROPE, ROPE_FREQUENCIES, WINDOW, GGUFFamily
from glassformer.checkpoints.gguf_tokenizer import KEY, chat_metadata
from glassformer.checkpoints.rest import CARD
from glassformer.errors import CheckpointCorrupt, ConfigError, ExportError
from glassformer.nn.rope import RopeScaling
from glassformer.tokenizers.base import Tokenizer

KINDS = {"f32": 0, "f16": 1, "q8_0": 8}  # ggml's numbers
IN_FLOAT32 = ("position_embd", "token_types")
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's for whole files
WHY = {  # by Hugging Face's type and our field
    ("mistral", "sliding_windows"): "since llama.cpp reads a Mistral as a Llama, all of whose layers see everything; "
    "one whose context_length (max_position_embeddings) is no longer than its window is written.",
    ("bert", "head"): 'since llama.cpp reads a BERT for its vectors alone, as head = "none" has it.',
    ("t5", "ffn"): "since it has T5 of version 1.1 alone, which is gated (geglu).",
    ("smollm3", "rotary_layers"): "since llama.cpp leaves the rotation out of every fourth layer of a SmolLM3, and of "
    "no other.",
}
NOT_OF_THE_MODEL = ("dropout", "rope_style")  # which rows are reordered for, and what training alone uses


def save(module: nn.Module, contents: Contents, path: Path, *, kind: str, overwrite: bool = False) -> Path:
    """Write the file in one step; `kind` is "f32", "f16" or "q8_0"."""
    if quantized.kinds_of(module):
        raise ExportError("A quantized model is not written as GGUF: convert the one that it was made of.")
    if kind not in KINDS:
        raise ConfigError(f"GGUF is written as {', '.join(KINDS)}, not as {kind!r}.")
    config: Any = module.config
    theirs = huggingface.their_settings(config, native=False)
    name, family = _family(theirs)
    metadata = {"general.architecture": name, "general.file_type": FILE_TYPES[kind], "general.quantization_version": 2}
    rope_tensors = _rope_tensors(name, config)
    metadata |= _settings(name, family, theirs, config, rope_tensors)
    if config.context_length != configuration_of(theirs).context_length:
        metadata[OWN_CONTEXT] = config.context_length
    metadata |= gguf_card.metadata_of(contents.rest.contents.get(CARD, b""))
    metadata |= _tokenizer(contents, config.vocab_size)
    weights = dict(module.named_parameters())
    try:
        for each, weight in weights.items():
            check_finite(each, weight)
    except CheckpointCorrupt as error:
        raise ExportError(str(error)) from None
    parts: dict[str, list[Tensor]] = {}
    for folder_name, tensor in names.to_theirs(weights, config).items():
        parts.setdefault(family.gguf_name(folder_name), []).append(tensor)
    tensors: dict[str, tuple[int, Tensor]] = {}
    for place, matrices in parts.items():
        tensor = torch.stack(matrices) if place.endswith("_exps.weight") else matrices[0]  # of experts, in their order
        tensors[place] = _kind(place, tensor, kind), family.change_back(place, theirs)(tensor)
    if family.head_too:
        tensors.setdefault(HEAD, tensors[EMBEDDING])
    tensors |= {place: (KINDS["f32"], tensor) for place, tensor in rope_tensors.items()}
    with files.new_file(path, overwrite=overwrite) as new:
        gguf_file.write(new, metadata, tensors)
    return path


def _kind(name: str, tensor: Tensor, kind: str) -> int:
    if tensor.ndim == 1 or name.startswith(IN_FLOAT32) or name.endswith("ffn_gate_inp.weight"):
        return KINDS["f32"]
    return KINDS["f16" if kind == "q8_0" and tensor.shape[-1] % 32 else kind]


def _family(theirs: Mapping[str, Any]) -> tuple[str, GGUFFamily]:
    for name, family in FAMILIES.items():
        if family.model_type == theirs["model_type"]:
            return family.architecture or name, family
    raise ExportError(
        f"GGUF, llama.cpp's format, is written of {', '.join(FAMILIES)}, not of a {theirs['model_type']}."
    )


def _rope_tensors(name: str, config: Any) -> dict[str, Tensor]:
    """Divisors of rotary frequencies, which llama.cpp asks for in Llamas and in Phi-3."""
    scaling = getattr(config, "rope_scaling", None)
    if name == "llama" and scaling is not None and scaling.kind == "llama3":
        return {ROPE_FREQUENCIES: gguf_families.divisors_of(scaling, config.d_head, config.rope_theta).float()}
    if name == "phi3" and scaling is not None:
        factors = scaling.short_factors, scaling.long_factors
        return {each: torch.tensor(those) for each, those in zip(LONGROPE.values(), factors, strict=True)}
    return {}


def _settings(
    name: str, family: GGUFFamily, theirs: Mapping[str, Any], config: Any, rope_tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The metadata of a configuration, after it has been read from them again."""
    hf_names = {**family.settings, **family.optional}
    metadata = {
        gguf_families.key_of(name, key): theirs[each] for key, each in hf_names.items() if theirs.get(each) is not None
    }
    metadata |= {f"{name}.{key}": value for key, value in family.fixed.items()}
    metadata[f"{name}.vocab_size"] = config.vocab_size
    metadata |= {f"{name}.{key}": metadata[f"{name}.{other}"] for key, other in family.alike.items()}
    if family.is_rotary:
        metadata[f"{name}.attention.value_length"] = config.d_head
        metadata[f"{name}.rope.dimension_count"] = getattr(config, "d_rotary", 0) or config.d_head
        scaling = gguf_families.scaling_metadata(theirs, config.rope_scaling)
        metadata |= {f"{name}.{key}": value for key, value in scaling.items()}
    if WINDOW in family.optional:
        metadata[f"{name}.{WINDOW}"] = theirs[family.optional[WINDOW]] or 0
    on_disk = {
        key: float(str(np.float32(value))) if isinstance(value, float) else value for key, value in metadata.items()
    }
    on_disk["general.architecture"] = name
    try:
        again = gguf_families.settings_of(
            on_disk, tied=getattr(config, "tied_head", True), vocab_size=config.vocab_size, rope_tensors=rope_tensors
        )
    except ConfigError as error:
        raise ExportError(f"GGUF cannot express this model: {error}") from None
    kept = {each: getattr(config, each) for each in NOT_OF_THE_MODEL if hasattr(config, each)}
    wanted, read = (replace(configuration_of(each), **kept) for each in (theirs, again))
    windows = getattr(wanted, "sliding_windows", ())
    if windows and WINDOW not in family.optional and not any(0 < size < wanted.context_length for size in windows):
        wanted = replace(wanted, sliding_windows=())  # which no text reaches that the file says it is for
    for field in fields(wanted):
        if in_float32(getattr(read, field.name)) != in_float32(value := getattr(wanted, field.name)):
            settings = f"since a {family.model_type}'s settings in llama.cpp's format do not say it."
            why = WHY.get((family.model_type, field.name), settings)
            raise ExportError(f"GGUF cannot express {field.name} = {value!r}, {why}")
    return metadata


def in_float32(value: Any) -> Any:
    """The value as a file can hold it."""
    if isinstance(value, RopeScaling):
        return tuple(map(in_float32, astuple(value)))
    if isinstance(value, tuple):
        return tuple(map(in_float32, value))
    return float(np.float32(value)) if isinstance(value, float) else value


def _tokenizer(contents: Contents, vocab_size: int) -> dict[str, Any]:
    """The tokenizer's metadata, or that there is none, without which llama.cpp refuses the file."""
    tokenizer = contents.tokenizer
    if tokenizer is None:
        return {f"{KEY}model": gguf_tokenizer.NONE}
    rest = contents.rest.for_model(tokenizer, contents.source_tokenizer, contents.eos_ids)
    try:
        metadata = gguf_tokenizer.metadata_of(tokenizer, vocab_size) | _around(tokenizer, rest.eos_ids)
    except ExportError as error:
        raise ExportError(
            f"{error} A folder keeps the tokenizer as it is, from which llama.cpp's own converter may make a GGUF "
            "file:",
            python="save writes one.",
            command="convert without --quantize writes one.",
        ) from None
    padding = rest.config.get("pad_token_id")
    if type(padding) is int and 0 <= padding < vocab_size:
        metadata[f"{KEY}padding_token_id"] = padding
    return metadata | chat_metadata(templates_of(rest.contents))


def _around(tokenizer: Tokenizer, eos_ids: frozenset[int]) -> dict[str, Any]:
    """The tokens that begin and end a text: of several that end one, GGUF has room for three."""
    ends = list(dict.fromkeys(id for id in (tokenizer.eos_id, *sorted(eos_ids)) if id is not None))
    ids = dict(zip(("eos", "eot", "eom"), ends, strict=False))
    if tokenizer.bos_id is not None:
        ids["bos"] = tokenizer.bos_id
    for role, around in (("bos", tokenizer.begin_ids), ("eos", tokenizer.end_ids)):
        if around not in ((), (ids.get(role),)):
            raise ExportError(f"GGUF cannot express that the tokens {list(around)} stand around a text.")
    flags = {f"{KEY}add_bos_token": bool(tokenizer.begin_ids), f"{KEY}add_eos_token": bool(tokenizer.end_ids)}
    return {f"{KEY}{role}_token_id": id for role, id in ids.items()} | flags

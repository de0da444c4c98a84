"""Checkpoint directories in Hugging Face's format.

    config.json               the configuration as `transformers` understands it
    preprocessor_config.json  see `processor_files.py`
    model.safetensors         the weights, under the names of `transformers`; shards and an index when large
    generation_config.json    the tokens that begin and end a text, and those that never come; of a Whisper, more
    tokenizer.json …          see `tokenizer_files.py`
    LICENSE …                 what the source had beside these, see `rest.py`
    glassformer.json          the configuration as we understand it, which goes first when we read
    manifest.json             sizes and SHA-256 of all files; folders from elsewhere have none

A configuration that `transformers` cannot build may be written all the same, with `native=True`, and an architecture
that it does not have always is; its config.json then names a model type of ours, so that other programs refuse it
instead of computing something else.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer import files
from glassformer.checkpoints import names, quantized, safetensors, whisper_folder
from glassformer.checkpoints.about import About
from glassformer.checkpoints.build import build, check_finite, copied
from glassformer.checkpoints.folder_files import (
    ADAPTER,
    CONFIG,
    GENERATION,
    INDEX,
    NATIVE,
    OURS,
    PROCESSOR,
    WEIGHTS,
    FolderFiles,
)
from glassformer.checkpoints.processor_files import Processor, implied_processor, write_processor
from glassformer.checkpoints.rest import NOTHING, TOKENIZER_CONFIG, Rest, phrases_of
from glassformer.checkpoints.tokenizer_files import tokenizer_config, write_json, write_tokenizers
from glassformer.config import from_mapping, to_mapping
from glassformer.errors import CheckpointCorrupt, CheckpointMismatch, ConfigError, ExportError
from glassformer.models import as_declared_now, spec_of, specs
from glassformer.tokenizers.base import Tokenizer

logger = logging.getLogger(__name__)

OURS_ALONE: dict[str, Any] = {
    "architectures": ["Glassformer"],
    "model_type": NATIVE,
}  # config.json of what only we read

BARE = re.compile(r"(For[A-Z]\w+|LMHeadModel|MTModel)$")  # of a class: what a bare trunk has as "Model"

TOKENS_IN_CONFIG = (
    "decoder_start_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)  # some configurations have them
CONFIG_IN_GENERATION = (
    "alignment_heads",
    "forced_bos_token_id",
)  # what belongs to a configuration of ours, and stands in generation_config.json


def load_directory(folder: Path, *, dtype: torch.dtype | None = torch.float32) -> tuple[Any, nn.Module]:
    """The configuration and the model, in eval mode; with dtype None each tensor keeps the type that it has there.

    Checksums are the caller's to compare, by `files.verify`.
    """
    with files.errors_about(folder):
        content = FolderFiles(folder)
        config, tensors = read_weights(content)
        if is_quantized(content):
            return config, quantized.build(config, tensors)
        return config, build(config, copied(config, tensors, dtype))


def is_quantized(folder: FolderFiles) -> bool:
    """Whether its matrices are whole numbers with scales."""
    return bool(folder.settings(OURS).get(quantized.MARK))


def read_weights(folder: FolderFiles) -> tuple[Any, Mapping[str, Any]]:
    """The configuration of a folder, and our parameters in its tensors; nothing is built or copied yet."""
    config = read_config(folder)
    if is_quantized(folder):
        return config, quantized.FolderWeights(folder.tensors, config)
    try:
        return config, names.to_ours(folder.tensors, config, native=folder.is_native)
    except CheckpointMismatch as error:
        raise CheckpointMismatch(f"{_other_class(folder, config)}{error}") from None


def _other_class(folder: FolderFiles, config: Any) -> str:
    """What is to be said before a mismatch of a folder whose class of `transformers` is not the one that is read.

    Its tensors decide: a bare trunk whose head is its embedding lacks nothing.
    """
    published = spec_of(config).published
    architectures = folder.settings(CONFIG).get("architectures")
    of_file = architectures[0] if isinstance(architectures, list) and architectures else architectures
    if published is None or folder.is_native or not isinstance(of_file, str) or not published.architecture:
        return ""
    if of_file == published.architecture:
        return ""
    if of_file == BARE.sub("Model", published.architecture):
        return f"{CONFIG}: a {of_file} has no language-model head; {published.architecture} has one. "
    return f"{CONFIG}: architectures {str(architectures)[:80]} is none of {published.architecture}. "


def check_directory(path: Path) -> Any:
    """The configuration of a folder, after names and shapes of tensors have been compared with it; builds nothing."""
    with files.errors_about(path):
        return read_weights(FolderFiles(path))[0]


def save_directory(module: nn.Module, target: Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Write a checkpoint in one step: `write_directory` inside `files.new_directory`."""
    with files.new_directory(target, overwrite=overwrite) as folder:
        write_directory(folder, module, **options)
    config: Any = module.config
    spec = spec_of(config)
    if not (spec.published or options.get("native")):
        logger.warning("%s is read by glassformer alone: Hugging Face has no %s.", target, spec.name)
    if (length := _context_in_theirs(config)) != getattr(config, "context_length", None):
        logger.warning(
            "Only %s in %s says that its context is %d tokens: without it, it is read as %d, as far as its rotary "
            "scaling reaches.",
            *(OURS, target, config.context_length, length),
        )
    rest: Rest = options.get("rest", NOTHING)
    for note in rest.for_model(options.get("tokenizer"), options.get("source_tokenizer"), None).left_out:
        logger.warning("%s leaves out %s", target, note)
    return target


def write_directory(
    folder: Path,
    module: nn.Module,
    *,
    tokenizer: Tokenizer | None = None,
    source_tokenizer: Tokenizer | None = None,
    processor: Processor | None = None,
    eos_ids: frozenset[int] | None = None,
    suppressed: frozenset[int] = frozenset(),
    rest: Rest = NOTHING,
    origin: str = "",
    about: About | None = None,
    native: bool = False,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Fill a folder that is being written. `eos_ids` end a text, beside the token that does so in the tokenizer.

    `suppressed` tokens never come in one. `source_tokenizer` is an encoder-decoder's, where it is another one;
    Whisper's processor follows from its configuration. `origin` is where on the Hub the model comes from, and `about`
    what it does. What the model's source held beside these is copied from `rest`, where it still holds; with `eos_ids`
    None, texts end as they did there.
    """
    rest = rest.for_model(tokenizer, source_tokenizer, eos_ids)
    config: Any = module.config
    spec = spec_of(config)
    kinds = quantized.kinds_of(module)
    theirs = OURS_ALONE.copy() if kinds else their_settings(config, native=native)
    weights = dict(module.named_parameters())
    try:
        for name, weight in weights.items():
            check_finite(name, weight)
    except CheckpointCorrupt as error:
        raise ExportError(str(error)) from None
    is_native = theirs["model_type"] == NATIVE
    tensors = quantized.tensors_of(module) if kinds else names.to_theirs(weights, config, native=is_native)
    said_by: dict[str, Any] = {}
    if spec.published is not None and theirs["model_type"] != NATIVE:
        dtype = next(iter(tensors.values())).dtype
        tensors |= {name: tensor.to(dtype) for name, tensor in rest.tensors.items()}
        for name in rest.tensors:
            said_by |= spec.published.said_by.get(name, {})
    of_tokenizer = set() if tokenizer is None or tokenizer.eos_id is None else {tokenizer.eos_id}
    eos_token_ids = sorted(rest.eos_ids | of_tokenizer)
    special_tokens = {
        "bos_token_id": None if tokenizer is None else tokenizer.bos_id,
        "eos_token_id": eos_token_ids if len(eos_token_ids) > 1 else next(iter(eos_token_ids), None),
    }
    special_tokens |= {name: theirs[name] for name in TOKENS_IN_CONFIG if name in theirs}
    generation = {name: theirs.pop(name) for name in CONFIG_IN_GENERATION if name in theirs}
    if suppressed:
        generation["bad_words_ids"] = [*([token] for token in sorted(suppressed)), *map(list, rest.bad_phrases)]
    precision = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    speech = whisper_folder.speech_of(config, tokenizer)
    of_speech = {} if speech is None else whisper_folder.generation(speech, config)
    # A family's default for padding, such as Phi-3's 32000, need not be a token of this vocabulary.
    padding = {"pad_token_id": None} if spec.kind == "language-model" else {}
    # The source's order of settings is kept, and what the model says goes over what the source did.
    settings = {**theirs, **special_tokens, **padding, **rest.config, **theirs, **said_by, "torch_dtype": precision}
    write_json(folder / CONFIG, settings)
    write_json(folder / GENERATION, {**special_tokens, **of_speech, **rest.generation, **generation})
    ours: dict[str, Any] = {"format": 1, "architecture": spec.name, "config": to_mapping(config)}
    ours |= {quantized.MARK: kinds} if kinds else {}
    ours |= {"origin": origin} if origin else {}
    ours |= {} if about is None else {"about": to_mapping(about)}
    write_json(folder / OURS, ours)
    if tokenizer is not None and not rest.has_tokenizer:
        write_tokenizers(folder, tokenizer, source_tokenizer, speech, config)
    elif tokenizer is not None and "tokenizer.json" in rest.contents and TOKENIZER_CONFIG not in rest.contents:
        write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer, config))
    processor = processor or implied_processor(config)
    if processor is not None and (PROCESSOR not in rest.contents or processor != rest.processor):
        write_processor(folder, processor, config)
    rest.write(folder)
    _write_tensors(folder, tensors, max_shard_bytes)


def their_settings(config: Any, *, native: bool) -> dict[str, Any]:
    """config.json; for a model that `transformers` cannot build, with a model type of ours, where `native` allows it.

    An architecture that Hugging Face does not have needs no permission, since nobody expects it there.
    """
    published = spec_of(config).published
    if published is None:
        return OURS_ALONE.copy()
    try:
        return published.to_huggingface(config)
    except ExportError as error:
        if native:
            return OURS_ALONE.copy()
        raise ExportError(
            f"{error} A folder can be written that glassformer alone reads:", python="native=True.", command="--native."
        ) from None


def _context_in_theirs(config: Any) -> int | None:
    """The context that is read in config.json alone, which scaled rotary positions may make longer."""
    length: int | None = getattr(config, "context_length", None)
    theirs = their_settings(config, native=True)
    if getattr(config, "rope_scaling", None) is not None and theirs["model_type"] != NATIVE:
        length = _their_config(theirs).context_length
    return length


def read_eos_ids(folder: FolderFiles) -> frozenset[int]:
    """The tokens that end a text; chat models have several. A negative number stands for none."""
    phrases = phrases_of("eos_token_id", folder.settings(GENERATION), folder.settings(CONFIG))
    if any(len(phrase) != 1 for phrase in phrases):
        raise ConfigError("eos_token_id must be a token's id or a list of them, not a list of phrases.")
    return frozenset(id for (id,) in phrases if id >= 0)


def read_suppressed(folder: FolderFiles) -> frozenset[int]:
    """The tokens that never come, such as the padding of Marian's models: `bad_words_ids` of one token each.

    Phrases of several are with the rest, and those that end a text are no bad words, as `transformers` has it.
    """
    phrases = phrases_of("bad_words_ids", folder.settings(GENERATION), folder.settings(CONFIG))
    return frozenset(phrase[0] for phrase in phrases if len(phrase) == 1 and phrase[0] >= 0) - read_eos_ids(folder)


def read_origin(folder: FolderFiles) -> str:
    """The name on the Hub, with the commit, of the model that was saved here."""
    origin = folder.settings(OURS).get("origin", "")
    return origin if isinstance(origin, str) else ""


def read_config(folder: FolderFiles) -> Any:
    """The configuration in a folder: ours where there is one, else Hugging Face's."""
    if folder.has(OURS):
        return _our_config(folder.settings(OURS))
    if not folder.has(CONFIG):
        if folder.has(ADAPTER):
            raise folder.only_adapter()
        raise CheckpointCorrupt(f"{CONFIG} is missing, or is no file.")
    generation = folder.settings(GENERATION)
    moved = {name: generation[name] for name in CONFIG_IN_GENERATION if name in generation}
    return _their_config({**folder.settings(CONFIG), **moved})


def _our_config(content: Mapping[str, Any]) -> Any:
    architecture, settings = content.get("architecture"), content.get("config")
    if content.get("format") != 1 or not isinstance(settings, Mapping) or not isinstance(architecture, str):
        raise ConfigError(f"{OURS} must have format 1, an architecture and its config.")
    if architecture not in specs():
        raise ConfigError(
            f"{OURS}: there is no architecture {architecture!r}; {', '.join(specs())} are known.",
            python="One from outside is known once its module is imported.",
            command="One from outside needs its plugin, in GLASSFORMER_PLUGINS or installed.",
        )
    architecture, settings = as_declared_now(architecture, settings)
    return from_mapping(specs()[architecture].config, settings)


def _their_config(content: Mapping[str, Any]) -> Any:
    tables = [spec.published for spec in specs().values() if spec.published is not None]
    by_type = {name: table for table in tables for name in table.model_types}
    kind = content.get("model_type")
    if kind is None:
        raise ConfigError(f"{CONFIG}: model_type is missing; {', '.join(by_type)} are known.")
    if not isinstance(kind, str) or kind not in by_type:
        only = ""
        if "text_config" in content:
            only = " It has a text_config, as models of more than texts have; only a text model by itself is read."
        raise ConfigError(f"{CONFIG}: model_type {str(kind)[:80]!r} is unknown; {', '.join(by_type)} are known.{only}")
    if content.get("quantization_config"):
        raise ConfigError(f"{CONFIG} asks for quantized weights (quantization_config), which is not supported.")
    return by_type[kind].from_huggingface(content)


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int) -> None:
    shards = list(_shards(tensors, max_shard_bytes))
    if len(shards) == 1:
        safetensors.write(folder / WEIGHTS, tensors)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        safetensors.write(folder / name, shard)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _shards(tensors: Mapping[str, Tensor], max_bytes: int) -> Iterable[dict[str, Tensor]]:
    """Runs of tensors of at most so many bytes, or of one larger tensor."""
    shard: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if shard and sum(other.nbytes for other in shard.values()) + tensor.nbytes > max_bytes:
            yield shard
            shard = {}
        shard[name] = tensor
    yield shard

"""Checkpoint directories in Hugging Face's format.

    config.json               the configuration as `transformers` understands it
    model.safetensors         the weights, under the names of `transformers`; shards and an index when large
    generation_config.json    the tokens that begin and end a text, and those that never come; of a Whisper, more
    tokenizer.json …          see `beside.py`
    LICENSE …                 what the source had beside these, see `rest.py`
    glassformer.json          the configuration as we understand it, which goes first when we read
    manifest.json             sizes and SHA-256 of all files; folders from elsewhere have none

A configuration that `transformers` cannot build may be written all the same, with `native=True`, and an architecture
that it does not have always is; its config.json then names a model type of ours, so that other programs refuse it
instead of computing something else.
"""

import logging
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from glassformer import files, strict_json
from glassformer.checkpoints import names, pickles, safetensors, whisper_folder
from glassformer.checkpoints.assemble import assemble, not_finite
from glassformer.checkpoints.beside import (
    PROCESSOR,
    Processor,
    processor_of,
    tokenizer_config,
    write_json,
    write_processor,
    write_tokenizers,
)
from glassformer.checkpoints.rest import NOTHING, TOKENIZER_CONFIG, Rest
from glassformer.config import from_mapping, to_mapping
from glassformer.errors import CheckpointCorrupt, CheckpointError, ConfigError, ExportError
from glassformer.models import spec_of, specs
from glassformer.tokenizers.base import Tokenizer

logger = logging.getLogger(__name__)

CONFIG, OURS, WEIGHTS = "config.json", "glassformer.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PICKLED = "pytorch_model.bin"  # of folders before 2023; read where the user allows it, never written
PICKLED_INDEX = f"{PICKLED}.index.json"
NATIVE = "glassformer"  # the model type of what only we read
GENERATION = "generation_config.json"
OWN_TOKENS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id")  # some configurations have them
OF_GENERATION = ("alignment_heads",)  # what belongs to a configuration of ours, and stands in generation_config.json
MAX_CONFIG_BYTES = 4 << 20


def load_directory(folder: Path, *, dtype: torch.dtype | None = torch.float32) -> tuple[Any, nn.Module]:
    """The configuration and the model, in eval mode; with dtype None each tensor keeps the type that it has there.

    Who opens a folder verifies it first (`files.verify`).
    """
    config = read_config(folder)
    weights = read_weights(folder, config, dtype=dtype)
    with files.about(folder):
        return config, assemble(config, weights)


def read_weights(
    folder: Path, config: Any, *, dtype: torch.dtype | None = torch.float32, from_pickle: bool = False
) -> dict[str, Tensor]:
    """Our parameters, as the folder has them."""
    with files.about(folder):
        tensors = read_tensors(folder, from_pickle=from_pickle)
        return names.to_ours(tensors, config, dtype=dtype, native=_is_native(folder))


def check_directory(folder: Path) -> Any:
    """The configuration of a folder whose weights are those that it promises; nothing is built yet."""
    config = read_config(folder)
    with files.about(folder):
        names.checked(read_tensors(folder), config, native=_is_native(folder))
    return config


def save_directory(module: nn.Module, target: Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Write a checkpoint in one step: `write_directory` inside `files.new_directory`."""
    with files.new_directory(target, overwrite=overwrite) as folder:
        write_directory(folder, module, **options)
    config: Any = module.config
    spec = spec_of(config)
    if not (spec.published or options.get("native")):
        logger.warning("%s is read by glassformer alone: Hugging Face has no %s.", target, spec.name)
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
    native: bool = False,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Fill a folder that is being written. `eos_ids` end a text, beside the token that does so in the tokenizer.

    `suppressed` tokens never come in one. `source_tokenizer` is an encoder-decoder's, where it is another one;
    Whisper's processor follows from its configuration. Of the `rest` of the model's source goes along what is still
    true; with `eos_ids` None, its texts end as they did there.
    """
    rest = rest.for_model(tokenizer, source_tokenizer, eos_ids)
    config: Any = module.config
    spec = spec_of(config)
    theirs = their_settings(config, native=native)
    weights = dict(module.named_parameters())
    if broken := not_finite(weights):
        raise ExportError(
            f"{broken} holds numbers that are infinite or none (NaN), so that nobody could use the model."
        )
    tensors = names.to_theirs(weights, config, native=theirs["model_type"] == NATIVE)
    own = set() if tokenizer is None or tokenizer.eos_id is None else {tokenizer.eos_id}
    eos_token_ids = sorted(rest.ends | own)
    ends = {
        "bos_token_id": None if tokenizer is None else tokenizer.bos_id,
        "eos_token_id": eos_token_ids if len(eos_token_ids) > 1 else next(iter(eos_token_ids), None),
    }
    ends |= {name: theirs[name] for name in OWN_TOKENS if name in theirs}
    generation = {name: theirs.pop(name) for name in OF_GENERATION if name in theirs}
    if suppressed:
        generation["bad_words_ids"] = [[token] for token in sorted(suppressed)]
    precision = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    speech = whisper_folder.speech_of(config, tokenizer)
    of_speech = {} if speech is None else whisper_folder.generation(speech, config)
    write_json(folder / CONFIG, {**theirs, **ends, **rest.config, **theirs, "torch_dtype": precision})
    write_json(folder / GENERATION, {**ends, **of_speech, **rest.generation, **generation})
    write_json(folder / OURS, {"format": 1, "architecture": spec.name, "config": to_mapping(config)})
    if tokenizer is not None and not rest.has_tokenizer:
        write_tokenizers(folder, tokenizer, source_tokenizer, speech, config)
    elif tokenizer is not None and "tokenizer.json" in rest.contents and TOKENIZER_CONFIG not in rest.contents:
        write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer, config))
    processor = processor or processor_of(config)
    if processor is not None and (PROCESSOR not in rest.contents or processor != rest.processor):
        write_processor(folder, processor)
    rest.write(folder)
    _write_tensors(folder, tensors, max_shard_bytes)


def their_settings(config: Any, *, native: bool) -> dict[str, Any]:
    """config.json; for a model that `transformers` cannot build, with a model type of ours, where `native` allows it.

    An architecture that Hugging Face does not have needs no permission, since nobody expects it there.
    """
    published = spec_of(config).published
    ours = {"architectures": ["Glassformer"], "model_type": NATIVE}
    if published is None:
        return ours
    try:
        return published.to_huggingface(config)
    except ExportError as error:
        if native:
            return ours
        raise ExportError(
            f"{error} A folder can be written that glassformer alone reads:", python="native=True.", command="--native."
        ) from None


def read_eos_ids(folder: Path) -> frozenset[int]:
    """The tokens that end a text; chat models have several."""
    return _read_ids(folder, "eos_token_id")


def read_suppressed(folder: Path) -> frozenset[int]:
    """The tokens that never come, such as the padding of Marian's models: `bad_words_ids` of one token each."""
    return _read_ids(folder, "bad_words_ids")


def _read_ids(folder: Path, setting: str) -> frozenset[int]:
    """Tokens that generation_config.json names, or else config.json: an id, a list of ids, or of lists of one id."""
    with files.about(folder):
        for name in (GENERATION, CONFIG):
            found = strict_json.read(files.inside(folder, name), MAX_CONFIG_BYTES) if (folder / name).exists() else {}
            tokens = found.get(setting)
            if tokens is not None:
                listed = tokens if isinstance(tokens, list) else [tokens]
                ids = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in listed]
                if not all(type(token) is int and token >= 0 for token in ids):
                    raise ConfigError(f"{name}: {setting} must be a token's id or a list of them.")
                return frozenset(ids)
    return frozenset()


def _is_native(folder: Path) -> bool:
    """Whether the tensors are as they are here, since nobody else was to read them."""
    if not (folder / CONFIG).exists():
        return False
    return strict_json.read(files.inside(folder, CONFIG), MAX_CONFIG_BYTES).get("model_type") == NATIVE


def read_config(folder: Path) -> Any:
    """The configuration in a folder: ours where there is one, else Hugging Face's."""
    with files.about(folder):
        if (folder / OURS).exists():
            return _our_config(strict_json.read(files.inside(folder, OURS), MAX_CONFIG_BYTES))
        content = strict_json.read(files.inside(folder, CONFIG), MAX_CONFIG_BYTES)
        if (folder / GENERATION).exists():
            generation = strict_json.read(files.inside(folder, GENERATION), MAX_CONFIG_BYTES)
            content = {**content, **{name: generation[name] for name in OF_GENERATION if name in generation}}
        return _their_config(content)


def _our_config(content: Mapping[str, Any]) -> Any:
    architecture, settings = content.get("architecture"), content.get("config")
    if content.get("format") != 1 or not isinstance(settings, Mapping) or not isinstance(architecture, str):
        raise ConfigError(f"{OURS} must have format 1, an architecture and its config.")
    if architecture not in specs():
        raise ConfigError(f"{OURS}: there is no architecture {architecture!r}; {', '.join(specs())} are known.")
    return from_mapping(specs()[architecture].config, settings)


def _their_config(content: Mapping[str, Any]) -> Any:
    tables = [spec.published for spec in specs().values() if spec.published is not None]
    by_type = {name: table for table in tables for name in table.model_types}
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in by_type:
        raise ConfigError(f"{CONFIG}: model_type {str(kind)[:80]!r} is unknown; {', '.join(by_type)} are known.")
    for name, meaning in {"auto_map": "code of its own", "quantization_config": "quantized weights"}.items():
        if content.get(name):
            raise ConfigError(f"{CONFIG} asks for {meaning} ({name}), which is not supported.")
    return by_type[kind].from_huggingface(content)


def read_tensors(folder: Path, *, from_pickle: bool = False) -> Mapping[str, Tensor]:
    """The tensors of a folder, mapped from its file or from all its shards; from pickles where that is allowed."""
    if (folder / WEIGHTS).exists():
        return safetensors.read(files.inside(folder, WEIGHTS))
    if (folder / INDEX).exists():
        return _read_shards(folder, INDEX, ".safetensors", safetensors.read)
    pickled = [name for name in (PICKLED, PICKLED_INDEX) if (folder / name).exists()]
    if pickled and not from_pickle:
        raise CheckpointError(
            f"its weights are there as {PICKLED} alone, a pickle, which can run code when it is opened.",
            python="from_pickle=True reads its tensors and nothing else.",
            command="--from-pickle reads its tensors and nothing else.",
        )
    if PICKLED in pickled:
        return pickles.load_state(files.inside(folder, PICKLED))
    if pickled:
        return _read_shards(folder, PICKLED_INDEX, ".bin", pickles.load_state)
    raise CheckpointError(f"There is neither {WEIGHTS} nor {INDEX}.")


def _read_shards(
    folder: Path, index: str, suffix: str, read: Callable[[Path], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """The tensors of all the files that an index names."""
    places = strict_json.read(files.inside(folder, index)).get("weight_map")
    if not isinstance(places, dict) or not all(
        isinstance(place, str) and place.endswith(suffix) for place in places.values()
    ):
        raise CheckpointCorrupt(f"{index}: weight_map must map each tensor to a {suffix} file.")
    shards: list[Mapping[str, Tensor]] = []
    for shard in sorted(set(places.values())):
        content = read(files.inside(folder, shard))
        listed = {name for name, place in places.items() if place == shard}
        if content.keys() != listed:
            name = min(content.keys() ^ listed)
            raise CheckpointCorrupt(f"{index} and {shard[:200]!r} disagree about the tensor {name[:200]!r}.")
        shards.append(content)
    return ChainMap(*cast("list[dict[str, Tensor]]", shards))  # which is only read


def left_out(folder: Path, config: Any, *, from_pickle: bool = False) -> list[str]:
    """The names of weights in a folder that no part of our model has a use for, such as the head of another task."""
    published = spec_of(config).published
    patterns = () if published is None else published.elsewhere
    tensors = read_tensors(folder, from_pickle=from_pickle) if patterns else {}
    return sorted(name for name in tensors if any(re.fullmatch(pattern, name) for pattern in patterns))


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

"""The rest of a checkpoint's folder: settings and files that we do not interpret, and that survive a copy.

    config.json, generation_config.json   the settings that no configuration of ours expresses
    tokenizer.json, tokenizer_config.json, chat_template.jinja …   as they are, for the tokenizer that they stand for
    preprocessor_config.json              as it is, for the processor that it stands for
    LICENSE, README.md, modules.json …    as they are
    weights that only other tasks use     under their names, such as BERT's pooler

`read` takes them in with a model, `write` puts them beside what we write ourselves, and `after_training` keeps what is
true of other weights, too. What does not go along is said in `left_out`. Next to read: `huggingface.py`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from glassformer import files
from glassformer.checkpoints import names
from glassformer.checkpoints.folder_files import CONFIG, GENERATION, INDEX, PROCESSOR, WEIGHTS, FolderFiles
from glassformer.errors import CheckpointError, ConfigError
from glassformer.models import spec_of
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.formats import SOURCE_FOLDER
from glassformer.tokenizers.untrusted_files import MAX_FILE_BYTES

TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_FILES, MAX_BYTES = 256, 128 << 20  # of all files together
MAX_TENSOR_BYTES = 128 << 20  # of all weights of other tasks; those of BERT-large have 4 MiB

# ---- what becomes of a file, by its name in the folder; the first pattern counts
WRITTEN_ANEW = re.compile(
    r"config\.json|generation_config\.json|glassformer\.json|manifest\.json|.*\.safetensors|.*\.index\.json"
)
PICKLED_WEIGHTS = re.compile(r"pytorch_model[^/]*\.bin")
OF_A_RUN = re.compile(
    r"run\.json|run\.lock|written\.json|metrics\.jsonl|loss\.png|view\.html"
    r"|(training|tensorboard|tokens|checkpoints)/.*"
)
OF_THE_TOKENIZER = re.compile(
    rf"({SOURCE_FOLDER}/)?(tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(json|txt|bpe)|encoder\.json|merges\.txt|normalizer\.json|target_vocab\.json|dict\.txt|bpe\.code"
    r"|chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja|[^/]+\.(model|spm))"
)
LICENCE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|USE_POLICY)[^/]*", re.IGNORECASE)
CARD, CARD_OF_SOURCE = "README.md", "README.source.md"
OTHERS = re.compile(r"[^/]+\.(json|txt|md|yaml|yml|jinja)|[^/]+/config\.json", re.IGNORECASE)

TOKENS = re.compile(  # settings that name tokens by their ids or their text
    r".*_token_ids?|(bad|force)_words_ids|(begin_)?suppress_tokens|forced_decoder_ids|(lang|task)_to_id|stop_strings"
    r"|sequence_bias|is_multilingual"
)
WRITTEN_OTHERWISE = (
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "num_labels",
    "alignment_heads",
    "auto_map",  # to code of its own, which a model type of ours does not need
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What a folder holds beside what we read, and what the files among it stand for."""

    config: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)  # by name in the folder
    tensors: Mapping[str, Tensor] = field(default_factory=dict, compare=False)  # of other tasks
    tokenizer: Tokenizer | None = None
    source_tokenizer: Tokenizer | None = None
    processor: Any = None
    eos_ids: frozenset[int] = frozenset()
    left_out: tuple[str, ...] = ()

    def for_model(
        self, tokenizer: Tokenizer | None, source: Tokenizer | None, eos_ids: frozenset[int] | None
    ) -> "Rest":
        """What is still true of a model with these tokenizers, whose texts end with these tokens (None: as before)."""
        if not (alike(tokenizer, self.tokenizer) and alike(source, self.source_tokenizer)):
            gone = [name for name in self.contents if OF_THE_TOKENIZER.fullmatch(name)]
            return replace(
                self._without(TOKENS),
                contents={name: data for name, data in self.contents.items() if name not in gone},
                eos_ids=eos_ids or frozenset(),
                left_out=(*self.left_out, *([f"{_listed(gone)}: of another tokenizer."] if gone else ())),
            )
        own = {id for id in [tokenizer and tokenizer.eos_id] if id is not None}
        if eos_ids is None or eos_ids | own == self.eos_ids | own:
            return self
        return replace(self._without(re.compile("eos_token_id")), eos_ids=eos_ids)

    def _without(self, setting: "re.Pattern[str]") -> "Rest":
        config, generation = (
            {name: value for name, value in settings.items() if not setting.fullmatch(name)}
            for settings in (self.config, self.generation)
        )
        return replace(self, config=config, generation=generation)

    def after_training(self) -> "Rest":
        """What is true of other weights in the same shape: settings, licences, and the card as that of the source."""
        kept = {
            CARD_OF_SOURCE if name == CARD else name: data
            for name, data in self.contents.items()
            if name in (CARD, CARD_OF_SOURCE, PROCESSOR) or LICENCE.match(name) or OF_THE_TOKENIZER.fullmatch(name)
        }
        gone = [*sorted(self.contents.keys() - kept.keys() - {CARD}), *self.tensors]
        lost = () if not gone else (f"{_listed(gone)}: not true of other weights.",)
        return replace(self, contents=kept, tensors={}, left_out=lost)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the tokenizer's files say all that other programs need, so that they need no others beside them."""
        return not {"tokenizer.json", TOKENIZER_CONFIG, "target.spm"}.isdisjoint(self.contents)

    @property
    def of_generation(self) -> Mapping[str, Any]:
        """How tokens are chosen: generation_config.json, before which it stood in config.json."""
        return self.generation or self.config

    @property
    def bad_phrases(self) -> tuple[tuple[int, ...], ...]:
        """The phrases of several tokens that never come, which `bad_words_ids` has beside single tokens."""
        phrases = phrases_of("bad_words_ids", self.generation, self.config)
        return tuple(tuple(phrase) for phrase in phrases if len(phrase) > 1)

    def write(self, folder: Path) -> None:
        """Put the files into a folder that is being written, where nothing else stands in their place."""
        for name, data in self.contents.items():
            path = folder / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                files.write(path, data)


NOTHING = Rest()


def phrases_of(setting: str, generation: Mapping[str, Any], config: Mapping[str, Any]) -> list[list[int]]:
    """Tokens that generation_config.json names, or else config.json: an id, a list of ids, or of phrases of ids."""
    for name, settings in ((GENERATION, generation), (CONFIG, config)):
        tokens = settings.get(setting)
        if tokens is not None:
            listed = tokens if isinstance(tokens, list) else [tokens]
            phrases = [each if isinstance(each, list) else [each] for each in listed]
            if not all(type(token) is int for phrase in phrases for token in phrase):
                raise ConfigError(f"{name}: {setting} must be a token's id or a list of them.")
            return phrases
    return []


def read(
    folder: FolderFiles,
    config: Any,
    *,
    tokenizer: Tokenizer | None = None,
    source_tokenizer: Tokenizer | None = None,
    processor: Any = None,
    eos_ids: frozenset[int] = frozenset(),
) -> Rest:
    """The rest of a folder whose configuration, tokenizers, processor and weights have been read."""
    contents: dict[str, bytes] = {}
    tensors, left_out = _of_other_tasks(folder, config)
    unknown: list[str] = []
    has_others = folder.has(WEIGHTS) or folder.has(INDEX)
    room = MAX_BYTES
    for name in _names(folder.path):
        if WRITTEN_ANEW.fullmatch(name) or OF_A_RUN.fullmatch(name):
            continue
        if PICKLED_WEIGHTS.fullmatch(name) and not has_others:  # they are what was read
            continue
        of_tokenizer = OF_THE_TOKENIZER.fullmatch(name)
        if not (of_tokenizer or name == PROCESSOR or LICENCE.fullmatch(name) or OTHERS.fullmatch(name)):
            unknown.append(name)
            continue
        try:
            size = files.file_in(folder.path, name).stat().st_size
            largest = min(room, MAX_FILE_BYTES if of_tokenizer else 4 << 20)
            if size > largest or len(contents) == MAX_FILES:
                left_out.append(f"{name}: too large, or one of too many files.")
                continue
            contents[name] = folder.content(name, largest)
            room -= size
        except (CheckpointError, OSError) as error:
            left_out.append(f"{name}: {error}")
    if unknown:
        left_out.append(f"{_listed(unknown)}: no settings or texts that this program knows.")
    return Rest(
        config=_unread(folder, config),
        generation=folder.settings(GENERATION),
        contents=contents,
        tensors=tensors,
        tokenizer=tokenizer,
        source_tokenizer=source_tokenizer,
        processor=processor,
        eos_ids=eos_ids,
        left_out=tuple(left_out),
    )


def _of_other_tasks(folder: FolderFiles, config: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Copies of the weights that no part of our model has a use for, or what is said where they are too large."""
    unused = {} if folder.is_native else names.of_other_tasks(folder.tensors, config)
    if sum(folder.tensors[in_file].nbytes for in_file in unused.values()) > MAX_TENSOR_BYTES:
        return {}, [f"{_listed(list(unused))}: weights of another task, which are too large."]
    return {name: folder.tensors[in_file].clone() for name, in_file in unused.items()}, []


def alike(one: Tokenizer | None, other: Tokenizer | None) -> bool:
    """Whether two tokenizers make the same tokens of every text, by all that they were made of."""
    if one is other:
        return True
    return type(one) is type(other) and _made_of(one) == _made_of(other)


def _made_of(tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {name: value for name, value in vars(tokenizer).items() if not name.startswith("_")}


def _names(folder: Path) -> Iterator[str]:
    """The files of a folder and of those in it, without hidden ones; of a folder of ours, those that were written."""
    if (folder / files.MANIFEST).is_file():
        yield from sorted(files.listed(folder))
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            with suppress(PermissionError):  # a drive's lost+found
                yield from (f"{path.name}/{below.name}" for below in sorted(path.iterdir()) if below.is_file())
        elif path.is_file():
            yield path.name


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _unread(folder: FolderFiles, config: Any) -> dict[str, Any]:
    """The settings of config.json that our configuration neither reads nor writes."""
    published = spec_of(config).published
    expressed = {*WRITTEN_OTHERWISE} if published is None else {*WRITTEN_OTHERWISE, *published.settings}
    return {name: value for name, value in folder.settings(CONFIG).items() if name not in expressed}

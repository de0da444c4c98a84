"""The tokenizers of a model, in its folder or beside its file.

    tokenizer.json            or another file that `Tokenizer.load` reads; tokenizer_config.json has its class
    source_tokenizer/         the same for the source of an encoder-decoder, where that has a vocabulary of its own
    source.spm, target.spm    both tokenizers, in Marian's folders

Next to read: `tokenizers/formats.py`, `processor_files.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glassformer import files
from glassformer.checkpoints import whisper_folder
from glassformer.errors import MissingExtra, TokenizerError
from glassformer.models import spec_of
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.formats import SOURCE_FOLDER, find, find_source, names_in
from glassformer.tokenizers.marian import MarianTokenizer, write_pair
from glassformer.tokenizers.speech_tokens import SpeechTokens
from glassformer.tokenizers.tokenizer_json import template_processing
from glassformer.tokenizers.untrusted_files import file_in

TOKENIZER_CONFIG = "tokenizer_config.json"
ROLES = {  # how `transformers` asks for special tokens, and what they are called
    "unk_token": ("<unk>", "[UNK]"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>"),
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
}


class Tokenizers(NamedTuple):
    """A model's tokenizer, that of its source where it is another one, and why one is missing that has a file."""

    tokenizer: Tokenizer | None = None
    source: Tokenizer | None = None
    missing: str = ""


def read_tokenizers(folder: Path) -> Tokenizers:
    """The tokenizers of a folder. A model without them still works on tokens.

    A file that cannot be read is damaged or hostile. Another one beside it is named and not read in its place: what has
    been added to a tokenizer.json since, tokens and what stands around a text, it does not say.
    """
    try:
        paths = find(folder), find_source(folder)
    except TokenizerError as error:
        return Tokenizers(missing=error.anywhere())
    (tokenizer, reason), (source_tokenizer, source_reason) = (
        first_readable([] if path is None else [path]) for path in paths
    )
    if reason and (others := names_in(folder)[1:]):
        reason += f" {others[0]} beside it may be older: name it, as --tokenizer or having(tokenizer=…), to take it."
    return Tokenizers(tokenizer, source_tokenizer, reason or source_reason)


def read_neighbour(path: Path, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """The tokenizer of a language model that is one file, if one with as many tokens lies beside it."""
    names = (f"tok{vocab_size}.bin", "tokenizer.bin", "tokenizer.model", "meta.pkl")
    return first_readable([path.with_name(name) for name in names], vocab_size)


def first_readable(paths: Sequence[Path], vocab_size: int | None = None) -> tuple[Tokenizer | None, str]:
    """The first of these tokenizers that is there, can be read and has `vocab_size` tokens, or why there is none."""
    reason = ""
    for path in filter(Path.is_file, paths):
        try:
            tokenizer = Tokenizer.load(file_in(path.parent, path.name))
        except (TokenizerError, MissingExtra) as error:
            reason = reason or error.anywhere()
        else:
            if vocab_size in (None, tokenizer.vocab_size):
                return tokenizer, ""
    return None, reason


def write_tokenizers(
    folder: Path, tokenizer: Tokenizer, source: Tokenizer | None, speech: SpeechTokens | None, config: Any
) -> None:
    """Write them so that `transformers` finds both, that of the source in its `subfolder`; a Whisper's whole."""
    if speech is not None:
        whisper_folder.with_special_tokens(speech).save(folder)
        write_json(folder / TOKENIZER_CONFIG, whisper_folder.tokenizer_config(speech))
    elif isinstance(tokenizer, MarianTokenizer):
        first = source if isinstance(source, MarianTokenizer) else tokenizer
        write_pair(folder, first, tokenizer)
        marian = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": first.ids != tokenizer.ids}
        write_json(folder / TOKENIZER_CONFIG, marian)
        source = None if source is first else source
    else:
        _write_tokenizer(folder, tokenizer, config)
    if source is not None:
        _write_tokenizer(folder / SOURCE_FOLDER, source, config)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, config: Any) -> None:
    """Without the class, `transformers` takes that of the model's family, which cuts text by rules of its own.

    A text is read between the same tokens there as here: as the tokenizer's files say, and a translator's source, of
    which they need not say it, with the one behind it that ends texts.
    """
    if type(tokenizer).save is not Tokenizer.save:  # a form of its own, which `transformers` does not know
        tokenizer.save(folder)
        return
    around = tokenizer.template()
    if spec_of(config).kind == "encoder-decoder" and not tokenizer.end_ids and tokenizer.eos_id is not None:
        around = template_processing(tokenizer.special_tokens, tokenizer.begin_ids, (tokenizer.eos_id,))
    tokenizer.write_tokenizer_json(folder, around)
    write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer, config))


def tokenizer_config(tokenizer: Tokenizer, config: Any) -> dict[str, Any]:
    """tokenizer_config.json: the class, how long a text may be, and what the special tokens are for."""
    names = {id: name for name, id in tokenizer.special_tokens.items()}
    ends = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.context_length,
        **{role: name for role, spellings in ROLES.items() for name in spellings if name in tokenizer.special_tokens},
        **{role: names[id] for role, id in ends.items() if id in names},
        "add_bos_token": tokenizer.bos_id is not None and tokenizer.begin_ids == (tokenizer.bos_id,),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of settings that nobody reads yet."""
    files.write(path, (json.dumps(content, indent=2) + "\n").encode())

"""What a folder says of its tokenizer beside the vocabulary: tokenizer_config.json, special_tokens_map.json and
added_tokens.json.

Read as `transformers` reads them: which tokens begin and end texts, and, where there is no tokenizer.json, whether they
are put around one, which tokens are added to the vocabulary, and how those are looked for in a text.
"""

from collections.abc import Iterator
from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.tokenizer_json import MAX_ADDED_TOKENS, excerpt
from glassformer.tokenizers.untrusted_files import Json, file_in, read_json
from glassformer.tokenizers.vocabulary import checked_vocab

TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED_TOKENS, ADDED_TOKENS_DECODER = "added_tokens.json", "added_tokens_decoder"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
BETWEEN_CLS_AND_SEP = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer")  # by their class


def read_settings(folder: Path) -> Json:
    """The settings of a folder's tokenizer.

    Those of special_tokens_map.json stand above the others, unless the others list the added tokens: then it is older.
    """
    config, special = (
        read_json(file_in(folder, name)) if (folder / name).is_file() else {}
        for name in (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP)
    )
    return special | config if ADDED_TOKENS_DECODER in config else config | special


def read_added_tokens(folder: Path, settings: Json) -> list[Json]:
    """The tokens that a folder without a tokenizer.json adds to its vocabulary, as one would list them.

    A token without an id is special if the vocabulary has it, and none at all if not.
    """
    path = folder / TOKENIZER_CONFIG
    named = {token["content"]: token for token in (_token(path, each) for each in _special_tokens(settings))}
    if ADDED_TOKENS_DECODER in settings:
        decoder = settings[ADDED_TOKENS_DECODER]
        if not isinstance(decoder, dict) or not all(id.isdecimal() and len(id) < 10 for id in decoder):
            raise TokenizerError(f"{path}: expected {ADDED_TOKENS_DECODER}, an object of ids and their tokens.")
        listed = [_token(path, entry) | {"id": int(id)} for id, entry in decoder.items()]
        listed = [token | {"special": token["special"] or token["content"] in named} for token in listed]
    else:
        path = folder / ADDED_TOKENS
        content = read_json(file_in(folder, ADDED_TOKENS)) if path.is_file() else {}
        ids = checked_vocab(path, content) if content else {}
        listed = [
            _token(path, {"content": text, "special": text in named, "normalized": text not in named}) | {"id": id}
            for text, id in ids.items()
        ]
    tokens = {token["content"]: token for token in listed}
    if len(tokens) < len(listed) or len(tokens) + len(named) > MAX_ADDED_TOKENS:
        raise TokenizerError(f"{path}: expected at most {MAX_ADDED_TOKENS} added tokens, none of them twice.")
    return list((named | tokens).values())


def _special_tokens(settings: Json) -> Iterator[Json]:
    """The tokens that have a role or stand in a list of special ones."""
    lists = [settings[name] for name in LISTS if isinstance(settings.get(name), list)]
    for token in (*(settings.get(role) for role in ROLES), *(each for tokens in lists for each in tokens)):
        if isinstance(token, str):
            yield {"content": token, "special": True}
        elif isinstance(token, dict):
            yield token | {"special": True}


def _token(path: Path, entry: object) -> Json:
    """A token as tokenizer.json has it: what is not said of one is off, and one that is not special is normalized."""
    if isinstance(entry, dict) and isinstance(text := entry.get("content"), str) and text:
        special = bool(entry.get("special", False))
        defaults: Json = dict.fromkeys(FLAGS, False) | {"normalized": not special}
        flags: Json = {flag: entry.get(flag, default) for flag, default in defaults.items()}
        if all(isinstance(value, bool) for value in flags.values()):
            return {"content": text, **flags, "special": special}
    raise TokenizerError(f"{path}: {excerpt(entry)} is no added token.")


def declare(tokenizer: Tokenizer, settings: Json, *, around: bool) -> None:
    """Give a tokenizer its begin and end tokens; with `around`, the settings also say whether a text stands between."""
    if "bos_token" in settings:
        tokenizer.bos_id = _id_of(tokenizer, settings["bos_token"])
    if "eos_token" in settings:
        tokenizer.eos_id = _id_of(tokenizer, settings["eos_token"])
    if not around:
        return
    if isinstance(settings.get("add_bos_token"), bool):
        tokenizer.begin_ids = _alone(tokenizer.bos_id) if settings["add_bos_token"] else ()
    if isinstance(settings.get("add_eos_token"), bool):
        tokenizer.end_ids = _alone(tokenizer.eos_id) if settings["add_eos_token"] else ()
    if str(settings.get("tokenizer_class")).removesuffix("Fast") in BETWEEN_CLS_AND_SEP:
        tokenizer.begin_ids = _alone(_id_of(tokenizer, settings.get("cls_token", "<s>")))
        tokenizer.end_ids = _alone(_id_of(tokenizer, settings.get("sep_token", "</s>")))
    tokenizer.post_processor = None  # that of these tokens


def _alone(id: int | None) -> tuple[int, ...]:
    return () if id is None else (id,)


def _id_of(tokenizer: Tokenizer, token: object) -> int | None:
    """The id of a token as these files have it, a text or an object with its content; None: the vocabulary lacks it."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        return None
    if text in tokenizer.special_tokens:
        return tokenizer.special_tokens[text]
    data = text.encode(errors="replace")
    return next((id for id, each in tokenizer.vocab.items() if each == data), None)

"""What a folder says of its tokenizer beside the vocabulary: tokenizer_config.json and special_tokens_map.json.

Read as `transformers` reads them: which tokens begin and end texts, and, where no tokenizer.json has a post-processor
for that, whether they are put around one.
"""

from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.tokenizer_json import MAX_ADDED_TOKENS
from glassformer.tokenizers.untrusted_files import Json, file_in, read_json
from glassformer.tokenizers.vocabulary import checked_vocab, special_bytes

TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"


def read_settings(folder: Path) -> Json:
    """The settings of a folder's tokenizer; those of tokenizer_config.json stand above the older file's."""
    settings: Json = {}
    for name in (SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG):
        if (folder / name).is_file():
            settings |= read_json(file_in(folder, name))
    return settings


def read_added_tokens(folder: Path) -> dict[str, int]:
    """The tokens of added_tokens.json, which a folder without a tokenizer.json has beside its vocabulary."""
    if not (folder / ADDED_TOKENS).is_file():
        return {}
    content = read_json(file_in(folder, ADDED_TOKENS))
    tokens = checked_vocab(folder / ADDED_TOKENS, content) if content else {}
    if len(tokens) > MAX_ADDED_TOKENS or not all(special_bytes(text) for text in tokens):
        raise TokenizerError(f"{folder / ADDED_TOKENS}: expected at most {MAX_ADDED_TOKENS} tokens.")
    return tokens


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

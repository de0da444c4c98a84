"""What every vocabulary keeps to, also that of a stranger: distinct tokens, ids from 0 on, special tokens."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from glassformer.errors import TokenizerError

MAX_VOCAB_SIZE = 0x110000  # an id fits in one character of a Python string, which the fast twins of BPE use
LONGEST_SPECIAL_TOKEN = 1 << 10  # characters


def with_special_tokens(
    vocab: Mapping[int, bytes], special_tokens: Iterable[str]
) -> tuple[dict[int, bytes], dict[str, int]]:
    """The vocabulary with the special tokens that it lacked at the next ids, and the ids of all special tokens."""
    vocab = dict(vocab)
    if not vocab or min(vocab) < 0 or max(vocab) >= MAX_VOCAB_SIZE:
        raise TokenizerError(f"token ids go from 0 to {MAX_VOCAB_SIZE - 1}: this vocabulary is empty or goes beyond.")
    # Of two tokens with the same bytes, the special one came later.
    id_of = {token: id for id, token in sorted(vocab.items())}
    next_id = max(vocab) + 1
    special_ids: dict[str, int] = {}
    for text in special_tokens:
        token = special_bytes(text)
        if text in special_ids:
            raise TokenizerError(f"the special token {shorten(text)} is listed twice.")
        if token not in id_of:
            id_of[token], vocab[next_id] = next_id, token
            next_id += 1
        special_ids[text] = id_of[token]
    return vocab, special_ids


def special_bytes(text: str) -> bytes:
    """The bytes of a special token, which must be text, not empty, and no essay."""
    try:
        if 0 < len(text) <= LONGEST_SPECIAL_TOKEN:
            return text.encode()
    except UnicodeEncodeError:
        pass
    raise TokenizerError(
        f"{shorten(text)} cannot be a special token: expected Unicode text of 1 to {LONGEST_SPECIAL_TOKEN} characters."
    )


def shorten(token: bytes | str) -> str:
    """A token for a message, at most 40 characters of it."""
    return repr(token if len(token) <= 40 else token[:40])


# ---- as files have them


def checked_vocab(path: Path, vocab: object) -> dict[str, int]:
    """A vocabulary as JSON has it, when it is one: distinct texts to distinct ids from 0 on."""
    if not isinstance(vocab, dict) or not vocab:
        raise TokenizerError(f"{path}: expected a vocabulary, an object of tokens and their ids.")
    for text, id in vocab.items():
        if type(id) is not int or id < 0:
            raise TokenizerError(
                f"{path}: the id of {text[:40]!r} is {str(id)[:40]}, expected a whole number from 0 on."
            )
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError(f"{path}: two tokens have the same id.")
    return vocab


def check_no_gaps(path: Path, ordinary: Iterable[int], special: Iterable[int] = ()) -> None:
    """Raise unless ordinary and special tokens fill the ids from 0 on; special tokens at the end may leave some out."""
    special, ids = set(special), {*ordinary, *special}
    last = max(ids - special, default=-1)
    gap = next(id for id in range(len(ids) + 1) if id not in ids)
    if gap < last:
        raise TokenizerError(f"{path}: no token has the id {gap}, though others go up to {last}.")
    if max(special, default=0) > last + (1 << 16):
        raise TokenizerError(f"{path}: a special token has the id {max(special)}, far beyond the last token's, {last}.")


def checked_merges(path: Path, merges: object) -> list[tuple[str, str]]:
    """Merges as a list of pairs, when each is a line `left right` or a pair."""
    if not isinstance(merges, list):
        raise TokenizerError(f"{path}: expected merges, a list of pairs of tokens.")
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or [type(half) for half in pair] != [str, str] or not all(pair):
            raise TokenizerError(f"{path}: merge {len(pairs)} is {str(merge)[:40]!r}, expected two tokens.")
        pairs.append((pair[0], pair[1]))
    return pairs

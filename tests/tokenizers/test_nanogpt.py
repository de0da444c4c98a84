"""nanoGPT's meta.pkl: read without unpickling, whatever the file holds."""

import os
import pickle
import random
from pathlib import Path

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import CharTokenizer, Tokenizer
from support.counts import count
from support.damage import damaged

ALPHABET = "\n !abcXYZé世"
META = {
    "vocab_size": len(ALPHABET),
    "itos": dict(enumerate(ALPHABET)),
    "stoi": {character: id for id, character in enumerate(ALPHABET)},
}


def write(folder: Path, content: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path = folder / "meta.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
def test_the_characters_of_a_meta_pkl_are_a_tokenizer(protocol: int, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, META, protocol))
    assert isinstance(tokenizer, CharTokenizer)
    assert tokenizer.alphabet == ALPHABET
    assert tokenizer.encode("abc世") == [META["stoi"][character] for character in "abc世"]  # type: ignore[index]


def test_a_folder_with_a_meta_pkl_is_read_by_it(tmp_path: Path) -> None:
    write(tmp_path, META)
    assert Tokenizer.load(tmp_path).encode("abc世") == [META["stoi"][character] for character in "abc世"]  # type: ignore[index]


class Runs:
    """What unpickling would execute."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "content",
    [
        Runs(),
        {"itos": Runs(), "stoi": {}},
        [1, 2],
        {"itos": {0: "a"}},
        {"itos": {0: "ab"}, "stoi": {"ab": 0}},
        {"itos": {1: "a"}, "stoi": {"a": 1}},
        {"itos": {0: "a", 1: "a"}, "stoi": {"a": 1}},
        {"itos": {0: 5}, "stoi": {5: 0}},
        {"itos": {}, "stoi": {}},
        b"",
        b"\x80\x04",
        b"\x80\x04}r\xff\xff\xff\x7f.",  # a place in the memo for which Python's own reader asks for 32 GB
        b"\x80\x04X\xff\xff\xff\xffabc.",
    ],
)
def test_nothing_else_is_read_and_nothing_runs(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError):
        Tokenizer.load(write(tmp_path, content))
    assert not (tmp_path / "executed").exists()


def test_damaged_files_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    drawn = random.Random(0)
    data = pickle.dumps(META)
    for _ in range(count("damaged meta.pkl")):
        broken = damaged(data, drawn)
        try:
            Tokenizer.load(write(tmp_path, broken))
        except TokenizerError:
            continue

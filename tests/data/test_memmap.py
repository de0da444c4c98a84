"""Token files: what is written is what is read, anything else is an error; batches are pure functions."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.data import encoding, memmap
from glassformer.data.encoding import ReadProgress, encode_files
from glassformer.data.memmap import TokenFile, get_batch, open_tokens, random_batch
from glassformer.errors import CheckpointCorrupt, DataError, GlassformerError
from glassformer.tokenizers import BPETokenizer, CharTokenizer, SentencePieceTokenizer, Tokenizer
from glassformer.tokenizers.library import LibraryTokenizer
from support.counts import count

TEXT = "First Citizen:\r\nBefore we proceed any further, hear me speak.\n\nSmørrebrød, 你好, 🙂.\n" * 50


def written(tmp_path: Path, text: str = TEXT, name: str = "text.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def encoded(paths: list[Path], tokenizer: Tokenizer, out: Path, on_progress: ReadProgress | None = None) -> TokenFile:
    encode_files(paths, tokenizer, out, on_progress)
    return open_tokens(out, verify=False)


def test_the_file_holds_the_tokens_of_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BLOCK_BYTES", 7)  # cuts characters of several bytes
    tokenizer = CharTokenizer.from_text(TEXT)
    found = encoded([written(tmp_path)], tokenizer, tmp_path / "out")
    assert found.tokens.tolist() == tokenizer.encode(TEXT)
    again = open_tokens(tmp_path / "out")
    assert again.info == found.info
    assert again.tokens.dtype == np.dtype("<u2")
    assert (tmp_path / "out" / "tokens.bin").read_bytes() == np.array(tokenizer.encode(TEXT), "<u2").tobytes()
    assert Tokenizer.load(tmp_path / "out").decode(again.tokens[:99].tolist()) == TEXT[:99]


def test_files_are_encoded_one_after_the_other_and_progress_counts_their_bytes(tmp_path: Path) -> None:
    paths = [written(tmp_path, "abc", "a"), written(tmp_path, "", "b"), written(tmp_path, "cba", "c")]
    seen: list[tuple[int, int]] = []
    found = encoded(paths, CharTokenizer("abc"), tmp_path / "out", lambda *done: seen.append(done))
    assert found.tokens.tolist() == [0, 1, 2, 2, 1, 0]
    assert seen == [(3, 6), (6, 6)]


def test_texts_without_a_token_are_named_and_leave_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    with pytest.raises(DataError, match=f"There is no text in {re.escape(str(path))}"):
        encode_files([path], CharTokenizer("abc"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_byte_level_vocabulary_gives_the_ids_of_encode(tmp_path: Path) -> None:
    path = written(tmp_path)
    tokenizer = Tokenizer.train([path], 300, ["<|endoftext|>"])
    found = encoded([path], tokenizer, tmp_path / "out")
    assert found.tokens.tolist() == tokenizer.encode(TEXT)
    assert found.info.vocab_size == 300


def test_a_vocabulary_above_65536_is_stored_in_four_bytes(tmp_path: Path) -> None:
    tokenizer = CharTokenizer(
        "".join(map(chr, range(0xE000, 0xE000 + 0x1000))) + "".join(map(chr, range(1 << 16, 1 << 17)))
    )
    text = chr((1 << 17) - 1) + chr(0xE000)
    found = encoded([written(tmp_path, text)], tokenizer, tmp_path / "out")
    assert found.tokens.dtype == np.dtype("<u4")
    assert found.tokens.tolist() == [tokenizer.vocab_size - 1, 0]


def test_the_validation_part_is_the_end(tmp_path: Path) -> None:
    found = encoded([written(tmp_path, "abcdefghij")], CharTokenizer("abcdefghij"), tmp_path / "out")
    assert [part.tolist() for part in found.split(0.2)] == [list(range(8)), [8, 9]]
    assert found.split(0.0)[1].tolist() == []


def change(folder: Path, **fields: object) -> None:
    path = folder / "tokens.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def truncate(folder: Path) -> None:
    os.truncate(folder / "tokens.bin", 7)


def flip(folder: Path) -> None:
    data = bytearray((folder / "tokens.bin").read_bytes())
    data[5] ^= 64
    (folder / "tokens.bin").write_bytes(bytes(data))


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        flip,
        lambda folder: (folder / "tokens.bin").unlink(),
        lambda folder: (folder / "tokens.json").unlink(),
        lambda folder: (folder / "tokens.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: change(folder, count=10**15),
        lambda folder: change(folder, dtype="object"),
        lambda folder: change(folder, surprise=1),
    ],
)
def test_a_spoilt_folder_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    encode_files([written(tmp_path)], CharTokenizer.from_text(TEXT), tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(GlassformerError):
        open_tokens(tmp_path / "out")


@pytest.mark.parametrize(
    "fields", [{"count": 10**15}, {"dtype": "object"}, {"dtype": "uint32"}, {"vocab_size": 3}, {"vocab_size": -1}]
)
def test_numbers_that_do_not_fit_the_file_are_refused_even_where_the_manifest_agrees(
    tmp_path: Path, fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memmap.files, "verify", lambda folder: None)
    encode_files([written(tmp_path)], CharTokenizer.from_text(TEXT), tmp_path / "out")
    change(tmp_path / "out", **fields)
    with pytest.raises(DataError):
        open_tokens(tmp_path / "out")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    encode_files([written(tmp_path)], CharTokenizer.from_text(TEXT), tmp_path / "out")
    flip(tmp_path / "out")
    with pytest.raises(CheckpointCorrupt, match="changed since it was written"):
        open_tokens(tmp_path / "out")


def test_text_that_is_not_utf_8_is_refused_by_the_place_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "BLOCK_BYTES", 4)
    path = tmp_path / "text.txt"
    for data, place in ((b"abcdef\xffgh", 6), (b"abc\xe4\xbda", 3), (b"ab\xe4\xbd", 2)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"byte {place} cannot be read"):
            encode_files([path], CharTokenizer("abcdefgh"), tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["text.txt"]


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError):
            encode_files([path], CharTokenizer("a"), tmp_path / "out")


def test_a_text_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path, tokenizer = written(tmp_path, "aaaa"), CharTokenizer("a")
    [plan] = encoding._plans([path], tokenizer, "text", "all", 1 << 20)
    written_so_far = encoding.write_shard(tmp_path, Path(), tokenizer, plan)
    assert next(written_so_far) == 4
    path.write_text("aaaaaa")
    with pytest.raises(DataError, match="changed while it was read"):
        next(written_so_far)
    assert not (tmp_path / "tokens.bin").exists()


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        encode_files([written(tmp_path, "")], CharTokenizer("a"), tmp_path / "out")


def test_tokenizers_with_other_tokens_have_other_fingerprints() -> None:
    prints = [encoding.fingerprint(CharTokenizer(alphabet)) for alphabet in ("abc", "acb", "ab", "abcd")]
    assert len(set(prints)) == 4
    assert encoding.fingerprint(CharTokenizer("abc")) == prints[0]


def test_tokenizers_with_the_same_tokens_and_other_rules_have_other_fingerprints() -> None:
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"ab", 257: b"bc", 258: b"abc"}
    merges = [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c")]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a"]
    kinds = [
        BPETokenizer(vocab, merges),
        BPETokenizer(vocab, [merges[1], merges[0], merges[2]]),
        BPETokenizer(vocab, merges, pattern="llama3"),
        BPETokenizer(vocab, merges, whole_pieces=True),
        SentencePieceTokenizer(pieces, [0.0] * 261),
        SentencePieceTokenizer(pieces, [0.0] * 261, collapse_spaces=True),
    ]
    assert len({encoding.fingerprint(tokenizer) for tokenizer in kinds}) == len(kinds)


def test_tokens_are_read_by_who_makes_the_same_whatever_its_file_says_beside_them(tmp_path: Path) -> None:
    end = "<|endoftext|>"
    path = written(tmp_path)
    tokenizer = Tokenizer.train([path], 300, [end])
    assert isinstance(tokenizer, BPETokenizer)
    encode_files([path], tokenizer, tmp_path / "out")
    begun = Tokenizer.load(tokenizer.save(tmp_path / "tok"))
    begun.begin_with(end)
    assert encoding.fingerprint(begun) != encoding.fingerprint(tokenizer)
    assert len(open_tokens(tmp_path / "out", tokenizer=begun).tokens)
    file = json.loads(tokenizer.tokenizer_json())
    file["model"] |= {"merges": [" ".join(merge) for merge in file["model"]["merges"]], "end_of_word_suffix": ""}
    library = LibraryTokenizer(json.dumps(file, indent=1))
    library.eos_id = tokenizer.eos_id
    assert len(open_tokens(tmp_path / "out", tokenizer=library).tokens)
    for other in (
        BPETokenizer(tokenizer.vocab, tokenizer.merges[:9], [end]),  # type: ignore[index]
        BPETokenizer(tokenizer.vocab, tokenizer.merges, [end], "cl100k"),
        BPETokenizer(tokenizer.vocab, tokenizer.merges),
    ):
        with pytest.raises(DataError, match="another tokenizer"):
            open_tokens(tmp_path / "out", tokenizer=other)
    (tmp_path / "out" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="another tokenizer"):
        open_tokens(tmp_path / "out", tokenizer=begun, verify=False)


def test_a_tokenizer_has_the_same_fingerprint_after_it_was_saved_and_loaded(tmp_path: Path) -> None:
    ranks = {i: bytes([i]) for i in range(256)} | {256: b"ab", 257: b"abc"}
    for tokenizer in (CharTokenizer("cab"), BPETokenizer(ranks, None, ["<|endoftext|>"], "cl100k")):
        tokenizer.save(tmp_path, overwrite=True)
        assert encoding.fingerprint(Tokenizer.load(tmp_path)) == encoding.fingerprint(tokenizer)


# ---- batches


def test_targets_are_the_tokens_one_further_on() -> None:
    tokens = np.arange(100, dtype=np.uint16)
    x, y = get_batch(tokens, 32, 10)
    assert x.shape == y.shape == (32, 10)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(y, x + 1)
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_every_start_is_drawn_as_often_as_the_others() -> None:
    draws = count("batch starts")
    x, y = get_batch(np.arange(17), draws, 7, generator=np.random.default_rng(0))
    starts = np.bincount(x[:, 0].numpy(), minlength=10)
    assert len(starts) == 10  # 0 … 17 − 7 − 1
    assert y.max() == 16
    expected = draws / 10
    assert (abs(starts - expected) < 5 * np.sqrt(expected * 0.9)).all()


def test_the_shortest_text_gives_its_only_stretch_and_a_shorter_one_an_error() -> None:
    x, y = get_batch(np.arange(8), 3, 7)
    assert x.tolist() == [list(range(7))] * 3
    assert y[0].tolist() == list(range(1, 8))
    with pytest.raises(DataError, match="One span with its targets needs 8 tokens, but the text has 7"):
        get_batch(np.arange(7), 3, 7)


def test_a_device_that_is_not_there_is_not_ignored() -> None:
    with pytest.raises((RuntimeError, AssertionError)):
        get_batch(np.arange(100), 2, 4, "cuda:99")


@settings(max_examples=50)
@given(seed=st.integers(0, 2**40), step=st.integers(0, 2**40), micro_step=st.integers(0, 1000))
def test_a_batch_is_a_pure_function_of_seed_step_and_micro_step(seed: int, step: int, micro_step: int) -> None:
    tokens = np.arange(10**6)

    def batch(seed: int, step: int, micro_step: int) -> torch.Tensor:
        torch.manual_seed(1)
        return random_batch(tokens, 4, 8, seed=seed, step=step, micro_step=micro_step)[0]

    first = batch(seed, step, micro_step)
    assert torch.equal(first, batch(seed, step, micro_step))
    for other in ((seed + 1, step, micro_step), (seed, step + 1, micro_step), (seed, step, micro_step + 1)):
        assert not torch.equal(first, batch(*other))


def test_a_memory_mapped_file_is_read_as_an_array_is(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(65536, size=5000).astype("<u2")
    ids.tofile(tmp_path / "ids.bin")
    mapped = np.memmap(tmp_path / "ids.bin", dtype="<u2", mode="r")
    for a, b in zip(random_batch(mapped, 8, 64, seed=1, step=2), random_batch(ids, 8, 64, seed=1, step=2), strict=True):
        assert torch.equal(a, b)

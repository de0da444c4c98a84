"""Pairs of texts: reading them, and batches in which every pair comes once an epoch."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data.pairs import Order, Ragged, read_pairs, read_transcripts
from glassformer.errors import DataError


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_two_files_are_read_line_by_line(tmp_path: Path) -> None:
    source = written(tmp_path / "a.en", "A dog.\n\nTwo cats. \r\nAlone\n")
    target = written(tmp_path / "a.de.gz", gzip.compress(b"Ein Hund.\nNichts\nZwei Katzen.\n\n"))
    assert read_pairs(source, target) == [("A dog.", "Ein Hund."), ("Two cats.", "Zwei Katzen.")]


def test_a_line_may_have_both_texts_and_more(tmp_path: Path) -> None:
    both = written(tmp_path / "cmn.txt", "\ufeffHi.\t嗨。\tCC-BY 2.0\nRun.\t你用跑的。\tCC-BY 2.0\n\n")
    assert read_pairs(both) == [("Hi.", "嗨。"), ("Run.", "你用跑的。")]


def test_what_ends_a_line_in_unicode_does_not_end_it_here(tmp_path: Path) -> None:
    source, target = written(tmp_path / "a", "one\u2028two\x0bthree\n"), written(tmp_path / "b", "eins\x85zwei\n")
    assert read_pairs(source, target) == [("one\u2028two\x0bthree", "eins\x85zwei")]


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("a\nb\n", "x\n", "has 2 lines and .* has 1"),
        ("a\tx\nb\n", None, "line 2 has no tab"),
        ("", "", "no pair of texts"),
        (" \n", "x\n", "no pair of texts"),
        (b"\xff\xfe\n", "x\n", "not UTF-8"),
        ("a\tb\n\n\n\nlonely\n", None, "line 5 has no tab"),
        (gzip.compress(b"a\n", mtime=0)[:-6], "x\n", "no whole gzip file"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, source: str | bytes, target: str | None, sentence: str
) -> None:
    other = None if target is None else written(tmp_path / "target", target)
    with pytest.raises(DataError, match=sentence):
        read_pairs(written(tmp_path / "source", source), other)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_pairs(tmp_path / "nowhere")


texts = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=30)


@given(texts=texts, data=st.data())
def test_ragged_sequences_are_those_that_were_given(texts: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.of(texts)
    assert [ragged[row].tolist() for row in range(len(ragged))] == texts
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=5)))
    filled, valid = ragged.padded(rows, 7)
    assert [line[ours].tolist() for line, ours in zip(filled, valid, strict=True)] == [texts[row] for row in rows]
    assert (filled[~valid] == 7).all()
    assert valid.any(0).all(), "no column is padding alone"
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    kept = ragged.where(chosen)
    assert [kept[row].tolist() for row in range(len(kept))] == [
        text for text, keep in zip(texts, chosen, strict=True) if keep
    ]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=300), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_pair_comes_once_an_epoch(lengths: list[int], size: int, seed: int) -> None:
    order = Order(np.array(lengths), size, seed)
    for epoch in range(2):
        batches = [order.batch(epoch * order.n_batches + n) for n in range(order.n_batches)]
        seen = np.concatenate(batches)
        assert len(set(seen.tolist())) == len(seen) > len(lengths) - size
    again = Order(np.array(lengths), size, seed)
    assert all(np.array_equal(again.batch(n), order.batch(n)) for n in reversed(range(2 * order.n_batches))), (
        "a batch is a function of its number alone"
    )
    assert sorted(np.concatenate(list(order.in_turn())).tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize(("n", "size"), [(63, 32), (1599, 32), (27, 4)])
def test_no_pair_is_left_out_for_good(n: int, size: int) -> None:
    order = Order(np.arange(n), size, seed=0)
    seen = {row for number in range(25 * order.n_batches) for row in order.batch(number).tolist()}
    assert seen == set(range(n)), "the longest ones too"


def test_batches_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=5000)
    order = Order(lengths, 50, seed=0)
    spans = [int(np.ptp(lengths[order.batch(n)])) for n in range(order.n_batches)]
    assert np.median(spans) <= 3


def test_epochs_differ() -> None:
    order = Order(np.ones(64, dtype=np.int64), 8, seed=0)
    first, second = (torch.from_numpy(order.batch(n)).tolist() for n in (0, 8))
    assert first != second


# ---- lists of recordings


@pytest.mark.parametrize(
    "name", ["../other/a.wav", "/etc/hostname", "link.wav", "linked/a.wav", "in/../../other/a.wav"]
)
def test_a_list_names_no_recordings_outside_its_folder(name: str, tmp_path: Path) -> None:
    for folder in ("list/in", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "other" / "a.wav").touch()
    (tmp_path / "list" / "link.wav").symlink_to(tmp_path / "other" / "a.wav")
    (tmp_path / "list" / "linked").symlink_to(tmp_path / "other")
    listing = written(tmp_path / "list" / "list.tsv", f"{name}\tsecret\n")
    with pytest.raises(DataError, match=r"which is not in .*: name the folder of its recordings with --recordings\."):
        read_transcripts(listing, None, "--recordings")


def test_recordings_are_where_the_list_is_or_where_the_reader_says(tmp_path: Path) -> None:
    for folder in ("list/in", "other"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("list/in/a.wav", "other/a.wav"):
        (tmp_path / path).touch()
    inside = written(tmp_path / "list" / "list.tsv", "in/a.wav\tone\n")
    assert read_transcripts(inside, None, "") == [(tmp_path / "list" / "in" / "a.wav", "one")]
    elsewhere = written(tmp_path / "list" / "list.tsv", f"a.wav\tone\n{tmp_path / 'other' / 'a.wav'}\ttwo\n")
    assert read_transcripts(elsewhere, tmp_path / "other", "") == [
        (tmp_path / "other" / "a.wav", "one"),
        (tmp_path / "other" / "a.wav", "two"),
    ]

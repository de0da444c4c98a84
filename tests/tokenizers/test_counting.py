"""Counting pre-tokens: the same by any number of workers, and by the kernel, however blocks are cut."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

import glassformer as gf
from glassformer.errors import DataError, TokenizerError
from glassformer.kernels import count as kernels
from glassformer.kernels.split import CODES
from glassformer.tokenizers import counting, counting_fast, pretokenize
from glassformer.tokenizers.bpe_train import count_pre_tokens
from glassformer.tokenizers.corpus import FileSpan, cuts_of, files_of, shares_of
from glassformer.tokenizers.counting import _count
from glassformer.tokenizers.pretokenize import PATTERNS, PreTokenizer
from support.counts import count

END = "<|endoftext|>"


def documents() -> bytes:
    text = "Once upon a time\n\nthere was 1 cat's hat. 漢字 é" + " " * 9
    return "".join(f"{text[: 7 + i * 13 % 40]}{END * (1 + (i % 17 == 0))}" for i in range(4_000)).encode()


# ---- by the kernel


def counted(
    paths: Sequence[Path], special_tokens: Sequence[str], pattern: str, workers: int = 1
) -> Mapping[bytes, int]:
    """What the kernel counts."""
    shares = shares_of(files_of(paths), workers, [token.encode() for token in special_tokens])
    *sizes, counts = counting_fast.count_shares(shares, pattern, special_tokens)
    assert sum(sizes) == sum(path.stat().st_size for path in paths)
    return dict(counts)


def counted_in_python(paths: Sequence[Path], special_tokens: Sequence[str], pattern: str) -> Mapping[bytes, int]:
    with gf.use("readable"):
        *_, counts = counting.count_shares(shares_of(files_of(paths), 1, []), pattern, special_tokens)
    return counts


PIECES = [
    *(
        "the",
        " cat",
        "'s",
        "'LL",
        " 1234",
        "  ",
        "\n",
        "\r\n",
        " \n \n",
        "!",
        "/\n",
        "é",
        "漢字",
        " हिन्दी",
        "ſ",
        "ǅa",
        "AbC",
    ),
    *("👩‍👩‍👧", "e\u0301", "\u3000", "\x00", "\u0085", "<", "|>", END, END[:-1], "ab", "a", " " * 9, "x" * 30),
]


def test_the_kernel_counts_what_python_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(15)
    paths = [tmp_path / "a", tmp_path / "b"]
    for _ in range(count("corpora counted in blocks")):
        for path in paths:
            path.write_text("".join(rng.choices(PIECES, k=rng.randrange(1, 80))), "utf-8", newline="")
        special_tokens = rng.sample([END, END + END, "ab", "a", "< ", "漢", "\n\n"], rng.randrange(4))
        pattern = rng.choice(list(PATTERNS))
        monkeypatch.setattr(counting_fast, "READ_BYTES", rng.choice([1, 7, 64, 1 << 19]))
        monkeypatch.setattr(counting_fast, "SLOTS", rng.choice([4, 1 << 10]))
        expected = counted_in_python(paths, special_tokens, pattern)
        for workers in (1, rng.randrange(2, 5)):
            assert counted(paths, special_tokens, pattern, workers) == expected, (special_tokens, pattern, workers)


def test_pre_tokens_that_share_a_known_hash_do_not_share_a_slot() -> None:
    """All words of four letters that FNV-1a, a hash without a seed, sends to one slot of 4,096."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    words = np.stack(np.meshgrid(*[letters] * 4, indexing="ij"), -1).reshape(-1, 4)
    hashes = np.full(len(words), 14695981039346656037, np.uint64)
    for i in range(4):
        hashes = (hashes ^ words[:, i]) * np.uint64(1099511628211)
    alike = words[(hashes ^ hashes >> np.uint64(32)) % 4096 == 99]
    text = np.frombuffer(b"".join(word.tobytes() for word in alike), np.uint8)
    homes = []
    for _ in range(3):
        table = kernels.empty_table(1 << 12)
        assert all(kernels.add(table, text, start, start + 4, 1) for start in range(0, len(text), 4))
        used = np.flatnonzero(table.slots["count"])
        assert len(used) == len(alike) > 80
        assert (np.diff(used) == 1).sum() < 30
        assert kernels.words_of(table)[0].tobytes() == text.tobytes()
        homes.append(used.tolist())
    assert homes[0] != homes[1] != homes[2]


def test_words_that_differ_in_the_highest_bits_alone_have_hashes_of_their_own() -> None:
    """Two blocks of sixteen bytes, of which one takes back in its second half what differs in the first."""
    blocks = b";;;;;;;;;;;;;;;;", b"{;;;;;;;{;;;{;;;"
    for seed in range(20):
        texts = [np.frombuffer(b"".join(choice), np.uint8) for choice in product(blocks, repeat=6)]
        assert len({kernels.hash_of(text, 0, len(text), seed) for text in texts}) == len(texts)


def test_the_kernel_counts_between_ten_thousand_special_tokens_with_one_prefix(tmp_path: Path) -> None:
    tokens = [f"<|a common prefix {i}|>" for i in range(10_000)]
    rng = random.Random(17)
    parts = [rng.choice(["x y", "é", "<|a common prefix 12", *rng.choices(tokens, k=3)]) for _ in range(600)]
    (tmp_path / "c").write_text("".join(parts), "utf-8")
    assert counted([tmp_path / "c"], tokens, "gpt2") == counted_in_python([tmp_path / "c"], tokens, "gpt2")


def test_the_kernel_counts_real_texts_as_python_does(data_dir: Path) -> None:
    paths = [data_dir / "text" / name for name in ("tinyshakespeare.txt", "tinystories-197k.txt", "cs336-corpus.en")]
    assert counted(paths, [END], "gpt2", 3) == counted_in_python(paths, [END], "gpt2")


def test_every_published_pattern_has_a_scanner() -> None:
    assert set(PATTERNS) == set(CODES)


def test_large_files_are_counted_by_the_kernel_and_small_ones_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").write_text("ab ab")
    (tmp_path / "large").write_text("ab ab " * (1 << 19))
    calls = []
    kernel = counting_fast.PreTokenTable.count
    monkeypatch.setattr(counting_fast.PreTokenTable, "count", lambda *arguments: calls.append(0) or kernel(*arguments))
    assert count_pre_tokens(tmp_path / "small") == {b"ab": 1, b" ab": 1}
    assert not calls
    large = count_pre_tokens(tmp_path / "large")
    assert calls
    assert (dict(large), large[b" ab"], len(large)) == ({b"ab": 1, b" ab": (1 << 20) - 1, b" ": 1}, (1 << 20) - 1, 3)


def test_where_utf8_ends_is_where_python_says(tmp_path: Path) -> None:
    rng = random.Random(16)
    pool = [piece.encode() for piece in PIECES] + [bytes([byte]) for byte in range(0x7E, 0x100)]
    pool += [
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xe0\xa0\x80",
        b"\xf0\x90\x80\x80",
    ]
    for _ in range(count("bytes that may be UTF-8")):
        data = b"".join(rng.choices(pool, k=rng.randrange(5)))
        data = data[: rng.randrange(len(data) + 1)]
        try:
            data.decode()
            expected = len(data)
        except UnicodeDecodeError as error:
            expected = error.start
        assert kernels.utf8_end(np.frombuffer(data, np.uint8)) == expected, data


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc3"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_not_utf8_is_refused_as_in_python(tmp_path: Path, bad: bytes, workers: int) -> None:
    n_threads = threading.active_count()
    path = tmp_path / "c"
    for data in (bad, b"ab" + bad, b"ab " * 50 + bad + b" ab" * 50):
        path.write_bytes(data)
        messages = []
        for module, mode in ((counting, "readable"), (counting_fast, "fast")):
            shares = shares_of([(path, len(data))], workers if mode == "fast" else 1, [])
            with pytest.raises(DataError, match="not UTF-8") as error, gf.use(mode):
                list(module.count_shares(shares, "gpt2", []))
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    assert threading.active_count() == n_threads


def test_text_without_an_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenize, "LONGEST", 1000)
    monkeypatch.setattr(counting_fast, "READ_BYTES", 64)
    (tmp_path / "c").write_text("é" * 5000)
    with pytest.raises(TokenizerError, match="characters in a row, from 'éé"):
        counted([tmp_path / "c"], [], "gpt2")
    (tmp_path / "c").write_text("é" * 900)
    assert counted([tmp_path / "c"], [], "gpt2") == {"é".encode() * 900: 1}


def test_a_file_that_has_shrunk_ends_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("ab ab")
    *_, counts = counting_fast.count_shares([[FileSpan(tmp_path / "c", 0, 500)]], "gpt2", [])
    assert counts == {b"ab": 1, b" ab": 1}
    with pytest.raises(DataError, match="cannot be read"):
        list(counting_fast.count_shares([[FileSpan(tmp_path / "gone", 0, 500)]], "gpt2", []))


def test_who_stops_listening_ends_the_threads(tmp_path: Path) -> None:
    n_threads = threading.active_count()
    (tmp_path / "c").write_text("ab ab " * (1 << 19))
    results = counting_fast.count_shares(shares_of(files_of([tmp_path / "c"]), 3, []), "gpt2", [])
    next(results)
    assert threading.active_count() > n_threads
    results.close()
    assert threading.active_count() == n_threads


# ---- in processes


@pytest.mark.parametrize("special_tokens", [[END], [END, END + END], [END, "x|><|x"], []])
def test_processes_count_what_one_counts(tmp_path, special_tokens):
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_bytes(documents())
    paths[1].write_bytes("no wall in here é漢 ".encode() * 3_000)
    serial = count_pre_tokens(paths, special_tokens, workers=1)
    assert count_pre_tokens(paths, special_tokens, workers=3) == serial
    assert counted(paths, special_tokens, "gpt2", workers=3) == serial


def test_a_file_without_the_special_tokens_is_shared_too(tmp_path):
    (tmp_path / "c").write_text("one two " * 100)
    assert len(shares_of(files_of([tmp_path / "c"]), 4, [END.encode()])) == 4


@pytest.mark.parametrize("special_tokens", [["ab", "bc"], ["aa"], ["aba", "bab"], ["a", "aab"], []])
def test_a_file_is_never_cut_through_a_special_token(tmp_path, special_tokens):
    path = tmp_path / "c"
    pretokenizer = PreTokenizer(PATTERNS["gpt2"], special_tokens)
    for seed in range(60):
        data = "".join(random.Random(seed).choices("abc  d\n", k=90)).encode()
        path.write_bytes(data)
        offsets = cuts_of(path, len(data), 12, [token.encode() for token in special_tokens])
        whole = list(_count(pretokenizer, [FileSpan(path, 0, len(data))]))[-1]
        parts = list(_count(pretokenizer, [FileSpan(path, a, b) for a, b in pairwise(offsets)]))[-1]
        assert parts == whole, (data, offsets)


def test_an_interrupt_leaves_no_process_behind(tmp_path):
    corpus = tmp_path / "c"
    corpus.write_bytes(documents() * 120)
    code = (
        "import glassformer as gf\n"
        "from glassformer.tokenizers.bpe_train import count_pre_tokens\n"
        "if __name__ == '__main__':\n"
        f"    print('go', flush=True)\n    with gf.use('readable'):\n"
        f"        count_pre_tokens({str(corpus)!r}, [{END!r}], workers=2)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert run.stdout is not None
    run.stdout.readline()
    deadline = time.monotonic() + 20
    while len(processes_of(run.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=120)
    assert run.returncode != 0
    deadline = time.monotonic() + 5
    while processes_of(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(run.pid) == []


def processes_of(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    (tmp_path / "c").write_bytes(documents())
    script = tmp_path / "run.py"
    script.write_text(
        f"from glassformer.tokenizers import Tokenizer\nTokenizer.train({str(tmp_path / 'c')!r}, 300, workers=2)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode != 0
    assert 'if __name__ == "__main__"' in run.stderr.splitlines()[-1]
    assert not multiprocessing.active_children()


def test_what_a_process_cannot_count_is_said_as_without_processes(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"ab " * 50 + b"\xff")
    shares = shares_of(files_of([tmp_path / "c"]), 2, [])
    with gf.use("readable"), pytest.raises(DataError, match="byte 150 cannot be read"):
        list(counting.count_shares(shares, "gpt2", []))
    assert not multiprocessing.active_children()

"""Encoding in shards: the same bytes by any number of workers, whoever is killed or stopped, and nothing of others."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer import files
from glassformer.data.encoding import LOCK, encode_files
from glassformer.data.memmap import TokenShards, open_tokens, random_batch
from glassformer.errors import CheckpointError, ConfigError, DataError, GlassformerError
from glassformer.files import exclusive_lock, verify
from glassformer.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from support.commands import run
from support.counts import count

END = "<|endoftext|>"
SHARD = 3_000  # bytes, of a corpus of about 30,000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A text, an empty one, documents in lines and a small text."""
    folder, choose = tmp_path_factory.mktemp("corpus"), random.Random(0)
    words = ["the cat", " sat", "\n\n", " 漢字", "'s", " 1234", "🙂", END, "<|end", "   ", "é"]
    paths = [folder / name for name in ("a.txt", "empty.txt", "b.jsonl", "c.txt")]
    paths[0].write_text("".join(choose.choices(words, k=4_000)), "utf-8")
    paths[1].touch()
    documents = ["".join(choose.choices(words, k=choose.randrange(40))) for _ in range(60)]
    paths[2].write_text("".join(f"{json.dumps({'text': text})}\n" for text in documents))
    paths[3].write_text("the last cat")
    return paths


@pytest.fixture(scope="module")
def tokenizer(corpus: list[Path]) -> Tokenizer:
    return Tokenizer.train(corpus, 320, [END])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(corpus: list[Path], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in shards, in one go."""
    out = tmp_path_factory.mktemp("whole") / "tokens"
    assert len(encode_files(corpus, tokenizer, out, shard_bytes=SHARD).shards) > 8
    return out


def expected_ids(corpus: list[Path], tokenizer: Tokenizer) -> list[int]:
    ids = []
    for path in corpus:
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                ids += [*tokenizer.encode(json.loads(line)["text"]), tokenizer.special_tokens[END]]
        else:
            ids += tokenizer.encode(path.read_text("utf-8"))
    return ids


def test_the_shards_together_are_the_tokens_of_the_corpus(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    expected = expected_ids(corpus, tokenizer)
    tokens = open_tokens(whole, tokenizer=tokenizer).tokens
    assert isinstance(tokens, TokenShards)
    assert tokens[np.arange(len(tokens))].tolist() == expected
    encode_files(corpus, tokenizer, tmp_path / "one")
    assert (tmp_path / "one" / "tokens.bin").read_bytes() == np.array(expected, "<u2").tobytes()
    verify(whole)


def test_shards_are_read_as_one_array_is(whole: Path) -> None:
    tokens = open_tokens(whole).tokens
    array = tokens[np.arange(len(tokens))]
    for step in range(5):
        ours, theirs = (random_batch(each, 16, 3_000, seed=0, step=step) for each in (tokens, array))
        assert all(map(torch.equal, ours, theirs))
    assert tokens.max() == array.max()
    for start, stop in ((0, 10), (5, len(array)), (1_000, 5_000), (7, 7)):
        assert tokens[start:stop][np.arange(stop - start)].tolist() == array[start:stop].tolist()
        assert len(tokens[start:stop]) == stop - start


def test_how_many_threads_there_are_changes_no_byte(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    encode_files(corpus, tokenizer, tmp_path / "out", threads=3, shard_bytes=SHARD)
    assert content(tmp_path / "out") == content(whole)


def test_a_worker_that_is_killed_in_the_middle_changes_no_byte(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    said: list[tuple[int, int]] = []

    def kill(done: int, total: int) -> None:
        if not said:
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
        said.append((done, total))

    encode_files(corpus, tokenizer, tmp_path / "out", kill, workers=2, shard_bytes=SHARD)
    assert content(tmp_path / "out") == content(whole)
    total = sum(path.stat().st_size for path in corpus)
    assert said[-1] == (total, total)
    assert not multiprocessing.active_children()


def test_who_is_stopped_has_whole_shards_and_goes_on_with_the_others(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    choose = random.Random(1)
    for _ in range(count("encodings stopped")):
        stop_after = choose.randrange(sum(path.stat().st_size for path in corpus))

        def stop(done: int, total: int, stop_after: int = stop_after) -> None:
            if done > stop_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encode_files(corpus, tokenizer, out, stop, shard_bytes=SHARD)
        left = content(out) if out.exists() else {}
        assert {name: whole.joinpath(name).read_bytes() for name in left} == left
        assert "tokens.json" not in left
        with pytest.raises(DataError, match="not a folder of tokens"):
            open_tokens(out)
        times = {name: (out / name).stat().st_mtime_ns for name in left if name.endswith(".bin")}
        encode_files(corpus, tokenizer, out, shard_bytes=SHARD)
        assert content(out) == content(whole)
        assert {name: (out / name).stat().st_mtime_ns for name in times} == times
        for path in out.iterdir():
            path.unlink()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [damage, Path.unlink, lambda path: os.truncate(path, 3)])
@pytest.mark.parametrize("name", ["tokens-00002-of-*.bin", "shard-00002-of-*.json", "tokens.json", "manifest.json"])
def test_what_is_missing_or_damaged_is_written_again_and_nothing_else(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for file, data in content(whole).items():
        (out / file).write_bytes(data)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("tokens-*.bin")}
    [path] = out.glob(name)
    spoil(path)
    encode_files(corpus, tokenizer, out, shard_bytes=SHARD)
    assert content(out) == content(whole)
    rewritten = {name for name, time in times.items() if (out / name).stat().st_mtime_ns != time}
    assert all("00002" in name for name in rewritten)


def test_tokens_of_other_texts_or_by_another_tokenizer_are_replaced_when_asked_alone(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode_files(corpus[:1], tokenizer, out)
    before = content(out)
    other = BPETokenizer(tokenizer.vocab, tokenizer.merges[:20], [END])  # type: ignore[attr-defined]
    for paths, by, options in (
        (corpus[3:], tokenizer, {}),
        (corpus[:1], other, {}),
        (corpus[:1], tokenizer, {"allowed_special": "none"}),
        (corpus[:1], tokenizer, {"shard_bytes": SHARD}),
    ):
        with pytest.raises(CheckpointError, match=r"is there already: choose another place, or say overwrite=True"):
            encode_files(paths, by, out, **options)  # type: ignore[arg-type]
        assert content(out) == before
    encode_files(corpus[3:], tokenizer, out, overwrite=True)
    assert open_tokens(out).tokens.tolist() == tokenizer.encode("the last cat")


@pytest.mark.parametrize("change", ["cat", "dog" * SHARD])  # of as many shards, and of more
def test_who_was_stopped_and_has_changed_a_file_begins_anew_when_asked_alone(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path, change: str
) -> None:
    out, text = tmp_path / "out", tmp_path / "text.txt"
    text.write_bytes(corpus[0].read_bytes())

    def stop(done: int, total: int) -> None:
        if any(out.glob("tokens-*.bin")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_files([text], tokenizer, out, stop, shard_bytes=SHARD)
    before = content(out)
    text.write_text(change + text.read_text("utf-8"), "utf-8")
    with pytest.raises(DataError, match=r"an encoding that was stopped.* before they changed: .* by overwrite=True"):
        encode_files([text], tokenizer, out, shard_bytes=SHARD)
    (out / "notes").write_text("years of work")
    with pytest.raises(CheckpointError, match="which was not written here"):
        encode_files([text], tokenizer, out, shard_bytes=SHARD, overwrite=True)
    (out / "notes").unlink()
    assert content(out) == before
    encode_files([text], tokenizer, out, shard_bytes=SHARD, overwrite=True)
    encode_files([text], tokenizer, tmp_path / "fresh", shard_bytes=SHARD)
    assert content(out) == content(tmp_path / "fresh")


def test_a_shard_of_a_type_that_is_not_known_is_none_of_ours(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    plan = {"file": "tokens.bin", "dtype": "float16", "tokenizer": "", "field": "text", "special": "all", "sources": []}
    (out / "shard.json").write_text(json.dumps(plan | {"count": 0, "sha256": ""}))
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="out"):
            encode_files(corpus, tokenizer, out, overwrite=overwrite)
    assert [path.name for path in out.iterdir()] == ["shard.json"]


def test_what_others_have_in_a_folder_stays(corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    CharTokenizer("ab").save(notes)
    (tmp_path / "file").write_text("years of work")
    for out in (notes, tmp_path / "file", corpus[0].parent):
        for overwrite in (False, True):
            with pytest.raises(GlassformerError):
                encode_files(corpus, tokenizer, out, overwrite=overwrite)
    assert Tokenizer.load(notes).vocab_size == 2
    assert (tmp_path / "file").read_text() == "years of work"


def test_two_processes_do_not_write_one_folder(corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        exclusive_lock(tmp_path / "out" / LOCK),
        pytest.raises(DataError, match="is being written by another process"),
    ):
        encode_files(corpus, tokenizer, tmp_path / "out")


def test_who_comes_late_does_not_write_over_what_another_process_has_finished(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    @contextmanager
    def lock_of_the_late(path: Path) -> Iterator[None]:
        monkeypatch.undo()
        encode_files(corpus[:1], tokenizer, out)
        with exclusive_lock(path):
            yield

    monkeypatch.setattr(files, "exclusive_lock", lock_of_the_late)
    with pytest.raises(DataError, match="is being written by another process"):
        encode_files(corpus[3:], tokenizer, out)
    assert len(open_tokens(out).tokens) == len(tokenizer.encode(corpus[0].read_text("utf-8")))


def test_a_tokenizer_stays_where_its_tokens_could_not_be_written(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tokenizer.save(tmp_path / "tok")
    (tmp_path / "broken.txt").write_bytes(b"abc \xff\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        encode_files([tmp_path / "broken.txt"], tokenizer, path.parent)
    assert path.read_text() == tokenizer.tokenizer_json()


def test_nothing_is_written_through_a_link_in_the_folder(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    encode_files(corpus[:1], tokenizer, out)
    elsewhere.write_text("years of work")
    (out / "tokens.bin").unlink()
    (out / "tokens.bin").symlink_to(elsewhere)
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match=r"holds tokens\.bin"):
            encode_files(corpus[:1], tokenizer, out, overwrite=overwrite)
    assert elsewhere.read_text() == "years of work"


def test_a_record_that_lies_about_its_shard_is_not_believed(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    expected = encode_files(corpus[3:], tokenizer, out)
    record = json.loads((out / "shard.json").read_text())
    for wrong in (4, -3, 10**30):
        (out / "shard.json").write_text(json.dumps(record | {"count": wrong}))
        assert encode_files(corpus[3:], tokenizer, out) == expected
    for no_number in ("5", None, True, 1.5):
        (out / "shard.json").write_text(json.dumps(record | {"count": no_number}))
        with pytest.raises(CheckpointError, match="is there already"):
            encode_files(corpus[3:], tokenizer, out)


def test_a_folder_may_be_a_link_and_none_may_be_in_a_file(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    encode_files(corpus[3:], tokenizer, tmp_path / "link")
    assert len(open_tokens(tmp_path / "disk").tokens)
    with pytest.raises(CheckpointError, match="is a file, not a folder"):
        encode_files(corpus[3:], tokenizer, corpus[0] / "out")


def test_no_thread_writes_on_when_the_call_is_over(corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError) as raised:  # whose frames keep all that they have
        encode_files(corpus, tokenizer, tmp_path / "out", fail, threads=2, shard_bytes=SHARD)
    assert threading.active_count() == before, raised


def test_what_cannot_be_encoded_is_refused_and_leaves_nothing(
    corpus: list[Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no token such as <\|endoftext\|>"):
        encode_files(corpus, CharTokenizer.from_text("abc"), tmp_path / "out")
    with pytest.raises(DataError, match=r"'body'; its texts are text"):
        encode_files(corpus[2:3], tokenizer, tmp_path / "out", field="body")
    with pytest.raises(ConfigError, match="give one of them"):
        encode_files(corpus, tokenizer, tmp_path / "out", workers=2, ray="local")
    with pytest.raises(ConfigError, match="at least 1"):
        encode_files(corpus, tokenizer, tmp_path / "out", threads=0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_encodes_files_and_goes_on(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tok")
    command = ("tokenizer", "encode", str(tmp_path / "tok"), *map(str, corpus), "--shard-bytes", str(SHARD))
    done = run(*command, "--out", str(tmp_path / "out"), "--json")
    assert json.loads(done.stdout)["tokens"] == open_tokens(whole).info.count, done.stderr
    assert content(tmp_path / "out") == content(whole)
    next((tmp_path / "out").glob("*00003*.bin")).unlink()
    assert run(*command, "--output", str(tmp_path / "out")).returncode == 0
    assert content(tmp_path / "out") == content(whole)
    for more in (["--plain"], ["--workers", "-1"], ["--shard-bytes", "0"]):
        refused = run(*command, "--out", str(tmp_path / "out"), *more)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert run("tokenizer", "encode", str(tmp_path / "tok"), "--out", str(tmp_path / "out")).returncode == 2


# ---- full counts


@pytest.mark.slow
def test_a_ray_worker_that_is_killed_in_the_middle_changes_no_byte(
    corpus: list[Path], tokenizer: Tokenizer, whole: Path, tmp_path: Path
) -> None:
    """And a tokenizer that learns from counts of a cluster is the one that learns from those of this process."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    psutil = pytest.importorskip("psutil")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    said: list[int] = []

    def kill(done: int, total: int) -> None:
        if not said:
            workers = [
                process
                for process in psutil.Process().children(recursive=True)
                if process.cmdline()[:1] in (["ray::_last"], ["ray::_last()"], ["ray::IDLE"])
            ]
            assert workers
            for process in workers:
                process.kill()
        said.append(done)

    try:
        encode_files(corpus, tokenizer, tmp_path / "out", kill, ray="local", shard_bytes=SHARD)
        learnt = Tokenizer.train(corpus, 320, [END], ray="local")
    finally:
        ray.shutdown()
    assert content(tmp_path / "out") == content(whole)
    assert learnt.tokenizer_json() == tokenizer.tokenizer_json()


MEMORY = """
import sys
from glassformer.data.text import read_text
from glassformer.tokenizers import Tokenizer
from pathlib import Path

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

path, n_times, n_characters = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
tokenizer, text = Tokenizer.load(sys.argv[1]), "".join(read_text(path))
for n in (1, n_times):
    starts = (i for _ in range(n) for i in range(0, len(text), n_characters))
    print(sum(1 for _ in tokenizer.encode_iterable(text[i : i + n_characters] for i in starts)), peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
def test_encoding_a_stream_of_100_mb_takes_less_than_2_mb(data_dir: Path, tmp_path: Path) -> None:
    """Beyond what encoding the first 5 MB took, which fills the cache of pieces; a process of its own measures."""
    import lzma

    text = lzma.decompress((data_dir / "text" / "mix5.txt.xz").read_bytes())
    (tmp_path / "text.txt").write_bytes(text)
    Tokenizer.train(tmp_path / "text.txt", 8_000, [END]).save(tmp_path)
    command = [sys.executable, "-c", MEMORY, str(tmp_path), str(tmp_path / "text.txt")]
    subprocess.run([*command, "1", "10000"], capture_output=True, check=True)  # compiling takes memory of its own
    for n_characters in (1 << 17, 1 << 21):
        done = subprocess.run(
            [*command, str(100_000_000 // len(text) + 1), str(n_characters)], capture_output=True, text=True, check=True
        )
        (_, before), (n_ids, after) = (map(int, line.split()) for line in done.stdout.splitlines())
        assert n_ids > 20_000_000
        assert after - before < 2_000, (n_characters, before, after)

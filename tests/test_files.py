"""Writing survives crashes and full disks; reading notices a single changed bit."""

import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer import checkpoints, files
from glassformer.checkpoints import training_state
from glassformer.checkpoints.huggingface import write_directory
from glassformer.errors import CheckpointCorrupt, CheckpointError
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.tokenizers.char import CharTokenizer
from support.counts import count

CONFIG = GPT2Config(vocab_size=3, context_length=4, d_model=4, n_layers=1, n_heads=1, d_ff=4)


def save(target: Path, step: int) -> None:
    """A whole checkpoint, as training writes it; `step` is in its weights and in its state."""
    model = GPT2(CONFIG)
    with torch.no_grad():
        model.final_norm.bias.fill_(step)
    with files.new_directory(target, overwrite=True) as folder:
        write_directory(folder, model, tokenizer=CharTokenizer("ABC"))
        training_state.write_state(folder, {"momentum": torch.full((3,), float(step))}, {"step": step})


def step_of(target: Path) -> int:
    """The step of the checkpoint that loads, after all its parts have been found to agree on it."""
    module: Any = checkpoints.load(target).module
    tensors, values = training_state.read_state(target)
    step = int(values["step"])
    assert (module.final_norm.bias == step).all()
    assert (tensors["momentum"] == step).all()
    return step


def everything(parent: Path) -> dict[Path, bytes | str]:
    """All files and links below a folder."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        for path in parent.rglob("*")
    }


def dead_writer(target: Path, **parts: Path | None) -> Path:
    """What a killed writer of this target leaves; `parts` are folders to move into it, None an empty one."""
    aside = target.with_name(".glassformer-0123abcd")
    aside.mkdir()
    signature = {"format": 1, "target": target.name, "token": "0123abcd"}
    (aside / "writing.json").write_text(json.dumps(signature))
    for name, path in parts.items():
        if path is None:
            (aside / name).mkdir()
        else:
            path.rename(aside / name)
    return aside


def leftovers(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.name.startswith(".")]


# ---- folders


def test_a_folder_comes_with_a_manifest_and_nothing_beside_it(tmp_path: Path) -> None:
    with files.new_directory(tmp_path / "deep" / "a") as folder:
        (folder / "x").write_bytes(b"123")
        (folder / "sub").mkdir()
        (folder / "sub" / "y").write_bytes(b"")
        assert not (tmp_path / "deep" / "a").exists()
    manifest = json.loads((tmp_path / "deep" / "a" / "manifest.json").read_text())
    assert manifest == {
        "format": 1,
        "files": {
            "sub/y": {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
            "x": {"size": 3, "sha256": hashlib.sha256(b"123").hexdigest()},
        },
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]
    files.verify(tmp_path / "deep" / "a")


def test_a_block_that_raises_leaves_everything_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), files.new_directory(tmp_path / "a", overwrite=True):
            raise error
    assert step_of(tmp_path / "a") == 1
    assert leftovers(tmp_path) == []


def test_a_new_checkpoint_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    save(tmp_path / "a", 2)
    assert step_of(tmp_path / "a") == 2
    assert leftovers(tmp_path) == []


def test_files_that_are_not_ours_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("…")
    save(tmp_path / "a", 1)
    (tmp_path / "a" / "notes.txt").write_text("…")
    (tmp_path / "file").write_text("…")
    save(tmp_path / "edited", 1)
    (tmp_path / "edited" / "config.json").write_text("{}")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "manifest.json").write_text('{"name": "of a web page"}')
    save(tmp_path / "outer", 1)
    (tmp_path / "outer" / "datasets").symlink_to(tmp_path / "thesis")
    save(tmp_path / "linked", 1)
    (tmp_path / "linked" / "config.json").replace(tmp_path / "config.json")
    (tmp_path / "linked" / "config.json").symlink_to(tmp_path / "config.json")
    save(tmp_path / "roomy", 1)
    (tmp_path / "roomy" / "empty").mkdir()
    before = everything(tmp_path)
    for name in ("thesis", "a", "file", "edited", "page", "outer", "linked", "roomy"):
        with pytest.raises(CheckpointError, match="choose another"):
            save(tmp_path / name, 2)
    assert everything(tmp_path) == before


def test_nothing_is_replaced_without_being_told_so(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    files.write_file(tmp_path / "file", b"old")
    with pytest.raises(CheckpointError, match="is there already: choose another place, or say overwrite=True"):
        checkpoints.save(GPT2(CONFIG), tmp_path / "a")
    with pytest.raises(CheckpointError, match="is there already") as refused:
        files.check_new_file(tmp_path / "file")
    assert "or say --overwrite." in refused.value.at_command_line()
    assert step_of(tmp_path / "a") == 1
    assert leftovers(tmp_path) == []


def test_what_came_first_while_we_were_writing_stays(tmp_path: Path) -> None:
    def write_file() -> None:
        with files.new_file(tmp_path / "late") as new:
            new.write_bytes(b"ours")
            (tmp_path / "late").write_bytes(b"came first")

    def write_directory() -> None:
        with files.new_directory(tmp_path / "folder") as folder:
            (folder / "x").touch()
            (tmp_path / "folder").mkdir()
            (tmp_path / "folder" / "y").touch()

    with pytest.raises(CheckpointError, match="is there already"):
        write_file()
    with pytest.raises(CheckpointError, match="would be lost"):
        write_directory()
    assert (tmp_path / "late").read_bytes() == b"came first"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["y"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_replaced_by_what_is_made_of_it(overwrite: bool, tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "in.txt").write_text("…")
    for source in ("a", "link", "a/config.json"):
        with pytest.raises(CheckpointError, match=r"already|which is read"):
            files.check_new_directory(tmp_path / "a", overwrite=overwrite, reads=[tmp_path / source])
    with pytest.raises(CheckpointError, match="which is read"):
        files.check_new_file(tmp_path / "in.txt", overwrite=overwrite, reads=[tmp_path / "a" / ".." / "in.txt"])
    files.check_new_file(tmp_path / "out.txt", overwrite=overwrite, reads=[tmp_path / "in.txt", Path("preset:x" * 99)])


def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for check, place in (
        (files.check_new_directory, Path("/")),
        (files.check_new_directory, Path()),  # the shell's own folder, which would be another one afterwards
        (files.check_new_directory, Path("/proc/nothing")),
        (files.check_new_directory, Path("/dev/shm")),
        (files.check_new_directory, tmp_path / ("x" * 300)),
        (files.check_new_directory, tmp_path / "file" / "below"),
        (files.check_new_file, Path("/")),
        (files.check_new_file, tmp_path),
        (files.check_new_file, Path("/dev/null")),
        (files.check_new_file, tmp_path / "file" / "below"),
    ):
        with pytest.raises(CheckpointError):
            check(place, overwrite=True)
    assert leftovers(tmp_path) == []


def test_what_somebody_puts_into_a_folder_while_it_is_rewritten_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("behind a link")
    with files.new_directory(tmp_path / "a", overwrite=True) as folder:
        (folder / "x").write_text("new")
        (folder / "sub").mkdir()
        (folder / "sub" / "y").write_text("new")
        (tmp_path / "a" / "x").write_text("theirs")
        (tmp_path / "a" / "sub").mkdir()
        (tmp_path / "a" / "sub" / "notes.txt").write_text("theirs")
        (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")
    assert (tmp_path / "a" / "x").read_text() == "new"
    assert (tmp_path / "a" / "x.kept").read_text() == "theirs"
    assert (tmp_path / "a" / "sub" / "y").read_text() == "new"
    assert (tmp_path / "a" / "sub.kept" / "notes.txt").read_text() == "theirs"
    assert (tmp_path / "a" / "link" / "x").read_text() == "behind a link"
    assert leftovers(tmp_path) == []


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    save(tmp_path / "a", 1)
    assert step_of(tmp_path / "a") == 1


def test_two_writers_of_one_folder_both_leave_it_whole(tmp_path: Path) -> None:
    with files.new_directory(tmp_path / "a", overwrite=True) as first:
        (first / "x").write_text("first")
        with files.new_directory(tmp_path / "a", overwrite=True) as second:
            (second / "x").write_text("second")
        files.clean_up(tmp_path)  # must not take the first writer for a dead one
    assert (tmp_path / "a" / "x").read_text() == "first"
    files.verify(tmp_path / "a")
    assert leftovers(tmp_path) == []


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    (tmp_path / "link").symlink_to("a")
    save(tmp_path / "link", 2)
    assert (tmp_path / "link").is_symlink()
    assert step_of(tmp_path / "a") == 2


def test_cleaning_up_restores_what_a_dead_writer_had_moved_aside(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    save(tmp_path / "b", 2)
    dead_writer(tmp_path / "a", old=tmp_path / "a", new=tmp_path / "b")
    (tmp_path / ".glassformer-00000000").mkdir()
    (tmp_path / ".glassformer-00000001").mkdir()
    (tmp_path / ".glassformer-00000001" / "writing.json").touch()
    files.clean_up(tmp_path)
    assert step_of(tmp_path / "a") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    files.clean_up(tmp_path / "nothing")


def test_cleaning_up_believes_no_name(tmp_path: Path) -> None:
    for name in (".thesis.tex.old-20240131", ".notes.new-deadbeef", ".glassformer-deadbeef", ".glassformer-0000000f"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "new").write_text("years of work")
    (tmp_path / ".glassformer-0000000f" / "writing.json").write_text('{"target": "x", "token": "another"}')
    (tmp_path / "elsewhere").mkdir()
    signed = dead_writer(tmp_path / "elsewhere" / "x", new=None)
    (tmp_path / ".glassformer-0123abcd").symlink_to(signed)
    (tmp_path / ".glassformer-00000002").write_text("a file")
    before = everything(tmp_path)
    files.clean_up(tmp_path)
    assert everything(tmp_path) == before


def test_what_another_process_removes_or_finishes_meanwhile_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, iterdir = Path.mkdir, Path.iterdir

    def removed_at_once(path: Path, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        files.clean_up(path.parent)

    def finished_before(path: Path) -> Iterator[Path]:
        shutil.rmtree(path)
        return iterdir(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", removed_at_once)
        files.check_new_file(tmp_path / "new")
    dead_writer(tmp_path / "model")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", finished_before)
        assert files.leftovers(tmp_path) == []
        files.clean_up(tmp_path)


def test_the_next_writer_of_a_target_removes_what_a_dead_one_has_left_and_nothing_else(tmp_path: Path) -> None:
    dead_writer(tmp_path / "a", new=None)
    (tmp_path / ".glassformer-0123abcd").rename(tmp_path / "put aside")
    other = dead_writer(tmp_path / "b", new=None).rename(tmp_path / ".glassformer-0123abce")
    (other / "writing.json").write_text('{"format": 1, "target": "b", "token": "0123abce"}')
    (tmp_path / "put aside").rename(tmp_path / ".glassformer-0123abcd")
    save(tmp_path / "a", 1)
    assert leftovers(tmp_path) == [other]
    files.write_file(tmp_path / "b", b"")
    assert leftovers(tmp_path) == []


def test_loading_finds_what_a_dead_writer_had_moved_aside(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    dead_writer(tmp_path / "a", old=tmp_path / "a")
    assert step_of(tmp_path / "a") == 1


def test_loading_puts_its_own_folder_back_and_touches_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    dead_writer(tmp_path / "a", old=tmp_path / "a", new=None)
    with pytest.raises(CheckpointError, match="nothing of this name"):
        checkpoints.load(tmp_path / "c")
    assert (tmp_path / ".glassformer-0123abcd" / "old").is_dir()
    assert step_of(tmp_path / "a") == 1
    assert (tmp_path / ".glassformer-0123abcd" / "new").is_dir()


def test_loading_does_not_put_back_what_a_living_writer_has_moved_aside(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    with files.new_directory(tmp_path / "a", overwrite=True) as folder:
        (tmp_path / "a").rename(folder.with_name("old"))
        with pytest.raises(CheckpointError, match="nothing of this name"):
            checkpoints.load(tmp_path / "a")


def test_where_a_drive_knows_no_locks_nothing_that_was_begun_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.new_directory(tmp_path / "a") as folder:
        (folder / "x").write_text("being written")
        files.clean_up(tmp_path)
    assert (tmp_path / "a" / "x").read_text() == "being written"
    aside = dead_writer(tmp_path / "a", old=tmp_path / "a")
    files.clean_up(tmp_path)
    assert (aside / "old" / "x").read_text() == "being written"


def test_a_checkpoint_without_a_state_cannot_be_resumed(tmp_path: Path) -> None:
    checkpoints.save(GPT2(CONFIG), tmp_path / "a")
    with pytest.raises(CheckpointError, match="cannot resume"):
        training_state.read_state(tmp_path / "a")


# ---- single files


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    files.write_file(tmp_path / "a", b"old")
    files.write_file(tmp_path / "a", b"new", overwrite=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    (tmp_path / "link").symlink_to("a")
    files.write_file(tmp_path / "link", b"newest", overwrite=True)
    assert (tmp_path / "a").read_bytes() == b"newest"
    assert leftovers(tmp_path) == []
    files.write_file(tmp_path / "new" / "b", b"x")
    assert (tmp_path / "new" / "b").read_bytes() == b"x"
    with pytest.raises(CheckpointError, match="cannot be written"):
        files.write_file(tmp_path / "a" / "b", b"x")


# ---- F8: faults at every call that writes


class Faults:
    """Lets calls that change the disk pass, until number `at`: that one fails, or all from there on."""

    def __init__(self, at: int | None, code: int, *, forever: bool) -> None:
        self.calls, self.at, self.code, self.forever = 0, at, code, forever

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if self.at is not None and (number >= self.at if self.forever else number == self.at):
                raise OSError(self.code, os.strerror(self.code))
            return function(*args, **kwargs)

        return call


@contextmanager
def faults(at: int | None, code: int = errno.ENOSPC, *, forever: bool = False) -> Iterator[Faults]:
    injected = Faults(at, code, forever=forever)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "fsync", "rename", "replace", "mkdir", "sendfile"):
            patch.setattr(os, name, injected.around(getattr(os, name)))
        for name in ("write_text", "write_bytes"):
            patch.setattr(Path, name, injected.around(getattr(Path, name)))
        yield injected


@pytest.mark.parametrize(
    ("code", "forever"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full disk", "one error"]
)
def test_a_failing_disk_at_any_call_leaves_the_old_checkpoint_or_the_new(
    code: int, forever: bool, tmp_path: Path
) -> None:
    target = tmp_path / "a"
    save(target, 0)
    with faults(None) as counter:
        save(target, 0)
    assert counter.calls > 20
    for at in range(counter.calls):
        message = ""
        with faults(at, code, forever=forever):
            try:
                save(target, 1)
            except CheckpointError as error:
                message = str(error)
        last = at == counter.calls - 1  # the flush that comes after the new one is in its place
        harmless = message == "" and not forever  # to make a folder that is there already may fail
        assert harmless or "cannot be written" in message
        assert step_of(target) == (1 if last or harmless else 0)
        files.clean_up(tmp_path)
        assert leftovers(tmp_path) == []
        if last or harmless:
            save(target, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_at_any_call_leaves_the_old_file_or_the_new(code: int, tmp_path: Path) -> None:
    files.write_file(tmp_path / "a", b"old")
    with faults(None) as counter:
        files.write_file(tmp_path / "a", b"old", overwrite=True)
    for at in range(counter.calls):
        failed = False
        with faults(at, code):
            try:
                files.write_file(tmp_path / "a", b"new", overwrite=True)
            except CheckpointError:
                failed = True
        assert (tmp_path / "a").read_bytes() in ((b"old", b"new") if failed else (b"new",))
        assert leftovers(tmp_path) == []


def test_a_write_that_takes_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    files.write(tmp_path / "a", b"0123456", memoryview(b"789"))
    assert (tmp_path / "a").read_bytes() == b"0123456789"


# ---- F7: kills

NURSERY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_files import save
target = Path(sys.argv[2])
for step in sys.stdin:
    pid = os.fork()
    if pid == 0:
        step = int(step)
        while True:
            step += 1
            save(target, step)
            print("saved", step, flush=True)
    print("pid", pid, flush=True)
    os.waitpid(pid, 0)
    print("dead 0", flush=True)
"""  # imports once, so that a kill costs only itself


def test_a_killed_writer_loses_at_most_the_save_it_was_at(tmp_path: Path) -> None:
    target, choose, step = tmp_path / "a", random.Random(0), 1
    save(target, step)
    command = [sys.executable, "-c", NURSERY, str(Path(__file__).parent), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(count("kills while saving")):
            nursery.stdin.write(f"{step}\n")
            word = ""
            while word != "dead":
                word, number = nursery.stdout.readline().split()
                if word == "saved":
                    step = int(number)
                if word == "pid":
                    time.sleep(choose.random() * 0.3)
                    os.kill(int(number), signal.SIGKILL)
            files.clean_up(tmp_path)
            assert leftovers(tmp_path) == []
            assert step_of(target) in (step, step + 1)
            step = step_of(target)
        nursery.stdin.close()


# ---- F2: flipped bits


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    paths = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    sizes = [8 * path.stat().st_size for path in paths]
    choose = random.Random(0)
    for _ in range(count("bit flips")):
        path = choose.choices(paths, sizes)[0]
        bit = choose.randrange(8 * path.stat().st_size)
        flip(path, bit)
        with pytest.raises(CheckpointCorrupt):
            checkpoints.load(tmp_path / "a")
        flip(path, bit)
    assert step_of(tmp_path / "a") == 1


def test_every_flipped_bit_of_the_manifest_itself_is_detected(tmp_path: Path) -> None:
    with files.new_directory(tmp_path / "a") as folder:
        (folder / "x").write_bytes(b"123")
    manifest = tmp_path / "a" / "manifest.json"
    bits = 8 * manifest.stat().st_size
    for bit in random.Random(0).sample(range(bits), min(bits, 5 * count("bit flips"))):
        flip(manifest, bit)
        with pytest.raises(CheckpointCorrupt):
            files.verify(tmp_path / "a")
        flip(manifest, bit)
    files.verify(tmp_path / "a")


MANIFESTS: dict[str, object] = {
    "a list": [],
    "no files": {"format": 1},
    "another format": {"format": 2, "files": {}},
    "files is a list": {"format": 1, "files": ["x"]},
    "an entry is a list": {"format": 1, "files": {"x": []}},
    "size is a text": {"format": 1, "files": {"x": {"size": "3", "sha256": "0"}}},
    "no digest": {"format": 1, "files": {"x": {"size": 3}}},
    "more fields": {"format": 1, "files": {"x": {"size": 3, "sha256": "0", "mode": 7}}},
    "..": {"format": 1, "files": {"../outside": {"size": 3, "sha256": "0"}}},
    "absolute": {"format": 1, "files": {"/dev/zero": {"size": 3, "sha256": "0"}}},
    "empty name": {"format": 1, "files": {"": {"size": 3, "sha256": "0"}}},
    "..  itself": {"format": 1, "files": {"..": {"size": 3, "sha256": "0"}}},
    "missing file": {"format": 1, "files": {"y": {"size": 3, "sha256": "0"}}},
}


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 1, "files": {"x": {"size": 3, "sha256": "0"}, "x": {"size": 3, "sha256": "1"}}}',
        '{"format": 1, "files": {"x": {"size": 1e999, "sha256": "0"}}}',
        '{"format": 1, "files": {"\\ud800": {"size": 3, "sha256": "0"}}}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_is_not_plain_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"123")
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointCorrupt, match="is broken, or not a manifest of ours"):
        files.verify(tmp_path)


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_broken_manifest_is_refused(content: object, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"123")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointCorrupt):
        files.verify(tmp_path / "a", required=False)


@pytest.mark.parametrize("name", ["..", "../x", "/etc/hostname", "", ".", "sub\\x", "x\n"])
def test_a_manifest_that_lists_what_is_no_plain_name_is_never_taken_for_a_list_of_files(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "files": {name: {"size": 0, "sha256": ""}}}))
    with pytest.raises(CheckpointCorrupt, match="leads out of the folder, or is no name"):
        files.listed(tmp_path)


@pytest.mark.parametrize("name", ["../a/x", "sub/../x", "/etc/hostname", "", ".", "sub\\x", "x\0", "x\n", "sub", "y"])
def test_a_name_that_is_no_plain_name_of_a_file_inside_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "sub").mkdir(parents=True)
    (folder / "x").touch()
    (folder / "sub" / "x").touch()
    assert files.file_in(folder, "sub/x") == folder / "sub" / "x"
    with pytest.raises(CheckpointCorrupt):
        files.file_in(folder, name)


def test_a_folder_from_elsewhere_needs_no_manifest(tmp_path: Path) -> None:
    files.verify(tmp_path, required=False)
    with pytest.raises(CheckpointCorrupt, match="manifest"):
        files.verify(tmp_path)

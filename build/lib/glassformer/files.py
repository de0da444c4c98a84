"""Writing that a crash cannot spoil, and reading that notices what a disk has spoilt.

    write_file(path, data)                the old content or the new, never a part of it
    with new_file(target) as path:        the same for what is written there piece by piece
    with new_directory(target) as folder: the same for a folder and all that is put into it
    verify(folder)                        every byte is what was written, or an error
    sweep(parent)                         end what killed writers have begun
    put_back(target)                      the least of that, which a reader may do

A folder is written aside, as `.NAME.new-XXXXXXXX`, under a lock that ends with the process. Its files go to the disk,
then `manifest.json` with their sizes and SHA-256, and then the folder takes its name. Since no rename puts a folder in
the place of another, the old one steps aside as `.NAME.old-XXXXXXXX` first; where a process died in between, `sweep`
and `put_back` give it its name again.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from glassformer import strict_json
from glassformer.errors import CheckpointCorrupt, CheckpointError, ConfigError

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
REMEDY = f"Take another copy; if you changed it yourself, delete {MANIFEST} to load the folder as it is."
ASIDE = re.compile(r"\.(?P<name>.+)\.(new|old)-(?P<token>[0-9a-f]{8})", re.DOTALL)


def write(path: Path, *chunks: bytes | memoryview) -> None:
    """Write a file that nobody reads yet."""
    with path.open("wb", buffering=0) as file:
        for chunk in chunks:
            rest = memoryview(chunk).cast("B")
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]


def write_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another in one step."""
    with new_file(path) as new:
        write(new, data)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """An empty file to write; it becomes `target` when the block ends, and vanishes when the block raises."""
    new, _ = _beside(target, secrets.token_hex(4))
    with _writing(target):
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
        try:
            new.touch()
            with _lock(new):
                yield new
                _sync(new)
                os.replace(new, target)
            _sync(target.parent)
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` when the block ends, and vanishes when the block raises."""
    target = target.resolve()
    new, old = _beside(target, secrets.token_hex(4))
    with _writing(target):
        check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        with _lock(new):
            try:
                yield new
                _seal(new)
                if target.exists():
                    os.rename(target, old)
                os.rename(new, target)
                _sync(target.parent)
            finally:
                _settle(target, new, old)


def verify(folder: Path, *, required: bool = True) -> None:
    """Raise unless every file is what the manifest says. Without `required`, a folder may have no manifest."""
    if not required and not (folder / MANIFEST).exists():
        return
    with about(folder):
        for name, (size, digest) in _read_manifest(folder).items():
            path = inside(folder, name)
            found = path.stat().st_size
            if found != size:
                raise CheckpointCorrupt(f"{name} has {found:,} bytes; {MANIFEST} says {size:,}. {REMEDY}")
            if sha256(path) != digest:
                raise CheckpointCorrupt(f"{name} has changed since it was written: its SHA-256 is another. {REMEDY}")


def listed(folder: Path) -> list[str]:
    """The names of the files that a folder's manifest lists."""
    with about(folder):
        return list(_read_manifest(folder))


def inside(folder: Path, name: str) -> Path:
    """The regular file of this name in a folder; a name or a link that leads out of it is an error."""
    _check_name(name)
    path = folder / name
    if not path.is_file():
        raise CheckpointCorrupt(f"{name} is missing, or is no file.")
    home = folder.resolve()
    homes = [home]
    if home.parent.name == "snapshots":  # Hugging Face's cache keeps the content of all revisions in blobs/
        homes.append(home.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(allowed) for allowed in homes):
        raise CheckpointCorrupt(f"{name} is a link that leads out of the folder.")
    return path


def _check_name(name: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in name or not name.isprintable():
        raise CheckpointCorrupt(f"The file name {name[:200]!r} leads out of the folder, or is no name.")


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Begin the message of what goes wrong in the block with the path that it is about."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(parent: Path) -> None:
    """Remove what killed writers have left in a folder, and put back what they had moved aside.

    On a drive without locks nobody knows whether a writer is still at work: what it has begun stays.
    """
    for target, new, old in _leftovers(parent):
        with suppress(BlockingIOError), _writing(target), _abandoned(new) as abandoned:
            if abandoned:
                _settle(target, new, old)


def put_back(target: Path) -> None:
    """Give a folder its name again that a killed writer had moved aside; nothing is removed, whatever else is there."""
    for owner, new, old in _leftovers(target.parent):
        if owner == target and old.exists():
            with suppress(OSError), _abandoned(new) as abandoned:
                if abandoned and not target.exists():
                    os.rename(old, target)


def _leftovers(parent: Path) -> Iterator[tuple[Path, Path, Path]]:
    """What was to be written in a folder, and the names of its new and its old form beside it."""
    for aside in sorted(parent.iterdir()) if parent.is_dir() else []:
        match = ASIDE.fullmatch(aside.name)
        if match is not None:
            target = parent / match["name"]
            yield target, *_beside(target, match["token"])


@contextmanager
def _abandoned(new: Path) -> Iterator[bool]:
    """Whether nobody writes at `new` any more, and nobody will in the block."""
    if new.exists():
        with _lock(new) as held:
            yield held
    else:
        yield True


def _beside(target: Path, token: str) -> tuple[Path, Path]:
    new, old = (target.with_name(f".{target.name}.{kind}-{token}") for kind in ("new", "old"))
    return new, old


def _settle(target: Path, new: Path, old: Path) -> None:
    """Whatever has happened: have a folder in its place, and nothing beside it."""
    if old.exists() and not target.exists():
        os.rename(old, target)
    for aside in (new, old):
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _seal(folder: Path) -> None:
    """Bring a folder to the disk, its manifest last."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        _sync(path)
    listed = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
        if path.is_file()
    }
    manifest = folder / MANIFEST
    write(manifest, json.dumps({"format": 1, "files": listed}, indent=1).encode())
    _sync(manifest)
    _sync(folder)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock that ends with this process; BlockingIOError where somebody holds it already.

    False comes where there is none to hold: some network drives know no locks.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            raise
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a failing disk into a sentence."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written: {error.strerror or error}. What is there now is whole, the old or the new."
        ) from error


def check_replaceable(target: Path) -> None:
    """Raise where writing `target` would remove files that we have not written."""
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(f"{target} is a file; choose another name for the folder.")
    known = {MANIFEST, *_read_manifest(target)} if (target / MANIFEST).is_file() else set()
    strangers = [path for path in target.rglob("*") if path.relative_to(target).as_posix() not in known]
    files = [path for path in strangers if not path.is_dir()]
    if files:
        raise CheckpointError(
            f"{target} holds files that are not part of a checkpoint ({files[0].name}), and they would be lost. "
            "Move them away or choose another folder."
        )


def _read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """The size and the SHA-256 of each file."""
    path = inside(folder, MANIFEST)
    broken = CheckpointCorrupt(f"{MANIFEST} is broken, or not a manifest of ours. {REMEDY}")
    try:
        content = strict_json.read(path, MAX_MANIFEST_BYTES)
        if set(content) != {"format", "files"} or content["format"] != 1:
            raise broken
        listed = {name: (entry.pop("size"), entry.pop("sha256"), entry) for name, entry in content["files"].items()}
    except (CheckpointCorrupt, AttributeError, KeyError, TypeError):
        raise broken from None
    for name, (size, digest, rest) in listed.items():
        _check_name(name)
        if type(size) is not int or type(digest) is not str or rest:
            raise broken
    return {name: (size, digest) for name, (size, digest, _) in listed.items()}

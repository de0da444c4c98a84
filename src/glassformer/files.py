"""Writing that loses nothing, and reading that notices what a disk has spoilt.

    write_file(path, data)                the old content or the new, never a part of it
    with new_file(target) as path:        the same for what is written there piece by piece
    with new_directory(target) as folder: the same for a folder and all that is put into it
    check_new_file, check_new_directory   the refusals of these, before the work that gives them something to write
    copy_into(source, names, target)      the same for some files among others in a folder
    seal(folder, digests)                 a manifest of files that one wrote into a folder bit by bit
    verify(folder)                        every byte is what was written, or an error
    clean_up(parent)                      end what killed writers have begun
    restore(target)                       the least of that, which a reader may do
    with exclusive_lock(path):            one process at a time, as long as it lives

One rule holds for all that is written. What stands at the target is replaced with `overwrite=True` alone; of a folder
even then only what its manifest proves to be as we wrote it, and a folder with anything else in it is refused. What is
read is never replaced by what is made of it.

Until it is complete it stands beside its target, in a folder under a lock that ends with the process:

    .glassformer-XXXXXXXX/
      writing.json   whose target it is, and the token in its own name: proof that we have made it
      new            what is being written; a folder's files go to the disk, then `manifest.json` with their SHA-256
      old            the folder that stood at the target, since no rename puts a folder in the place of another

A process that dies leaves that folder. `clean_up` removes it, and gives what stood at the target its name again.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from glassformer import strict_json
from glassformer.errors import CheckpointCorrupt, CheckpointError, ConfigError

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
REMEDY = f"Take another copy; if you changed it yourself, delete {MANIFEST} to load the folder as it is."
ASIDE = re.compile(r"\.glassformer-([0-9a-f]{8})")
SIGNED, NEW, OLD = "writing.json", "new", "old"  # what an aside folder holds


def write(path: Path, *chunks: bytes | memoryview) -> None:
    """Write a file that nobody reads yet."""
    with path.open("wb", buffering=0) as file:
        for chunk in chunks:
            unwritten = memoryview(chunk).cast("B")
            while unwritten:
                unwritten = unwritten[os.write(file.fileno(), unwritten) :]


def write_file(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file in one step; with `overwrite` in the place of another."""
    with new_file(path, overwrite=overwrite) as new:
        write(new, data)


@contextmanager
def new_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty file to write; it becomes `target` when the block ends, and vanishes when the block raises."""
    with _writing(target):
        check_new_file(target, overwrite=overwrite)
        place = target.resolve()  # a link stays a link
        place.parent.mkdir(parents=True, exist_ok=True)
        with _aside(place) as new:
            new.touch()
            yield new
            _sync(new)
            if not overwrite:
                check_new_file(target)  # somebody else may have come first
            os.replace(new, place)
            _sync(place.parent)


@contextmanager
def new_directory(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` when the block ends, and vanishes when the block raises.

    What others put into the old folder in the meantime is in the new one.
    """
    with _writing(target):
        check_new_directory(target, overwrite=overwrite)
        place = target.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with _aside(place) as new:
            new.mkdir()
            yield new
            _seal(new)
            if not overwrite:
                check_new_directory(target)
            if place.exists():
                os.rename(place, new.with_name(OLD))
            os.rename(new, place)
            _sync(place.parent)


def copy_into(source: Path, names: Iterable[str], target: Path) -> None:
    """Put copies of these files of a folder into another one, with a manifest of them, in the place of earlier copies.

    The manifest takes its place first: until all that it lists is there, `verify` refuses the folder.
    """
    with _writing(target), _aside(target / MANIFEST) as new:
        new.mkdir()
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        _seal(new)
        for name in (MANIFEST, *names):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, target / name)
        _sync(target)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a file that no other process can hold, with our process id in it; BlockingIOError where one does.

    The kernel frees it when the process dies, so that a file left behind stops nobody. It goes when the block ends. On
    a drive without locks several may hold it.
    """
    with ExitStack() as stack:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            with ExitStack() as closing:
                closing.callback(os.close, descriptor)
                _flock(descriptor)
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    stack.push(closing.pop_all())  # and was not removed by its last holder, just before
                    break
        stack.callback(path.unlink, missing_ok=True)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield


def check_new_file(target: Path, *, overwrite: bool = False, reads: Iterable[Path] = ()) -> None:
    """Raise unless a file can be written at `target` and nothing is lost by it: what is there, or what is read."""
    with _writing(target):
        _check_place(target, reads)
        if target.is_dir():
            raise CheckpointError(f"{target} is a folder: name a file, for instance one in it.")
        if target.exists() and not target.is_file():
            raise CheckpointError(f"{target} is no ordinary file, and would be replaced by one: choose another place.")
        if target.exists() and not overwrite:
            raise _is_there(target)


def check_new_directory(target: Path, *, overwrite: bool = False, reads: Iterable[Path] = ()) -> None:
    """The same for a folder; one that is empty may be filled."""
    with _writing(target):
        _check_place(target, reads)
        if not target.exists():
            return
        place = target.resolve()
        if not target.is_dir():
            raise CheckpointError(f"{target} is a file: choose another name for the folder.")
        if Path.cwd().is_relative_to(place) or os.path.ismount(place):
            raise CheckpointError(
                f"{target} is the folder that you are in, or where a drive is mounted, and no other can take its "
                f"place: name a folder in it."
            )
        if strange := next(_foreign_paths(place, check_hashes=overwrite), None):
            raise CheckpointError(
                f"{target} holds {strange.relative_to(place)}, which was not written here, or has changed since, and "
                f"would be lost: move it away, or choose another folder."
            )
        if not overwrite and any(place.iterdir()):
            raise _is_there(target)


def _is_there(target: Path) -> CheckpointError:
    return CheckpointError(
        f"{target} is there already: choose another place, or say", python="overwrite=True.", command="--overwrite."
    )


def _check_place(target: Path, reads: Iterable[Path]) -> None:
    """Raise where nothing can be written, or what is read would be replaced."""
    place = target.resolve()
    if place.parent == place:
        raise CheckpointError(f"{target} is where all folders are: choose a name in it.")
    for path in reads:
        if os.path.exists(path) and path.resolve().is_relative_to(place):
            raise CheckpointError(f"{target} would replace {path}, which is read: choose another place.")
    home = next(parent for parent in place.parents if parent.exists())
    if not home.is_dir():
        raise CheckpointError(f"{target} cannot be written: {home} is a file, not a folder. Choose another place.")
    trial = home / f".glassformer-{secrets.token_hex(4)}"
    trial.mkdir()
    with suppress(FileNotFoundError):  # another writer may have removed it
        trial.rmdir()


def verify(folder: Path, *, required: bool = True) -> None:
    """Raise unless every file is what the manifest says. Without `required`, a folder may have no manifest."""
    if not required and not (folder / MANIFEST).exists():
        return
    with errors_about(folder):
        for name, (size, digest) in _read_manifest(folder).items():
            path = file_in(folder, name)
            n_bytes = path.stat().st_size
            if n_bytes != size:
                raise CheckpointCorrupt(f"{name} has {n_bytes:,} bytes; {MANIFEST} says {size:,}. {REMEDY}")
            if sha256(path) != digest:
                raise CheckpointCorrupt(f"{name} has changed since it was written: its SHA-256 is another. {REMEDY}")


def listed(folder: Path) -> list[str]:
    """The names of the files that a folder's manifest lists."""
    with errors_about(folder):
        return list(_read_manifest(folder))


def file_in(folder: Path, name: str) -> Path:
    """The regular file of this name in a folder; a name or a link that leads out of it is an error."""
    check_name(name)
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


def check_name(name: str) -> None:
    """Raise unless it is the name of something inside a folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in name or not name.isprintable():
        raise CheckpointCorrupt(f"The file name {name[:200]!r} leads out of the folder, or is no name.")


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """Begin the message of what goes wrong in the block with the path that it is about."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise error.about(path) from None
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clean_up(parent: Path, target: Path | None = None) -> None:
    """Remove what killed writers have left in a folder, or of `target` alone, and put back what they had moved aside.

    On a drive without locks nobody knows whether a writer is still at work: what it has begun stays.
    """
    for aside, owner in _asides(parent):
        if target in (None, owner) or owner == aside:
            with suppress(OSError), _abandoned(aside) as abandoned:
                if abandoned:
                    _settle(aside, owner)


def restore(target: Path) -> None:
    """Give a folder its name again that a killed writer had moved aside; nothing is removed, whatever else is there."""
    place = target.resolve()
    for aside, owner in _asides(place.parent):
        if owner == place and (aside / OLD).is_dir():
            with suppress(OSError), _abandoned(aside) as abandoned:
                if abandoned and not place.exists():
                    os.rename(aside / OLD, place)


def leftovers(parent: Path) -> list[Path]:
    """The folders of writers, at work or killed, in a folder."""
    return [aside for aside, _ in _asides(parent)]


def _asides(parent: Path) -> list[tuple[Path, Path]]:
    """The folders of writers in a folder, each with its target, which is itself where a writer died at once."""
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:
        named = [parent / entry.name for entry in entries if ASIDE.fullmatch(entry.name)]
    return [(aside, owner) for aside in sorted(named) if (owner := _owner(aside)) is not None]


def _owner(aside: Path) -> Path | None:
    """The target of a writer's folder, by what it has signed; None for what somebody else has called like that."""
    if aside.is_symlink() or not aside.is_dir():
        return None
    signed = aside / SIGNED
    try:
        if all(path == signed and path.stat().st_size == 0 for path in aside.iterdir()):
            return aside  # nothing is in it yet, not even the signature
        content = strict_json.read(signed, MAX_MANIFEST_BYTES)
    except (CheckpointCorrupt, OSError):  # an OSError is also its end: its writer has just finished
        return None
    name = content.get("target")
    if not isinstance(name, str) or PurePosixPath(name).name != name or "\0" in name:
        return None
    return aside.with_name(name) if aside.name == f".glassformer-{content.get('token')}" else None


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Where a new file or folder can be made beside its target; afterwards it is in its place, or gone."""
    clean_up(target.parent, target)
    with ExitStack() as stack:
        aside = _begin(target, stack)
        try:
            yield aside / NEW
        finally:
            _settle(aside, target)


def _begin(target: Path, stack: ExitStack) -> Path:
    """A signed folder of a writer, under a lock that `stack` holds."""
    while True:
        token = secrets.token_hex(4)
        aside = target.with_name(f".glassformer-{token}")
        aside.mkdir()
        try:
            with suppress(FileNotFoundError, BlockingIOError):  # removed before it was signed
                stack.enter_context(_lock(aside))
                write(aside / SIGNED, json.dumps({"format": 1, "target": target.name, "token": token}).encode())
                _sync(aside / SIGNED)
                return aside
        except BaseException:
            _settle(aside, target)
            raise


@contextmanager
def _abandoned(aside: Path) -> Iterator[bool]:
    """True where we hold the lock of a writer's folder, so that nobody writes there; False where there are no locks."""
    with _lock(aside) as held:
        yield held


def _settle(aside: Path, target: Path) -> None:
    """Give the old folder its name again where no new one has taken it, then remove all that the writer has made."""
    old = aside / OLD
    if old.is_dir():
        if target.exists():
            _discard(old, target)
        else:
            os.rename(old, target)
    _remove(aside / NEW)
    with suppress(OSError):
        (aside / SIGNED).unlink(missing_ok=True)
        aside.rmdir()


def _discard(old: Path, target: Path) -> None:
    """Remove a folder that another one has replaced, except what others have put into it: that moves."""
    for path in list(_foreign_paths(old)):
        place = target / path.relative_to(old)
        while os.path.lexists(place):
            place = place.with_name(f"{place.name}.kept")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, place)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _foreign_paths(folder: Path, *, check_hashes: bool = False) -> Iterator[Path]:
    """The paths in a folder that its manifest does not list; with `check_hashes`, also those that have changed."""
    try:
        listed = _read_manifest(folder)
        ours = {MANIFEST, *listed}
    except CheckpointCorrupt:
        listed, ours = {}, set()
    homes = {parent.as_posix() for name in ours for parent in PurePosixPath(name).parents}
    for home, directories, names in os.walk(folder):
        for path in [Path(home, name) for name in (*directories, *names)]:
            name = path.relative_to(folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                as_written = name in homes
            else:
                as_written = name in ours and not path.is_symlink()
                if check_hashes and as_written and name in listed:
                    size, digest = listed[name]
                    as_written = path.stat().st_size == size and sha256(path) == digest
            if not as_written:
                yield path
                directories[:] = [directory for directory in directories if directory != path.name]


def seal(folder: Path, digests: Mapping[str, str]) -> None:
    """Bring the files in a folder that it names to the disk, then a manifest of them with their SHA-256."""
    for name in digests:
        _sync(folder / name)
    listed = {name: {"size": (folder / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
    manifest = folder / MANIFEST
    write(manifest, json.dumps({"format": 1, "files": listed}, indent=1).encode())
    _sync(manifest)
    _sync(folder)


def _seal(folder: Path) -> None:
    """The same for all that is in a folder."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        _sync(path)
    seal(folder, {path.relative_to(folder).as_posix(): sha256(path) for path in paths if path.is_file()})


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
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _flock(descriptor)
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Raise what the disk refuses as a `CheckpointError`, in a sentence."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written: {error.strerror or error}. What is there now is whole, the old or the new."
        ) from error


def _read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """The size and the SHA-256 of each file."""
    path = file_in(folder, MANIFEST)
    broken = CheckpointCorrupt(f"{MANIFEST} is broken, or not a manifest of ours. {REMEDY}")
    try:
        content = strict_json.read(path, MAX_MANIFEST_BYTES)
        if set(content) != {"format", "files"} or content["format"] != 1:
            raise broken
        listed = {name: (entry.pop("size"), entry.pop("sha256"), entry) for name, entry in content["files"].items()}
    except (CheckpointCorrupt, AttributeError, KeyError, TypeError):
        raise broken from None
    for name, (size, digest, extra) in listed.items():
        check_name(name)
        if type(size) is not int or type(digest) is not str or extra:
            raise broken
    return {name: (size, digest) for name, (size, digest, _) in listed.items()}

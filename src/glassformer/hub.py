"""Models of the Hugging Face Hub: a name becomes a folder, or a file, of the cache that other tools share.

    org/name                    its default branch
    org/name@v1.0               a branch, a tag or a commit
    org/name/model-Q8_0.gguf    one file of it

A branch is resolved to a commit first, of which all files are then. Only those come that a model is read from, those
that say whether it can be read before its weights. The library `huggingface_hub` speaks to the Hub and keeps the cache
(HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT); but what it has of a file is lost when it is stopped,
so that large ones are fetched as corpora are, by `data/download.py`.
"""

import errno
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer import files, strict_json
from glassformer.checkpoints import huggingface
from glassformer.checkpoints.folder_files import (
    ADAPTER,
    CONFIG,
    GENERATION,
    INDEX,
    MAX_BYTES,
    OURS,
    PICKLED,
    PICKLED_INDEX,
    PROCESSOR,
    WEIGHTS,
    FolderFiles,
    check_size,
)
from glassformer.checkpoints.rest import LICENCE, OF_THE_TOKENIZER
from glassformer.data import download
from glassformer.data.download import DownloadProgress
from glassformer.errors import CheckpointError, DataError, GlassformerError, MissingExtra
from glassformer.tokenizers.untrusted_files import MAX_FILE_BYTES

logger = logging.getLogger(__name__)

NAME = re.compile(
    r"(?!.*(?:--|\.\.|//))(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})"
    r"(?:/(?P<file>[^@]{1,500}\.gguf))?(?:@(?P<revision>[^@]{1,200}))?",
    re.ASCII,
)
TEXTS = re.compile(rf"{OF_THE_TOKENIZER.pattern}|[^/]+\.tiktoken|{LICENCE.pattern}", re.IGNORECASE)
COMMIT, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A model on the Hub; `file` is empty for a folder, and without a revision it is the default branch's."""

    repo: str
    file: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, (self.repo, self.file))) + (f"@{self.revision}" if self.revision else "")


def parse(source: str) -> HubName | None:
    """The name on the Hub that this is, if it has the form of one."""
    match = NAME.fullmatch(source)
    return None if match is None else HubName(repo=match["repo"], file=match["file"] or "", revision=match["revision"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a commit: its bytes, and the SHA-256 of a large one."""

    size: int = 0
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a commit, by their names, and the folder of the cache that has them or gets them."""

    repo: str
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def storage(self) -> Path:
        """What the cache keeps of the repository: blobs/ by their hashes, and snapshots/ with links to them."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"

    @property
    def folder(self) -> Path:
        """The files of the commit."""
        return self.storage / "snapshots" / self.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Where the files of a model are, and the name that will always mean these very files."""

    path: Path
    origin: str


def fetch(name: HubName, *, from_pickle: bool = False, on_progress: DownloadProgress | None = None) -> Fetched:
    """Bring what is missing in the cache; `on_progress` is told the bytes of all files together."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "huggingface_hub", "hub", f"There is nothing at {name}, and a model of the Hugging Face Hub"
        ) from None
    with _in_one_sentence(name):
        listing = _listing(name)
        if name.file:
            if name.file not in listing.files:
                raise CheckpointError(f"it has no such file. {_ggufs(listing)}")
            _bring(listing, [name.file], on_progress)
        else:
            _bring(listing, _describing(listing), None)
            folder = FolderFiles(listing.folder)
            huggingface.read_config(folder)
            _bring(listing, _weights(listing, folder, from_pickle=from_pickle), on_progress)
        _remember(listing, name.revision or "main")
    origin = HubName(repo=listing.repo, file=name.file, revision=listing.commit)
    return Fetched(path=listing.folder / name.file, origin=str(origin))


def _door(listing: Listing) -> str:
    """The file by which the weights are read, in the order of `FolderFiles`; "" where there is none."""
    return next((name for name in (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX) if name in listing.files), "")


def _describing(listing: Listing) -> list[str]:
    """The files that a model is read from beside its weights, with the index of these.

    Settings that are too large are an error; texts are left where they are, since one may stand for another.
    """
    max_bytes = dict.fromkeys((CONFIG, GENERATION, OURS, PROCESSOR, ADAPTER), MAX_BYTES)
    if _door(listing).endswith(".json"):
        max_bytes[_door(listing)] = strict_json.MAX_BYTES
    settings = max_bytes.keys() & listing.files.keys()
    for name in sorted(settings):
        check_size(name, listing.files[name].size, max_bytes[name])
    texts = {name for name in listing.files if TEXTS.fullmatch(name)}
    too_large = {name for name in texts if listing.files[name].size > MAX_FILE_BYTES}
    for name in sorted(too_large):
        logger.warning(
            "%s: %s has %s bytes and is not fetched, since at most %s are read of such a file.",
            listing.repo,
            name,
            f"{listing.files[name].size:,}",
            f"{MAX_FILE_BYTES:,}",
        )
    return sorted(settings | texts - too_large)


def _weights(listing: Listing, folder: FolderFiles, *, from_pickle: bool) -> list[str]:
    """The files of the weights."""
    door = _door(listing)
    if not door:
        if folder.has(ADAPTER):
            raise folder.only_adapter()
        raise CheckpointError(f"it has neither {WEIGHTS} nor {PICKLED}. {_ggufs(listing)}")
    if door in (PICKLED, PICKLED_INDEX) and not from_pickle:
        raise folder.only_pickled()
    return folder.shards(door) if door.endswith(".json") else [door]


def _ggufs(listing: Listing) -> str:
    names = sorted(name for name in listing.files if name.endswith(".gguf"))
    return f"Name one of its files: {', '.join(f'{listing.repo}/{name}' for name in names[:8])}." if names else ""


# ---- what there is


def _listing(name: HubName) -> Listing:
    """What the Hub has, or the cache where the Hub does not say it."""
    from huggingface_hub import errors

    try:
        return _of_hub(name)
    except errors.RevisionNotFoundError:
        raise
    except Exception as error:
        listing = _of_cache(name)
        if listing is None:
            raise
        if not isinstance(error, errors.OfflineModeIsEnabled):
            logger.warning("%s: what the cache has of it is used, since %s", name, _why(error))
        return listing


def _why(error: Exception) -> str:
    """Why the Hub does not say what it has."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "it is gated on the Hub, and the token may not read it."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the Hub has no such model, or shows it to those alone whose token may read it."
    return f"the Hub gives no answer that helps: {_reason(error)}"


def _of_hub(name: HubName) -> Listing:
    from huggingface_hub import HfApi

    info = HfApi(library_name="glassformer").model_info(name.repo, revision=name.revision, files_metadata=True)
    if not COMMIT.fullmatch(str(info.sha)) or parse(info.id) is None or info.siblings is None:
        raise CheckpointError("the server's answer is not one of a Hub.")
    return Listing(
        repo=info.id,  # the present name of a repository that was renamed
        commit=str(info.sha),
        files={
            each.rfilename: RemoteFile(
                size=each.size or 0,
                sha256=each.lfs.sha256 if each.lfs and SHA256.fullmatch(each.lfs.sha256) else None,
            )
            for each in info.siblings
        },
    )


def _of_cache(name: HubName) -> Listing | None:
    from huggingface_hub import try_to_load_from_cache

    probe = name.file or CONFIG
    path = try_to_load_from_cache(name.repo, probe, revision=name.revision)
    if not isinstance(path, str):
        return None
    folder = Path(path.removesuffix(probe))
    names = [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
    return Listing(repo=name.repo, commit=folder.name, files=dict.fromkeys(names, RemoteFile()))


# ---- bringing it


def _bring(listing: Listing, names: Sequence[str], on_progress: DownloadProgress | None) -> None:
    """Fetch these files of a commit, but those that are there."""
    from huggingface_hub import hf_hub_download

    for name in names:
        files.check_name(name)
    if absent := [name for name in names if name not in listing.files]:
        raise CheckpointError(f"{absent[0][:200]!r}, which its index names, is not there.")
    missing = [name for name in names if not (listing.folder / name).exists()]
    done, total = 0, sum(listing.files[name].size for name in missing)

    def report(n_bytes: int, of_all: int | None) -> None:
        if on_progress is not None:
            on_progress(done + n_bytes, total)

    for name in missing:
        file = listing.files[name]
        if file.sha256 is not None:
            _fetch_blob(listing, name, file.sha256, report)
        with _without_bars():
            hf_hub_download(listing.repo, name, revision=listing.commit)
        report(file.size, None)
        done += file.size


def _remember(listing: Listing, revision: str) -> None:
    """Note in the cache which commit a branch is now, once it is there: what the cache gives without a network."""
    files.check_name(revision)
    note = listing.storage / "refs" / revision
    if revision != listing.commit and not (note.is_file() and note.read_text() == listing.commit):
        note.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(note, listing.commit.encode(), overwrite=True)


def _fetch_blob(listing: Listing, name: str, sha256: str, report: DownloadProgress) -> None:
    """Put a large file where the library looks for it, going on where an earlier attempt has stopped."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    blobs = listing.storage / "blobs"
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / listing.storage.name / f"{sha256}.lock"  # the library's own
    url = hf_hub_url(listing.repo, name, revision=listing.commit)
    file = download.File(name=sha256, url=url, sha256=sha256, max_bytes=listing.files[name].size)
    token = build_hf_headers().get("authorization", "")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not (blobs / sha256).exists():
            try:
                download.fetch_patiently(file, blobs, report, authorization=token)
            except DataError as error:
                raise CheckpointError(f"{name}: {error}") from None


@contextmanager
def _without_bars() -> Iterator[None]:
    """In the block, the library draws no bars of its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            enable_progress_bars()


@contextmanager
def _in_one_sentence(name: HubName) -> Iterator[None]:
    """Say what went wrong on the Hub, or on the way to it, in our words."""
    from huggingface_hub import constants, errors

    nothing = f"There is nothing at {name} here, and"
    try:
        yield
    except GlassformerError as error:
        raise error.about(name) from None
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{name} is gated: accept its conditions at {constants.ENDPOINT}/{name.repo}, and give a token of the "
            f"account that has done so in the environment's HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{name.repo} is on the Hub, and has no revision {name.revision!r}.") from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{nothing} no model {name.repo} on the Hub; a private one needs your token in the environment's HF_TOKEN. "
            f"preset:NAME gives random weights."
        ) from None
    except errors.OfflineModeIsEnabled:
        raise CheckpointError(
            f"{nothing} the cache of the Hub has no such model either; HF_HUB_OFFLINE forbids to ask the Hub itself."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"{name}: there is no room left in {constants.HF_HUB_CACHE}, the cache of the Hub; HF_HOME puts it "
                f"elsewhere."
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise CheckpointError(f"{name}: {error.filename} cannot be written: {error.strerror}.") from None
        raise CheckpointError(f"{nothing} the Hub does not give it: {_reason(error)}") from None
    except Exception as error:  # of the library's HTTP client, or of an answer that is none of a Hub's
        raise CheckpointError(f"{nothing} {constants.ENDPOINT} cannot be asked for it: {_reason(error)}") from None


def _reason(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])[:300] or type(error).__name__
    return text if text.endswith(".") else f"{text}."

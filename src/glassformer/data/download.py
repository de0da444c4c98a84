"""Public corpora by name: fetched once, checked, and put in place whole.

A download goes to `NAME.part` first. If it breaks off, the next call goes on where it stopped, if the server still has
the same version (its ETag) or a published SHA-256 will tell; when it is complete and its SHA-256 is right, it takes its
final name. `NAME.part.json` has the ETag, and says that the part is ours: another file of that name is left alone.
"""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from glassformer import files, strict_json
from glassformer.errors import CheckpointCorrupt, DataError

DownloadProgress = Callable[[int, int | None], None]  # bytes so far, and of how many if the server says so

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Where a file comes from, and its name on disk. Without a published `sha256` the one that came is reported."""

    name: str
    url: str
    sha256: str | None = None
    max_bytes: int = GIB // 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Files that belong together."""

    name: str
    about: str
    licence: str
    files: tuple[File, ...]


_TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4"
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
_MULTI30K_FILES = {
    "train.en.gz": (568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
    "train.de.gz": (637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
    "val.en.gz": (21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
    "val.de.gz": (24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
    "test_2016_flickr.en.gz": (21_077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
    "test_2016_flickr.de.gz": (22_890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
}
_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}


def _files(folder: str, sizes_and_hashes: Mapping[str, tuple[int, str]], prefix: str = "") -> tuple[File, ...]:
    """The files of a folder on the web, of which bytes and SHA-256 are known."""
    return tuple(
        File(name=f"{prefix}{name}", url=f"{folder}/{name}", sha256=sha256, max_bytes=size)
        for name, (size, sha256) in sizes_and_hashes.items()
    )


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="tinyshakespeare",
            about="1.1 MB of Shakespeare's plays, as in char-rnn and nanoGPT",
            licence="public domain",
            files=(
                File(
                    name="tinyshakespeare.txt",
                    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    max_bytes=1_115_394,
                ),
            ),
        ),
        Corpus(
            name="tinystories-train",
            about="2.2 GB of stories that a small child understands, written by GPT-4 (Eldan & Li, arXiv:2305.07759)",
            licence="CDLA-Sharing-1.0",
            files=(
                File(
                    name="tinystories-train.txt",
                    url=f"{_TINYSTORIES}-train.txt",
                    max_bytes=4 * GIB,
                ),
            ),
        ),
        Corpus(
            name="tinystories-valid",
            about="22 MB of such stories, for validation",
            licence="CDLA-Sharing-1.0",
            files=(
                File(
                    name="tinystories-valid.txt",
                    url=f"{_TINYSTORIES}-valid.txt",
                    max_bytes=GIB // 16,
                ),
            ),
        ),
        Corpus(
            name="tinystories-sample",
            about="a few of these stories, as the CS336 course hands them out with its first assignment",
            licence="CDLA-Sharing-1.0",
            files=(
                File(
                    name="tinystories-sample.txt",
                    url="https://raw.githubusercontent.com/stanford-cs336/assignment1-basics/"
                    "25a8a49f6460c83a30416d42348f2ef11d1dd185/tests/fixtures/tinystories_sample.txt",
                    sha256="defaedb58bf28079f3e29c6142cb7f3568d331a577e0911c5d7925c465c50c43",
                    max_bytes=3_794,
                ),
            ),
        ),
        Corpus(
            name="mnist",
            about="11.6 MB of handwritten digits: 60,000 to train on and 10,000 to test (LeCun et al. 1998)",
            licence="none that is known",
            files=_files("https://storage.googleapis.com/cvdf-datasets/mnist", _MNIST_FILES),
        ),
        Corpus(
            name="multi30k",
            about="1.3 MB of descriptions of photographs in English and German (Elliott et al. 2016, arXiv:1605.00459)",
            licence="none that is known",
            files=_files(_MULTI30K, _MULTI30K_FILES, "multi30k."),
        ),
        Corpus(
            name="tatoeba-cmn-eng",
            about="3.1 MB of English sentences with their Chinese translations, of Tatoeba's contributors",
            licence="CC-BY 2.0 FR, the names in the third column",
            files=(
                File(
                    name="tatoeba-cmn-eng.txt",
                    url="https://raw.githubusercontent.com/sunlanchang/Seq2Seq-for-NMT/"
                    "a7cfaa2a529d3a15d741e6d48568a517f95cb1a1/data/cmn.txt",
                    sha256="e1439be4f55aeb39f30c478aa6372dec93764475395eefbb9bce49e768a3bba2",
                    max_bytes=3_146_134,
                ),
            ),
        ),
    )
}


def corpus(name: str) -> Corpus:
    """The corpus of this name."""
    if name not in CORPORA:
        raise DataError(f"There is no corpus {name!r}. The corpora are {', '.join(CORPORA)}.")
    return CORPORA[name]


def fetch(
    file: File, folder: Path, on_progress: DownloadProgress | None = None, *, authorization: str = ""
) -> tuple[Path, str]:
    """Bring the file into the folder unless it is there; return its path and its SHA-256.

    The server that the URL names gets the `authorization`, and none that it redirects to.
    """
    target = folder / file.name
    if target.exists():
        digest = _sha256(target).hexdigest()
        if file.sha256 not in (None, digest):
            raise DataError(
                f"{target} is not the published file: its SHA-256 is {digest}. Remove it and fetch it again."
            )
        return target, digest
    part = _part(file, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = _download(file, part, on_progress, authorization)
        if file.sha256 not in (None, digest):
            _discard(part)
            raise DataError(
                f"{file.url} gave a file with SHA-256 {digest}, but {file.name} has {file.sha256}. "
                f"It was discarded; try again, or get the corpus elsewhere."
            )
        if target.exists():
            raise DataError(f"{target} has come while it was fetched: the download is in {part}.")
        os.replace(part, target)
        _discard(part)
    except OSError as error:
        raise DataError(f"{file.name} could not be written to {folder}: {error.strerror or error}.") from None
    return target, digest


def fetch_patiently(
    file: File, folder: Path, on_progress: DownloadProgress | None = None, *, authorization: str = ""
) -> tuple[Path, str]:
    """The same, which goes on at once where it breaks off, as long as each attempt brings something."""
    part = _part(file, folder)
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return fetch(file, folder, on_progress, authorization=authorization)
        except DataError:
            if not part.exists() or part.stat().st_size <= before:
                raise


def _part(file: File, folder: Path) -> Path:
    return (folder / file.name).with_suffix(".part")


def _download(wanted: File, part: Path, on_progress: DownloadProgress | None, authorization: str) -> str:
    """Append what is missing to `part`; return the SHA-256 of the whole."""
    note = _note(part)
    etag = _etag(wanted, part)
    done = part.stat().st_size if part.exists() and (etag or wanted.sha256) else 0
    with _request(wanted, done, etag, authorization) as response:
        new = response.headers.get("ETag", "")
        vouching = "" if new.startswith("W/") else new  # a weak one does not vouch for every byte
        resumed = done > 0 and response.status == 206
        hashed = _sha256(part) if resumed else hashlib.sha256()
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdecimal() else None
        if total is not None and total > wanted.max_bytes:
            raise DataError(f"{wanted.url} announces {total:,} bytes; {wanted.name} has at most {wanted.max_bytes:,}.")
        files.write_file(note, json.dumps({"download": wanted.name, "etag": vouching}).encode(), overwrite=True)
        with part.open("ab" if resumed else "wb") as file:
            for chunk in iter(lambda: _receive(wanted, response), b""):
                done += len(chunk)
                if done > wanted.max_bytes:
                    break
                file.write(chunk)
                hashed.update(chunk)
                if on_progress is not None:
                    on_progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if done > wanted.max_bytes:
        _discard(part)
        raise DataError(f"{wanted.url} sends more than the {wanted.max_bytes:,} bytes that {wanted.name} has at most.")
    if total is not None and done < total:
        raise DataError(f"{wanted.url} broke off after {done:,} of {total:,} bytes. Run the command again to go on.")
    return hashed.hexdigest()


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _etag(wanted: File, part: Path) -> str:
    """That of a download which has begun, or nothing; an error where the files are somebody else's."""
    note = _note(part)
    if not (part.exists() or note.exists()):
        return ""
    try:
        begun = strict_json.read(note) if note.is_file() else {}
    except CheckpointCorrupt:
        begun = {}
    if begun.get("download") != wanted.name or not isinstance(etag := begun.get("etag"), str):
        raise DataError(f"{part if part.exists() else note} is no download that was begun here: move it away first.")
    return etag


def _discard(part: Path) -> None:
    for path in (part, _note(part)):
        path.unlink(missing_ok=True)


def _request(wanted: File, start: int, etag: str, authorization: str) -> HTTPResponse:
    """The answer to a GET from the byte `start` on; all of it, if the version `etag` is gone. It may not leave TLS."""
    headers = {"User-Agent": "glassformer"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    try:
        request = urllib.request.Request(wanted.url, headers=headers)
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies beyond what we have, or what we have is not a beginning of it
            error.close()
            return _request(wanted, 0, "", authorization)
        raise DataError(f"{wanted.url} answered {error.code} {error.msg.splitlines()[0]}.") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{wanted.url} cannot be reached: {reason}. Is there a network?") from None
    if wanted.url.startswith("https:") and not response.url.startswith("https:"):
        response.close()
        raise DataError(f"{wanted.url} redirects to {response.url}, which is not encrypted.")
    if start and response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        return _request(wanted, 0, "", authorization)
    return response


def _receive(wanted: File, response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise DataError(f"{wanted.url} broke off: {error}. Run the command again to go on.") from None


def _sha256(path: Path) -> "hashlib._Hash":
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")

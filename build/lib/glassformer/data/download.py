"""Public corpora by name: fetched once, checked, and put in place whole.

A download goes to `NAME.part` first. If it breaks off, the next call goes on where it stopped, if the server still has
the same version (its ETag, kept in `NAME.etag`) or a published SHA-256 will tell; when it is complete and its SHA-256
is right, it takes its final name.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from glassformer.errors import DataError

Progress = Callable[[int, int | None], None]  # bytes so far, and of how many if the server says so

CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Where a text comes from. Without a published `sha256` the one that came is reported, not checked."""

    name: str
    about: str
    url: str
    licence: str
    sha256: str | None = None
    max_bytes: int = GIB // 1024

    @property
    def file_name(self) -> str:
        """What it is called on disk."""
        return f"{self.name}.txt"


_TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4"

CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="tinyshakespeare",
            about="1.1 MB of Shakespeare's plays, as in char-rnn and nanoGPT",
            url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            licence="public domain",
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            max_bytes=1_115_394,
        ),
        Corpus(
            name="tinystories-train",
            about="2.2 GB of stories that a small child understands, written by GPT-4 (Eldan & Li, arXiv:2305.07759)",
            url=f"{_TINYSTORIES}-train.txt",
            licence="CDLA-Sharing-1.0",
            max_bytes=4 * GIB,
        ),
        Corpus(
            name="tinystories-valid",
            about="22 MB of such stories, for validation",
            url=f"{_TINYSTORIES}-valid.txt",
            licence="CDLA-Sharing-1.0",
            max_bytes=GIB // 16,
        ),
        Corpus(
            name="tinystories-sample",
            about="a few of these stories, as the CS336 course hands them out with its first assignment",
            url="https://raw.githubusercontent.com/stanford-cs336/assignment1-basics/"
            "25a8a49f6460c83a30416d42348f2ef11d1dd185/tests/fixtures/tinystories_sample.txt",
            licence="CDLA-Sharing-1.0",
            sha256="defaedb58bf28079f3e29c6142cb7f3568d331a577e0911c5d7925c465c50c43",
            max_bytes=3_794,
        ),
    )
}


def corpus(name: str) -> Corpus:
    """The corpus of this name."""
    if name not in CORPORA:
        raise DataError(f"There is no corpus {name!r}. The corpora are {', '.join(CORPORA)}.")
    return CORPORA[name]


def fetch(corpus: Corpus, folder: Path, on_progress: Progress | None = None) -> tuple[Path, str]:
    """Bring the corpus into the folder unless it is there; return its path and its SHA-256."""
    target = folder / corpus.file_name
    if target.exists():
        digest = _sha256(target).hexdigest()
        if corpus.sha256 not in (None, digest):
            raise DataError(f"{target} is not {corpus.name}: its SHA-256 is {digest}. Remove it and fetch it again.")
        return target, digest
    part = target.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = _download(corpus, part, on_progress)
        if corpus.sha256 not in (None, digest):
            _discard(part)
            raise DataError(
                f"{corpus.url} gave a file with SHA-256 {digest}, but {corpus.name} has {corpus.sha256}. "
                f"It was discarded; try again, or get the corpus elsewhere."
            )
        os.replace(part, target)
        part.with_suffix(".etag").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{corpus.name} could not be written to {folder}: {error.strerror or error}.") from None
    return target, digest


def _download(corpus: Corpus, part: Path, on_progress: Progress | None) -> str:
    """Append what is missing to `part`; return the SHA-256 of the whole."""
    version = part.with_suffix(".etag")
    etag = version.read_text() if version.exists() else ""
    done = part.stat().st_size if part.exists() and (etag or corpus.sha256) else 0
    with _request(corpus, done, etag) as response:
        new = response.headers.get("ETag", "")
        if new and not new.startswith("W/"):  # a weak one does not vouch for every byte
            version.write_text(new)
        else:
            version.unlink(missing_ok=True)
        resumed = done > 0 and response.status == 206
        hashed = _sha256(part) if resumed else hashlib.sha256()
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdecimal() else None
        if total is not None and total > corpus.max_bytes:
            raise DataError(f"{corpus.url} announces {total:,} bytes; {corpus.name} has at most {corpus.max_bytes:,}.")
        with part.open("ab" if resumed else "wb") as file:
            for chunk in iter(lambda: _receive(corpus, response), b""):
                done += len(chunk)
                if done > corpus.max_bytes:
                    break
                file.write(chunk)
                hashed.update(chunk)
                if on_progress is not None:
                    on_progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if done > corpus.max_bytes:
        _discard(part)
        raise DataError(f"{corpus.url} sends more than the {corpus.max_bytes:,} bytes that {corpus.name} has at most.")
    if total is not None and done < total:
        raise DataError(f"{corpus.url} broke off after {done:,} of {total:,} bytes. Run the command again to go on.")
    return hashed.hexdigest()


def _discard(part: Path) -> None:
    for path in (part, part.with_suffix(".etag")):
        path.unlink(missing_ok=True)


def _request(corpus: Corpus, start: int, etag: str = "") -> HTTPResponse:
    """The answer to a GET from the byte `start` on; all of it, if the version `etag` is gone. It may not leave TLS."""
    headers = {"User-Agent": "glassformer"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag:
            headers["If-Range"] = etag
    try:
        response: HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(corpus.url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies beyond what we have, or what we have is not a beginning of it
            error.close()
            return _request(corpus, 0)
        raise DataError(f"{corpus.url} answered {error.code} {error.msg.splitlines()[0]}.") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{corpus.url} cannot be reached: {reason}. Is there a network?") from None
    if corpus.url.startswith("https:") and not response.url.startswith("https:"):
        response.close()
        raise DataError(f"{corpus.url} redirects to {response.url}, which is not encrypted.")
    if start and response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        return _request(corpus, 0)
    return response


def _receive(corpus: Corpus, response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise DataError(f"{corpus.url} broke off: {error}. Run the command again to go on.") from None


def _sha256(path: Path) -> "hashlib._Hash":
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")

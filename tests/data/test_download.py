"""Corpora from a server on this machine that is slow, broken or hostile."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glassformer.data import download
from glassformer.data.download import CORPORA, File, corpus, fetch
from glassformer.errors import DataError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(handler: BaseHTTPRequestHandler) -> None:
    """Ranges are honoured."""
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    handler.wfile.write(CONTENT[start:])


def second_version(handler: BaseHTTPRequestHandler) -> None:
    """The text has changed since `half_of_the_first`, and the server says so to whoever asks."""
    if handler.headers.get("If-Range") == '"2"':
        whole(handler)
        return
    handler.send_response(200)
    handler.send_header("ETag", '"2"')
    handler.end_headers()
    handler.wfile.write(CONTENT)


def half_of_the_first(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("ETag", '"1"')
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(b"x" * 1000)


def whole_without_ranges(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)


def half(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(CONTENT)


def announces_too_much(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**15))
    handler.end_headers()


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def in_circles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def to_a_file(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


def to_the_text(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/whole")
    handler.end_headers()


def out_of_range(handler: BaseHTTPRequestHandler) -> None:
    if "Range" in handler.headers:
        handler.send_error(416)
    else:
        whole(handler)


def another_range(handler: BaseHTTPRequestHandler) -> None:
    if "Range" not in handler.headers:
        whole(handler)
        return
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff this is not HTTP\r\n\r\n")


ANSWERS: dict[str, Answer] = {
    f"/{answer.__name__}": answer
    for answer in (
        whole,
        whole_without_ranges,
        second_version,
        half_of_the_first,
        half,
        endless,
        announces_too_much,
        missing,
        in_circles,
        to_a_file,
        to_the_text,
        out_of_range,
        another_range,
        nonsense,
    )
}


class Handler(BaseHTTPRequestHandler):
    requests: list[str | None]

    def do_GET(self) -> None:
        Handler.requests.append(self.headers.get("Range"))
        with suppress(OSError):  # the client has left
            ANSWERS[self.path](self)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _directly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 10.0)


def local(url: str, sha256: str | None = SHA256, max_bytes: int = len(CONTENT)) -> File:
    return File(name="local.txt", url=url, sha256=sha256, max_bytes=max_bytes)


@pytest.mark.parametrize("path", ["/whole", "/whole_without_ranges", "/to_the_text"])
def test_a_corpus_comes_whole_and_progress_counts_its_bytes(address: str, path: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target, digest = fetch(local(address + path), tmp_path / "data", lambda *done: seen.append(done))
    assert target == tmp_path / "data" / "local.txt"
    assert target.read_bytes() == CONTENT
    assert digest == SHA256
    assert seen[-1][0] == len(CONTENT)
    assert [entry.name for entry in target.parent.iterdir()] == ["local.txt"]


def test_what_is_there_is_checked_and_not_fetched_again(address: str, tmp_path: Path) -> None:
    (tmp_path / "local.txt").write_bytes(CONTENT)
    assert fetch(local(f"{address}/missing"), tmp_path)[1] == SHA256
    assert Handler.requests == []
    (tmp_path / "local.txt").write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the published file: its SHA-256 is"):
        fetch(local(f"{address}/whole"), tmp_path)
    assert (tmp_path / "local.txt").read_bytes() == b"something else"


def begun(folder: Path, content: bytes) -> None:
    """A download that has broken off."""
    (folder / "local.part").write_bytes(content)
    (folder / "local.part.json").write_text('{"download": "local.txt", "etag": ""}')


@pytest.mark.parametrize("name", ["local.part", "local.part.json"])
def test_what_somebody_else_has_called_like_a_download_is_left_alone(name: str, address: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("years of work")
    with pytest.raises(DataError, match="is no download that was begun here"):
        fetch(local(f"{address}/whole"), tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["years of work"]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="broke off after 512,000 of 1,024,000 bytes"):
        fetch(local(f"{address}/half"), tmp_path)
    assert not (tmp_path / "local.txt").exists()
    assert fetch(local(f"{address}/whole"), tmp_path)[0].read_bytes() == CONTENT
    assert Handler.requests == [None, "bytes=512000-"]


@pytest.mark.parametrize("path", ["/whole_without_ranges", "/out_of_range", "/another_range"])
def test_a_server_that_cannot_go_on_sends_it_all_again(address: str, path: str, tmp_path: Path) -> None:
    begun(tmp_path, CONTENT[:1000])
    assert fetch(local(address + path), tmp_path)[0].read_bytes() == CONTENT


def test_another_sha_256_is_refused_and_the_download_discarded(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"gave a file with SHA-256 {SHA256}"):
        fetch(local(f"{address}/whole", sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_false_beginning_is_noticed_by_the_sha_256(address: str, tmp_path: Path) -> None:
    begun(tmp_path, b"x" * 1000)
    with pytest.raises(DataError, match="It was discarded"):
        fetch(local(f"{address}/whole"), tmp_path)
    assert fetch(local(f"{address}/whole"), tmp_path)[0].read_bytes() == CONTENT


def test_without_a_published_sha_256_the_one_that_came_is_reported(address: str, tmp_path: Path) -> None:
    assert fetch(local(f"{address}/whole", sha256=None), tmp_path)[1] == SHA256


def test_without_a_published_sha_256_two_versions_are_never_mixed(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="broke off"):
        fetch(local(f"{address}/half_of_the_first", sha256=None), tmp_path)
    assert fetch(local(f"{address}/second_version", sha256=None), tmp_path)[1] == SHA256
    assert Handler.requests == [None, "bytes=1000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["local.txt"]


def test_a_beginning_whose_version_nothing_vouches_for_is_fetched_again(address: str, tmp_path: Path) -> None:
    begun(tmp_path, b"x" * 1000)
    assert fetch(local(f"{address}/whole", sha256=None), tmp_path)[1] == SHA256
    assert Handler.requests == [None]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/missing", "answered 404"),
        ("/in_circles", "answered 302"),
        ("/to_a_file", "answered 302"),
        ("/endless", "sends more than the 1,024,000 bytes"),
        ("/announces_too_much", "announces 1,000,000,000,000,000 bytes"),
        ("/nonsense", "cannot be reached"),
    ],
)
def test_a_broken_or_hostile_server_is_an_error_and_leaves_nothing(
    address: str, path: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=sentence):
        fetch(local(address + path), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://name.invalid/", "https://"])
def test_no_network_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(local(url), tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(address: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="could not be written"):
        fetch(local(f"{address}/whole"), tmp_path / "data")


def test_every_corpus_has_an_encrypted_address_a_licence_and_a_bound() -> None:
    for name, entry in CORPORA.items():
        assert entry.name == name
        assert entry.licence
        assert entry.about
        for file in entry.files:
            assert file.url.startswith("https://")
            assert file.max_bytes > 0
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_no_two_files_have_one_name() -> None:
    names = [file.name for entry in CORPORA.values() for file in entry.files]
    assert len(names) == len(set(names))


def test_an_unknown_corpus_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(DataError, match="tinyshakespeare, tinystories-train"):
        corpus("shakespear")


def test_the_published_sha_256_is_that_of_the_real_files(data_dir: Path) -> None:
    known = {file.name: file for entry in CORPORA.values() for file in entry.files}
    real = {"tinyshakespeare.txt": "tinyshakespeare.txt", "tinystories-sample.txt": "tinystories_sample.txt"}
    paths = {name: data_dir / "text" / path for name, path in real.items()}
    paths |= {name: data_dir / "parallel" / name for name in known if name.startswith(("multi30k", "tatoeba"))}
    assert len(paths) == 9
    for name, path in paths.items():
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == known[name].sha256
        assert len(data) == known[name].max_bytes

"""A server that speaks as much of the Hub's API as a download takes, with repositories out of dictionaries.

Small files come as they are; large ones are redirected to another host, as the Hub does to its network of storage.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".gguf")


@dataclass
class FakeHub:
    """Repositories by name, each with its files; what was asked for; and how the next large files are to break off."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", "v1.0", COMMIT)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_secret"
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)  # method, path, Range, Authorization
    cuts: list[int] = field(default_factory=list)  # after how many bytes the next answers of the storage end
    address: str = ""

    def add(self, name: str, files: Mapping[str, bytes] | Path) -> None:
        """A repository with these files, or those of a folder."""
        if isinstance(files, Path):
            folder = files
            files = {f"{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repositories[name] = dict(files)

    def fetched(self) -> list[str]:
        """The names of the files whose content was asked for, in order."""
        paths = [path for method, path, _, _ in self.requests if method == "GET"]
        names = [re.sub(r".*/resolve/[^/]+/", "", path) for path in paths if "/resolve/" in path]
        return list(dict.fromkeys(names))

    def ranges(self) -> list[str]:
        """What was asked for of large files."""
        return [range for method, path, range, _ in self.requests if method == "GET" and path.startswith("/storage/")]


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Run it in the block; `hub.address` is what HF_ENDPOINT is to be."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            sent = self.headers.get("Range") or "", self.headers.get("Authorization") or ""
            hub.requests.append((self.command, path, *sent))
            with suppress(OSError):  # the client has left
                self.answer(path)

        def answer(self, path: str) -> None:
            if api := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self.answer_listing(api[1], api[2] or "main")
            elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.answer_file(file[1], file[2], file[3])
            elif stored := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
                self.answer_stored(hub.repositories[stored[1]][stored[2]])
            else:
                self.send_error(404)

        def refused(self, name: str, revision: str) -> bool:
            token = self.headers.get("Authorization") or ""
            authorized = token == f"Bearer {hub.token}"
            code, status = "", 0
            if name not in hub.repositories:
                code, status = "RepoNotFound", 404 if authorized else 401
            elif revision not in hub.revisions:
                code, status = "RevisionNotFound", 404
            elif name in hub.gated and not authorized and "/resolve/" in self.path:
                code, status = "GatedRepo", 403 if token else 401
            if code:
                self.reply(status, {"X-Error-Code": code, "X-Error-Message": "no"}, b"")
            return bool(code)

        def answer_listing(self, name: str, revision: str) -> None:
            if self.refused(name, revision):
                return
            siblings = []
            for file, data in hub.repositories[name].items():
                sibling = {"rfilename": file, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                if file.endswith(LARGE):
                    sha256 = hashlib.sha256(data).hexdigest()
                    sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
                siblings.append(sibling)
            body = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False}
            self.reply(
                200, {"Content-Type": "application/json"}, json.dumps(body | {"tags": [], "downloads": 0}).encode()
            )

        def answer_file(self, name: str, revision: str, file: str) -> None:
            if self.refused(name, revision):
                return
            commit = {"X-Repo-Commit": COMMIT}
            data = hub.repositories[name].get(file)
            if data is None:
                self.reply(404, {**commit, "X-Error-Code": "EntryNotFound"}, b"")
            elif file.endswith(LARGE):
                linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
                place = f"http://localhost:{self.server.server_port}/storage/{name}/{file}"  # type: ignore[attr-defined]
                self.reply(302, {**commit, **linked, "Location": place}, b"")
            else:
                self.reply(200, {**commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}, data)

        def answer_stored(self, data: bytes) -> None:
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            headers = {"ETag": '"of the storage"'}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            end = start + hub.cuts.pop(0) if hub.cuts and self.command == "GET" else len(data)
            self.reply(206 if start else 200, headers, data[start:end], length=len(data) - start)

        def reply(self, status: int, headers: dict[str, str], body: bytes, length: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()
        thread.join()

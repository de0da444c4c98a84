"""The live page: a small Starlette application around a session.

Recording, reading and answering take turns in threads, so that the loop is always free. Requests name runs, blocks and
tensors by numbers and blobs by their hashes; no part of a request becomes a path.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from glassformer import strict_json
from glassformer.config import from_mapping
from glassformer.errors import ConfigError, GlassformerError, TraceError
from glassformer.http_guard import Guard
from glassformer.inference.logits import Sampling
from glassformer.viewer import assets
from glassformer.viewer.chapters import load_chapters
from glassformer.viewer.events import Events
from glassformer.viewer.session import Session
from glassformer.viewer.work_queue import WorkQueue

T = TypeVar("T")

MAX_WAITING = 8  # passes that wait to be recorded
MAX_VALUES = 1 << 14  # of JSON in a request
MAX_DIGITS = 10  # of a whole number in an address
MAX_LIST = 1_000  # characters of whole numbers in a query


@dataclass(frozen=True, kw_only=True)
class NewText:
    """POST /api/tokenize."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """POST /api/blobs: their bytes come one after the other."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """POST /api/runs."""

    text: str | None = None
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Next:
    """POST /api/runs/R/next: null keeps all tokens."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def sampling(self) -> Sampling:
        """The same as settings of `generate`."""
        top_p = 1.0 if self.top_p is None else self.top_p
        return Sampling(temperature=self.temperature, top_k=self.top_k or 0, top_p=top_p, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class PatchRequest:
    """POST …/patch: one cell and its new number."""

    tensor: int
    index: tuple[int, ...]
    value: float


def application(session: Session, *, token: str | None, hosts: Iterable[str] = ()) -> Guard:
    """The page of a session behind its guard."""
    api = Api(session)
    step = "/api/runs/{run}/steps/{step}"
    routes = [
        Route("/", _file("index.html")),
        *(Route(f"/{name}", _file(name)) for name in assets.PAGE if name != "index.html"),
        Route("/api/session", api.session),
        Route("/api/chapters", api.chapters),
        Route("/api/training", api.training),
        Route("/api/events", api.events),
        Route("/api/tokens", api.tokens),
        Route("/api/blobs", api.blobs, methods=["POST"]),
        Route("/api/tokenize", api.tokenize, methods=["POST"]),
        Route("/api/runs", api.run, methods=["POST"]),
        Route("/api/runs/{run}/pieces", api.pieces),
        Route("/api/runs/{run}/next", api.next, methods=["POST"]),
        Route(f"{step}/scene", api.scene),
        Route(f"{step}/trace", api.trace),
        Route(f"{step}/tiles", api.tiles),
        Route(f"{step}/numbers", api.numbers),
        Route(f"{step}/explain", api.explain),
        Route(f"{step}/patch", api.patch, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {GlassformerError: _refusal, HTTPException: _refusal, Exception: _mistake}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    scripts = assets.inline_hashes(assets.page("index.html").decode())
    return Guard(app, token=token, hosts=hosts, scripts=scripts)


class Api:
    """The endpoints; see `web/src/data/live.ts` for who calls them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events = session.training.events if session.training else Events()
        self._recording, self._reading, self._answering = WorkQueue(), WorkQueue(), WorkQueue()
        self._waiting = 0

    # ---- what is there

    async def session(self, request: Request) -> Response:
        """GET: the model and its runs."""
        return await self._read(lambda: self._session.to_json(live=True))

    async def chapters(self, request: Request) -> Response:
        """GET: all chapters, in their order."""
        return await self._read(load_chapters)

    async def scene(self, request: Request) -> Response:
        """GET: where the blocks of a step stand."""
        return await self._read(self._session.step(*_place(request)).scene.to_json)

    async def trace(self, request: Request) -> Response:
        """GET: the records of a step, without the numbers."""
        return await self._read(lambda: self._session.step(*_place(request)).records)

    async def blobs(self, request: Request) -> Response:
        """POST: the bytes of these names, one after the other."""
        asked = await _content(request, Wanted)
        data = await self._reading.run(lambda: self._session.blobs(asked.names))
        return Response(data, media_type="application/octet-stream")

    async def tiles(self, request: Request) -> Response:
        """Several at once, since most are small: the width and height of each, then the numbers of each."""
        places = _list(request, "of")
        tiles = await self._reading.run(lambda: self._session.tiles(*_place(request), places))
        sizes = np.array([values.shape[::-1] for values, _ in tiles], "<i4")
        numbers = [np.stack(tile).astype("<f4").tobytes() for tile in tiles]
        return Response(b"".join([sizes.tobytes(), *numbers]), media_type="application/octet-stream")

    async def numbers(self, request: Request) -> Response:
        """GET: a window of a block, as float64, row by row."""
        asked = _numbers(request, "block", "x", "y", "nx", "ny")
        numbers = await self._answering.run(lambda: self._session.numbers(*_place(request), *asked))
        return Response(numbers.tobytes(), media_type="application/octet-stream")

    async def tokens(self, request: Request) -> Response:
        """GET: the texts of these token ids, or the names of classes."""
        return await self._read(lambda: self._session.vocabulary(_list(request, "ids")))

    async def pieces(self, request: Request) -> Response:
        """GET: the text of a run on its way to tokens."""
        run = _whole(request.path_params["run"], "The run")
        return await self._read(lambda: self._session.pieces(run))

    async def explain(self, request: Request) -> Response:
        """GET: where one number comes from; `folded=1` asks for its formula over what has a name."""
        (tensor,) = _numbers(request, "tensor")
        places = _list(request, "index")
        folded = request.query_params.get("folded") == "1"
        return _json(
            await self._answering.run(lambda: self._session.explain(*_place(request), tensor, places, folded=folded))
        )

    # ---- what makes something new

    async def tokenize(self, request: Request) -> Response:
        """POST: a text on its way to tokens."""
        asked = await _content(request, NewText)
        return await self._read(lambda: self._session.tokenize(asked.text))

    async def run(self, request: Request) -> Response:
        """POST: a new run, on a text or on token ids."""
        asked = await _content(request, NewRun)
        return await self._record(lambda: self._session.run(text=asked.text, tokens=asked.tokens).to_json())

    async def next(self, request: Request) -> Response:
        """POST: one more token of a run."""
        asked = await _content(request, Next)
        run = _whole(request.path_params["run"], "The run")
        return await self._record(lambda: self._session.next(run, asked.sampling()))

    async def patch(self, request: Request) -> Response:
        """POST: a step with another number in one place, as a new run."""
        asked = await _content(request, PatchRequest)
        return await self._record(
            lambda: self._session.patch(*_place(request), asked.tensor, asked.index, asked.value).to_json()
        )

    # ---- what happens

    async def training(self, request: Request) -> Response:
        """GET: how far a training is; 404 where there is none."""
        training = self._session.training
        if training is None:
            raise HTTPException(404, "Nothing is being trained here.")
        return await self._read(training.progress)

    async def events(self, request: Request) -> Response:
        """GET: what happens from now on, as server-sent events."""
        return StreamingResponse(self._events.stream(), media_type="text/event-stream")

    # ---- threads

    async def _read(self, work: Callable[[], Any]) -> Response:
        return _json(await self._reading.run(work))

    async def _record(self, work: Callable[[], Any]) -> Response:
        if self._waiting >= MAX_WAITING:
            raise HTTPException(429, "The model is busy with other runs: try again in a moment.")
        self._waiting += 1
        try:
            return _json(await self._recording.run(work))
        finally:
            self._waiting -= 1


# ---- requests and answers


def _file(name: str) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        headers = {"cache-control": "no-cache"}
        return Response(assets.page(name), media_type=assets.PAGE[name], headers=headers)

    return answer


def _place(request: Request) -> tuple[int, int]:
    return _whole(request.path_params["run"], "The run"), _whole(request.path_params["step"], "The step")


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise ConfigError(f"{name} must be a whole number.")
    return int(text)


def _numbers(request: Request, *names: str) -> list[int]:
    """Whole numbers of the query, each once."""
    numbers = []
    for name in names:
        values = request.query_params.getlist(name)
        numbers.append(_whole(values[0] if len(values) == 1 else "", name))
    return numbers


def _list(request: Request, name: str) -> list[int]:
    """Whole numbers with commas between; none at all is an empty list."""
    text = request.query_params.get(name, "")
    if len(text) > MAX_LIST:
        raise ConfigError(f"{name} may have {MAX_LIST:,} characters.")
    return [_whole(part, f"Each of {name}") for part in text.split(",") if text]


async def _content(request: Request, kind: type[T]) -> T:
    content = strict_json.parse(await request.body(), "The request", max_values=MAX_VALUES, error=ConfigError)
    return from_mapping(kind, content)


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


async def _refusal(request: Request, error: Exception) -> Response:
    """One line of JSON for what was asked wrongly: 404 for what is not in a recording."""
    if isinstance(error, HTTPException):
        return _json({"error": error.detail}, error.status_code)
    text = error.anywhere() if isinstance(error, GlassformerError) else str(error)
    return _json({"error": " ".join(text.split())}, 404 if isinstance(error, TraceError) else 400)


async def _mistake(request: Request, error: Exception) -> Response:
    """A bug of ours: what it was is printed where the server was started, and nowhere else."""
    return _json({"error": "Internal server error; see the server's log."}, 500)

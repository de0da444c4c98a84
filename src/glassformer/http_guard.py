"""What stands between our servers and the web pages that a browser has open beside ours: one ASGI middleware.

    app = Guard(app, token=secrets.token_urlsafe(32))

A server on loopback is reachable from every page in the same browser: by DNS rebinding (the Host header gives that
away), by a plain form (its content type does), from a frame, from another origin. All of them are refused before the
application sees the request, in one line of JSON; bodies are read here, bounded in size and in time. Who opens the
address with `?token=…` gets a cookie and needs no token in the address any more; programs send it as a bearer token.
"""

import asyncio
import hmac
import json
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MAX_BODY = 1 << 20
MAX_HEADERS = 64
MAX_HEADER_BYTES = 1 << 15
BODY_SECONDS = 10.0  # for the whole body: one byte a second is no client of ours
HOST = re.compile(r"(?P<name>[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?")
ALWAYS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Refused(Exception):
    """A request that is answered with this status and this sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """Lets through what comes from our own page, or from a program that knows the token.

    `hosts` are names besides loopback that the server answers to, `origins` other pages that may call it, `scripts`
    the hashes of inline scripts of our pages, as Content-Security-Policy wants them. Without a token, everybody on this
    machine may use the server.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str | None,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        scripts: Iterable[str] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        self.app, self.token, self.max_body = app, token, max_body
        self.hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self.origins = {origin.lower() for origin in origins}
        self.headers = {**ALWAYS, "content-security-policy": content_security_policy("'self'", *scripts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on with its body read. There are no websockets here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send, self.headers)
        try:
            request = HttpRequest(scope)
            host = self._check_host(request)
            self._check_origin(request, host)
            self._check_form(request)
            cookie = f"glassformer-{host.rpartition(':')[2]}"  # browsers give cookies to all ports of a machine
            if self._check_token(request, cookie):
                answer.headers["set-cookie"] = f"{cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            body = await self._body(request, receive)
            await self.app(scope, replay(body, receive), answer)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            await answer.refuse(Refused(500, "Internal server error; see the server's log."))

    def _check_host(self, request: "HttpRequest") -> str:
        """The Host header, with its port; a page of another name that points here cannot forge it."""
        host = request.only("host")
        match = HOST.fullmatch(host)
        if match is None or match["name"] not in self.hosts or int(match["port"] or 80) > 65535:
            raise Refused(
                421, "This server does not answer to that name: use localhost, or start it with --allow-host."
            )
        return host if match["port"] else f"{host}:80"

    def _check_origin(self, request: "HttpRequest", host: str) -> None:
        """Origin is what browsers send along from other pages; Sec-Fetch-Site says the same where it lacks."""
        origin = request.only("origin", "")
        ours = {f"http://{name}" for name in (host, host.removesuffix(":80"))} | self.origins
        if origin and origin not in ours:
            raise Refused(403, "A page of another origin may not call this server.")
        navigated = request.method == "GET" and request.only("sec-fetch-dest", "") == "document"
        if not origin and request.only("sec-fetch-site", "") in ("cross-site", "same-site") and not navigated:
            raise Refused(403, "A page of another origin may not load this.")

    def _check_form(self, request: "HttpRequest") -> None:
        if request.method not in ("GET", "HEAD", "POST"):
            raise Refused(405, "This server knows GET, HEAD and POST.")
        media_type, _, parameters = request.only("content-type", "").partition(";")
        if request.method == "POST" and (
            media_type.strip() != "application/json"
            or parameters.strip().replace('"', "") not in ("", "charset=utf-8")
            or request.only("content-encoding", "identity") != "identity"
        ):
            raise Refused(415, "Send JSON: content-type application/json, not compressed.")

    def _check_token(self, request: "HttpRequest", cookie: str) -> bool:
        """True where the address carries the token, so that a cookie can take its place."""
        if self.token is None:
            return False
        if _same(request.query_token, self.token):
            return True
        bearer = request.only("authorization", "", lower=False).removeprefix("Bearer ")
        if not (_same(request.cookie(cookie), self.token) or _same(bearer, self.token)):
            raise Refused(401, "Open the address that was printed when the server started: it has the key.")
        return False

    async def _body(self, request: "HttpRequest", receive: Receive) -> bytes:
        length = request.only("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise Refused(400, "Content-Length is no number.")
        too_large = Refused(413, f"A request may have {self.max_body:,} bytes.")
        if int(length) > self.max_body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "The request ended too early.")
                    body += message.get("body", b"")
                    if len(body) > self.max_body:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, "The request took too long to come.") from None
        return bytes(body)


class HttpRequest:
    """The parts of a request that are looked at here. A header that comes twice is refused: who reads which?"""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self._query: bytes = scope.get("query_string", b"")
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        size = sum(len(name) + len(value) for name, value in self._headers)
        if len(self._headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
            raise Refused(431, "The headers are too many.")

    def only(self, name: str, default: str | None = None, *, lower: bool = True) -> str:
        """The value of a header, or the default. Refused where it comes twice, or lacks and has no default."""
        values = [value.decode("latin-1") for key, value in self._headers if key.decode("latin-1").lower() == name]
        if len(values) > 1 or (not values and default is None):
            raise Refused(400, f"A request needs one {name} header.")
        value = values[0] if values else str(default)
        return value.lower() if lower else value

    @property
    def query_token(self) -> str:
        """The token in the address, where there is exactly one; else an empty text."""
        try:
            tokens = parse_qs(self._query.decode("ascii"), max_num_fields=32).get("token", [])
        except ValueError:
            raise Refused(400, "The address cannot be read.") from None
        return tokens[0] if len(tokens) == 1 else ""

    def cookie(self, name: str) -> str:
        """Its value; what other servers of this machine have put beside it may be anything."""
        for pair in self.only("cookie", "", lower=False).split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
        return ""


class Answer:
    """A `send` that adds the headers which every answer has, and can refuse while nothing has been sent."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send, self.headers, self._started = send, dict(headers), False

    async def __call__(self, message: Message) -> None:
        """Send a message of ASGI, the first one with our headers, and not to be stored unless it says otherwise."""
        if message["type"] == "http.response.start":
            self._started = True
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            ours = {name.encode(): value.encode() for name, value in self.headers.items()}
            if b"cache-control" not in names:
                ours[b"cache-control"] = b"no-store"
            message = {**message, "headers": [*headers, *ours.items()]}
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Answer with a status and a sentence, in JSON, and close; nothing where an answer has begun."""
        if self._started:
            return
        body = json.dumps({"error": refused.reason}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def replay(body: bytes, receive: Receive) -> Receive:
    """The body that has been read, once; after it, what the connection says."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def content_security_policy(own: str, *hashes: str) -> str:
    """Nothing comes from elsewhere, no text becomes code, and no frame holds us.

    `own` is 'self', or 'none' for a page that is a file; inline scripts and styles have one of the `hashes`.
    """
    sources = [] if own == "'none'" else [own]
    code = " ".join([*sources, *(f"'{digest}'" for digest in hashes)]) or own
    images = " ".join([*sources, "data:", "blob:"])
    return (
        f"default-src {own}; script-src {code}; style-src {code}; img-src {images}; connect-src {own}; "
        f"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _same(candidate: str, token: str) -> bool:
    return hmac.compare_digest(candidate.encode("utf-8", "replace"), token.encode())

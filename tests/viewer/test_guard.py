"""The guard alone, in front of an application that answers whatever gets through."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from glassformer import http_guard
from glassformer.http_guard import Guard, content_security_policy
from viewer.loops import run

TOKEN = "a-token-that-nobody-guesses"
Headers = list[tuple[str, str]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"through:" + body})


def ask(
    guard: Guard,
    headers: Headers,
    *,
    method: str = "GET",
    query: str = "",
    body: Iterable[bytes] = (b"",),
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; the headers are sent as they are."""
    sent: list[Any] = []
    chunks = list(body)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    run(guard(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


HERE = ("host", "localhost:8000")
COOKIE = ("cookie", f"other=1; glassformer-localhost:8000={TOKEN}")
KEY = ("cookie", f"theme=dark; glassformer-8000={TOKEN}")
JSON = ("content-type", "application/json")

FOREIGN_HOSTS = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "localhost.", "127.0.0.1.", "127.1", "2130706433",
    "0x7f000001", "0177.0.0.1", "127.0.0.1.nip.io", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "::1", "[::1", "[0:0::1]",
    "user@localhost", "localhost:", "localhost:99999", "localhost:80:80", "localhost:8o", "localhost,evil.example",
    "localhost evil.example", "localhost/..", "localhost#", "localhost?x", "local\thost", "lоcalhost", "", " localhost",
    "localhost:-1", "169.254.169.254", "a" * 300,
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    host = host.encode().decode("latin-1")
    status, _, body = ask(Guard(echo, token=None), [("host", host)])
    assert (status, b"through" in body) == (421, False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:65535", "box.lan:80"])
def test_loopback_and_the_hosts_that_were_allowed_get_through(host: str) -> None:
    assert ask(Guard(echo, token=None, hosts=["Box.lan"]), [("host", host)])[0] == 200


def test_a_request_has_one_host() -> None:
    assert ask(Guard(echo, token=None), [HERE, HERE])[0] == 400
    assert ask(Guard(echo, token=None), [])[0] == 400


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://localhost", "http://localhost:8001", "http://localhost", "file://",
     "http://localhost:8000.evil.example", "http://localhost:8000/", "https://localhost:8000", "http://127.0.0.1:8000",
     "chrome-extension://abc", "http://localhost:8000 http://evil.example", "*", "localhost:8000", "undefined"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(origin: str, method: str) -> None:
    headers = [HERE, KEY, JSON, ("origin", origin)]
    status, answered, body = ask(Guard(echo, token=TOKEN), headers, method=method)
    assert (status, b"through" in body) == (403, False)
    assert not any(name.startswith("access-control") for name in answered), "no page may read even this"


def test_our_own_origin_gets_through_and_so_does_one_that_was_allowed() -> None:
    guard = Guard(echo, token=TOKEN, origins=["https://lab.example"])
    for origin in ("http://localhost:8000", "https://lab.example"):
        assert ask(guard, [HERE, KEY, JSON, ("origin", origin)], method="POST")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("kind", ["empty", "image", "script", "style", "iframe", "object", "embed", ""])
def test_other_pages_may_neither_load_nor_frame_us_but_may_link_to_us(site: str, kind: str) -> None:
    fetched = [("sec-fetch-site", site), ("sec-fetch-dest", kind)]
    assert ask(Guard(echo, token=TOKEN), [HERE, KEY, *fetched])[0] == 403
    link = [("sec-fetch-site", site), ("sec-fetch-dest", "document")]
    assert ask(Guard(echo, token=TOKEN), [HERE, KEY, *link])[0] == 200
    assert ask(Guard(echo, token=TOKEN), [HERE, KEY, JSON, *link], method="POST")[0] == 403


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json",
     "application/json-patch", "application/json; charset=utf-16", "application/json, text/plain", "*/*"],
)  # fmt: skip
def test_what_a_form_can_send_without_asking_is_refused(content_type: str | None) -> None:
    headers = [HERE, KEY] + ([("content-type", content_type)] if content_type is not None else [])
    assert ask(Guard(echo, token=TOKEN), headers, method="POST", body=[b'{"text": "x"}'])[0] == 415


def test_json_gets_through_and_compressed_json_does_not() -> None:
    guard = Guard(echo, token=TOKEN)
    for kind in ("application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
        assert ask(guard, [HERE, KEY, ("content-type", kind)], method="POST", body=[b"1"])[2] == b"through:1"
    assert ask(guard, [HERE, KEY, JSON, ("content-encoding", "gzip")], method="POST")[0] == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post"])
def test_other_methods_are_refused(method: str) -> None:
    status, answered, _ = ask(Guard(echo, token=TOKEN), [HERE, KEY], method=method)
    assert status == 405
    assert not any(name.startswith("access-control") for name in answered), "a preflight finds nothing"


# ---- bodies


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "+5", "1 2", "", "९", "9" * 19])
def test_a_length_that_is_no_length_is_refused(length: str) -> None:
    length = length.encode().decode("latin-1")
    headers = [HERE, KEY, JSON, ("content-length", length)]
    assert ask(Guard(echo, token=TOKEN), headers, method="POST")[0] == 400


def test_a_body_that_is_said_to_be_too_large_is_refused_unread() -> None:
    headers = [HERE, KEY, JSON, ("content-length", str(10**10))]
    assert ask(Guard(echo, token=TOKEN), headers, method="POST")[0] == 413
    assert ask(Guard(echo, token=TOKEN), [*headers, ("content-length", "1")], method="POST")[0] == 400


def test_an_endless_body_is_cut_off_at_the_limit() -> None:
    guard = Guard(echo, token=TOKEN, max_body=1 << 17)
    status, answered, body = ask(guard, [HERE, KEY, JSON], method="POST", body=[bytes(1 << 16)] * 64)
    assert status == 413
    assert json.loads(body) == {"error": "A request may have 131,072 bytes."}
    assert answered["connection"] == "close"
    exact = [bytes(1 << 16), bytes(1 << 16)]
    assert ask(guard, [HERE, KEY, JSON], method="POST", body=exact)[0] == 200


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "BODY_SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"1", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (HERE, KEY, JSON)]
    run(Guard(echo, token=TOKEN)({"type": "http", "method": "POST", "headers": headers}, receive, send))
    assert sent[0]["status"] == 408


# ---- the token


def test_the_address_with_the_token_gives_a_cookie_that_opens_the_rest() -> None:
    guard = Guard(echo, token=TOKEN)
    status, answered, _ = ask(guard, [HERE], query=f"a=1&token={TOKEN}")
    cookie, *attributes = answered["set-cookie"].split("; ")
    assert status == 200
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert ask(guard, [HERE, ("cookie", cookie)])[0] == 200
    assert ask(guard, [HERE, ("authorization", f"Bearer {TOKEN}")])[0] == 200
    assert "set-cookie" not in ask(guard, [HERE, ("cookie", cookie)])[1]


@pytest.mark.parametrize(
    ("headers", "query"),
    [([], ""), ([], "token="), ([], "token=x"), ([], f"token={TOKEN}&token={TOKEN}"), ([], f"Token={TOKEN}"),
     ([("cookie", "glassformer-8000=x")], ""), ([("cookie", f"glassformer-8001={TOKEN}")], ""), ([COOKIE], ""),
     ([("cookie", ";;=;\x7f;glassformer-8000")], ""), ([("authorization", "Bearer ")], ""),
     ([("authorization", f"Basic {TOKEN}")], ""), ([], "&".join("a=1" for _ in range(99))), ([], f"token={TOKEN}%00")],
)  # fmt: skip
def test_nothing_opens_without_it(headers: Headers, query: str) -> None:
    status, _, body = ask(Guard(echo, token=TOKEN), [HERE, *headers], query=query)
    assert status in (400, 401)
    assert b"through" not in body
    assert TOKEN.encode() not in body


# ---- what every answer has


def test_every_answer_forbids_frames_foreign_code_and_guessing_types() -> None:
    guard = Guard(echo, token=TOKEN, scripts=["sha256-abc"])
    for headers in ([HERE, KEY], [HERE], [("host", "evil.example")]):
        answered = ask(guard, headers)[1]
        assert answered["x-frame-options"] == "DENY"
        assert answered["x-content-type-options"] == "nosniff"
        assert answered["referrer-policy"] == "no-referrer"
        assert answered["cross-origin-resource-policy"] == "same-origin"
        assert answered["cache-control"] == "no-store"
        policy = answered["content-security-policy"]
        assert "default-src 'self'; script-src 'self' 'sha256-abc';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_a_page_from_a_disk_may_run_what_it_carries_and_nothing_else() -> None:
    policy = content_security_policy("'none'", "sha256-abc")
    assert "default-src 'none'; script-src 'sha256-abc'; style-src 'sha256-abc'; img-src data: blob:; " in policy
    assert "script-src 'none';" in content_security_policy("'none'")
    assert "self" not in policy


def test_a_mistake_of_ours_is_one_line_without_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("/home/somebody/secret")

    status, _, body = ask(Guard(broken, token=None), [HERE])
    assert status == 500
    assert list(json.loads(body)) == ["error"]
    assert b"secret" not in body
    assert "secret" in capsys.readouterr().err


def test_a_web_socket_is_closed() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    run(Guard(echo, token=None)({"type": "websocket", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]

"""The live server against pages and programs that mean no good, on a real connection."""

import time
from collections.abc import Iterator

import pytest

import glassformer as gf
from glassformer.tokenizers import CharTokenizer
from glassformer.viewer.session import Session
from viewer.attacks import ATTACKS
from viewer.live import TOKEN, Live, running

STEP = "/api/runs/0/steps/0"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    with running(session) as server:
        yield server


def test_there_are_enough_attacks():
    assert len(ATTACKS) >= 100


def test_what_is_typed_comes_back_as_json_and_nothing_else(live: Live):
    alphabet = "".join(sorted(set("".join(ATTACKS))))
    tokenizer = CharTokenizer(alphabet)
    small = gf.build(
        "gpt2", vocab_size=len(alphabet), n_layers=1, d_model=8, n_heads=1, context_length=80, tokenizer=tokenizer
    )
    session = Session(small, name="<script>alert(1)</script>")
    session.run(text="AX")
    with running(session) as server:
        for attack in ATTACKS:
            reply = server.post("/api/tokenize", {"text": attack})
            assert reply.status == 200
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert "".join(piece["text"] for piece in reply.json()) == attack
        for attack in ATTACKS[::8]:
            reply = server.post("/api/runs", {"text": attack})
            assert reply.headers["content-type"] == "application/json"
            assert "".join(token["text"] for token in reply.json()["steps"][0]["tokens"]) == attack
        assert b"alert(1)" not in server.get("/").body
    for attack in ATTACKS:
        reply = live.post("/api/runs", {"text": attack})
        assert (reply.status, reply.headers["content-type"]) == (400, "application/json")


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/session", f"{STEP}/scene", "/api/blobs/0", "/nothing"])
def test_every_answer_has_the_headers_that_keep_others_out(live: Live, path: str):
    headers = live.get(path).headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "evil.example"}, 421), ({"Host": "localhost.:80"}, 421), ({"Origin": "http://evil.example"}, 403),
     ({"Origin": "null"}, 403), ({"Content-Type": "text/plain"}, 415), ({"Cookie": ""}, 401),
     ({"Cookie": "glassformer=x"}, 401), ({"Sec-Fetch-Site": "cross-site"}, 403)],
)  # fmt: skip
def test_a_page_of_somebody_else_gets_nothing(live: Live, headers: dict[str, str], status: int):
    n_runs = len(live.session.runs)
    assert live.post("/api/runs", {"text": "A"}, **headers).status == status
    assert len(live.session.runs) == n_runs


def test_an_upgrade_to_a_web_socket_leads_nowhere(live: Live):
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    assert live.get("/api/events/x", **upgrade, Origin="http://evil.example").status in (400, 403, 404)


def test_odd_http_is_refused_at_once(live: Live):
    start = time.perf_counter()
    big = str(10 * 2**30)
    assert (
        live.send("POST /api/runs HTTP/1.1", {"Content-Type": "application/json", "Content-Length": big}).status == 413
    )
    assert (
        live.send("POST /api/runs HTTP/1.1", {"Content-Type": "application/json", "Content-Length": "-5"}).status == 400
    )
    assert live.post("/api/runs", b'{"text": "' + b"A" * (1 << 20) + b'"}').status == 413
    assert live.get("/", **{f"X-{i}": "x" for i in range(10_000)}).status in (400, 431)
    assert live.get("/?" + "a=1&" * 30_000).status in (400, 414)
    assert live.send("BREW / HTTP/1.1", {}).status in (400, 405)
    assert live.raw(b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n").status == 400
    assert time.perf_counter() - start < 10, "0.2 s on a quiet machine"
    assert live.get("/api/session").status == 200


def test_an_endless_body_is_cut_off(live: Live):
    head = f"POST /api/runs HTTP/1.1\r\nHost: localhost:{live.port}\r\nCookie: glassformer-{live.port}={TOKEN}\r\n"
    chunks = (b"10000\r\n" + bytes(1 << 16) + b"\r\n") * 64
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert live.raw(head.encode() + chunks).status == 413


# ---- what may be asked of the disk


def spellings() -> list[str]:
    up = ["..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..;", "...", "%c0%ae%c0%ae", "..%00", "%uff0e%uff0e"]
    slash = ["/", "%2f", "\\", "%5c", "//", "%252f"]
    targets = ["etc/passwd", "session.py", "pack.py%00.js"]
    relative = [f"/{(u + s) * 6}{t}" for u in up for s in slash for t in targets]
    absolute = [
        "//etc/passwd",
        "/%2fetc/passwd",
        "/file:///etc/passwd",
        "/C:\\boot.ini",
        "/\\\\host\\share",
        "/CON",
        "/NUL",
        "/dev/stdin",
        "/proc/self/environ",
        "/./app.py",
        "/app.js/../session.py",
        "/web/index.html",
        "/app.js%00.py",
        "/app.js/",
        "//app.js/..%2fapp.py",
        "/~root",
        "/static/../app.py",
        "/index.html.bak",
    ]
    blobs = [f"/api/blobs/{name}" for name in ("..", "%2e%2e%2fapp.py", "..%5c", "%00", "app.py", "/etc/passwd")]
    steps = [f"/api/runs/{n}/steps/0/scene" for n in ("-1", "..", "0x0", "1e0", "%2e%2e", "٠", "0/..", "99999999999")]
    return relative + absolute + blobs + steps  # fmt: skip


def test_no_spelling_of_a_path_leads_out_of_the_page(live: Live):
    tried = spellings()
    assert len(tried) >= 200
    for path in tried:
        reply = live.send(f"GET {path} HTTP/1.1", {})
        assert reply.status in (400, 404), path
        assert reply.headers.get("content-type", "").startswith(("application/json", "text/plain")), path
        assert len(reply.body) < 200, path
        assert b"import" not in reply.body, path
        assert b"root:" not in reply.body, path


def test_an_absolute_address_is_a_path_like_any_other(live: Live):
    assert live.send("GET http://evil.example/etc/passwd HTTP/1.1", {}).status in (400, 404, 421)
    assert live.get("/index.html").status == 404, "the page has one address"

"""The live server: the numbers that the library has, and nothing else that it could be tricked into giving."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch

import glassformer as gf
from glassformer.errors import TraceError
from glassformer.inference.logits import Sampling
from glassformer.viewer import pack, tiles
from glassformer.viewer import session as viewer_session
from glassformer.viewer.events import Events
from glassformer.viewer.session import Session
from viewer.live import Live, running
from viewer.loops import run

STEP = "/api/runs/0/steps/0"


@pytest.fixture(scope="module")
def model() -> gf.Model:
    return gf.load("nano-sort")


@pytest.fixture(scope="module")
def live(model: gf.Model) -> Iterator[Live]:
    session = Session(model, name="nano-sort")
    session.run(text="CBABBC")
    with running(session) as server:
        yield server


@pytest.fixture(scope="module")
def scene(live: Live) -> Any:
    return live.get(f"{STEP}/scene").json()


def block(scene: Any, role: str, **wanted: Any) -> Any:
    return next(b for b in scene["blocks"] if b["role"] == role and all(b[name] == wanted[name] for name in wanted))


# ---- the numbers are the library's


def test_the_session_says_what_can_be_done(live: Live):
    session = live.get("/api/session").json()
    assert session["model"]["name"] == "nano-sort"
    assert session["model"]["n_parameters"] == 85_728
    assert (session["model"]["random"], session["live"]) == (False, True)
    assert session["can"] == {"text": True, "generate": True, "patch": True, "train": False}
    assert [token["text"] for token in session["runs"][0]["steps"][0]["tokens"]] == list("CBABBC")


def test_blobs_are_the_storages_bit_for_bit(live: Live):
    records = live.get(f"{STEP}/trace").json()
    trace = live.session.step(0, 0).trace
    assert len(records["storages"]) == len(trace.storages)
    storages = {
        record["blob"]: storage.bytes for record, storage in zip(records["storages"], trace.storages, strict=True)
    }
    reply = live.post("/api/blobs", {"names": list(storages)})
    assert reply.body == b"".join(map(pack.blob_bytes, storages.values()))
    assert live.post("/api/blobs", {"names": []}).body == b""


def test_tiles_and_numbers_are_those_of_the_trace_bit_for_bit(live: Live, scene: Any, model: gf.Model):
    expected = gf.trace(model, "CBABBC")
    scores = block(scene, "scores", layer=1, head=2, step_of=None)
    nx, ny = scores["size"]
    numbers = live.get(f"{STEP}/numbers?block={scores['id']}&x=0&y=0&nx={nx}&ny={ny}")
    found = np.frombuffer(numbers.body, "<f8").reshape(ny, nx)
    theirs = expected["blocks.1.attn.scores"].value[0, 2].double().numpy()
    assert np.array_equal(found, theirs) or np.array_equal(found, theirs.T)
    ((values, _),) = tiles_of(live, (scores["id"], 0, 0, 0))
    assert values.shape == (ny, nx)
    assert np.array_equal(values, found.astype(np.float32))


def tiles_of(live: Live, *places: tuple[int, int, int, int]) -> list[np.ndarray]:
    """Of each tile its values and its roots of mean squares, from one answer."""
    body = live.get(f"{STEP}/tiles?of={','.join(str(n) for place in places for n in place)}").body
    sizes = np.frombuffer(body, "<i4", 2 * len(places)).reshape(-1, 2)
    numbers = np.split(np.frombuffer(body, "<f4", offset=sizes.nbytes), np.cumsum(2 * sizes.prod(1))[:-1])
    return [tile.reshape(2, height, width) for tile, (width, height) in zip(numbers, sizes, strict=True)]


def test_coarse_tiles_are_means_and_roots_of_mean_squares(live: Live, scene: Any):
    weight = block(scene, "up_weight", layer=0)
    (_, (values, rms)) = tiles_of(live, (0, 0, 0, 0), (weight["id"], 3, 0, 0))
    step = live.session.step(0, 0)
    cells = tiles.block_window(step.trace, step.scene.blocks[weight["id"]]).astype(float)
    patch = cells[8:16, 8:16]
    assert values[1, 1] == pytest.approx(patch.mean(), rel=1e-6)
    assert rms[1, 1] == pytest.approx(np.sqrt((patch**2).mean()), rel=1e-6)


@pytest.mark.parametrize(
    "query",
    ["tiles?of=0,0,9999,0", "tiles?of=99999,0,0,0", "tiles?of=0,99,0,0", "tiles?of=0,0,0,0,1", "tiles", "tiles?of=",
     "tiles?of=-1,0,0,0", "tiles?of=0,0,0", "tiles?of=" + "0,0,0,0," * 32 + "0,0,0,0", "tiles?of=٣,0,0,0",
     "tiles?of=1e1,0,0,0", "numbers?block=0&x=0&y=0&nx=0&ny=1", "numbers?block=0&block=1&x=0&y=0&nx=1&ny=1",
     "numbers?block=0&x=0&y=0&nx=1", "numbers?block=0&x=0&y=0&nx=9999999999&ny=9999999999",
     "explain?tensor=0&index=a", "explain?tensor=0&index=-1",
     "explain?tensor=99999&index=0", "explain?tensor=0&index=0,0,0,0,0,0,0,0,0", "explain?tensor=0&index=,", "explain",
     "explain?tensor=0&index=" + "1," * 500 + "1", f"explain?tensor={'9' * 5000}&index=0"],
)  # fmt: skip
def test_a_question_that_makes_no_sense_gets_a_sentence(live: Live, query: str):
    reply = live.get(f"{STEP}/{quote(query, safe='?=&,')}")
    assert reply.status in (400, 404)
    assert len(reply.json()["error"].splitlines()) == 1


def test_next_writes_what_generate_writes_at_temperature_0(live: Live, model: gf.Model):
    run = live.post("/api/runs", {"text": "BACCAB"}).json()
    for _ in range(5):
        step = live.post(f"/api/runs/{run['id']}/next", {"temperature": 0, "top_k": None, "top_p": None, "seed": 0})
        assert step.status == 200
    written = "".join(token["text"] for token in step.json()["tokens"])
    assert written == "BACCAB" + "".join(model.generate("BACCAB", max_new_tokens=5, temperature=0.0))
    full = live.post(f"/api/runs/{run['id']}/next", {"temperature": 0})
    assert (full.status, "context of 11" in full.json()["error"]) == (400, True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings", [{"temperature": 1.5}, {"temperature": 3.0, "top_k": 2}, {"temperature": 2.0, "top_p": 0.7}]
)
def test_next_writes_what_generate_writes_at_a_seed(settings: dict[str, Any], seed: int):
    model = gf.build("nano-sort", seed=1)
    session = Session(model, name="random")
    run = session.run(text="AB")
    for _ in range(5):
        session.next(run.id, Sampling(**settings, seed=seed))
    ids = [token.id for token in run.steps[-1].tokens]
    assert ids == model.generate_ids(torch.tensor([[0, 1]]), max_new_tokens=5, **settings, seed=seed)[0].tolist()


def test_patch_makes_the_numbers_that_trace_patch_makes(live: Live, model: gf.Model):
    trace = gf.trace(model, "CBABBC")
    for path, index in (("blocks.0.attn.scores", (0, 1, 5, 2)), ("blocks.1.mlp.up_proj.weight", (7, 3))):
        tensor = live.session.step(0, 0).trace[path].id
        run = live.post(f"{STEP}/patch", {"tensor": tensor, "index": index, "value": 2.5}).json()
        assert run["compared_to"] == 0
        after = live.session.step(run["id"], 0).trace
        expected = trace.patch({trace[path][index]: 2.5}).after
        for name in ("blocks.0.attn.weights", "blocks.1.mlp.out", "logits"):
            if name in expected:
                assert torch.equal(after[name].value, expected[name].value)
        assert not torch.equal(after["logits"].value, trace["logits"].value)


def test_a_patched_weight_stays_patched_when_the_run_goes_on(live: Live):
    tensor = live.session.step(0, 0).trace["lm_head.weight"].id
    run = live.post(f"{STEP}/patch", {"tensor": tensor, "index": [0, 0], "value": -3.0}).json()
    assert live.post(f"/api/runs/{run['id']}/next", {"temperature": 0}).status == 200
    assert live.session.step(run["id"], 1).trace["lm_head.weight"].value[0, 0] == -3.0
    assert live.session.model is not None
    assert live.session.model.module.lm_head.weight[0, 0] != -3.0  # type: ignore[union-attr,index]


def test_text_is_shown_on_its_way_to_tokens(tmp_path: Path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat. " * 50 + "你好，世界。" * 20)
    tokenizer = gf.Tokenizer.train([corpus], 300, ["<|endoftext|>"])
    small = gf.build("gpt2", vocab_size=300, n_layers=1, d_model=16, n_heads=2, context_length=64, tokenizer=tokenizer)
    session = Session(small, name="small")
    text = "the 你们🙂<|endoftext|>cat"
    pieces = session.tokenize(text)
    assert [id for piece in pieces for id in piece["ids"]] == tokenizer.encode(text)
    assert "".join(piece["text"] for piece in pieces) == text
    assert [piece["text"] for piece in pieces if piece["special"]] == ["<|endoftext|>"]
    the = pieces[0]
    assert the["rows"][0] == ["74", "68", "65"]
    assert the["rows"][-1] == ["746865"]
    for piece in pieces:
        assert all("".join(row) == piece["bytes"] for row in piece["rows"])
        sizes = [len(row) for row in piece["rows"]]
        assert sizes == sorted(sizes, reverse=True)
    session.run(text=text)
    shown = [token.text for token in session.runs[0].steps[0].tokens]
    assert any(text.startswith("⟨") and text.endswith("⟩") for text in shown), (
        "bytes that are no characters show as such"
    )
    assert session.pieces(0) == pieces
    session.run(tokens=list(b"the"))
    assert session.pieces(1) == [], "no text becomes these tokens"


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("/api/runs", {}, "a text or tokens"),
        ("/api/runs", {"text": "A", "tokens": [1]}, "a text or tokens"),
        ("/api/runs", {"text": ""}, "empty"),
        ("/api/runs", {"text": "XYZ"}, "alphabet"),
        ("/api/runs", {"text": "A" * 12}, "context of 11"),
        ("/api/runs", {"tokens": [3]}, "vocabulary of 3"),
        ("/api/runs", {"tokens": [-1]}, "vocabulary of 3"),
        ("/api/runs", {"tokens": [True]}, "whole number"),
        ("/api/runs", {"tokens": [0.5]}, "whole number"),
        ("/api/runs", {"tokens": "AB"}, "must be a list"),
        ("/api/runs", {"test": "A"}, "Did you mean text"),
        ("/api/runs/0/next", {"temperature": -1}, "at least 0"),
        ("/api/runs/0/next", {"temperature": 1, "top_p": 0}, "above 0"),
        ("/api/runs/0/next", {"temperature": 1, "top_k": -1}, "at least 0"),
        ("/api/runs/0/next", {"temperature": 1, "seed": 2**63}, "2⁶³"),
        ("/api/runs/0/next", {"temperature": "warm"}, "a number"),
        ("/api/runs/99/next", {"temperature": 0}, "no run 99"),
        ("/api/runs/0/steps/9/patch", {"tensor": 0, "index": [0], "value": 1}, "no step 9"),
        (f"{STEP}/patch", {"tensor": 10**6, "index": [0], "value": 1}, "no tensor"),
        (f"{STEP}/patch", {"tensor": -1, "index": [0], "value": 1}, "no tensor"),
        (f"{STEP}/patch", {"tensor": 0, "index": [0] * 9, "value": 1}, "no cell"),
        (f"{STEP}/patch", {"tensor": 0, "index": [-1, 0], "value": 1}, "no cell"),
        (f"{STEP}/patch", {"tensor": 0, "index": [0, 0]}, "value is missing"),
        (f"{STEP}/patch", {"tensor": 0, "index": [0, 0], "value": 1e300}, "does not fit into"),
        (f"/api/runs/{'9' * 5000}/next", {"temperature": 0}, "whole number"),
        (f"/api/runs/0/steps/{'9' * 5000}/patch", {"tensor": 0, "index": [0, 0], "value": 1}, "whole number"),
        ("/api/tokenize", {"text": "A" * 5000}, "4,096"),
        ("/api/tokenize", {"text": 1}, "a text"),
        ("/api/blobs", {"names": ["a", "a"]}, "no numbers of this name"),
        ("/api/blobs", {"names": ["../app.py"]}, "no numbers of this name"),
        ("/api/blobs", {"names": ["/etc/passwd\0"]}, "no numbers of this name"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(live: Live, path: str, content: Any, says: str):
    reply = live.post(path, content)
    assert reply.status in (400, 404)
    assert says in reply.json()["error"]


@pytest.mark.parametrize("value", [3, 99, -1, -3, 2**31, 2**63, 2**64, -(2**63) - 1, 1e300, -1e300, 0.5, 1e-300])
def test_a_token_that_there_is_not_is_refused_in_a_sentence(live: Live, value: float):
    """Whatever stands for it: too large for the vocabulary, for the type, for a float; or counted from the end."""
    trace = live.session.step(0, 0).trace
    n_runs = len(live.session.runs)
    reply = live.post(f"{STEP}/patch", {"tensor": trace["tokens"].id, "index": [0, 2], "value": value})
    assert reply.status == 400
    assert "tokens" in reply.json()["error"]
    assert len(live.session.runs) == n_runs


NUMBERS = [-1, 2**31, 2**53 + 1, 2**63, 2**64, 10**18, 10**30, 10**400, 1e300, 5e-324, 0.1, "1", None, True, [], {}]
QUESTIONS = {
    "/api/runs": {"tokens": [0]},
    "/api/runs/0/next": {"temperature": 1.0, "top_k": 1, "top_p": 0.5, "seed": 1},
    f"{STEP}/patch": {"tensor": 0, "index": [0, 0], "value": 1.0},
}


def test_every_number_of_every_question_may_be_any_number(live: Live):
    """It is served, or refused in a sentence."""
    for path, question in QUESTIONS.items():
        for name, good in question.items():
            for number in NUMBERS:
                reply = live.post(path, {**question, name: [number] if isinstance(good, list) else number})
                assert reply.status in (200, 400, 404), (path, name, number, reply.body)
    for query in ("tiles?of={0},0,0,0",
                  "tiles?of=0,{0},0,0", "tiles?of=0,0,{0},0", "numbers?block={0}&x=0&y=0&nx=1&ny=1",
                  "numbers?block=0&x={0}&y=0&nx=1&ny=1", "numbers?block=0&x=0&y=0&nx={0}&ny=1",
                  "explain?tensor={0}&index=0,0", "explain?tensor=0&index={0},0"):  # fmt: skip
        for number in ("4294967296", "9999999999", "9" * 19, "9" * 900, "1e9", "-1", "nan", "0x1", "+1", "1.0"):
            reply = live.get(f"{STEP}/{query.format(quote(number))}")
            assert reply.status in (200, 400, 404), (query, number, reply.body)
            assert reply.status == 200 or len(reply.json()["error"]) < 300
    assert live.get(f"/api/runs/{'9' * 5000}/steps/0/scene").status == 400
    assert live.get("/api/session").status == 200


def test_a_session_goes_on_when_it_has_had_many_runs(monkeypatch: pytest.MonkeyPatch):
    """The oldest one makes room, but for the first."""
    monkeypatch.setattr(viewer_session, "MAX_RUNS", 4)
    session = Session(gf.load("nano-sort"), name="nano-sort")
    for _ in range(4):
        session.run(text="CAB")
    run = session.patch(1, 0, session.step(1, 0).trace["tokens"].id, [0, 0], 1.0)
    assert [kept.id for kept in session.runs] == [0, 2, 3, 4]
    assert run.compared_to is None
    assert session.step(4, 0) is run.steps[0]
    with pytest.raises(TraceError, match="no run 1 any more"):
        session.step(1, 0)
    assert session.patch(3, 0, session.step(3, 0).trace["tokens"].id, [0, 0], 1.0).compared_to == 3
    assert [entry["id"] for entry in session.to_json(live=True)["runs"]] == [0, 3, 4, 5]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"text": NaN}', b'{"value": Infinity}', b'{"temperature": 1e999}',
     b'{"text": "A", "text": "B"}', b"[" * 100_000, b'{"tokens": ' + b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{",
     b'{"tokens": [' + b"1," * 20_000 + b"1]}", b'{"\\ud800": 1}', b'{"tokens": [' + b"9" * 5000 + b"]}"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/runs", "/api/runs/0/next", f"{STEP}/patch", "/api/tokenize"])
def test_json_that_is_none_or_too_much_is_refused(live: Live, path: str, body: bytes):
    reply = live.post(path, body)
    assert reply.status == 400
    assert len(reply.json()["error"]) < 400


def test_lone_surrogates_are_read_as_the_tokenizers_read_them(live: Live):
    assert live.post("/api/tokenize", b'{"text": "\\ud800"}').status == 400, "not in the alphabet of nano-sort"


# ---- many at once, and the end


def test_the_server_answers_while_it_records(live: Live, monkeypatch: pytest.MonkeyPatch):
    entered, leave = threading.Event(), threading.Event()
    record = pack.record

    def slow(*arguments: Any, **keywords: Any) -> Any:
        entered.set()
        assert leave.wait(120)
        return record(*arguments, **keywords)

    monkeypatch.setattr(pack, "record", slow)
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(live.post("/api/runs", {"text": "ABC"}).status))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    assert entered.wait(120)
    start = time.perf_counter()
    assert live.get("/api/session").status == 200
    assert live.get(f"{STEP}/scene").status == 200
    assert time.perf_counter() - start < 60
    leave.set()
    for thread in threads:
        thread.join()
    assert sorted(replies) == [200] * 8 + [429] * 4


def test_events_are_told_to_open_pages_and_a_page_that_left_is_forgotten():
    async def main() -> list[str]:
        events = Events()
        stream = events.stream()
        heard = [await anext(stream)]
        await asyncio.to_thread(events.tell, "step", {"loss": 1.5})
        heard.append(await anext(stream))
        await stream.aclose()
        assert not events._listeners
        return heard

    assert run(main()) == [": hello\n\n", 'event: step\ndata: {"loss": 1.5}\n\n']


def test_a_trace_can_be_looked_at_without_its_model(tmp_path: Path, model: gf.Model):
    gf.trace(model, "CAB").save(tmp_path / "cab.gft")
    session = Session.of_trace(gf.load_trace(tmp_path / "cab.gft"), name="cab")
    with running(session) as server:
        told = server.get("/api/session").json()
        assert told["can"] == {"text": False, "generate": False, "patch": False, "train": False}
        assert [token["id"] for token in told["runs"][0]["steps"][0]["tokens"]] == [2, 0, 1]
        assert "without its model" in server.post("/api/runs", {"text": "A"}).json()["error"]
        assert server.get(f"{STEP}/scene").status == 200


def test_ctrl_c_ends_the_command_at_once_even_while_a_page_listens():
    command = [sys.executable, "-m", "glassformer", "view", "nano-sort", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        port, _, token = address.removeprefix("http://127.0.0.1:").partition("/?token=")
        live = Live(session=None, port=int(port))  # type: ignore[arg-type]
        page = live.get(f"/?token={token}", Cookie="")
        assert page.status == 200
        cookie = page.headers["set-cookie"].partition(";")[0]
        assert live.get("/api/session", Cookie=cookie).json()["model"]["name"] == "nano-sort"
        import socket

        with closing(socket.create_connection(("127.0.0.1", int(port)), timeout=20)) as listener:
            head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n"
            listener.sendall(head.encode())
            assert b"hello" in listener.recv(4096) + listener.recv(4096)
            start = time.perf_counter()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
            assert time.perf_counter() - start < 10, "0.4 s on a quiet machine"
        assert process.returncode == 130
        assert errors.splitlines() == ["Ctrl-C ends it.", "Stopped."]


BUSY = """
import time
from glassformer.cli import main
from glassformer.viewer.session import Session

Session.tokenize = lambda self, text: print("busy", flush=True) or time.sleep(60)
import sys
sys.argv = ["glassformer", "view", "nano-sort", "--no-open"]
main()
"""


def test_ctrl_c_does_not_wait_for_work_in_progress():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, _, token = process.stdout.readline().strip().removeprefix("http://127.0.0.1:").partition("/?token=")
        live = Live(session=None, port=int(port))  # type: ignore[arg-type]
        cookie = live.get(f"/?token={token}", Cookie="").headers["set-cookie"].partition(";")[0]
        asking = threading.Thread(target=live.post, args=("/api/tokenize", {"text": "A"}), kwargs={"Cookie": cookie})
        asking.start()
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 130
    asking.join(10)


def test_the_session_is_json_that_json_has(live: Live):
    for path in ("/api/session", "/api/chapters", f"{STEP}/scene", f"{STEP}/trace"):
        json.loads(live.get(path).body, parse_constant=pytest.fail)

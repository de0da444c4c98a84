"""Five hundred recordings that would cost much: each is refused or served, in ten seconds and a gigabyte."""

import json
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from checkpoints.hostile import memory
from glassformer.errors import GlassformerError, TraceError
from glassformer.tracing import costs
from glassformer.tracing.check import check
from glassformer.tracing.explain import describe, explain, first_line
from glassformer.tracing.recorder import record
from glassformer.tracing.trace import Recorded
from glassformer.tracing.trace_file import load, save
from glassformer.viewer.export import MAX_FILE, _packed, _text
from glassformer.viewer.responses import answer
from glassformer.viewer.session import Session
from support.counts import count
from support.rule_cases import recorded
from tracing.hostile_traces import ATTACKS, SIZES, Forged, mutated, write
from tracing.test_trace_file import mixed, sorter

SECONDS, MEMORY = 10, 1 << 30
pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore")]


def serve(path: Path) -> list[str]:
    """All that can be asked of a recording; the sentences with which something was refused."""
    refused: list[str] = []

    def attempt(work: Any) -> Any:
        try:
            return work()
        except GlassformerError as error:
            refused.append(str(error))

    trace = attempt(lambda: load(path))
    if trace is None:
        return refused
    attempt(lambda: check(trace, cells=300))
    shown = [record for record in [*trace.tensors[:2], *trace.tensors[-3:]] if record.n_cells]
    cells = [Recorded(trace, record.id)[[0] * len(record.shape)] for record in shown]
    if cells:
        attempt(lambda: describe(explain(cells[-1], 5000, terms=2)))
        attempt(lambda: explain(cells[-1], 3))
        for cell in cells:
            attempt(lambda cell=cell: answer(trace, cell.tensor, cell.index))
    session = attempt(lambda: Session.of_trace(trace))
    if session is not None:
        scene = session.step(0, 0).scene
        json.dumps(scene.to_json())
        for block in [*scene.blocks[:3], *scene.blocks[-3:]]:
            attempt(lambda block=block: session.tile(0, 0, block.id, 5, 0, 0))
            attempt(lambda block=block: session.tile(0, 0, block.id, 0, 0, 0))
            attempt(lambda block=block: session.numbers(0, 0, block.id, 0, 0, 9, 9))
        attempt(lambda: _text(_packed(session, MAX_FILE)[0]))
    return refused


def recordings() -> list[str]:
    """Their names, of which a reduced run takes some of each kind."""
    names = [f"{name} {n}" for name in ATTACKS for n in range(count("hostile recordings of a kind"))]
    return names + [f"mutated {n}" for n in range(count("mutated recordings"))]


def forge(name: str, path: Path) -> Path:
    kind, _, number = name.partition(" ")
    choose = random.Random(name)
    if kind != "mutated":
        forged = Forged()
        ATTACKS[kind](forged, SIZES[(len(kind) + int(number)) % len(SIZES)], choose)
        return forged.write(path)
    with zipfile.ZipFile(save(mixed() if int(number) % 2 else sorter(modules="blocks.1.attn*"), path)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    content = json.loads(members.pop("trace.json"))
    mutated(content, choose)
    return write(path, content, members)


@pytest.mark.parametrize("name", recordings())
def test_a_recording_costs_what_its_bytes_are_worth(name: str, tmp_path: Path) -> None:
    path = forge(name, tmp_path / "hostile.gft")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of memory starts anew
    before, started = memory("VmRSS"), time.process_time()  # of the processor: others may be at work
    refused = serve(path)
    assert time.process_time() - started < SECONDS
    assert memory("VmHWM") - before < MEMORY
    assert all(len(message) < 500 and "\n" not in message for message in refused), refused


def test_a_long_chain_of_steps_is_followed_to_its_beginning(tmp_path: Path) -> None:
    """Three thousand steps, each of the one before it: loops walk them, where Python's stack would end."""
    forged = Forged()
    x = forged.tensor([1], [1], name="x")
    for _ in range(3000):
        x = forged.operation("neg", {"self": x}, [1], [1])
        forged.tensors[-1]["derived"] = True
    trace = load(forged.write(tmp_path / "chain.gft"))
    told = describe(explain(Recorded(trace, x["tensor"])[0], 5000))
    assert told.count("formula") == 3000
    assert told.endswith("x[0] = 0   (input: it came from outside)")
    assert len(Session.of_trace(trace).step(0, 0).scene.blocks) == 3001


def test_what_repeats_its_storage_a_little_is_explained_and_shown(tmp_path: Path) -> None:
    """Honest recordings have strides of 0 too: masks for all heads, a row for all positions."""

    class Expanding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            row = x[:1].expand(6, 8)
            mask = (x > 0)[None, None].expand(4, 12, 6, 8)
            return row.sum() + mask.sum() + row.bfloat16().expand(3, 6, 8).amax(1).sum()

    trace = load(save(record(Expanding(), torch.randn(6, 8)), tmp_path / "expanding.gft"))
    assert check(trace).passed
    sizes = {block.size for block in Session.of_trace(trace).step(0, 0).scene.blocks}
    assert (6, 8) in sizes


def test_every_operation_that_moves_numbers_is_replayed_from_a_file_too() -> None:
    for name in ("index two", "masked_select", "repeat", "roll", "pad", "image to columns", "aten movement",
                 "looking up", "moving", "padding", "writing", "writing over", "image movement"):  # fmt: skip
        trace = recorded(name)
        trace.from_file = True  # as in one from a file, whose arguments are not believed
        assert check(trace).passed, name


def test_a_check_that_would_not_end_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = Forged()
    forged.operation("zeros", {"size": [1]}, [1 << 20])
    trace = load(forged.write(tmp_path / "zeros.gft"))
    assert check(trace, cells=100).passed
    monkeypatch.setattr(costs, "CHECK", 1 << 20)
    with pytest.raises(TraceError, match="check fewer of its numbers"):
        check(trace)


def test_what_torch_goes_on_about_for_lines_is_one_sentence() -> None:
    long = "Expected a Tensor.\nPosition: 0\nDeclaration: aten::clone(Tensor self) -> Tensor"
    assert first_line(RuntimeError(long)) == "Expected a Tensor."
    assert len(first_line(ValueError("x" * 1000))) == 200

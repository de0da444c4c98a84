"""What is written for the page: all of a trace, each byte once."""

import numpy as np
import pytest
import torch

import glassformer as gf
from glassformer.nn import functional as F
from glassformer.tracing import intervene
from glassformer.viewer.pack import blob_bytes, pack_trace, record
from glassformer.viewer.tiles import block_window
from support.viewed import recorded


def test_a_packed_trace_gives_every_block_bit_for_bit() -> None:
    trace, scene = recorded("nano-sort")
    records, blobs = pack_trace(trace)
    for block in scene.to_json()["blocks"]:
        data = np.frombuffer(blob_bytes(blobs[records["storages"][block["storage"]]["blob"]]), np.dtype(block["dtype"]))
        (nx, ny), (sx, sy) = block["size"], block["strides"]
        cells = data[block["offset"] + sy * np.arange(ny)[:, None] + sx * np.arange(nx)]
        assert cells.tobytes() == block_window(trace, scene.blocks[block["id"]]).tobytes()


def test_the_records_are_those_of_the_trace() -> None:
    trace, _ = recorded("nano-sort")
    records, blobs = pack_trace(trace)
    assert set(records) == {"storages", "tensors", "operations", "sources", "modules", "names"}
    assert [tensor["name"] for tensor in records["tensors"]] == [tensor.name for tensor in trace.tensors]
    assert records["names"] == trace.names
    for storage, own in zip(records["storages"], trace.storages, strict=True):
        assert set(storage) == {"blob", "nbytes", "written_by", "previous"}
        assert blobs[storage["blob"]].nbytes() == own.nbytes == storage["nbytes"]
    softmax = next(source for source in records["sources"] if source["text"].startswith("exponentials"))
    assert softmax["context"][softmax["line"] - softmax["first"]].strip() == softmax["text"]
    assert len(softmax["context"]) == 7


def test_weights_have_the_same_name_in_every_step() -> None:
    model = gf.load("nano-sort")
    first, second = (pack_trace(record(model.module, torch.tensor([ids])))[1] for ids in ([0, 1, 2], [0, 1, 2, 1]))
    weights = sum(parameter.nbytes for parameter in model.module.parameters())
    assert sum(first[name].nbytes() for name in first.keys() & second.keys()) >= weights
    assert all(
        bytes(blob_bytes(first[name])) == bytes(blob_bytes(second[name])) for name in first.keys() & second.keys()
    )


@pytest.mark.parametrize("name", ["nano-sort", "llama"])
def test_probabilities_are_recorded_as_if_the_model_had_computed_them(name: str) -> None:
    trace, _ = recorded(name)
    torch.testing.assert_close(trace["probs"].value, F.softmax(trace["logits"].value))
    assert trace["x"].axes == ("B", "T", "C")
    assert {operation.module for operation in trace.operations} <= {part.path for part in trace.modules}
    assert all(trace[tensor.name].id == tensor.id for tensor in trace.tensors)


def test_a_patched_trace_has_the_same_names() -> None:
    model = gf.load("nano-sort")
    trace = record(model.module, torch.tensor([[2, 1, 0]]))
    after = intervene.patch(trace, {trace["blocks.0.attn.out#1"][0, 0, 0, 0]: 3.0}).after
    assert after.names == trace.names
    assert not torch.equal(after["probs"].value, trace["probs"].value)

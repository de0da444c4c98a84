"""Every recorded number has one place in space, and what stands there are the very bytes."""

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.models import presets
from glassformer.models.gpt2 import GPT2
from glassformer.nn.kv_cache import uncached
from glassformer.tracing.trace import Trace
from glassformer.viewer.chapters import check_chapters, load_chapters
from glassformer.viewer.pack import pack_scene, record
from glassformer.viewer.scene import Block, Scene
from glassformer.viewer.tiles import block_window
from support.foreign import FOREIGN
from support.tiny import DEEPSEEK
from support.viewed import ALL, OURS, recorded

MIXTURES = ("mixtral", "qwen3_moe", *DEEPSEEK)  # whose networks stand in the flow of their data


@pytest.fixture(params=ALL)
def both(request: pytest.FixtureRequest) -> tuple[Trace, Scene]:
    return recorded(request.param)


def boxes(scene: Scene) -> np.ndarray:
    return np.array([(*b.pos, b.pos[0] + b.size[0], b.pos[1] + b.size[1], b.pos[2] + 1) for b in scene.blocks])


def test_no_two_blocks_overlap(both: tuple[Trace, Scene]) -> None:
    found = boxes(both[1])
    for i, box in enumerate(found):
        rest = found[i + 1 :]
        shared = ((rest[:, :3] < box[3:]) & (box[:3] < rest[:, 3:])).all(1)
        assert not shared.any(), (both[1].blocks[i], both[1].blocks[i + 1 + int(shared.argmax())])


def test_children_lie_in_their_groups(both: tuple[Trace, Scene]) -> None:
    scene = both[1]
    for block, box in zip(scene.blocks, boxes(scene), strict=True):
        group = scene.groups[block.group]
        assert (box[:3] >= group.min).all()
        assert (box[3:] <= group.max).all()
    for group in scene.groups:
        if group.parent is not None:
            parent = scene.groups[group.parent]
            assert group.parent < group.id
            assert np.less_equal(parent.min, group.min).all()
            assert np.less_equal(group.max, parent.max).all()


def test_every_cell_of_every_computed_tensor_and_weight_is_in_a_block(both: tuple[Trace, Scene]) -> None:
    trace, scene = both
    shown: dict[int, np.ndarray] = {}
    for block in scene.blocks:
        marks = shown.setdefault(block.storage, np.zeros(trace.storages[block.storage].nbytes, bool))
        mark(marks, itemsize(block), block.offset, block.size, block.strides)
    for each in trace.tensors:
        if each.kind in ("computed", "weight", "buffer", "input") and each.n_cells:
            assert each.storage in shown, each
            needed = np.zeros(trace.storages[each.storage].nbytes, bool)
            mark(needed, each.dtype.itemsize, each.offset, each.shape, each.strides)
            assert not (needed & ~shown[each.storage]).any(), each


def itemsize(block: Block) -> int:
    size: int = getattr(torch, block.dtype).itemsize
    return size


def mark(marks: np.ndarray, itemsize: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    steps = (*(stride * itemsize for stride in strides), 1)
    np.lib.stride_tricks.as_strided(marks[offset * itemsize :], (*shape, itemsize), steps)[...] = True


def test_a_block_shows_the_bytes_of_the_tensor_that_it_names(both: tuple[Trace, Scene]) -> None:
    trace, scene = both
    for block in scene.blocks:
        name, _, index = block.name.partition("[")
        record = trace.tensors[block.tensor]
        assert record.storage == block.storage
        assert name in trace
        window = block_window(trace, block)
        values = trace.array(block.tensor)
        if not index and window.size == values.size:
            flat = window.T if values.ndim and window.shape[0] != [*values.shape, 1][-2:][0] else window
            same = np.sort(flat.ravel().view(np.uint8)) == np.sort(np.ascontiguousarray(values).ravel().view(np.uint8))
            assert same.all()
        elif record.kind == "computed" and len(record.shape) == 4 and ":" not in index:
            place = tuple(map(int, index.rstrip("]").split(",")))
            assert np.array_equal(window.T, values[place], equal_nan=True) or np.array_equal(
                window, values[place], equal_nan=True
            )


def test_steps_stand_behind_what_they_lead_to(both: tuple[Trace, Scene]) -> None:
    scene = both[1]
    for block in scene.blocks:
        if block.step_of is not None:
            target = scene.blocks[block.step_of]
            assert target.step_of is None
            assert block.role == "step"
            assert block.pos[:2] == target.pos[:2]
            assert block.pos[2] < target.pos[2]


def test_a_scene_is_json_as_the_page_reads_it(both: tuple[Trace, Scene]) -> None:
    content = json.loads(json.dumps(both[1].to_json(), allow_nan=False))
    assert content["format"] == "glassformer-scene"
    assert content["version"] == 1
    assert [block["id"] for block in content["blocks"]] == list(range(len(content["blocks"])))
    assert [group["id"] for group in content["groups"]] == list(range(len(content["groups"])))


# ---- what is so for models of ours only


@pytest.mark.parametrize("name", OURS)
def test_the_stream_runs_down_in_columns_of_twelve_layers(name: str) -> None:
    scene = recorded(name)[1]
    stream = [scene.blocks[block] for block in scene.stream]
    assert len(stream) == 1 + 2 * scene.sizes["L"]
    columns: dict[float, list[float]] = defaultdict(list)
    for block in stream:
        assert block.role == "x"
        assert block.size == (scene.sizes["T"], scene.sizes["C"])
        columns[block.pos[0]].append(block.pos[1])
    assert len(columns) == -(-scene.sizes["L"] // 12)
    assert list(columns) == sorted(columns)
    assert all(levels == sorted(set(levels)) for levels in columns.values())


@pytest.mark.parametrize("name", OURS)
def test_attention_stands_left_of_the_stream_and_the_mlp_right(name: str) -> None:
    scene = recorded(name)[1]
    column = {scene.blocks[block].layer: scene.blocks[block].pos[0] for block in scene.stream}
    for group in scene.groups:
        layer = next((block.layer for block in scene.blocks if block.group == group.id), None)
        if group.role in ("attention", "head") and layer is not None:
            assert group.max[0] < column[layer]
        if group.role == "mlp" and layer is not None:
            assert group.min[0] >= column[layer] + scene.sizes["T"]


@pytest.mark.parametrize("name", OURS)
def test_outputs_are_level_with_their_weights(name: str) -> None:
    scene = recorded(name)[1]
    by_role = {(b.layer, b.head, b.role): b for b in scene.blocks if b.step_of is None and b.start == (0, 0)}
    for (layer, head, role), block in by_role.items():
        for product, axis in (("q", 1), ("k", 1), ("v", 1), ("up", 0), ("gate", 0)):
            if role == product and layer is not None and not (name in DEEPSEEK and product in "qkv"):
                weight = by_role[layer, head, f"{product}_weight"]
                assert (weight.pos[axis], weight.size[axis]) == (block.pos[axis], block.size[axis])
        if role == "attn_out" or (role == "mlp_out" and name not in MIXTURES):
            weight = by_role[layer, None, "o_weight" if role == "attn_out" else "down_weight"]
            assert (weight.pos[1], weight.size[1]) == (block.pos[1], block.size[1])


@pytest.mark.parametrize("name", ["qwen3", "olmo2"])
def test_queries_and_keys_are_called_rotated_when_they_are(name: str) -> None:
    scene = recorded(name)[1]
    role_of = {block.name.partition("[")[0]: block.role for block in scene.blocks if block.step_of is None}
    for letter, rotated in (("q", "q"), ("k", "k#3")):  # keys are repeated for the heads that share them
        path = f"blocks.0.attn.{letter}"
        assert role_of[f"{path}#1"] == letter
        assert role_of[f"{path}#2"] == f"{letter}_normed"
        assert role_of[f"blocks.0.attn.{rotated}"] == f"{letter}_rotated"


@pytest.mark.parametrize("name", OURS)
def test_all_that_chapters_rely_on_is_there(name: str) -> None:
    scene = recorded(name)[1]
    roles = {block.role for block in scene.blocks}
    needed = {"tokens", "token_embedding", "x", "q", "k", "v", "allowed", "scores", "highest", "exponentials", "total"}
    needed |= {"weights", "out", "heads", "attn_out", "mlp_out", "logits", "probs", "lm_head"}
    needed |= set() if name in MIXTURES else {"up", "activated"}
    assert needed <= roles
    assert scene.logits is not None
    assert scene.blocks[scene.logits].role == "logits"
    heads = [group for group in scene.groups if group.role == "head"]
    assert len(heads) == scene.sizes["L"] * scene.sizes["H"]
    for group in heads:
        own = {block.role for block in scene.blocks if block.group == group.id}
        assert {"q", "scores", "weights", "out"} <= own
        assert {"q_weight", "q_up_weight"} & own


def test_a_model_with_rotary_positions_shows_what_they_turn() -> None:
    scene = recorded("llama")[1]
    count = {
        role: sum(block.role == role and block.layer == 0 for block in scene.blocks)
        for role in ("q_rotated", "k_rotated", "k", "k_shared", "v_shared", "gate")
    }
    assert count == {"q_rotated": 4, "k_rotated": 2, "k": 2, "k_shared": 4, "v_shared": 4, "gate": 1}


def test_tied_weights_are_shown_where_they_are_read() -> None:
    scene = recorded("llama interleaved")[1]
    table, head = (next(b for b in scene.blocks if b.role == role) for role in ("token_embedding", "lm_head"))
    assert table.storage == head.storage
    assert table.strides == head.strides[::-1]


def test_arrows_lead_forward_and_join_blocks_of_one_head() -> None:
    trace, scene = recorded("nano-sort")
    written = [trace.storages[block.storage].written_by for block in scene.blocks]
    for arrow in scene.arrows:
        source, target = scene.blocks[arrow.source], scene.blocks[arrow.target]
        before, after = written[arrow.source], written[arrow.target]
        assert after is not None
        assert before is None or before < after
        assert source.head is None or target.head is None or source.head == target.head
        assert (arrow.kind == "weight") == (source.kind == "weight")
    assert sum(arrow.kind == "residual" for arrow in scene.arrows) == 2 * 3


@pytest.mark.parametrize("name", FOREIGN)
def test_what_every_module_has_is_called_after_its_module(name: str) -> None:
    """`c_attn.weight` and `fc.output`, not a hundred boxes with the word weight."""
    of_modules = [block for block in recorded(name)[1].blocks if "." in block.name.partition("[")[0]]
    assert of_modules
    assert not {block.label.en for block in of_modules} & {"weight", "bias", "output"}


class OneForward(GPT2):
    """Its blocks have no forward of their own, so no residual stream belongs to a layer."""

    def forward(self, tokens: torch.Tensor, state: Any = None, valid: Any = None) -> torch.Tensor:
        step = uncached(tokens, len(self.blocks), valid)
        x = self.token_embedding(tokens) + self.position_embedding(step.places)
        for block, (mask, _) in zip(self.blocks, step.layers, strict=True):
            x = x + block.attn(block.attn_norm(x), mask)
            x = x + block.mlp(block.mlp_norm(x))
        logits: torch.Tensor = self.lm_head(self.final_norm(x))
        return logits


def test_a_chapter_that_fits_a_model_finds_all_it_points_at() -> None:
    module = OneForward(presets()["nano-sort"]).eval()
    trace = record(module, torch.tensor([[2, 1, 0, 1, 1, 2]]))
    scene = pack_scene(trace, module=module, config=module.config, name="one forward", tokens=[])
    assert [problem for report in check_chapters(scene, load_chapters()) for problem in report.problems] == []

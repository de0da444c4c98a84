"""Recurrent networks, Luong's attention and encoder-decoders: how they stand, and which chapters tell of them."""

from itertools import pairwise

import numpy as np
import pytest

from glassformer.viewer.chapters import check_chapters, load_chapters
from glassformer.viewer.scene import Block, Scene
from glassformer.viewer.selectors import select
from glassformer.viewer.tiles import block_window
from support.viewed import LUONG, TWO_SPINES, UNROLLED, recorded

OF_A_DECODER = "overview training tokens embedding query-key-value scores softmax mixing heads mlp generation scale "
OF_A_DECODER += "encoder-decoder"
FITTING = {
    "rnn": "recurrent",
    "gru": "recurrent",
    "lstm": "recurrent",
    "one vector between": "recurrent",
    **dict.fromkeys(LUONG, "recurrent luong"),
    "encoder-decoder": OF_A_DECODER,
    "encoder-decoder pre-norm": f"{OF_A_DECODER} layer-norm residual stack sampling",
    "bart": OF_A_DECODER,
    "t5": f"{OF_A_DECODER} layer-norm residual stack sampling",
}
PAIRED = ("one vector between", *LUONG, *TWO_SPINES)


def of_role(scene: Scene, role: str) -> list[Block]:
    return [block for block in scene.blocks if block.role == role]


@pytest.mark.parametrize("name", FITTING)
def test_a_model_is_told_by_the_chapters_that_fit_it(name: str) -> None:
    reports = [report for report in check_chapters(recorded(name)[1], load_chapters()) if report.applies]
    assert {report.chapter for report in reports} == set(FITTING[name].split())
    assert [(report.chapter, problem) for report in reports for problem in report.problems] == []
    assert all(4 <= report.steps <= 9 for report in reports)


@pytest.mark.parametrize("name", UNROLLED)
def test_time_runs_to_the_right_in_steps_of_one_width(name: str) -> None:
    scene = recorded(name)[1]
    states = [block for block in of_role(scene, "h") if block.axes[0] == "T" and block.layer == 0]
    assert [block.start[0] for block in states] == list(range(scene.sizes["T"]))
    assert len({b.pos[0] - a.pos[0] for a, b in pairwise(states)}) == 1
    for t, block in enumerate(states):
        step = scene.groups[block.group]
        assert (step.role, step.index) == ("time_step", t)
        assert step.label.zh == f"时间步 {t}"


@pytest.mark.parametrize("name", UNROLLED)
def test_the_state_at_a_position_is_the_column_that_the_network_put_out(name: str) -> None:
    trace, scene = recorded(name)
    for role in ("states", "memory"):
        for out in of_role(scene, role):
            if out.axes[1] != "C" or out.size[0] == 1:
                continue
            columns = block_window(trace, out)
            for t in range(out.size[0]):
                cells = select(scene, f"@h{{{out.axes[0].lower()}={t}}}")
                found = [scene.blocks[cell.block] for cell in cells if scene.blocks[cell.block].layer == out.layer]
                assert np.array_equal(np.concatenate([block_window(trace, b)[:, 0] for b in found]), columns[:, t])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_gates_stand_behind_each_other_in_the_planes_of_their_weights(name: str) -> None:
    scene = recorded(name)[1]
    gates = {"gru": ("reset", "update", "candidate"), "lstm": ("input_gate", "forget_gate", "candidate", "output_gate")}
    weights = [block for block in of_role(scene, "from_h_weight") if block.layer == 0]
    depths = [next(b.pos[2] for b in of_role(scene, role) if b.layer == 0) for role in gates[name]]
    assert depths == sorted(depths, reverse=True)
    assert depths == [block.pos[2] for block in weights]
    assert [block.pos[2] for block in of_role(scene, "from_h") if block.layer == 0 and block.start[0] == 0] == depths


@pytest.mark.parametrize("name", PAIRED)
def test_the_encoder_stands_left_of_the_decoder_and_each_under_its_own_tokens(name: str) -> None:
    scene = recorded(name)[1]
    (encoder,), (decoder,) = ([g for g in scene.groups if g.role == role] for role in ("encoder", "decoder"))
    assert encoder.max[0] < decoder.min[0]
    assert encoder.label.zh == "编码器"
    for role, letter, n in (("source_tokens", "N", 5), ("tokens", "T", 4)):
        found = of_role(scene, role)
        assert {block.axes[0] for block in found} == {letter}
        assert sum(block.size[0] for block in found) == n == scene.sizes[letter]
    assert [token.text for token in scene.source] == ["s3", "s1", "s4", "s1", "s5"]


@pytest.mark.parametrize("name", LUONG)
def test_the_weights_are_a_picture_of_target_over_source(name: str) -> None:
    trace, scene = recorded(name)
    weights = of_role(scene, "alignment_weights")
    assert {block.axes for block in weights} == {("T", "N")}
    assert [block.pos[0] - weights[0].pos[0] for block in weights] == [block.start[0] for block in weights]
    picture = np.concatenate([block_window(trace, block) for block in weights], axis=1)
    assert picture.shape == (5, 4)
    assert (picture.sum(0) <= 1 + 1e-6).all()
    context = np.concatenate([block_window(trace, block) for block in of_role(scene, "context")], axis=1)
    (memory,) = of_role(scene, "memory")
    np.testing.assert_allclose(block_window(trace, memory) @ picture, context, atol=1e-6)


@pytest.mark.parametrize("name", TWO_SPINES)
def test_cross_attention_has_columns_of_the_target_and_rows_of_the_source(name: str) -> None:
    trace, scene = recorded(name)
    crossing = select(scene, "@layer[first].cross_head[first].weights")
    (block,) = [scene.blocks[cells.block] for cells in crossing]
    assert block.axes == ("T", "N")
    assert np.allclose(block_window(trace, block).sum(0), 1)
    seen = {role: select(scene, f"@{role}[first].head[first].weights") for role in ("layer", "encoder_layer")}
    own, all_to_all = (block_window(trace, scene.blocks[seen[role][0].block]) for role in ("layer", "encoder_layer"))
    assert (own[np.tril_indices(4, -1)] == 0).all()  # rows are keys: none that comes later
    assert (all_to_all > 0).all()
    assert [scene.blocks[b].axes for b in scene.stream] == [("T", "C")] * (1 + 3 * scene.sizes["L"])

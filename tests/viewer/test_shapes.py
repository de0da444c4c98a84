"""Models of which only the sizes are known."""

import glassformer as gf
from glassformer.viewer.shapes import configuration, shapes_scene

GPT2_XL = 1_557_611_200


def test_a_scene_of_shapes_has_the_layout_of_the_model() -> None:
    config = gf.build("gpt2", vocab_size=50, d_model=32, n_layers=2, n_heads=4, context_length=16).config
    scene = shapes_scene("small", config)
    assert scene.model["shapes_only"]
    assert all(block.tensor == block.storage == -1 for block in scene.blocks)
    assert {block.role for block in scene.blocks} > {"token_embedding", "q", "scores", "out", "up", "lm_head"}
    assert sum(group.role == "head" for group in scene.groups) == 2 * 4
    assert len(scene.stream) == 5
    assert len(scene.arrows) == 4


def test_norms_of_what_sublayers_compute_stand_where_it_is_added() -> None:
    scene = shapes_scene("olmo-2-1b", configuration("olmo-2-1b"), n_positions=8)
    added = [block for block in scene.blocks if block.role == "norm_out"]
    stream = [scene.blocks[block] for block in scene.stream[1:]]
    assert [block.pos[1] for block in added] == [block.pos[1] for block in stream]
    assert not any(block.role == "norm" for block in scene.blocks)


def test_gpt2_xl_has_its_published_size_and_no_numbers() -> None:
    scene = shapes_scene("gpt2-xl", configuration("gpt2-xl"))
    assert scene.model["n_parameters"] == GPT2_XL
    assert scene.sizes["T"] == 1024
    assert sum(group.role == "head" for group in scene.groups) == 48 * 25
    assert 10_000 < len(scene.blocks) < 15_000
    assert len({scene.blocks[block].pos[0] for block in scene.stream}) == 4  # columns of twelve layers


def test_gpt3_has_the_sizes_of_its_paper() -> None:
    config = configuration("gpt3")
    assert (config.d_model, config.n_layers, config.n_heads, config.d_head) == (12288, 96, 96, 128)

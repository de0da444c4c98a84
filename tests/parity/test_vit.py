"""Random small ViTs and DeiTs of `transformers` and ours are the same models, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer.checkpoints.huggingface import load_directory
from glassformer.models.vit import ViT, ViTConfig
from glassformer.twins import use
from support.counts import count
from support.parity import far_from_start, import_transformers, read_in_float64, saved

transformers = import_transformers()

TOLERANCE = 1e-6  # in float64, but for what transformers computes in float32 all the same
HEADS = {
    "none": transformers.ViTForImageClassification,
    "token": transformers.DeiTForImageClassification,
    "head": transformers.DeiTForImageClassificationWithTeacher,
}
BARE = {"none": transformers.ViTModel, "token": transformers.DeiTModel}


def draw_sizes(choose: random.Random) -> tuple[Any, Any]:
    """Sizes of image and patch, square or not, with a rest that fills no patch or without."""
    patch = choose.choice([1, 3, 4, 5, [2, 3], [5, 2]])
    image = choose.choice([9, 13, 16, 20]) if choose.random() < 0.6 else [choose.randint(5, 21), choose.randint(5, 21)]
    return image, patch


def their_config(choose: random.Random, distillation: str) -> Any:
    n_heads = choose.choice([1, 2, 3])
    image, patch = draw_sizes(choose)
    kind = transformers.ViTConfig if distillation == "none" else transformers.DeiTConfig
    return kind(
        image_size=image,
        patch_size=patch,
        num_channels=choose.choice([1, 3]),
        num_labels=choose.choice([1, 2, 10]),
        hidden_size=n_heads * choose.choice([4, 7, 16]),
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        intermediate_size=choose.choice([5, 17, 40]),
        hidden_act=choose.choice(["gelu", "gelu_new", "relu", "silu"]),
        layer_norm_eps=choose.choice([1e-12, 1e-6, 1e-3]),
        qkv_bias=choose.random() < 0.5,
    )


def our_config(choose: random.Random, distillation: Any) -> ViTConfig:
    n_heads = choose.choice([1, 2, 3])
    image, patch = ([size, size] if isinstance(size, int) else size for size in draw_sizes(choose))
    n_classes = choose.choice([1, 2, 10])
    return ViTConfig(
        image_size=tuple(image),
        patch_size=tuple(patch),
        n_channels=choose.choice([1, 3]),
        n_classes=n_classes,
        labels=tuple(f"class {number}" for number in range(n_classes)) if choose.random() < 0.5 else (),
        d_model=n_heads * choose.choice([4, 7, 16]),
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([0, 17, 40]),
        activation=choose.choice(["gelu", "gelu_tanh", "relu", "silu"]),
        norm_eps=choose.choice([1e-12, 1e-6]),
        qkv_bias=choose.random() < 0.5,
        distillation=distillation,
    )


@torch.no_grad()
@pytest.mark.parametrize("distillation", HEADS)
def test_what_transformers_saves_gives_the_same_logits_here(distillation: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        theirs = HEADS[distillation](their_config(choose, distillation)).eval()
        far_from_start(theirs)
        config, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        assert config.distillation == distillation
        images = torch.randn(2, config.n_channels, *config.image_size, dtype=torch.float64)
        expected = theirs(images).logits
        for mode in ("readable", "fast"):
            with use(mode):
                torch.testing.assert_close(ours(images), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("distillation", HEADS)
def test_what_we_save_gives_the_same_in_transformers_and_here(distillation: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families exported")):
        torch.manual_seed(seed)
        config = our_config(random.Random(seed), distillation)
        ours = ViT(config).eval()
        far_from_start(ours)
        folder = saved(ours, tmp_path / f"{seed}")
        theirs = HEADS[config.distillation].from_pretrained(folder).double()
        images = torch.randn(2, config.n_channels, *config.image_size, dtype=torch.float64)
        torch.testing.assert_close(ours.double()(images), theirs(images).logits, atol=TOLERANCE, rtol=TOLERANCE)
        if config.labels:
            assert tuple(theirs.config.id2label.values()) == config.labels


@torch.no_grad()
@pytest.mark.parametrize("distillation", BARE)
def test_vectors_are_those_of_the_bare_trunk_and_their_folder_is_too(distillation: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families exported")):
        torch.manual_seed(seed)
        theirs = BARE[distillation](their_config(random.Random(seed), distillation)).eval()
        far_from_start(theirs)
        theirs.save_pretrained(tmp_path / f"{seed}")
        config, ours = load_directory(tmp_path / f"{seed}")
        assert (config.distillation, config.head) == (distillation, "none")
        again = BARE[distillation].from_pretrained(saved(ours, tmp_path / f"{seed} again"))
        images = torch.randn(2, config.n_channels, *config.image_size, dtype=torch.float64)
        expected = theirs.double()(images).last_hidden_state
        for vectors in (ours.double()(images), again.double()(images).last_hidden_state):
            torch.testing.assert_close(vectors, expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("distillation", ["none", "token", "head"])
def test_positions_are_interpolated_for_another_size_of_image(distillation: str, tmp_path: Path) -> None:
    """transformers does so for square tables of positions, and where it is asked to."""
    for seed in range(count("encoder families exported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        config = their_config(choose, distillation)
        config.image_size, config.patch_size = choose.choice([9, 16, 21]), choose.choice([1, 3, 4])
        theirs = HEADS[distillation](config).eval()
        far_from_start(theirs)
        _, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        for size in ((24, 24), (8, 17), (30, 5), (config.image_size + 2, config.image_size + 1)):
            images = torch.randn(1, config.num_channels, *size, dtype=torch.float64)
            expected = theirs(images, interpolate_pos_encoding=True).logits
            torch.testing.assert_close(ours(images), expected, atol=TOLERANCE, rtol=TOLERANCE, msg=f"{seed} {size}")

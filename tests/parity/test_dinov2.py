"""Random small DINOv2s of `transformers` and ours are the same models, in both directions."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.checkpoints.huggingface import save_directory
from glassformer.errors import ExportError
from glassformer.models.dinov2 import SPEC, Dinov2Config
from glassformer.twins import use
from support.counts import count
from support.parity import far_from_start, import_transformers, read_in_float64, saved

transformers = import_transformers()

TOLERANCE = 1e-6  # in float64, but for what transformers computes in float32 all the same
INTERPOLATED = 1e-5  # positions for other sizes, which it interpolates in float32
AUTO = {"none": transformers.AutoModel, "classes": transformers.AutoModelForImageClassification}


def draw_sizes(choose: random.Random) -> tuple[Any, Any]:
    """Square images, with a rest that fills no patch or without, and patches that are square or not."""
    return choose.choice([9, 13, 16, 20]), choose.choice([1, 3, 4, 5, [2, 3], [5, 2]])


def their_config(choose: random.Random) -> Any:
    n_heads = choose.choice([1, 2, 3])
    image, patch = draw_sizes(choose)
    return transformers.Dinov2Config(
        image_size=image,
        patch_size=patch,
        num_channels=choose.choice([1, 3]),
        num_labels=choose.choice([1, 2, 10]),
        hidden_size=n_heads * choose.choice([4, 7, 16]),
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        mlp_ratio=choose.choice([1, 2, 4]),
        use_swiglu_ffn=choose.random() < 0.5,
        hidden_act=choose.choice(["gelu", "gelu_new", "relu", "silu"]),
        layer_norm_eps=choose.choice([1e-6, 1e-3]),
        qkv_bias=choose.random() < 0.5,
        layerscale_value=choose.choice([1.0, 0.1]),
        use_mask_token=choose.random() < 0.5,
    )


def our_config(choose: random.Random, head: str) -> Any:
    n_heads = choose.choice([1, 2, 3])
    image, patch = draw_sizes(choose)
    n_classes = choose.choice([1, 2, 10])
    settings: dict[str, Any] = {
        "image_size": (image, image),
        "patch_size": (patch, patch) if isinstance(patch, int) else tuple(patch),
        "n_channels": choose.choice([1, 3]),
        "n_classes": n_classes,
        "labels": tuple(f"class {number}" for number in range(n_classes)) if choose.random() < 0.5 else (),
        "d_model": n_heads * choose.choice([4, 7, 16]),
        "n_layers": choose.randint(1, 3),
        "n_heads": n_heads,
        "mlp_ratio": choose.choice([1, 2, 4]),
        "ffn": choose.choice(["mlp", "swiglu"]),
        "activation": choose.choice(["gelu", "gelu_tanh", "relu", "silu"]),
        "norm_eps": choose.choice([1e-12, 1e-6]),
        "qkv_bias": choose.random() < 0.5,
        "layer_scale": choose.choice([1.0, 0.1]),
        "head": head,
    }
    return Dinov2Config(**settings)


def output(theirs: Any, images: Tensor, head: str) -> Tensor:
    result: Any = theirs(images)
    tensor: Tensor = result.last_hidden_state if head == "none" else result.logits
    return tensor


@torch.no_grad()
@pytest.mark.parametrize("head", AUTO)
def test_what_transformers_saves_gives_the_same_here(head: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families imported")):
        torch.manual_seed(seed)
        theirs = AUTO[head].from_config(their_config(random.Random(seed))).eval()
        far_from_start(theirs)
        config, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        assert config.head == head
        images = torch.randn(2, config.n_channels, *config.image_size, dtype=torch.float64)
        expected = output(theirs, images, head)
        for mode in ("readable", "fast"):
            with use(mode):
                torch.testing.assert_close(ours(images), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("head", AUTO)
def test_what_we_save_gives_the_same_in_transformers_and_here(head: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families exported")):
        torch.manual_seed(seed)
        config = our_config(random.Random(seed), head)
        ours = SPEC.build(config).eval()
        far_from_start(ours)
        folder = saved(ours, tmp_path / f"{seed}")
        theirs, report = AUTO[head].from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        images = torch.randn(2, config.n_channels, *config.image_size, dtype=torch.float64)
        expected = output(theirs.double(), images, head)
        torch.testing.assert_close(ours.double()(images), expected, atol=TOLERANCE, rtol=TOLERANCE)
        if config.labels:
            assert tuple(theirs.config.id2label.values()) == config.labels


@torch.no_grad()
def test_positions_are_interpolated_for_another_size_of_image(tmp_path: Path) -> None:
    """As transformers does without being asked, for square tables of positions."""
    for seed in range(count("encoder families imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        config = their_config(choose)
        config.patch_size = choose.choice([1, 3, 4])
        theirs = transformers.Dinov2ForImageClassification(config).eval()
        far_from_start(theirs)
        _, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        for size in ((24, 24), (8, 17), (30, 5), (config.image_size + 2, config.image_size + 1)):
            images = torch.randn(1, config.num_channels, *size, dtype=torch.float64)
            expected = theirs(images).logits
            torch.testing.assert_close(ours(images), expected, atol=INTERPOLATED, rtol=INTERPOLATED, msg=f"{size}")


def test_a_table_of_positions_that_transformers_takes_for_square_is_not_written(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"patch_size": (4, 4), "d_model": 8, "n_layers": 1, "n_heads": 2}
    with pytest.raises(ExportError, match="DINOv2 needs a square image or as many patches down as across"):
        save_directory(SPEC.build(Dinov2Config(**sizes, image_size=(8, 12))), tmp_path / "wide")

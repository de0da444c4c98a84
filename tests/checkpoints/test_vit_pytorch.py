"""A published ViT for digits gives its published answers; state dicts that only look like one are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints.hostile import refused
from glassformer import checkpoints
from glassformer.checkpoints.formats.vit_pytorch import MARK
from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.data.images import ImageSet, read_idx_set
from glassformer.errors import CheckpointError, ExportError
from glassformer.features.image_processor import ImageProcessor
from glassformer.twins import use
from support.published import MNIST_VIT

DIGITS = ImageProcessor(size=None, mean=(0.1307,), std=(0.3081,))


@pytest.fixture(scope="module")
def published(data_dir: Path) -> checkpoints.Checkpoint:
    return checkpoints.load(data_dir / "vit" / "vit_mnist.pth", from_pickle=True, options=MNIST_VIT)


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> dict[str, Any]:
    return json.loads((data_dir / "vit" / "vit_mnist.reference.json").read_text())


@pytest.fixture(scope="module")
def digits(data_dir: Path) -> ImageSet:
    folder = data_dir / "images" / "mnist"
    return read_idx_set(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")


def test_the_sizes_are_found_in_the_tensors(published: checkpoints.Checkpoint, reference: dict[str, Any]) -> None:
    config, told = published.config, reference["config"]
    assert config.image_size == (told["image"],) * 2
    assert config.patch_size == (told["patch"],) * 2
    assert (config.d_model, config.n_layers, config.n_heads) == (told["dim"], told["depth"], told["heads"])
    assert (config.d_ff, config.n_channels, config.n_classes) == (told["mlp"], 1, 10)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_the_first_logits_are_the_published_ones(
    mode: Any, published: checkpoints.Checkpoint, reference: dict[str, Any], digits: ImageSet
) -> None:
    with use(mode):
        logits = published.module(DIGITS.normalise(digits.pixels[:32]))
    expected = torch.tensor(reference["logits_first_3"])
    torch.testing.assert_close(logits[:3], expected, atol=1e-4, rtol=0)  # four digits were published
    assert logits.argmax(-1).tolist() == reference["first_32_pred"]
    assert digits.labels[:32].tolist() == reference["first_32_label"]


@torch.no_grad()
def test_of_ten_thousand_digits_as_many_are_read_as_published(
    published: checkpoints.Checkpoint, reference: dict[str, Any], digits: ImageSet
) -> None:
    right = 0
    for pixels, labels in zip(digits.pixels.split(500), digits.labels.split(500), strict=True):
        right += int((published.module(DIGITS.normalise(pixels)).argmax(-1) == labels).sum())
    assert right == round(reference["test_accuracy_10k"] * len(digits)) == 9794


@torch.no_grad()
def test_hugging_face_has_no_such_vit_but_our_own_files_do(
    published: checkpoints.Checkpoint, digits: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="cannot express final_norm = False"):
        save_directory(published.module, tmp_path / "theirs")
    config, again = load_directory(save_directory(published.module, tmp_path / "ours", native=True))
    assert config == published.config
    images = DIGITS.normalise(digits.pixels[:4])
    assert torch.equal(again(images), published.module(images))


def state(patch_features: int = 12, d: int = 16, d_ff: int = 6, n_layers: int = 2) -> dict[str, Tensor]:
    """A whole state dict of small sizes, the pixels of a patch being 2 × 2 of three channels."""
    shapes: dict[str, tuple[int, ...]] = {"pos_embedding": (1, 10, d), "cls_token": (1, 1, d)}
    shapes |= {"patch_to_embedding.weight": (d, patch_features), "patch_to_embedding.bias": (d,)}
    for layer in range(n_layers):
        name = f"transformer.layers.{layer}."
        for part in "01":
            shapes |= {f"{name}{part}.fn.norm.weight": (d,), f"{name}{part}.fn.norm.bias": (d,)}
        shapes |= {f"{name}0.fn.fn.to_qkv.weight": (3 * d, d), f"{name}0.fn.fn.to_out.weight": (d, d)}
        shapes |= {f"{name}0.fn.fn.to_out.bias": (d,), f"{name}1.fn.fn.net.0.weight": (d_ff, d)}
        shapes |= {f"{name}1.fn.fn.net.0.bias": (d_ff,), f"{name}1.fn.fn.net.2.weight": (d, d_ff)}
        shapes |= {f"{name}1.fn.fn.net.2.bias": (d,)}
    shapes |= {"mlp_head.0.weight": (d_ff, d), "mlp_head.0.bias": (d_ff,)}
    shapes |= {"mlp_head.2.weight": (5, d_ff), "mlp_head.2.bias": (5,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@torch.no_grad()
def test_pixels_have_their_channels_last_there_and_scores_another_scale(tmp_path: Path) -> None:
    """Against the patch embedding and the scores as that code computes them."""
    content = state()
    torch.save(content, tmp_path / "vit.pt")
    found = checkpoints.load(tmp_path / "vit.pt", from_pickle=True, options={"n_heads": 8, "n_channels": 3})
    assert (found.config.image_size, found.config.n_channels) == ((6, 6), 3)
    model: Any = found.module
    images = torch.randn(1, 3, 6, 6)
    pixels = images.reshape(1, 3, 3, 2, 3, 2).permute(0, 2, 4, 3, 5, 1).reshape(1, 9, 12)  # b (h w) (p1 p2 c)
    expected = pixels @ content[MARK].T + content["patch_to_embedding.bias"]
    seen: list[Tensor] = []
    model.patch_embedding.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    torch.testing.assert_close(seen[0], expected)
    x = torch.randn(7, 16)
    q, k, _ = (x @ content["transformer.layers.1.0.fn.fn.to_qkv.weight"].T).chunk(3, -1)
    their_scores = q[:, 2:4] @ k[:, 2:4].T * 16**-0.5  # the second of eight heads
    attn = model.blocks[1].attn
    our_scores = attn.q_proj(x)[:, 2:4] @ attn.k_proj(x)[:, 2:4].T / 2**0.5
    torch.testing.assert_close(our_scores, their_scores)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a tensor is missing": lambda s: s.pop("cls_token"),
    "one too many": lambda s: s.update(extra=torch.zeros(1)),
    "no head": lambda s: s.pop("mlp_head.2.weight"),
    "a layer is missing": lambda s: [s.pop(name) for name in list(s) if name.startswith("transformer.layers.0.")],
    "no layers": lambda s: [s.pop(name) for name in list(s) if name.startswith("transformer.")],
    "another width": lambda s: s.update(cls_token=torch.zeros(1, 1, 15)),
    "patches that are no squares": lambda s: s.update({MARK: torch.zeros(16, 13)}),
    "a patch of nothing": lambda s: s.update({MARK: torch.zeros(16, 0)}),
    "a vector for a matrix": lambda s: s.update({MARK: torch.zeros(16)}),
    "positions that are no square": lambda s: s.update(pos_embedding=torch.zeros(1, 11, 16)),
    "no positions": lambda s: s.update(pos_embedding=torch.zeros(1, 0, 16)),
    "uneven queries": lambda s: s.update({"transformer.layers.0.0.fn.fn.to_qkv.weight": torch.zeros(47, 16)}),
    "integers": lambda s: s.update({"mlp_head.0.bias": torch.zeros(6, dtype=torch.int64)}),
    "no tensor": lambda s: s.update({"mlp_head.0.bias": 3}),
    "a view of one number": lambda s: s.update(pos_embedding=torch.zeros(1, 1, 1).expand(1, 10**6, 16)),
    "not finite": lambda s: s.update(cls_token=torch.full((1, 1, 16), torch.nan)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.usefixtures("unchecked")
def test_what_only_looks_like_one_is_refused(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    content: dict[str, Any] = state()
    change(content)
    torch.save(content, tmp_path / "vit.pt")
    with refused(tmp_path / "vit.pt"):
        checkpoints.load(tmp_path / "vit.pt", from_pickle=True, options={"n_heads": 8, "n_channels": 3})


def test_it_is_a_pickle_and_must_be_allowed(data_dir: Path) -> None:
    with pytest.raises(CheckpointError, match="from_pickle"):
        checkpoints.load(data_dir / "vit" / "vit_mnist.pth")

"""Vision Transformer: sizes, laws, and the names of its configuration in Hugging Face's format."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.vit import PUBLISHED
from glassformer.models.vit import PRESETS, SPEC, ViT, ViTConfig
from glassformer.nn.interpolation import resize_positions
from glassformer.twins import use
from models.test_models import JSON
from support.tolerances import assert_close

PARAMETERS = {
    "vit-base": 86_567_656,
    "vit-large": 304_326_632,
    "vit-huge": 632_045_800,
    "deit-tiny": 5_910_800,
    "deit-small": 22_436_432,
    "deit-base": 87_338_192,
    "vit-mnist": 205_962,
}
SMALL: dict[str, Any] = {"image_size": (8, 12), "patch_size": (4, 4), "n_channels": 2, "n_classes": 5}
SMALL |= {"d_model": 12, "n_layers": 2, "n_heads": 3}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no biases": {"qkv_bias": False},
    "no final norm, mlp head": {"final_norm": False, "head": "mlp", "d_ff": 20},
    "distillation token": {"distillation": "token"},
    "two heads": {"distillation": "head"},
}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> ViT:
    vit = SPEC.build(ViTConfig(**SMALL, **VARIANTS[request.param])).double().eval()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return vit


def draw(*lead: int, size: tuple[int, int] = (8, 12)) -> torch.Tensor:
    return torch.randn(*lead, 2, *size, dtype=torch.float64)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    """As timm counts them with 1000 classes; the one for digits by hand."""
    assert set(PRESETS) == set(PARAMETERS)
    with torch.device("meta"):
        model = ViT(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_images_of_a_batch_do_not_see_each_other(model: ViT) -> None:
    images, order = draw(4), torch.tensor([2, 0, 3, 1])
    assert_close(model(images[order]), model(images)[order])
    assert_close(model(images[1:2]), model(images)[1:2])


def test_every_pixel_matters_and_its_place_too(model: ViT) -> None:
    images = draw(1)
    for row, column in ((0, 0), (7, 11), (3, 8)):
        changed = images.clone()
        changed[..., row, column] += 1
        assert ((model(changed) - model(images)).abs() > 1e-9).any()
    swapped = torch.cat([images[..., 4:, :], images[..., :4, :]], dim=-2)
    assert not torch.allclose(model(swapped), model(images))


def test_patches_without_positions_are_a_set(model: ViT) -> None:
    with torch.no_grad():
        model.position_embedding.weight.zero_()
    images = draw(1)
    swapped = torch.cat([images[..., 4:, :], images[..., :4, :]], dim=-2)
    assert_close(model(swapped), model(images))


def test_readable_and_fast_give_the_same_logits_and_gradients(model: ViT) -> None:
    images, results = draw(2), []
    for mode in ("readable", "fast"):
        with use(mode):  # type: ignore[arg-type]
            logits = model(images)
        results.append([logits, *torch.autograd.grad(logits.square().mean(), list(model.parameters()))])
    for one, two in zip(*results, strict=True):
        assert_close(one, two)


def test_another_resolution_is_read_with_interpolated_positions(model: ViT) -> None:
    n_extra, learned = model.config.n_extra_tokens, model.position_embedding.weight
    assert model(draw(2, size=(16, 20))).shape == (2, 5)
    assert resize_positions(learned, (2, 3), (2, 3), n_extra) is learned
    resized = resize_positions(learned, (2, 3), (4, 5), n_extra)
    assert resized.shape == (n_extra + 20, 12)
    assert torch.equal(resized[:n_extra], learned[:n_extra])
    with torch.no_grad():
        learned[n_extra:] = 0.5
    assert_close(resize_positions(learned, (2, 3), (4, 5), n_extra)[n_extra:], torch.full((20, 12), 0.5))


def test_dropout_acts_while_training_alone() -> None:
    model, images = ViT(ViTConfig(**SMALL, dropout=0.5)), draw(1).float()
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("changes", [*VARIANTS.values(), {"head": "none"}], ids=str)
def test_every_weight_has_one_name_in_the_published_format(changes: dict[str, Any]) -> None:
    config = ViTConfig(**SMALL, **changes)
    with torch.device("meta"):
        model = ViT(config)
    named = [name for _, ours, _ in PUBLISHED.renames(config) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {parameter for parameter, _ in model.named_parameters()}


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        ViTConfig(**SMALL, labels=("a", "b", "c", "d", "e"), qkv_bias=False, activation="gelu_tanh"),
        ViTConfig(**SMALL, head="none"),
        ViTConfig(**SMALL, head="none", distillation="token"),
    ],
    ids=str,
)
def test_from_huggingface_undoes_to_huggingface(config: ViTConfig) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] in PUBLISHED.model_types
    assert PUBLISHED.from_huggingface(written) == config


@pytest.mark.parametrize("changes", [{"final_norm": False}, {"head": "mlp"}], ids=str)
def test_what_the_format_cannot_express_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=f"cannot express {next(iter(changes))}"):
        PUBLISHED.to_huggingface(ViTConfig(**SMALL, **changes))


@pytest.mark.parametrize(
    "theirs",
    [
        {"architectures": ["ViTForMaskedImageModeling"]},
        {"hidden_act": "tanh"},
        {"id2label": ["cat", "dog"]},
        {"id2label": {"1": "cat"}},
    ],
    ids=str,
)
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"config.json: {next(iter(theirs))}"):
        PUBLISHED.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"image_size": (0, 4)}, "image_size must be two whole numbers"),
        ({"patch_size": (2.0, 4)}, "patch_size must be two whole numbers"),
        ({"patch_size": (9, 4)}, "has no patch"),
        ({"n_heads": 5}, "d_model 12 does not divide into 5 heads"),
        ({"labels": ("cat",)}, "There are 1 labels for 5 classes"),
        ({"head": "mlp", "distillation": "head"}, "A second head needs"),
        ({"head": "none", "distillation": "head"}, "A second head needs"),
        ({"qkv_bias": 2}, "qkv_bias must be one of True, False"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ViTConfig(**SMALL | wrong)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(PUBLISHED.settings)), JSON, max_size=3))
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(wrong: dict[str, object]) -> None:
    try:
        config = PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(ViTConfig(**SMALL)) | wrong)
    except ConfigError:
        return
    assert 1 <= config.n_classes < 2**31

"""DINOv2: sizes, laws, and the names of its configuration in Hugging Face's format."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.classify import classify
from glassformer.models.dinov2 import PRESETS, SPEC, Dinov2, Dinov2Config
from glassformer.models.published.dinov2 import PUBLISHED
from glassformer.twins import use
from models.test_models import JSON
from support.tolerances import assert_close

HEAD = {"dinov2-small": 769_000, "dinov2-base": 1_537_000, "dinov2-large": 2_049_000, "dinov2-giant": 3_073_000}
PARAMETERS = {  # as Meta's code counts them without a head and without the token that hides a patch
    "dinov2-small": 22_056_192,
    "dinov2-base": 86_579_712,
    "dinov2-large": 304_367_616,
    "dinov2-giant": 1_136_479_232,
}
SMALL: dict[str, Any] = {"image_size": (8, 8), "patch_size": (4, 4), "n_channels": 2, "n_classes": 5}
SMALL |= {"d_model": 12, "n_layers": 2, "n_heads": 3}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gated": {"ffn": "swiglu"},
    "no biases": {"qkv_bias": False, "mlp_ratio": 2},
    "no head": {"head": "none"},
}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Dinov2:
    module: Any = SPEC.build(Dinov2Config(**SMALL, **VARIANTS[request.param])).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    dinov2: Dinov2 = module
    return dinov2


def draw(*lead: int, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return torch.randn(*lead, 2, *size, dtype=torch.float64)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    assert set(PRESETS) == set(PARAMETERS)
    module = SPEC.outline(PRESETS[name])
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[name] + HEAD[name]


def test_images_of_a_batch_do_not_see_each_other(model: Dinov2) -> None:
    images, order = draw(4), torch.tensor([2, 0, 3, 1])
    assert_close(model(images[order]), model(images)[order])


def test_readable_and_fast_give_the_same_logits_and_gradients(model: Dinov2) -> None:
    images, results = draw(2), []
    for mode in ("readable", "fast"):
        model.zero_grad()
        with use(mode):
            logits = model(images)
            logits.square().sum().backward()
        results.append((logits.detach(), [parameter.grad.clone() for parameter in model.parameters()]))  # type: ignore[union-attr]
    (logits, gradients), (others, other_gradients) = results
    assert_close(logits, others)
    for one, other in zip(gradients, other_gradients, strict=True):
        assert_close(one, other)


def test_a_scale_of_zero_leaves_the_stream_as_it_was(model: Dinov2) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("scale.weight"):
                parameter.zero_()
    images = draw(1)
    before = model(images)
    with torch.no_grad():
        for block in model.blocks:
            for parameter in block.parameters():
                parameter.copy_(parameter * 2)
    assert torch.equal(model(images), before)


def test_classes_are_read_from_the_class_token_and_the_mean_of_the_patches() -> None:
    torch.manual_seed(0)
    with_head: Any = SPEC.build(Dinov2Config(**SMALL)).double().eval()
    without: Any = SPEC.build(Dinov2Config(**SMALL, head="none")).double().eval()
    weights = {name: weight for name, weight in with_head.state_dict().items() if not name.startswith("head.")}
    without.load_state_dict(weights)
    images = draw(3, size=(13, 9))  # more patches than there are positions
    vectors = without(images)
    assert vectors.shape == (3, 7, 12)
    joined = torch.cat([vectors[:, 0], vectors[:, 1:].mean(1)], -1)
    assert_close(with_head(images), joined @ with_head.head.weight.mT + with_head.head.bias)


def test_scales_start_at_the_setting() -> None:
    module: Any = SPEC.build(Dinov2Config(**SMALL, layer_scale=0.25))
    scales = [weight for name, weight in module.named_parameters() if name.endswith("scale.weight")]
    assert len(scales) == 4
    assert all((scale == 0.25).all() for scale in scales)


def test_a_model_without_a_head_tells_no_classes_apart() -> None:
    with pytest.raises(GenerationError, match="tells no classes apart"):
        classify(SPEC.build(Dinov2Config(**SMALL, head="none")), draw(1))


@pytest.mark.parametrize(
    "config", [*PRESETS.values(), *(Dinov2Config(**SMALL, **each) for each in VARIANTS.values())], ids=str
)
def test_from_huggingface_undoes_to_huggingface(config: Dinov2Config) -> None:
    assert PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(config)) == config


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_weight_has_one_name_in_the_published_format(changes: dict[str, Any]) -> None:
    config = Dinov2Config(**SMALL, **changes)
    named = [name for _, ours, _ in PUBLISHED.renames(config) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {name for name, _ in SPEC.outline(config).named_parameters()}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n_heads": 5}, "d_model 768 does not divide into 5 heads"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a whole number"),
        ({"layer_scale": 2}, "layer_scale must be from 0 to 1"),
        ({"head": "linear"}, "head must be one of classes, none"),
        ({"ffn": "moe"}, "ffn must be one of mlp, swiglu"),
        ({"image_size": (8, 8)}, "has no patch of"),
        ({"labels": ("a",)}, "There are 1 labels for 1000 classes"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Dinov2Config(**wrong)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(PUBLISHED.settings)), JSON, max_size=3))
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(wrong: dict[str, object]) -> None:
    try:
        config = PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(Dinov2Config(**SMALL)) | wrong)
    except ConfigError:
        return
    assert 1 <= config.vocab_size < 2**31

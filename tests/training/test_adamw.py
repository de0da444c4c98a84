"""AdamW: the paper's algorithm, torch's numbers, and which parameters decay."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassformer import models, twins
from glassformer.checkpoints import safetensors
from glassformer.errors import ConfigError
from glassformer.training.adamw import AdamW, parameter_groups
from support.tolerances import assert_close

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1}


def steps_of(optimizer_class: type[torch.optim.Optimizer], n_steps: int, **settings: object) -> list[Tensor]:
    """The parameters after steps with random gradients; the second one has none at every third step."""
    generator = torch.Generator().manual_seed(7)
    shapes = [(3, 4), (5,), (2, 3, 2), ()]
    parameters = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    optimizer = optimizer_class(parameters, **{**SETTINGS, **settings})
    for step in range(n_steps):
        for number, parameter in enumerate(parameters):
            missing = number == 1 and step % 3 == 0
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = None if missing else gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("mode", ["readable", "fast"])
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.0}, {"betas": (0.0, 0.0)}, {"eps": 1e-3}, {"lr": 0.0}])
def test_adamw_equals_torch(mode: twins.Mode, settings: dict[str, object]) -> None:
    expected = steps_of(torch.optim.AdamW, 25, **settings)
    with twins.use(mode):
        actual = steps_of(AdamW, 25, **settings)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs)


def test_one_step_is_the_paper_s_algorithm_by_hand() -> None:
    theta, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    mean, mean_square = 0.1 * gradient, 0.05 * gradient**2
    expected = theta - 0.01 * (mean / 0.1 / (np.sqrt(mean_square / 0.05) + 1e-6) + 0.1 * theta)
    parameter = nn.Parameter(torch.from_numpy(theta.copy()))
    parameter.grad = torch.from_numpy(gradient)
    with twins.use("readable"):
        AdamW([parameter], **SETTINGS).step()
    assert_close(parameter.detach(), torch.from_numpy(expected))


def test_groups_have_their_own_settings_and_a_closure_is_called() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdamW([{"params": [a], "lr": 0.5}, {"params": [b], "weight_decay": 0.0}], lr=0.0)

    def closure() -> float:
        a.grad, b.grad = torch.ones(2), torch.ones(2)
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert (a < 0.6).all()
    assert (b == 1).all()


def test_state_dict_goes_into_another_optimizer_and_the_steps_stay_equal() -> None:
    parameters = [nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
    first = AdamW(parameters[:1], **SETTINGS)
    parameters[0].grad = torch.randn(4, 3)
    first.step()
    parameters[1].data.copy_(parameters[0].data)
    second = AdamW(parameters[1:], **SETTINGS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for parameter, optimizer in zip(parameters, (first, second), strict=True):
        parameter.grad = torch.full((4, 3), 0.1)
        optimizer.step()
    assert torch.equal(parameters[0], parameters[1])


@pytest.mark.parametrize(
    "wrong",
    [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": -1.0}, {"weight_decay": float("nan")}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="AdamW needs"):
        AdamW([nn.Parameter(torch.ones(1))], **{**SETTINGS, **wrong})


@pytest.mark.parametrize("preset", ["gpt2", "llama-2-7b"])
@pytest.mark.parametrize("tied", [True, False])
def test_norms_biases_and_embeddings_do_not_decay(preset: str, tied: bool) -> None:
    small = {"vocab_size": 7, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 16, "tied_head": tied}
    config = models.configure(preset, small)
    model = models.spec_of(config).build(config)
    decaying, kept_whole = parameter_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decaying["weight_decay"], kept_whole["weight_decay"]) == (0.1, 0.0)
    assert {names[id(p)] for p in decaying["params"]} == {
        name for name, _ in model.named_parameters() if name.endswith("proj.weight") or name == "lm_head.weight"
    }
    assert len(decaying["params"]) + len(kept_whole["params"]) == len(names)


def test_the_state_can_be_written_as_safetensors(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer = AdamW([parameter])
    optimizer.step()
    safetensors.write(tmp_path / "state", optimizer.state[parameter])
    assert safetensors.read(tmp_path / "state").keys() == {"step", "mean", "mean_square"}

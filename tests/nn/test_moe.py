"""Groups of experts against their definition, one token at a time."""

import pytest
import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn.moe import GroupedExperts, GroupedMoE

CASES = {
    "v3": GroupedExperts(n=12, top_k=3, n_groups=4, top_k_groups=2, n_shared=2, scale=2.5),
    "v3 without groups": GroupedExperts(n=5, top_k=2),
    "v3 as they are": GroupedExperts(n=6, top_k=2, n_groups=3, top_k_groups=1, norm_top_k=False),
    "v2": GroupedExperts(scores="softmax", n=6, top_k=2, n_groups=3, top_k_groups=2, norm_top_k=False, scale=16.0),
    "v2 without groups": GroupedExperts(scores="softmax", n=5, top_k=3, norm_top_k=False),
}


def by_definition(moe: GroupedMoE, x: Tensor) -> Tensor:
    """One token: groups, then experts of these, by a sorted list."""
    config, scores = moe.config, moe.router.weight @ x
    affinity = scores.sigmoid() if config.scores == "sigmoid" else scores.softmax(-1)
    preference = affinity if moe.balance is None else affinity + moe.balance
    size = config.n // config.n_groups
    groups = [list(range(g * size, (g + 1) * size)) for g in range(config.n_groups)]

    def worth(group: list[int]) -> float:
        best = sorted((preference[e].item() for e in group), reverse=True)
        return sum(best[: 2 if config.scores == "sigmoid" else 1])

    open_groups = sorted(groups, key=worth, reverse=True)[: config.top_k_groups]
    chosen = sorted((e for group in open_groups for e in group), key=lambda e: -preference[e].item())[: config.top_k]
    total = sum(affinity[e] for e in chosen) if config.norm_top_k else 1.0
    out: Tensor = moe.shared(x)
    for e in chosen:
        out = out + config.scale * affinity[e] / total * moe.experts[e](x)
    return out


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_token_goes_through_the_best_experts_of_the_best_groups_and_the_shared_ones(case: str) -> None:
    moe = GroupedMoE(6, 4, CASES[case]).double()
    for parameter in moe.parameters():
        nn.init.normal_(parameter, std=0.7)
    x = torch.randn(2, 25, 6, dtype=torch.float64)
    expected = torch.stack([torch.stack([by_definition(moe, token) for token in row]) for row in x])
    torch.testing.assert_close(moe(x), expected)


def test_no_expert_is_preferred_at_first_and_training_leaves_that_to_others() -> None:
    moe = GroupedMoE(6, 4, CASES["v3"])
    assert moe.balance is not None
    assert not moe.balance.any()
    moe(torch.randn(3, 6)).sum().backward()
    assert moe.balance.grad is None
    assert moe.router.weight.grad is not None


def test_the_router_is_not_rounded_to_half_precision() -> None:
    moe, x = GroupedMoE(6, 4, CASES["v3"]).bfloat16(), torch.randn(200, 6).bfloat16()
    exact = GroupedMoE(6, 4, CASES["v3"])
    exact.load_state_dict(moe.state_dict())
    out = moe(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact(x.float()), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 6, "n_groups": 4}, "6 experts do not make 4 groups"),
        ({"n": 4, "n_groups": 4}, "4 experts do not make 4 groups, of two or more with sigmoids"),
        ({"n": 8, "top_k": 5, "n_groups": 2}, "experts.top_k is 5, but 1 groups have fewer"),
        ({"n_groups": 2, "top_k_groups": 3}, "experts.top_k_groups must be a whole number from 1 to 2, not 3"),
        ({"n_shared": 0}, "experts.n_shared must be a whole number from 1"),
        ({"scale": 0.0}, "experts.scale must be a positive number, not 0.0"),
        ({"scores": "tanh"}, 'experts.scores must be "sigmoid" or "softmax"'),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_groups_that_cannot_be_made_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GroupedExperts(**settings)  # type: ignore[arg-type]

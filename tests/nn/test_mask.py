"""Masks are rules over positions; each is compared with a table written out by hand."""

import torch
from torch import Tensor

from glassformer.nn import mask
from glassformer.nn.mask import Mask, Rule


def table(text: str) -> Tensor:
    """Rows of a picture: x where a query may look."""
    return torch.tensor([[mark == "x" for mark in row] for row in text.split()])


def test_a_causal_query_sees_itself_and_what_came_before() -> None:
    assert torch.equal(Mask.over(mask.Causal(), 4).allowed(), table("x... xx.. xxx. xxxx"))


def test_a_window_of_two_sees_itself_and_the_token_before() -> None:
    assert torch.equal(Mask.over(mask.Window(2), 4).allowed(), table("x... xx.. .xx. ..xx"))


def test_a_window_of_one_sees_itself_alone() -> None:
    assert torch.equal(Mask.over(mask.Window(1), 3).allowed(), table("x.. .x. ..x"))


def test_sinks_see_the_first_tokens_and_the_recent_ones() -> None:
    assert torch.equal(Mask.over(mask.Sinks(1, 2), 5).allowed(), table("x.... xx... xxx.. x.xx. x..xx"))


def test_everything_sees_everything_also_between_two_texts() -> None:
    assert torch.equal(Mask.between(mask.Everything(), 2, 3).allowed(), table("xxx xxx"))


def test_an_explicit_table_is_itself_in_any_tile() -> None:
    drawn = torch.rand(2, 3, 5, 7) > 0.5
    spelled = Mask.explicit(drawn)
    assert torch.equal(spelled.allowed(), drawn)
    assert torch.equal(spelled.allowed(slice(1, 4), slice(2, 7)), drawn[..., 1:4, 2:7])


def test_no_rule_allows_a_key_at_position_minus_one() -> None:
    rules: list[Rule] = [mask.Everything(), mask.Causal(), mask.Window(3), mask.Sinks(2, 2)]
    for rule in rules:
        over = Mask(rule=rule, queries=torch.tensor([-1, 0, 5]), keys=torch.tensor([-1, 0, -1, 5]))
        allowed = over.allowed()
        assert not allowed[:, [0, 2]].any()
        assert allowed[2, 3]


def test_a_rule_follows_the_positions_not_the_places() -> None:
    over = Mask(rule=mask.Causal(), queries=torch.tensor([2]), keys=torch.tensor([3, 0, 2, 1]))
    assert torch.equal(over.allowed(), table(".xxx"))


def test_rules_are_values_with_sizes_that_can_be_read() -> None:
    assert mask.Window(3) == mask.Window(3) != mask.Window(4)
    assert mask.Sinks(1, 2) == mask.Sinks(first=1, recent=2)
    assert mask.Window(3).n == 3
    assert len({mask.Causal(), mask.Causal(), mask.Everything(), mask.Window(3), mask.Sinks(1, 2)}) == 4
    drawn = torch.rand(2, 2) > 0.5
    explicit = mask.Explicit(drawn)
    assert explicit != mask.Explicit(drawn.clone())
    assert explicit != mask.Causal()


def test_rows_of_a_batch_may_have_their_own_positions() -> None:
    positions = torch.tensor([[-1, 0, 1], [0, 1, -1]])[:, None]
    allowed = Mask(rule=mask.Causal(), queries=positions, keys=positions).allowed()
    assert torch.equal(allowed, torch.stack([table("... .x. .xx"), table("x.. xx. ...")])[:, None])


def test_tiles_put_together_are_the_whole() -> None:
    over = Mask.over(mask.Sinks(2, 3), 9)
    rows = [torch.cat([over.allowed(slice(i, i + 4), slice(j, j + 4)) for j in (0, 4, 8)], -1) for i in (0, 4, 8)]
    assert torch.equal(torch.cat(rows, -2), over.allowed())

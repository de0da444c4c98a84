"""A decoder's state: the memory's keys and values are computed once, and rows can be selected."""

import pytest
import torch
from torch import Tensor, nn

from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.nn import kv_cache
from glassformer.nn.kv_cache import KVCache, Policy
from glassformer.nn.memory import DecoderState
from support.tolerances import ENLARGED, assert_close

SIZES = {"vocab_size": 13, "context_length": 16, "d_model": 12, "n_heads": 3}
POLICIES = [kv_cache.full(16), kv_cache.window(4), kv_cache.sinks(2, 3)]
VALID = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])


@pytest.fixture
def transformer() -> Transformer:
    config = TransformerConfig(**SIZES, d_ff=20, n_encoder_layers=2, n_decoder_layers=2)
    return random_weights(Transformer(config).eval()).requires_grad_(False)


@pytest.fixture
def llama() -> Llama:
    model = Llama(LlamaConfig(**SIZES, n_layers=2, d_ff=20)).eval()
    return random_weights(model).requires_grad_(False)


def random_weights(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.double()


def draw(*shape: int) -> Tensor:
    return torch.randint(13, shape)


def test_keys_and_values_of_the_memory_are_computed_once(transformer: Transformer) -> None:
    projections = [block.cross_attn.k_proj for block in transformer.decoder.blocks]
    lengths: list[int] = []
    for projection in projections:
        projection.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape[1]))
    state = transformer.begin(draw(2, 7), kv_cache.full(8))
    for _ in range(5):
        transformer(draw(2, 1), state)
    assert lengths == [7, 7]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("rows", [[2, 0, 1], [1, 1, 1], [0], [2, 2, 0, 1, 0, 1]], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_a_decoder_goes_on_with_the_selected_rows(
    transformer: Transformer, policy: Policy, rows: list[int], padded: bool
) -> None:
    source, tokens, later, chosen = draw(3, 5), draw(3, 3), draw(len(rows), 4), torch.tensor(rows)
    source_valid = VALID if padded else None
    state = transformer.begin(source, policy, source_valid)
    before = transformer(tokens, state)
    state.select(chosen)
    found = [transformer(later[:, t : t + 1], state) for t in range(4)]

    fresh = transformer.begin(source[chosen], policy, None if source_valid is None else source_valid[chosen])
    expected = [transformer(tokens[chosen], fresh), *(transformer(later[:, t : t + 1], fresh) for t in range(4))]
    assert_close(before[chosen], expected[0], ENLARGED)
    assert_close(torch.cat(found, 1), torch.cat(expected[1:], 1), ENLARGED)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("rows", [[1, 0], [1, 1, 0]], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_a_language_model_goes_on_with_the_selected_rows(
    llama: Llama, policy: Policy, rows: list[int], padded: bool
) -> None:
    tokens, later, chosen = draw(2, 3), draw(len(rows), 6), torch.tensor(rows)
    valid = torch.tensor([[True] * 3, [False, True, True]]) if padded else None
    state = llama.begin(None, policy)
    llama(tokens, state, valid)
    fresh = llama.begin(None, policy)
    llama(tokens[chosen], fresh, None if valid is None else valid[chosen])
    state.select(chosen)
    for t in range(6):
        assert_close(llama(later[:, t : t + 1], state), llama(later[:, t : t + 1], fresh), ENLARGED)


def test_rows_that_change_places_within_a_source_leave_its_memory_where_it_is(transformer: Transformer) -> None:
    state = transformer.begin(draw(2, 5), kv_cache.full(8))
    transformer(draw(2, 1), state)
    state.select(torch.tensor([0, 0, 1, 1]))
    places = [kept.data_ptr() for layer in state.memories for kept in layer.kept or ()]
    assert len(places) == 4
    state.select(torch.tensor([1, 0, 2, 2]))
    assert places == [kept.data_ptr() for layer in state.memories for kept in layer.kept or ()]
    state.select(torch.tensor([2, 3]))
    assert state.memory.shape[0] == 2


def test_rows_can_be_selected_before_anything_is_read() -> None:
    cache = KVCache(2, kv_cache.full(4))
    cache.select(torch.tensor([0, 0, 1]))
    assert cache.room == 4
    state = DecoderState(torch.randn(2, 3, 4), 1, kv_cache.full(4))
    state.select(torch.tensor([1]))
    assert (state.room, state.memory.shape[0]) == (4, 1)

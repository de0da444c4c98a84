"""Our drop-in against torch's own module: every argument, drawn at random, forward and backward."""

import copy
import random
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.nn.multihead import MultiheadAttention
from glassformer.twins import use
from support.counts import count

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def draw_arguments(choose: random.Random) -> dict[str, Any]:
    num_heads = choose.choice([1, 2, 3, 4])
    return {
        "embed_dim": num_heads * choose.choice([1, 2, 5, 8]),
        "num_heads": num_heads,
        "dropout": choose.choice([0.0, 0.3]),
        "bias": choose.random() < 0.7,
        "add_bias_kv": choose.random() < 0.3,
        "add_zero_attn": choose.random() < 0.3,
        "kdim": choose.choice([None, None, 7]),
        "vdim": choose.choice([None, None, 5]),
        "batch_first": choose.random() < 0.5,
        "dtype": choose.choice([torch.float32, torch.float64]),
    }


def draw_mask(choose: random.Random, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A mask in which every row of the last axis leaves the first key visible."""
    hidden = torch.rand(shape) < choose.choice([0.2, 0.7])
    hidden[..., 0] = False
    if kind == "bool":
        return hidden
    return torch.randn(shape, dtype=dtype).masked_fill(hidden, -torch.inf)


def draw_call(choose: random.Random, arguments: dict[str, Any]) -> tuple[list[Tensor], dict[str, Any]]:
    """Query, key and value, and the keywords of the call."""
    n, length, n_keys = choose.randint(1, 4), choose.randint(1, 7), choose.randint(1, 7)
    batched, dtype, embed_dim = choose.random() < 0.8, arguments["dtype"], arguments["embed_dim"]
    causal = choose.random() < 0.2
    features = (embed_dim, arguments["kdim"] or embed_dim, arguments["vdim"] or embed_dim)
    inputs = []
    for size, width in zip((length, n_keys, n_keys), features, strict=True):
        lead = (n, size) if arguments["batch_first"] else (size, n)
        inputs.append(torch.randn(*(lead if batched else (size,)), width, dtype=dtype, requires_grad=True))
    rows = n if batched else 1
    attn_kind, padding_kind = choose.choice(["none", "bool", "float"]), choose.choice(["none", "bool", "float"])
    keywords: dict[str, Any] = {
        "need_weights": choose.random() < 0.7,
        "average_attn_weights": choose.random() < 0.5,
        "key_padding_mask": None
        if padding_kind == "none"
        else draw_mask(choose, padding_kind, (n, n_keys) if batched else (n_keys,), dtype),
    }
    if causal and not (arguments["add_bias_kv"] or arguments["add_zero_attn"]):  # torch hides the added keys then
        keywords |= {"is_causal": True, "attn_mask": torch.ones(length, n_keys).triu(1).bool()}
    elif attn_kind != "none":
        shape = choose.choice([(length, n_keys), (rows * arguments["num_heads"], length, n_keys)])
        keywords["attn_mask"] = draw_mask(choose, attn_kind, shape, dtype)
    return inputs, keywords


def both(arguments: dict[str, Any]) -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    """Ours with torch's weights, loaded as a program would do it."""
    theirs = nn.MultiheadAttention(**arguments)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ours = MultiheadAttention(**arguments)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def results(
    attention: nn.Module, inputs: list[Tensor], keywords: dict[str, Any], steer: Tensor
) -> list[tuple[str, Tensor | None]]:
    """The outputs, the weights, and the gradients of everything that has one."""
    out, weights = attention(*inputs, **keywords)
    loss = (out * steer[: out.shape[-1]]).mean()
    if weights is not None:
        loss = loss + weights.square().mean()
    named = dict(attention.named_parameters())
    gradients = torch.autograd.grad(loss, [*inputs, *named.values()], allow_unused=True)
    return [("out", out), ("weights", weights), *zip(["query", "key", "value", *named], gradients, strict=True)]


@pytest.mark.parametrize("mode", ["readable", "fast"])
def test_outputs_weights_and_gradients_are_torchs(mode: Any) -> None:
    for seed in range(count("calls of MultiheadAttention")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        arguments = draw_arguments(choose)
        ours, theirs = both(arguments)
        inputs, keywords = draw_call(choose, arguments)
        if arguments["dropout"] or choose.random() < 0.3:
            ours.eval()
            theirs.eval()
        steer = torch.randn(64, dtype=arguments["dtype"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # masks of different types are deprecated there
            expected = results(theirs, inputs, keywords, steer)
        with use(mode):
            found = results(ours, inputs, keywords, steer)
        tolerance = TOLERANCE[arguments["dtype"]]
        for (name, mine), (same, wanted) in zip(found, expected, strict=True):
            where = f"seed {seed}: {name} of {arguments} {[k for k in keywords if keywords[k] is not None]}"
            assert name == same
            assert (mine is None) == (wanted is None), where
            if mine is not None and wanted is not None:
                assert mine.shape == wanted.shape, where
                scale = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
                assert torch.allclose(mine, wanted, rtol=0, atol=tolerance * scale), where


@torch.no_grad()
def test_without_gradients_torchs_fast_path_gives_the_same() -> None:
    ours, theirs = both({"embed_dim": 12, "num_heads": 3, "batch_first": True})
    ours.eval()
    theirs.eval()
    x = torch.randn(2, 5, 12)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    for keywords in ({}, {"key_padding_mask": padding}, {"attn_mask": torch.ones(5, 5).triu(1).bool()}):
        expected, expected_weights = theirs(x, x, x, **keywords)
        out, weights = ours(x, x, x, **keywords)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"kdim": 5}, {"vdim": 7}, {"bias": False}, {"add_bias_kv": True}])
def test_parameters_have_torchs_names_shapes_and_spread(changes: dict[str, Any]) -> None:
    ours, theirs = MultiheadAttention(256, 4, **changes), nn.MultiheadAttention(256, 4, **changes)
    mine, wanted = ours.state_dict(), theirs.state_dict()
    assert {name: tensor.shape for name, tensor in mine.items()} == {name: t.shape for name, t in wanted.items()}
    for name, tensor in mine.items():
        if tensor.numel() > 1000:
            assert float(tensor.std()) == pytest.approx(float(wanted[name].std()), rel=0.05)
            assert float(tensor.abs().max()) == pytest.approx(float(wanted[name].abs().max()), rel=0.05)
        elif "bias_" not in name:
            assert torch.equal(tensor, wanted[name])
    theirs.load_state_dict(mine)


def test_dropout_drops_weights_while_training_and_enlarges_the_others() -> None:
    ours, x = MultiheadAttention(8, 2, dropout=0.4), torch.randn(9, 3, 8)
    _, dropped = ours(x, x, x, average_attn_weights=False)
    _, whole = ours.eval()(x, x, x, average_attn_weights=False)
    kept = dropped != 0
    assert 0.3 < float((~kept).double().mean()) < 0.5
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.6)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_may_look_at_nothing_gets_weights_of_zero_and_finite_gradients(kind: str) -> None:
    ours, x = MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 3, 8, requires_grad=True)
    padding = torch.tensor([[False, False, True], [True, True, True]])
    given = padding if kind == "bool" else torch.zeros(2, 3).masked_fill(padding, -torch.inf)
    out, weights = ours(x, x, x, key_padding_mask=given)
    assert weights is not None
    assert torch.equal(weights[1], torch.zeros(3, 3))
    assert torch.equal(out[1], ours.out_proj.bias.expand(3, 8))
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert gradient.isfinite().all()


def test_a_float_mask_learns() -> None:
    ours, theirs = both({"embed_dim": 8, "num_heads": 2, "dtype": torch.float64})
    x, bias = torch.randn(4, 2, 8, dtype=torch.float64), torch.randn(4, 4, 4, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(theirs(x, x, x, attn_mask=bias)[0].square().sum(), bias)
    (found,) = torch.autograd.grad(ours(x, x, x, attn_mask=bias)[0].square().sum(), bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"embed_dim": 0}, "must be greater than 0"),
        ({"num_heads": -1}, "must be greater than 0"),
        ({"num_heads": 5}, "embed_dim 8 must be divisible by num_heads 5"),
        ({"dropout": 1.5}, "dropout must be a probability"),
    ],
)
def test_what_torchs_constructor_refuses_is_refused_here(wrong: dict[str, Any], says: str) -> None:
    arguments = {"embed_dim": 8, "num_heads": 2} | wrong
    with pytest.raises(ConfigError, match=says):
        MultiheadAttention(**arguments)


X = torch.zeros(4, 2, 8)  # L N E


@pytest.mark.parametrize(
    ("inputs", "keywords", "says"),
    [
        ((X[None], X[None], X[None]), {}, "query must have 2 axes, or 3"),
        ((X[..., :7], X, X), {}, "query has 7 features; this attention was built for 8"),
        ((X, X[:, :1], X[:, :1]), {}, "key has 1 rows, but query has 2"),
        ((X, X, X[:3]), {}, "There are 4 keys but 3 values"),
        ((X, X, X), {"is_causal": True}, "is_causal is a hint about attn_mask"),
        ((X, X, X), {"attn_mask": torch.zeros(4, 5)}, r"attn_mask must be \(4, 4\) or \(4, 4, 4\), not \(4, 5\)"),
        ((X, X, X), {"attn_mask": torch.zeros(4, 4, dtype=torch.long)}, "attn_mask must hold bool or floating point"),
        ((X, X, X), {"key_padding_mask": torch.zeros(4, 2).bool()}, r"key_padding_mask must be \(2, 4\), not \(4, 2\)"),
        ((X[:, 0], X[:, 0], X[:, 0]), {"key_padding_mask": torch.zeros(1, 4).bool()}, r"must be \(4,\), not \(1, 4\)"),
        ((X[:, 0], X, X), {}, "must all have an axis for the batch, or none"),
        ((X[:, 0], X[:, :1], X[:, :1]), {}, "must all have an axis for the batch, or none"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_torchs_forward_refuses_is_refused_here(inputs: Any, keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MultiheadAttention(8, 2)(*inputs, **keywords)
    with pytest.raises((AssertionError, RuntimeError)):
        nn.MultiheadAttention(8, 2)(*inputs, **keywords)


def with_ours(layers: nn.Module, **changes: Any) -> nn.Module:
    """The same layers with our module wherever torch's was."""
    for name, child in list(layers.named_children()):
        if isinstance(child, nn.MultiheadAttention):
            ours = MultiheadAttention(child.embed_dim, child.num_heads, batch_first=child.batch_first, **changes)
            ours.load_state_dict(child.state_dict())
            setattr(layers, name, ours.train(child.training))
        else:
            with_ours(child, **changes)
    return layers


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_torchs_own_layers_take_it_as_their_attention(training: bool, batch_first: bool, norm_first: bool) -> None:
    """With gradients and without: in eval mode these layers have a fast path, which reads attributes of attention."""
    settings = {"dropout": 0.0, "batch_first": batch_first, "norm_first": norm_first}
    layer = nn.TransformerEncoderLayer(8, 2, 16, **settings)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, **settings), 2)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(3, 5, 8)
    padding = torch.tensor([[False, False, False, True, True]] * (3 if batch_first else 5))[
        :, : 5 if batch_first else 3
    ]
    causal = torch.ones((5, 5) if batch_first else (3, 3)).triu(1).bool()
    heads = causal.expand(6 if batch_first else 10, *causal.shape)
    calls: list[tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor]]] = [
        (layer, (x,), {}),
        (layer, (x,), {"src_mask": causal}),
        (layer, (x,), {"src_mask": heads, "src_key_padding_mask": padding}),
        (encoder, (x,), {"src_key_padding_mask": padding}),
        (decoder, (x, x), {}),
    ]
    for module, inputs, keywords in calls:
        module.train(training)
        expected = module(*inputs, **keywords)
        ours = with_ours(copy.deepcopy(module))
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                torch.testing.assert_close(ours(*inputs, **keywords), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_an_encoder_that_would_nest_its_tensors_takes_it_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = with_ours(nn.TransformerEncoder(layer, 2).eval())
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        out = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(out[~padding], encoder(x, src_key_padding_mask=padding)[~padding], rtol=0, atol=1e-5)


def test_torchs_layers_do_not_pass_over_what_their_kernel_cannot_do() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = torch.randn(2, 5, 8)
    ours = with_ours(copy.deepcopy(layer), add_zero_attn=True)
    with torch.no_grad():
        out = ours(x)
    torch.testing.assert_close(out, ours(x), rtol=0, atol=1e-5)
    assert not torch.allclose(out, layer(x), atol=1e-3)

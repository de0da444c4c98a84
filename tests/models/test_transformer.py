"""The Transformer against torch's, its laws, and its configuration in Marian's format."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.transformer import PUBLISHED
from glassformer.models.spec import ReadsTexts, State
from glassformer.models.transformer import (
    PRESETS,
    SPEC,
    Transformer,
    TransformerConfig,
)
from glassformer.nn.kv_cache import full, sinks
from glassformer.tracing.check import check
from glassformer.tracing.recorder import record
from glassformer.twins import use
from support.counts import count
from support.tolerances import assert_close

PARAMETERS = {
    "transformer-base": 63_082_496,  # 65 million in the paper's table 3
    "transformer-big": 214_245_376,  # 213 million there
    "transformer-small": 8_090_624,
    "opus-mt": 73_944_309,  # 74.5 million with the tables of positions that its files have,
}
SIZES: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 16,
    "d_model": 12,
    "n_encoder_layers": 2,
    "n_decoder_layers": 3,
    "n_heads": 3,
    "d_ff": 20,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "pre-norm": {"norm_placement": "pre", "activation": "gelu"},
    "marian's": {
        "activation": "silu",
        "head_bias": True,
        "position_layout": "halves",
        "scaled_embedding": False,
        "source_vocab_size": 17,
    },
    "fairseq's": {
        "norm_placement": "pre",
        "position_layout": "tensor2tensor",
        "first_position": 2,
        "source_vocab_size": 17,
        "tied_head": False,
    },
}
SOURCE_VALID = torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [False] * 2 + [True] * 4])


@pytest.fixture(params=VARIANTS)
def transformer(request: pytest.FixtureRequest) -> Transformer:
    model = Transformer(TransformerConfig(**SIZES | VARIANTS[request.param])).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=parameter.mean().round().item(), std=0.4)
    return model.requires_grad_(False)


def draw(*shape: int) -> Tensor:
    return torch.randint(13, shape)


def read(model: Transformer, source: Tensor, tokens: Tensor, source_valid: Tensor | None = None) -> Tensor:
    """The logits of a whole text."""
    return model(tokens, model.begin(source, full(tokens.shape[-1]), source_valid))


# Sizes


def test_there_are_no_other_presets() -> None:
    assert set(PRESETS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = Transformer(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_embeddings_are_shared_as_the_configuration_says() -> None:
    one = Transformer(TransformerConfig(**SIZES))
    assert one.source_embedding is one.token_embedding
    assert one.lm_head.weight is one.token_embedding.weight
    two = Transformer(TransformerConfig(**SIZES, source_vocab_size=17, tied_head=False))
    assert len({id(part.weight) for part in (two.source_embedding, two.token_embedding, two.lm_head)}) == 3
    assert two.source_embedding.weight.shape == (17, 12)


def test_scaled_embeddings_start_with_unit_variance() -> None:
    config = TransformerConfig(vocab_size=500, d_model=64, n_heads=4, dropout=0.0)
    embedded = SPEC.build(config).token_embedding.weight * 8
    assert 0.97 < embedded.std() < 1.03


# The whole against torch's


@pytest.mark.parametrize("norm_placement", ["post", "pre"])
def test_the_model_is_torchs_transformer_over_embeddings_with_sinusoids(norm_placement: str) -> None:
    ours = Transformer(TransformerConfig(**SIZES, norm_placement=norm_placement, dropout=0.0)).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.4)
    pre = norm_placement == "pre"
    settings: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": pre, "dtype": torch.float64}
    norms = [nn.LayerNorm(12, dtype=torch.float64) if pre else None for _ in range(2)]
    encoder_layer, decoder_layer = (
        layer(12, 3, 20, **settings) for layer in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    )
    theirs = nn.Transformer(
        12,
        3,
        custom_encoder=nn.TransformerEncoder(encoder_layer, 2, norms[0], enable_nested_tensor=False),
        custom_decoder=nn.TransformerDecoder(decoder_layer, 3, norms[1]),
        batch_first=True,
    )
    theirs.load_state_dict(torchs_weights(ours))
    source, tokens = draw(3, 6), draw(3, 5)

    def embedded(tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        angles = np.arange(length)[:, None] / 10_000 ** (2 * np.arange(6) / 12)
        table = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, 12)
        return ours.token_embedding.weight[tokens] * math.sqrt(12) + torch.from_numpy(table).float()

    hidden = ~torch.ones(5, 5, dtype=torch.bool).tril()
    valid = torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [True] * 5 + [False]])
    padding = {"src_key_padding_mask": ~valid, "memory_key_padding_mask": ~valid}
    out = theirs(embedded(source), embedded(tokens), tgt_mask=hidden, **padding)
    assert_close(read(ours, source, tokens, valid), out @ ours.token_embedding.weight.T)


def torchs_weights(ours: Transformer) -> dict[str, Tensor]:
    """Our parameters under the names of `torch.nn.Transformer`."""
    weights: dict[str, Tensor] = {}
    for side, part in {"encoder": ours.encoder, "decoder": ours.decoder}.items():
        for i, block in enumerate(part.blocks):
            attns = {"self_attn": block.attn}
            norms = [block.attn_norm, block.mlp_norm]
            if side == "decoder":
                attns["multihead_attn"] = block.cross_attn
                norms.insert(1, block.cross_norm)
            modules = {"linear1": block.mlp.up_proj, "linear2": block.mlp.down_proj}
            modules |= {f"norm{number}": norm for number, norm in enumerate(norms, start=1)}
            modules |= {f"{name}.out_proj": attn.o_proj for name, attn in attns.items()}
            for kind in ("weight", "bias"):
                for name, module in modules.items():
                    weights[f"{side}.layers.{i}.{name}.{kind}"] = getattr(module, kind)
                for name, attn in attns.items():
                    qkv = [getattr(projection, kind) for projection in (attn.q_proj, attn.k_proj, attn.v_proj)]
                    weights[f"{side}.layers.{i}.{name}.in_proj_{kind}"] = torch.cat(qkv)
        weights |= {f"{side}.norm.{name}": parameter for name, parameter in part.final_norm.named_parameters()}
    return weights


# Laws


def test_it_can_be_decoded_and_searched(transformer: Transformer) -> None:
    assert isinstance(transformer, ReadsTexts)
    assert isinstance(transformer.begin(draw(1, 3), full(4)), State)


def test_later_target_tokens_never_change_earlier_logits(transformer: Transformer) -> None:
    source, tokens = draw(2, 6), draw(2, 9)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 13
    before, after = read(transformer, source, tokens), read(transformer, source, changed)
    assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()


def test_every_logit_depends_on_every_source_token_and_on_earlier_target_tokens(transformer: Transformer) -> None:
    source, tokens = draw(1, 6), draw(1, 5)
    before = read(transformer, source, tokens)
    for place in range(6):
        changed = source.clone()
        changed[:, place] = (changed[:, place] + 1) % 13
        assert (read(transformer, changed, tokens) - before).abs().amax(-1).min() > 1e-8
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 13
    assert (read(transformer, source, changed) - before).abs().amax(-1).min() > 1e-8


def test_a_target_read_in_pieces_has_the_logits_of_the_whole(transformer: Transformer) -> None:
    source, tokens = draw(3, 6), draw(3, 9)
    whole = read(transformer, source, tokens, SOURCE_VALID)
    for cuts in ([1] * 9, [4, 1, 1, 3], [2, 7]):
        state = transformer.begin(source, full(9), SOURCE_VALID)
        pieces = [transformer(piece, state) for piece in tokens.split(cuts, dim=1)]
        assert_close(torch.cat(pieces, 1), whole)


def test_padding_of_the_source_leaves_the_logits_as_they_are(transformer: Transformer) -> None:
    source, tokens = draw(3, 6), draw(3, 5)
    logits = read(transformer, source, tokens, SOURCE_VALID)
    for row in range(3):
        alone = read(transformer, source[row][SOURCE_VALID[row]][None], tokens[row : row + 1])
        assert_close(logits[row], alone[0])
    other = source.where(SOURCE_VALID, (source + 1) % 13)
    assert torch.equal(read(transformer, other, tokens, SOURCE_VALID), logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_target_leaves_the_logits_of_the_text_as_they_are(transformer: Transformer, side: str) -> None:
    source, tokens = draw(3, 6), draw(3, 8)
    valid = torch.arange(8) < torch.tensor([8, 5, 3])[:, None]
    valid = valid if side == "right" else valid.flip(1)
    logits = transformer(tokens, transformer.begin(source, full(8)), valid)
    for row in range(3):
        alone = read(transformer, source[row : row + 1], tokens[row][valid[row]][None])
        assert_close(logits[row][valid[row]], alone[0])


def test_rows_of_a_batch_do_not_see_each_other(transformer: Transformer) -> None:
    source, tokens, order = draw(4, 6), draw(4, 5), torch.tensor([2, 0, 3, 1])
    logits = read(transformer, source, tokens)
    assert_close(read(transformer, source[order], tokens[order]), logits[order])


def test_readable_and_fast_give_the_same_logits_and_gradients(transformer: Transformer) -> None:
    transformer.requires_grad_(True)
    source, tokens = draw(3, 6), draw(3, 5)
    results: list[list[Tensor]] = []
    for mode, attention in (("readable", "auto"), ("fast", "auto"), ("fast", "tiled")):
        with use(mode, attention=attention):
            logits = read(transformer, source, tokens, SOURCE_VALID)
        results.append([logits, *torch.autograd.grad(logits.square().mean(), list(transformer.parameters()))])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_close(one, two)
    assert all(gradient.abs().max() > 0 for gradient in results[0])


def test_a_window_over_the_target_goes_on_beyond_it(transformer: Transformer) -> None:
    state = transformer.begin(draw(2, 5), sinks(1, 3))
    for _ in range(12):
        assert transformer(draw(2, 1), state).isfinite().all()
    assert state.room == 1


def test_dropout_acts_while_training_alone() -> None:
    model, source, tokens = Transformer(TransformerConfig(**SIZES, dropout=0.5)), draw(1, 6), draw(1, 5)
    assert not torch.equal(read(model, source, tokens), read(model, source, tokens))
    model.eval()
    assert torch.equal(read(model, source, tokens), read(model, source, tokens))


class Whole(nn.Module):
    """Source and target to logits in one pass, so that the encoder is recorded too."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        return read(self.model, source, tokens)


def test_every_number_of_a_pass_has_its_name_and_its_explanation() -> None:
    model = Transformer(TransformerConfig(**SIZES | VARIANTS["fairseq's"])).eval()
    with use("readable", attention="naive"):
        trace = record(Whole(model), draw(1, 4), draw(1, 3))
    assert check(trace, cells=count("cells of a model")).failures == []
    names = {tensor.name for tensor in trace.tensors}
    attention = {f"cross_attn.{name}" for name in ("q", "k", "v", "scores", "weights", "out")}
    assert {f"model.decoder.blocks.1.{name}" for name in attention} <= names


# Configurations


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_has_one_name_in_marians_format(name: str) -> None:
    config = TransformerConfig(**SIZES | VARIANTS[name])
    with torch.device("meta"):
        model = Transformer(config)
    named = [name for _, ours, _ in PUBLISHED.renames(config) for name in ours]
    assert len(named) == len(set(named))
    assert set(named) == {parameter for parameter, _ in model.named_parameters()}


MARIANS = [
    PRESETS["opus-mt"],
    TransformerConfig(**SIZES | VARIANTS["marian's"]),
    TransformerConfig(**SIZES | VARIANTS["marian's"], tied_head=False, start_id=4, eos_id=3, pad_id=0, dropout=0.0),
    TransformerConfig(**SIZES, head_bias=True, position_layout="halves", activation="gelu_tanh"),
]


@pytest.mark.parametrize("config", MARIANS, ids=str)
def test_from_huggingface_undoes_to_huggingface(config: TransformerConfig) -> None:
    written = PUBLISHED.to_huggingface(config)
    assert written["model_type"] == PUBLISHED.model_types[0]
    assert PUBLISHED.from_huggingface(written) == config


def test_the_config_json_of_opus_mt_en_de_is_its_preset() -> None:
    theirs = {
        "activation_function": "swish",
        "d_model": 512,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
        "dropout": 0.1,
        "max_position_embeddings": 512,
        "vocab_size": 58101,
        "scale_embedding": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "static_position_embeddings": True,
        "decoder_start_token_id": 58100,
        "pad_token_id": 58100,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    assert PUBLISHED.from_huggingface(theirs) == PRESETS["opus-mt"]


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_placement": "pre"},
        {"norm_eps": 1e-6},
        {"position_layout": "tensor2tensor"},
        {"first_position": 2},
        {"tied_head": False, "source_vocab_size": None},
    ],
    ids=str,
)
def test_what_marians_format_cannot_express_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="Marian cannot express"):
        PUBLISHED.to_huggingface(TransformerConfig(**SIZES | VARIANTS["marian's"] | changes))


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"normalize_before": True}, "normalize_before"),
        ({"normalize_embedding": True}, "normalize_embedding"),
        ({"add_final_layer_norm": True}, "add_final_layer_norm"),
        ({"static_position_embeddings": False}, "static_position_embeddings"),
        ({"encoder_attention_heads": 8}, "encoder_attention_heads and decoder_attention_heads"),
        ({"decoder_ffn_dim": 8}, "encoder_ffn_dim and decoder_ffn_dim"),
        ({"tie_word_embeddings": False}, "share_encoder_decoder_embeddings without tie_word_embeddings"),
        ({"share_encoder_decoder_embeddings": 1}, "share_encoder_decoder_embeddings must be true or false"),
        ({"activation_function": "tanh"}, "activation_function 'tanh'"),
        ({"eos_token_id": [0, 2]}, "eos_id"),
        ({"pad_token_id": None}, "pad_id"),
    ],
    ids=str,
)
def test_a_published_variant_that_we_do_not_have_is_refused_by_name(theirs: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PUBLISHED.from_huggingface(theirs)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"source_vocab_size": 0}, "source_vocab_size must be a whole number"),
        ({"n_decoder_layers": 0}, "n_decoder_layers must be a whole number"),
        ({"n_heads": 5}, "d_model 512 does not divide into 5 heads"),
        ({"activation": "swish"}, "activation must be one of gelu, gelu_tanh, relu, silu"),
        ({"norm_placement": "none"}, "norm_placement must be one of post, pre"),
        ({"position_layout": "learned"}, "position_layout must be one of interleaved"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"head_bias": 2}, "head_bias must be one of True, False"),
        ({"eos_id": 37000}, "eos_id must be a whole number from 0 to 36999"),
        ({"pad_id": 9, "source_vocab_size": 9}, "pad_id must be a whole number from 0 to 8"),
        ({"start_id": True}, "start_id must be a whole number"),
        (
            {"start_id": 200, "vocab_size": 200, "source_vocab_size": 300},
            "start_id must be a whole number from 0 to 1",
        ),
        ({"first_position": -1}, "first_position must be a whole number"),
        ({"position_layout": "tensor2tensor", "d_model": 9, "n_heads": 3}, "needs an even d_model"),
        ({"position_layout": "tensor2tensor", "d_model": 2, "n_heads": 1}, "needs an even d_model"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TransformerConfig(**wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(PUBLISHED.settings)), JSON, max_size=3))
@pytest.mark.usefixtures("unchecked")
def test_any_config_json_is_a_configuration_or_a_config_error(wrong: dict[str, Any]) -> None:
    try:
        config = PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(MARIANS[1]) | wrong)
    except ConfigError:
        return
    assert (config.source_vocab_size is None) == (wrong.get("share_encoder_decoder_embeddings") is True)
    assert PUBLISHED.from_huggingface(PUBLISHED.to_huggingface(config)) == config


def test_the_token_before_a_target_is_one_of_the_target_vocabulary() -> None:
    sizes = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_encoder_layers": 1, "n_decoder_layers": 1}
    config = TransformerConfig(vocab_size=20, source_vocab_size=10, start_id=19, eos_id=0, pad_id=1, **sizes)
    assert read(Transformer(config), torch.tensor([[2, 3]]), torch.tensor([[19]])).shape == (1, 1, 20)

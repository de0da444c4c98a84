"""The modern decoder carries what other families have: their weights, moved by a table, give their logits in float64.

No family is registered by these tables; they show that one needs a page and nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import torch

from glassformer.models.decoder import Decoder, DecoderConfig
from glassformer.models.published.decoder import (
    FIELDS,
    INDICES,
    OURS,
    THEIRS,
    attention,
    decoder_tensors,
    gated,
    norms,
    trunk,
)
from glassformer.models.published.fields import FieldGroup, TheirConstant
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, joined, same
from glassformer.nn.kv_cache import parse_policy
from glassformer.nn.moe import Experts

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5  # transformers computes norms and angles in float32 whatever the weights are
SIZES: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
    "experts_implementation": "eager",  # the other has no float64
}
SHARED = tuple(row for row in FIELDS if not isinstance(row, TheirConstant))


class FamilyConfig(DecoderConfig):
    """A family of this test's own."""

    architecture: ClassVar[str] = "a family"


def fused(config: DecoderConfig) -> list[Rename]:
    """Phi-3's: queries, keys and values in one matrix, with fewer rows of keys and values; gate and up likewise."""
    attn, kv = f"{OURS}attn.", config.n_kv_heads * config.d_head
    qkv = [f"{attn}{name}_proj.weight" for name in "qkv"]
    return [
        *trunk(config),
        *norms(),
        joined(qkv, f"{THEIRS}self_attn.qkv_proj.weight", rows=(config.n_heads * config.d_head, kv, kv)),
        same(f"{attn}o_proj.weight", f"{THEIRS}self_attn.o_proj.weight"),
        joined([f"{OURS}mlp.{name}_proj.weight" for name in ("gate", "up")], f"{THEIRS}mlp.gate_up_proj.weight"),
        *gated("down"),
    ]


def mixture(config: DecoderConfig) -> list[Rename]:
    """Mixtral's, as its published files have them: each expert's matrices by themselves."""
    ours, theirs = f"{OURS}mlp.", f"{THEIRS}block_sparse_moe."
    names = {"gate": "w1", "down": "w2", "up": "w3"}
    return [
        *trunk(config),
        *norms(),
        *attention(config, turned=False),
        same(f"{ours}router.weight", f"{theirs}gate.weight"),
        *(
            same(f"{ours}experts.{{e}}.{name}_proj.weight", f"{theirs}experts.{{e}}.{w}.weight")
            for name, w in names.items()
        ),
    ]


def its_own(name: str, value: Any) -> FieldGroup:
    """A field that this family has in all its models."""
    return FieldGroup(theirs=(), ours=(name,), read=lambda theirs: {name: value}, write=lambda ours: {})


FAMILIES: dict[str, tuple[dict[str, Any], tuple[FieldGroup, ...], Callable[[Any], Sequence[Rename]]]] = {
    "Qwen2": ({}, (its_own("qkv_bias", True),), decoder_tensors),
    "Qwen3": ({"head_dim": 8}, (its_own("qk_norm", True),), decoder_tensors),
    "Mistral": ({"sliding_window": 5}, (its_own("sliding_windows", (5,)),), decoder_tensors),
    "Phi3": ({}, (), fused),
    "Mixtral": ({"num_local_experts": 4}, (its_own("experts", Experts(n=4, top_k=2)),), mixture),
}


def published_weights(theirs: Any) -> dict[str, torch.Tensor]:
    """Their weights under the names of published files, where experts stand one by one."""
    state = {}
    for name, weight in theirs.state_dict().items():
        if name.endswith("mlp.experts.gate_up_proj"):
            base = name.replace("mlp.experts.gate_up_proj", "block_sparse_moe.experts")
            for e, both in enumerate(weight):
                state[f"{base}.{e}.w1.weight"], state[f"{base}.{e}.w3.weight"] = both.chunk(2)
        elif name.endswith("mlp.experts.down_proj"):
            base = name.replace("mlp.experts.down_proj", "block_sparse_moe.experts")
            state |= {f"{base}.{e}.w2.weight": down for e, down in enumerate(weight)}
        elif name.endswith("mlp.gate.weight"):
            state[name.replace("mlp.gate", "block_sparse_moe.gate")] = weight
        else:
            state[name] = weight
    return state


def pair(family: str) -> tuple[Any, Decoder]:
    """A random model of `transformers`, and ours with its weights."""
    settings, rows, tensors = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **settings)
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).double().eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3)
    table = Published(
        config=FamilyConfig,
        name=family,
        model_types=(config.model_type,),
        fields=(*SHARED, *rows),
        tensors=tensors,
        indices=INDICES,
    )
    ours = Decoder(table.from_huggingface(config.to_dict())).double().eval()
    state = published_weights(theirs)
    renames = list(table.renames(ours.config))
    assert {name for name, _, _ in renames} == state.keys() - table.tied.keys()
    weights = {
        one: part for name, names, rename in renames for one, part in zip(names, rename.read(state[name]), strict=True)
    }
    ours.load_state_dict(weights)
    back = {name: rename.write([weights[one] for one in names]) for name, names, rename in renames}
    assert all(torch.equal(back[name], state[name]) for name in state)
    return theirs, ours


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_family_is_the_decoder_with_its_table(family: str) -> None:
    theirs, ours = pair(family)
    tokens = torch.randint(3, 13, (2, 11))
    expected = theirs(tokens, attention_mask=torch.ones_like(tokens)).logits
    torch.testing.assert_close(ours(tokens), expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_family_reads_a_text_in_parts_as_it_does_whole(family: str) -> None:
    _, ours = pair(family)
    tokens = torch.randint(3, 13, (2, 11))
    state = ours.begin(None, parse_policy("full", 32))
    parts = [ours(tokens[:, :5], state), *(ours(tokens[:, t : t + 1], state) for t in range(5, 11))]
    torch.testing.assert_close(torch.cat(parts, 1), ours(tokens), atol=1e-10, rtol=1e-10)

"""Tensors under published names: all are read, none is missing, and the message says which."""

import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING

import glassformer as gf
from glassformer.checkpoints.build import build, copied
from glassformer.checkpoints.names import to_ours, to_theirs
from glassformer.errors import CheckpointCorrupt, CheckpointMismatch, ConfigError
from glassformer.models import spec_of
from glassformer.models.cs336 import CS336Config
from glassformer.models.gpt2 import GPT2Config
from glassformer.models.llama import LlamaConfig
from glassformer.models.published.table import Published
from support.tiny import TINY

UNTIED = GPT2Config(vocab_size=5, context_length=8, d_model=4, n_layers=2, n_heads=2, tied_head=False)
TIED = replace(UNTIED, tied_head=True)
ROTARY = LlamaConfig(
    vocab_size=5, context_length=8, d_model=12, n_layers=1, n_heads=2, d_ff=7, rope_style="interleaved"
)
COURSE = CS336Config(vocab_size=5, context_length=8, d_model=12, n_layers=1, n_heads=2, d_ff=7)
CONFIGS = [
    UNTIED,
    TIED,
    ROTARY,
    COURSE,
    replace(COURSE, norm_placement="none", ffn="silu"),
    replace(COURSE, position="none"),
]


def ours(config: GPT2Config | LlamaConfig | CS336Config) -> dict[str, Tensor]:
    return dict(spec_of(config).build(config).named_parameters())


def table(config: GPT2Config | LlamaConfig | CS336Config) -> Published:
    published = spec_of(config).published
    assert published is not None
    return published


def theirs(config: GPT2Config | LlamaConfig | CS336Config) -> dict[str, Tensor]:
    return to_theirs(ours(config), config)


class Counted(Mapping[str, Tensor]):
    """Tensors that are made when asked for, with the most bytes of them that were alive at once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name].clone()
        self.alive.add(tensor)
        self.most = max(self.most, sum(one.nbytes for one in self.alive))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_copying_holds_one_tensor_of_the_file_at_a_time_and_the_largest_first() -> None:
    state = Counted(theirs(UNTIED))
    weights = copied(UNTIED, to_ours(state, UNTIED), None)
    assert state.most == max(tensor.nbytes for tensor in state.tensors.values())
    sizes = [weight.numel() for name, weight in weights.items() if "_proj" not in name]  # those are cut from one
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_there_and_back_again_is_where_we_were(config: GPT2Config | LlamaConfig | CS336Config) -> None:
    before = ours(config)
    after = copied(config, to_ours(to_theirs(before, config), config), None)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(before[name].data_ptr() != after[name].data_ptr() for name in before)


def test_a_missing_tensor_is_named_with_the_nearest_that_is_there() -> None:
    state = theirs(UNTIED)
    state["transformer.h.1.mlp.c_fc.wieght"] = state.pop("transformer.h.1.mlp.c_fc.weight")
    with pytest.raises(CheckpointMismatch, match=r"1\.mlp\.c_fc\.weight is missing.*nearest.*1\.mlp\.c_fc\.wieght"):
        to_ours(state, UNTIED)


def test_an_unread_tensor_is_named() -> None:
    with pytest.raises(CheckpointMismatch, match=r"'transformer\.h\.2\.ln_1\.weight' has no place.*ln_1\.weight"):
        to_ours({**theirs(UNTIED), "transformer.h.2.ln_1.weight": torch.ones(4)}, UNTIED)


def test_a_wrong_shape_is_named_with_both_shapes() -> None:
    with pytest.raises(CheckpointMismatch, match=r"wpe\.weight is \(9, 4\), but .* \(8, 4\)"):
        to_ours({**theirs(UNTIED), "transformer.wpe.weight": torch.ones(9, 4)}, UNTIED)


def test_integers_are_no_weights() -> None:
    with pytest.raises(CheckpointMismatch, match=r"int8"):
        to_ours({**theirs(UNTIED), "transformer.wpe.weight": torch.ones(8, 4, dtype=torch.int8)}, UNTIED)


def test_masks_and_tables_are_left_out() -> None:
    mask, table = (
        {"transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8)},
        {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)},
    )
    assert to_ours({**theirs(UNTIED), **mask}, UNTIED).keys() == ours(UNTIED).keys()
    assert to_ours({**theirs(ROTARY), **table}, ROTARY).keys() == ours(ROTARY).keys()


@pytest.mark.parametrize("config", [TIED, replace(ROTARY, tied_head=True)], ids=str)
def test_a_tied_head_may_be_repeated_but_not_differ(config: GPT2Config | LlamaConfig | CS336Config) -> None:
    state = theirs(config)
    embedding = state[table(config).tied["lm_head.weight"]]
    assert to_ours({**state, "lm_head.weight": embedding.clone()}, config).keys() == ours(config).keys()
    with pytest.raises(CheckpointMismatch, match=r"lm_head\.weight differs from"):
        to_ours({**state, "lm_head.weight": embedding + 1e-6}, config)


@pytest.mark.parametrize("config", [TIED, UNTIED, ROTARY], ids=str)
def test_the_bare_trunk_leaves_the_prefix_out(config: GPT2Config | LlamaConfig | CS336Config) -> None:
    prefix = table(config).base_prefix
    state = {name.removeprefix(prefix): tensor for name, tensor in theirs(config).items()}
    assert to_ours(state, config).keys() == ours(config).keys()


def test_weights_take_the_dtype_that_is_asked_for() -> None:
    state = {name: tensor.bfloat16() for name, tensor in theirs(UNTIED).items()}
    assert {tensor.dtype for tensor in copied(UNTIED, to_ours(state, UNTIED), torch.float32).values()} == {
        torch.float32
    }
    assert {tensor.dtype for tensor in copied(UNTIED, to_ours(state, UNTIED), None).values()} == {torch.bfloat16}


@pytest.mark.parametrize("n_layers", [3, 10_000])
def test_more_layers_than_the_file_has_cost_neither_time_nor_memory(n_layers: int) -> None:
    with pytest.raises(CheckpointMismatch, match=r"h\.2\..* is missing"):
        to_ours(theirs(UNTIED), replace(UNTIED, n_layers=n_layers))


def test_sizes_beyond_all_memory_are_refused() -> None:
    huge = 2**31 - 1
    with pytest.raises(ConfigError, match="no memory"):
        to_ours(theirs(UNTIED), replace(UNTIED, vocab_size=huge, d_ff=huge, d_model=huge - 1))
    with pytest.raises(CheckpointMismatch, match=r"wte\.weight is \(5, 4\), but .* \(2147483647, 4\)"):
        to_ours(theirs(UNTIED), replace(UNTIED, vocab_size=huge))


@pytest.mark.parametrize("config", [TIED, UNTIED, ROTARY], ids=str)
def test_a_model_is_assembled_from_the_very_tensors(config: GPT2Config | LlamaConfig | CS336Config) -> None:
    weights = {name: tensor.detach() for name, tensor in ours(config).items()}
    model = build(config, weights)
    assert not model.training
    assert all(parameter.data_ptr() == weights[name].data_ptr() for name, parameter in model.named_parameters())
    assert (model.lm_head.weight is model.token_embedding.weight) == config.tied_head


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    weights = {name: tensor.detach().clone() for name, tensor in ours(UNTIED).items()}
    weights["blocks.1.mlp.up_proj.bias"][3] = value
    with pytest.raises(CheckpointCorrupt, match=r"blocks\.1\.mlp\.up_proj\.bias"):
        build(UNTIED, weights)


@pytest.mark.parametrize("name", ["nano-sort", "llama"])
def test_loading_waits_for_none_of_torchs_large_imports(tmp_path: Path, name: str) -> None:
    if name == "llama":
        gf.save(
            gf.build("llama", vocab_size=8, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=8), tmp_path / name
        )
    code = "import sys, glassformer as gf; gf.load(sys.argv[1]); print('sympy' in sys.modules)"
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- names of other times and tools


@pytest.mark.parametrize("head", ["masked-token", "none"])
def test_norms_by_the_names_of_tensorflow_are_those_of_bert(head: str) -> None:
    config = gf.models.configure("bert", {**TINY["bert"], "head": head})
    state = theirs(config)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
           for name, tensor in state.items()}  # fmt: skip
    assert old.keys() != state.keys()
    read, expected = to_ours(old, config), to_ours(state, config)
    assert {name for name in read if not torch.equal(read[name], expected[name])} == set()
    if head == "none":
        bare = {name.removeprefix("bert."): tensor for name, tensor in old.items()}
        assert to_ours(bare, config).keys() == expected.keys()
    both = {**state, "bert.embeddings.LayerNorm.gamma": state["bert.embeddings.LayerNorm.weight"]}
    with pytest.raises(CheckpointMismatch, match=r"LayerNorm\.gamma' and .*LayerNorm\.weight' are one tensor"):
        to_ours(both, config)


TYING = [name for name, spec in gf.models.specs().items() if name in TINY and spec.published and spec.published.tied]


@pytest.mark.parametrize("name", TYING)
def test_a_tied_tensor_may_be_there_under_the_name_of_the_head_alone(name: str) -> None:
    config = gf.models.configure(name, TINY[name])
    if hasattr(config, "tied_head"):
        config = replace(config, tied_head=True)
    elif hasattr(config, "head"):
        config = replace(config, head="masked-token")
    state = theirs(config)
    repeated = [(head, kept) for head, kept in table(config).tied.items() if kept in state and head not in state]
    assert repeated
    for head, kept in repeated:
        read = to_ours({head if name == kept else name: tensor for name, tensor in state.items()}, config)
        expected = to_ours(state, config)
        assert read.keys() == expected.keys()
        assert all(torch.equal(read[name], expected[name]) for name in read)


def test_a_head_of_its_own_is_no_embedding() -> None:
    state = theirs(UNTIED)
    del state["transformer.wte.weight"]
    with pytest.raises(CheckpointMismatch, match=r"transformer\.wte\.weight is missing"):
        to_ours(state, UNTIED)


@pytest.mark.parametrize("place", ["model.layers.0.self_attn.", "model.", "layers.0.self_attn.", ""])
@pytest.mark.parametrize("name", ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"])
def test_tables_of_rotary_angles_are_no_weights_wherever_they_are_kept(place: str, name: str) -> None:
    state = {**theirs(ROTARY), f"{place}rotary_emb.{name}": torch.ones(3)}
    assert to_ours(state, ROTARY).keys() == ours(ROTARY).keys()


@pytest.mark.parametrize("place", ["gpt_neox.layers.0.attention.", "gpt_neox."])
def test_so_are_those_of_gpt_neox(place: str) -> None:
    config = gf.models.configure("gpt_neox", TINY["gpt_neox"])
    state = {**theirs(config), f"{place}rotary_emb.inv_freq": torch.ones(3)}
    assert to_ours(state, config).keys() == ours(config).keys()


PUBLISHED_TYPES = [
    (name, model_type)
    for name, spec in gf.models.specs().items()
    if spec.published is not None and name in TINY
    for model_type in spec.published.model_types
    if CONFIG_MAPPING[model_type].attribute_map
]


@pytest.mark.parametrize(("name", "model_type"), PUBLISHED_TYPES)
def test_settings_by_the_general_names_of_transformers_are_the_familys(name: str, model_type: str) -> None:
    config = gf.models.configure(name, TINY[name])
    published = table(config)
    content = published.to_huggingface(config)
    tried = 0
    for general, own in CONFIG_MAPPING[model_type].attribute_map.items():
        if own in content:
            theirs = {**content, general: content[own]}
            assert published.from_huggingface(theirs) == published.from_huggingface(content)
            with pytest.raises(ConfigError, match=f"{own} and {general} are one setting"):
                published.from_huggingface({**theirs, general: -7})
            del theirs[own]
            assert published.from_huggingface(theirs) == published.from_huggingface(content)
            assert getattr(CONFIG_MAPPING[model_type](**theirs), own) == content[own]
            tried += 1
    assert tried or name == "qwen3_moe"  # which is written by the general name

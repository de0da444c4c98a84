"""Random small BERTs of `transformers` and ours are the same models, in both directions."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from glassformer import checkpoints
from glassformer.checkpoints.huggingface import load_directory, save_directory
from glassformer.inference.embed import embed, padded, pool
from glassformer.models.bert import Bert, BertConfig
from glassformer.twins import use
from support.counts import count
from support.parity import assert_same_parameters, far_from_start, import_transformers, read_in_float64

transformers = import_transformers()

OLD = {"weight": "gamma", "bias": "beta"}
TOLERANCE = 1e-6  # in float64, but for what transformers computes in float32 all the same


def their_config(choose: random.Random) -> Any:
    n_heads = choose.choice([1, 2, 3])
    return transformers.BertConfig(
        vocab_size=choose.randint(3, 99),
        max_position_embeddings=choose.choice([20, 33]),
        type_vocab_size=choose.choice([1, 2, 3]),
        hidden_size=n_heads * choose.choice([4, 7, 16]),
        num_hidden_layers=choose.randint(1, 3),
        num_attention_heads=n_heads,
        intermediate_size=choose.choice([5, 17, 40]),
        hidden_act=choose.choice(["gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh"]),
        layer_norm_eps=choose.choice([1e-12, 1e-5, 1e-3]),
    )


def our_config(choose: random.Random) -> BertConfig:
    n_heads = choose.choice([1, 2, 3])
    return BertConfig(
        vocab_size=choose.randint(3, 99),
        context_length=choose.choice([20, 33]),
        n_token_types=choose.choice([1, 2, 3]),
        d_model=n_heads * choose.choice([4, 7, 16]),
        n_layers=choose.randint(1, 3),
        n_heads=n_heads,
        d_ff=choose.choice([0, 17, 40]),
        activation=choose.choice(["gelu", "gelu_tanh", "relu", "silu"]),
        norm_eps=choose.choice([1e-12, 1e-5]),
        head=choose.choice(["masked-token", "none"]),
    )


def draw_input(choose: random.Random, vocab_size: int, n_types: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three texts of different lengths: tokens, which of them are no padding, and their types."""
    length = choose.randint(2, 20)
    tokens = torch.randint(vocab_size, (3, length))
    valid = torch.arange(length) < torch.tensor([length, choose.randint(1, length), 1])[:, None]
    return tokens, valid, torch.randint(n_types, (3, length))


@torch.no_grad()
def test_what_transformers_saves_gives_the_same_logits_here(tmp_path: Path) -> None:
    for seed in range(count("BERTs of transformers imported")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        config = their_config(choose)
        theirs = transformers.BertForMaskedLM(config).eval()
        far_from_start(theirs)
        _, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        tokens, valid, types = draw_input(choose, config.vocab_size, config.type_vocab_size)
        expected = theirs(tokens, attention_mask=valid.long(), token_type_ids=types).logits
        for mode in ("readable", "fast"):
            with use(mode):
                torch.testing.assert_close(ours(tokens, valid, types), expected, atol=TOLERANCE, rtol=TOLERANCE)
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_what_we_save_gives_the_same_in_transformers_and_here(tmp_path: Path) -> None:
    for seed in range(count("BERTs exported to transformers")):
        torch.manual_seed(seed)
        choose = random.Random(seed)
        config = our_config(choose)
        ours = Bert(config).eval()
        far_from_start(ours)
        folder = save_directory(ours, tmp_path / f"{seed}")
        found, again = load_directory(folder)
        assert found == config
        assert_same_parameters(ours, again)
        tokens, valid, types = draw_input(choose, config.vocab_size, config.n_token_types)
        keywords = {"attention_mask": valid.long(), "token_type_ids": types}
        if config.head == "none":
            expected = transformers.BertModel.from_pretrained(folder).double()(tokens, **keywords).last_hidden_state
        else:
            expected = transformers.BertForMaskedLM.from_pretrained(folder).double()(tokens, **keywords).logits
        torch.testing.assert_close(ours.double()(tokens, valid, types), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["BertModel", "BertForPreTraining"])
def test_files_with_another_head_or_none_load(kind: str, tmp_path: Path) -> None:
    """BertModel's files leave "bert." out and have a pooler; BertForPreTraining's also tell whether a text follows."""
    theirs = getattr(transformers, kind)(their_config(random.Random(2))).eval()
    far_from_start(theirs)
    _, ours = read_in_float64(theirs, tmp_path)
    tokens, valid, types = draw_input(random.Random(3), theirs.config.vocab_size, theirs.config.type_vocab_size)
    result = theirs(tokens, attention_mask=valid.long(), token_type_ids=types)
    expected = result.last_hidden_state if kind == "BertModel" else result.prediction_logits
    torch.testing.assert_close(ours(tokens, valid, types), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_a_text_embeds_as_the_mean_over_its_tokens_alone_and_at_length_one(tmp_path: Path) -> None:
    theirs = transformers.BertModel(their_config(random.Random(5))).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path)
    ours: Any = checkpoints.load(tmp_path).module.double()
    theirs.double()
    texts = [[1, 2, 0, 1], [2], [0, 1]]
    vectors = embed(ours, texts)
    for text, vector in zip(texts, vectors, strict=True):
        mean = theirs(torch.tensor([text])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=TOLERANCE, rtol=TOLERANCE)
    tokens, valid = padded(texts, 20)
    first = theirs(tokens, attention_mask=valid.long()).last_hidden_state[:, 0]
    torch.testing.assert_close(
        embed(ours, texts, pooling="cls", normalise=False), first, atol=TOLERANCE, rtol=TOLERANCE
    )
    assert torch.equal(pool(torch.ones(1, 2, 3), torch.tensor([[True, False]])), torch.ones(1, 3))


@torch.no_grad()
def test_a_folder_with_the_names_of_tensorflow_is_the_same_model_here_and_there(tmp_path: Path) -> None:
    """bert-base-uncased is published so: `LayerNorm.gamma` and `.beta`, and a head for pairs of texts."""
    theirs = transformers.BertForMaskedLM(their_config(random.Random(0))).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    norm = re.compile(r"LayerNorm\.(weight|bias)$")
    old = {norm.sub(lambda match: f"LayerNorm.{OLD[match[1]]}", name): tensor for name, tensor in state.items()}
    assert old.keys() != state.keys()
    pair = "cls.seq_relationship"
    pairs = {f"{pair}.weight": torch.ones(2, theirs.config.hidden_size), f"{pair}.bias": torch.ones(2)}
    safetensors.torch.save_file({**old, **pairs}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tokens, expected = torch.tensor([[1, 2, 0]]), theirs(torch.tensor([[1, 2, 0]])).logits
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(tokens).logits, expected)
    _, ours = load_directory(tmp_path)
    torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-5)

"""Random small RoBERTas and DistilBERTs of `transformers`, and BERTs that classify, are the same models here."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import glassformer as gf
from glassformer.checkpoints.huggingface import load_directory
from glassformer.errors import CheckpointMismatch
from glassformer.inference.embed import embed
from glassformer.models import specs
from glassformer.twins import use
from support.counts import count
from support.parity import far_from_start, import_transformers, read_in_float64, saved

transformers = import_transformers()

TOLERANCE = 1e-6  # in float64, but for what transformers computes in float32 all the same
LENGTH = 20  # tokens that fit every model here
HEADS = ("masked-token", "none", "classes")
AUTO = {
    "masked-token": transformers.AutoModelForMaskedLM,
    "none": transformers.AutoModel,
    "classes": transformers.AutoModelForSequenceClassification,
}
FAMILIES = ("bert", "roberta", "distilbert")


def their_config(family: str, choose: random.Random) -> Any:
    n_heads = choose.choice([1, 2, 3])
    sizes = [n_heads * choose.choice([4, 7, 16]), choose.randint(1, 3), n_heads, choose.choice([5, 17, 40])]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if family == "distilbert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim")
    padding_id = choose.choice([0, 1, 2, 5])
    settings: dict[str, Any] = {
        **dict(zip(names, sizes, strict=True)),
        "vocab_size": choose.randint(8, 99),
        "max_position_embeddings": LENGTH + choose.choice([0, 6]) + padding_id + 1,
        "num_labels": choose.choice([1, 2, 5]),
        "pad_token_id": padding_id,
    }
    activation = choose.choice(["gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh"])
    if family == "distilbert":
        settings |= {"activation": activation, "sinusoidal_pos_embds": choose.random() < 0.3}
    else:
        settings |= {"hidden_act": activation, "layer_norm_eps": choose.choice([1e-12, 1e-5, 1e-3])}
        settings |= {"type_vocab_size": choose.choice([1, 2, 3])}
    return transformers.AutoConfig.for_model(family, **settings)


def our_config(family: str, choose: random.Random, head: str) -> Any:
    n_heads = choose.choice([1, 2, 3])
    n_classes = choose.choice([1, 2, 5])
    settings: dict[str, Any] = {
        "vocab_size": choose.randint(8, 99),
        "context_length": LENGTH + choose.choice([0, 6]),
        "d_model": n_heads * choose.choice([4, 7, 16]),
        "n_layers": choose.randint(1, 3),
        "n_heads": n_heads,
        "d_ff": choose.choice([0, 17, 40]),
        "activation": choose.choice(["gelu", "gelu_tanh", "relu", "silu"]),
        "head": head,
        "n_classes": n_classes,
        "labels": tuple(f"class {n}" for n in range(n_classes)) if choose.random() < 0.5 else (),
        "problem_type": choose.choice(["single-label", "multi-label", "regression"]),
    }
    if family != "distilbert":
        settings |= {"norm_eps": choose.choice([1e-12, 1e-5]), "n_token_types": choose.choice([1, 2, 3])}
    if family == "roberta":
        settings["padding_id"] = choose.choice([0, 1, 5])
    return specs()[family].config(**settings)


def draw_input(choose: random.Random, config: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Three texts of different lengths, as we read them and as transformers does.

    Padding is RoBERTa's own token, or any other; it stands on either side, and between the tokens too.
    """
    length = choose.randint(2, LENGTH)
    tokens = torch.randint(config.vocab_size, (3, length))
    valid = torch.arange(length) < torch.tensor([length, choose.randint(1, length), 1])[:, None]
    if config.architecture == "roberta" and choose.random() < 0.7:
        if choose.random() < 0.5:
            valid = valid.flip(-1)
        tokens = tokens.where(valid, config.padding_id)
    keywords = {"input_ids": tokens, "attention_mask": valid.long()}
    if config.n_token_types == 0:
        return (tokens, valid), keywords
    types = torch.randint(config.n_token_types, (3, length))
    return (tokens, valid, types), keywords | {"token_type_ids": types}


def output(theirs: Any, keywords: dict[str, Tensor], head: str) -> Tensor:
    result: Any = theirs(**keywords)
    tensor: Tensor = result.last_hidden_state if head == "none" else result.logits
    return tensor


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_saves_gives_the_same_here(family: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families imported")):
        torch.manual_seed(seed)
        choose, head = random.Random(seed), HEADS[seed % len(HEADS)]
        theirs = AUTO[head].from_config(their_config(family, choose)).eval()
        far_from_start(theirs)
        config, ours = read_in_float64(theirs, tmp_path / f"{seed}")
        assert (config.architecture, config.head) == (family, head)
        inputs, keywords = draw_input(choose, config)
        expected = output(theirs, keywords, head)
        for mode in ("readable", "fast"):
            with use(mode):
                torch.testing.assert_close(ours(*inputs), expected, atol=TOLERANCE, rtol=TOLERANCE)
        alone = {"input_ids": inputs[0]}
        torch.testing.assert_close(ours(inputs[0]), output(theirs, alone, head), atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_what_we_save_gives_the_same_in_transformers_and_here(family: str, tmp_path: Path) -> None:
    for seed in range(count("encoder families exported")):
        torch.manual_seed(seed)
        choose, head = random.Random(seed), HEADS[seed % len(HEADS)]
        config = our_config(family, choose, head)
        ours = specs()[family].build(config).eval()
        far_from_start(ours)
        folder = saved(ours, tmp_path / f"{seed}")
        theirs = AUTO[head].from_pretrained(folder).eval().double()
        inputs, keywords = draw_input(choose, config)
        expected = output(theirs, keywords, head)
        torch.testing.assert_close(ours.double()(*inputs), expected, atol=TOLERANCE, rtol=TOLERANCE)
        if config.labels:
            assert tuple(theirs.config.id2label.values()) == config.labels


@torch.no_grad()
@pytest.mark.parametrize("family", ["xlm-roberta", "camembert"])
@pytest.mark.parametrize("head", HEADS)
def test_a_roberta_of_another_name_is_read_as_one_and_written_as_one(family: str, head: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    choose = random.Random(7)
    theirs = AUTO[head].from_config(their_config(family, choose)).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    model = gf.load(tmp_path / "theirs")
    gf.save(model, tmp_path / "ours")
    copy = AUTO[head].from_pretrained(tmp_path / "ours").eval().double()
    assert (model.config.architecture, copy.config.model_type) == ("roberta", "roberta")
    inputs, keywords = draw_input(choose, model.config)
    expected = output(theirs.double(), keywords, head)
    ours: Any = model.module.double()
    torch.testing.assert_close(ours(*inputs), expected, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(output(copy, keywords, head), expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_different_lengths_embed_as_each_alone(family: str, tmp_path: Path) -> None:
    theirs = transformers.AutoModel.from_config(their_config(family, random.Random(5))).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path)
    ours: Any = gf.load(tmp_path).module.double()
    theirs.double()
    texts = [[3, 4, 6, 7], [7], [6, 3]]
    for text, vector in zip(texts, embed(ours, texts), strict=True):
        mean = theirs(torch.tensor([text])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_a_roberta_of_old_with_its_head_twice_and_a_pooler_loads(tmp_path: Path) -> None:
    """Files of version 4 repeat the tied embedding and the bias under lm_head.decoder, and have a pooler."""
    from safetensors.torch import load_file, save_file

    theirs = transformers.RobertaForMaskedLM(their_config("roberta", random.Random(1))).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    d_model = theirs.config.hidden_size
    tensors |= {
        "lm_head.decoder.weight": tensors["roberta.embeddings.word_embeddings.weight"].clone(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].clone(),
        "roberta.embeddings.position_ids": torch.arange(40)[None],
        "roberta.pooler.dense.weight": torch.zeros(d_model, d_model),
        "roberta.pooler.dense.bias": torch.zeros(d_model),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    tokens = torch.randint(theirs.config.vocab_size, (2, 9))
    _, ours = load_directory(tmp_path)
    expected = theirs.double()(tokens).logits
    torch.testing.assert_close(ours.double()(tokens), expected, atol=TOLERANCE, rtol=TOLERANCE)
    save_file(tensors | {"lm_head.decoder.bias": tensors["lm_head.bias"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match=r"lm_head\.decoder\.bias differs from lm_head\.bias"):
        load_directory(tmp_path)

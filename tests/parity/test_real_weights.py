"""Published weights give their published numbers: minGPT that sorts letters, and llama2.c's story teller."""

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer import checkpoints
from glassformer.nn import functional as F
from glassformer.nn.kv_cache import full
from glassformer.twins import use

A, B, C = range(3)


@pytest.fixture(scope="module")
def nano_sort(data_dir: Path) -> nn.Module:
    return checkpoints.load(data_dir / "gpt2" / "gpt-nano-sort-model.json").module


@pytest.fixture(scope="module")
def stories(data_dir: Path) -> checkpoints.Checkpoint:
    return checkpoints.load(data_dir / "llama" / "stories260K.bin")


@pytest.fixture(scope="module")
def stories_reference(data_dir: Path) -> dict[str, Any]:
    return json.loads((data_dir / "llama" / "stories260K.reference.json").read_text())


def published(data_dir: Path) -> dict[str, Tensor]:
    content = json.loads((data_dir / "gpt2" / "gpt-nano-sort-t0-partials.json").read_text())
    return {
        name: torch.frombuffer(bytearray(base64.b64decode(fields["data"])), dtype=torch.float32).view(fields["shape"])
        for name, fields in content.items()
        if name != "config"
    }


def recorded(model: Any, tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Every stage of the model that the reference holds, under the reference's names."""
    stages: dict[str, Tensor] = {"idx": tokens.float()}
    first = model.blocks[0]

    def record(module: nn.Module, output: str | None = None, input: str | None = None) -> None:
        def hook(_: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> None:
            if output is not None:
                stages[output] = result
            if input is not None:
                stages[input] = inputs[0]

        module.register_forward_hook(hook)

    record(model.token_embedding, "tok_emb")
    record(model.position_embedding, "pos_emb")
    record(first, "block0", input="x")
    record(first.attn_norm, "ln1")
    for letter in "qkv":
        record(getattr(first.attn, f"{letter}_proj"), letter)
    record(first.attn.o_proj, "yProj", input="y")
    record(first.mlp_norm, "ln2", input="attnResid")
    record(first.mlp.up_proj, "fc")
    record(first.mlp.down_proj, "mlp", input="gelu")
    record(model.blocks[1], "block1")
    record(model.blocks[2], "block2")
    record(model.final_norm, "ln_f")
    record(model.lm_head, "lm_head")

    softmax = F.softmax

    def spy(scores: Tensor, *args: Any) -> Tensor:
        weights = softmax(scores, *args)
        stages.setdefault("att", scores)
        stages.setdefault("attSm", weights)
        return weights

    monkeypatch.setattr(F, "softmax", spy)
    with torch.no_grad(), use("readable", attention="naive"):
        model(tokens)
    monkeypatch.undo()
    stages["qkv"] = torch.cat([stages[letter] for letter in "qkv"], dim=-1)
    for letter in "qkv":
        stages[letter] = stages[letter].unflatten(-1, (3, 16)).transpose(1, 2)
    stages["pos_emb"] = stages["pos_emb"].reshape(1, 11, 48)
    stages["mlpResid"] = stages["block0"]
    stages["probs"] = stages["lm_head"].softmax(-1)
    return stages


def test_every_stage_of_nano_sort_equals_the_published_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = published(data_dir)
    model = checkpoints.load(data_dir / "gpt2" / "gpt-nano-sort-model.json").module  # hooks stay on it
    stages = recorded(model, expected["idx"].long(), monkeypatch)
    assert len(expected) == 25
    assert stages.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            stages[name], tensor, atol=5e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def sorted_by(model: Any, inputs: Tensor) -> Tensor:
    tokens = inputs
    for _ in range(6):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], dim=1)
    return tokens[:, 6:]


@pytest.mark.parametrize("mode", ["readable", "fast"])
@torch.no_grad()
def test_nano_sort_sorts_all_729_inputs(nano_sort: nn.Module, mode: Any) -> None:
    inputs = torch.tensor(list(itertools.product(range(3), repeat=6)))
    with use(mode):
        right = (sorted_by(nano_sort, inputs) == inputs.sort(dim=-1).values).all(-1)
    assert right.sum() == 729


@torch.no_grad()
def test_nano_sort_is_as_sure_of_the_first_letter_as_published(nano_sort: nn.Module) -> None:
    logits = nano_sort(torch.tensor([[C, B, A, B, B, C]]))
    assert logits.softmax(-1)[0, 5, A].item() == pytest.approx(0.99998236, abs=1e-6)


@torch.no_grad()
def test_stories_tell_the_published_text(stories: checkpoints.Checkpoint, stories_reference: dict[str, Any]) -> None:
    expected = torch.tensor([stories_reference["greedy_from_bos_ids"]])
    assert expected.shape == (1, 257)
    greedy = stories.module(expected[:, :-1]).argmax(-1)  # after each prefix, which is greedy itself by induction
    assert greedy.tolist() == expected[:, 1:].tolist()


@torch.no_grad()
def test_stories_tell_the_published_text_token_by_token(
    stories: checkpoints.Checkpoint, stories_reference: dict[str, Any]
) -> None:
    expected = stories_reference["greedy_from_bos_ids"][:65]
    model: Any = stories.module
    state = model.begin(None, full(512))
    tokens = expected[:1]
    while len(tokens) < len(expected):
        logits = model(torch.tensor([tokens[-1:]]), state)
        tokens.append(int(logits[0, -1].argmax()))
    assert tokens == expected


@torch.no_grad()
def test_stories_logits_are_the_published_ones(
    stories: checkpoints.Checkpoint, stories_reference: dict[str, Any]
) -> None:
    logits = stories.module(torch.tensor([[1]]))[0, 0]
    torch.testing.assert_close(
        logits[:16], torch.tensor(stories_reference["logits_after_bos_first_16"]), atol=2e-5, rtol=0
    )


def test_files_of_weights_find_their_tokenizer_beside_them(
    data_dir: Path, stories: checkpoints.Checkpoint, stories_reference: dict[str, Any]
) -> None:
    letters = checkpoints.load(data_dir / "gpt2" / "gpt-nano-sort-model.json").tokenizer
    assert letters is not None
    assert letters.encode("CBABBC") == [C, B, A, B, B, C]
    assert stories.tokenizer is not None
    assert stories.tokenizer.vocab_size == 512
    assert stories.tokenizer.decode(stories_reference["greedy_from_bos_ids"][1:]).strip() == (
        stories_reference["greedy_from_bos_text"].strip()
    )

"""Sequence to sequence: against a second reading of the papers over torch's own layers, and its laws."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer import checkpoints, models
from glassformer.checkpoints import safetensors
from glassformer.errors import ConfigError
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.seq2seq import PRESETS, Seq2Seq, Seq2SeqConfig
from glassformer.models.spec import CausalModel, State
from glassformer.nn import functional as F
from glassformer.nn.kv_cache import full
from glassformer.nn.recurrent import to_torch
from glassformer.training.adamw import AdamW
from glassformer.twins import use
from support.counts import count
from support.tolerances import assert_close

SIZES: dict[str, Any] = {"source_vocab_size": 9, "vocab_size": 7, "d_model": 6, "n_layers": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "one vector": {"kind": "lstm"},
    "one vector, both ways": {"bidirectional": True, "n_layers": 1},
    "dot": {"attention": "dot", "kind": "rnn"},
    "general, fed": {"attention": "general", "kind": "lstm", "bidirectional": True, "input_feeding": True},
    "concat, monotonic": {"attention": "concat", "window": "local-m", "radius": 1},
    "dot, predicted, fed": {"attention": "dot", "window": "local-p", "radius": 2, "input_feeding": True},
}
POLICY = full(1)


def build(**changes: Any) -> Seq2Seq:
    model = Seq2Seq(Seq2SeqConfig(**SIZES | changes)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    return build(**VARIANTS[request.param]).requires_grad_(False)


def texts(model: Seq2Seq, batch: int, source_length: int, length: int) -> tuple[Tensor, Tensor]:
    config = model.config
    return torch.randint(config.source_vocab_size, (batch, source_length)), torch.randint(
        config.vocab_size, (batch, length)
    )


def in_torch(part: nn.Module, config: Seq2SeqConfig, d_in: int, bidirectional: bool = False) -> Any:
    kind: Any = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[config.kind]
    units = config.d_model // (2 if bidirectional else 1)
    theirs = kind(d_in, units, config.n_layers, bidirectional=bidirectional, dtype=torch.float64)
    theirs.load_state_dict(to_torch(part.state_dict()))
    return theirs


def by_the_papers(model: Seq2Seq, source: list[int], target: list[int]) -> Tensor:
    """The logits after each token of one target, one step at a time over torch's own layers."""
    config, c = model.config, model.config.d_model
    encoder = in_torch(model.encoder, config, c, config.bidirectional)
    decoder = in_torch(model.decoder, config, 2 * c if config.input_feeding else c)
    memory, after = encoder(model.source_embedding.weight[source])
    if config.bidirectional:  # (layers · directions, units): both directions' ends side by side
        joined = [part.view(config.n_layers, c) for part in (after if config.kind == "lstm" else [after])]
        after = tuple(joined) if config.kind == "lstm" else joined[0]
    attended, logits = torch.zeros(c, dtype=torch.float64), []
    for t, token in enumerate(target):
        x = model.token_embedding.weight[token]
        h, after = decoder(torch.cat([x, attended])[None] if config.input_feeding else x[None], after)
        attended = h[0] if model.attention is None else look_back(model, h[0], memory, t)
        logits.append(model.lm_head.weight @ attended + model.lm_head.bias)
    return torch.stack(logits)


def look_back(model: Seq2Seq, h: Tensor, memory: Tensor, t: int) -> Tensor:
    """Luong's h̃; its parts one by one are tested in tests/nn/test_luong.py."""
    attention: Any = model.attention
    config, places = model.config, torch.arange(len(memory))
    parts = dict(attention.score.named_parameters())
    if config.attention == "dot":
        scores = memory @ h
    elif config.attention == "general":
        scores = torch.einsum("c,cd,sd->s", h, parts["memory_proj.weight"], memory)
    else:
        pairs = torch.cat([h.expand_as(memory), memory], -1)
        both = torch.cat([parts["h_proj.weight"], parts["memory_proj.weight"]], -1)
        scores = torch.tanh(pairs @ both.T) @ parts["v_proj.weight"][0]
    centre: Any = t
    if config.window == "local-p":
        hidden = torch.tanh(attention.centre.h_proj.weight @ h)
        centre = len(memory) * torch.sigmoid(attention.centre.v_proj.weight @ hidden)
    if config.window != "global":
        scores = scores.masked_fill((places - centre).abs() > config.radius, -torch.inf)
    weights = scores.softmax(-1).nan_to_num(0)
    if config.window == "local-p":
        weights = weights * torch.exp(-2 * ((places - centre) / config.radius) ** 2)
    return torch.tanh(attention.out_proj.weight @ torch.cat([weights @ memory, h]))


def random_settings(choose: random.Random) -> dict[str, Any]:
    attention = choose.choice(["none", "dot", "general", "concat"])
    bidirectional = choose.random() < 0.5
    return {
        "d_model": choose.randint(1, 4) * (2 if bidirectional else 1),
        "n_layers": choose.randint(1, 3),
        "kind": choose.choice(["rnn", "gru", "lstm"]),
        "bidirectional": bidirectional,
        "attention": attention,
        "window": "global" if attention == "none" else choose.choice(["global", "local-m", "local-p"]),
        "radius": choose.randint(1, 4),
        "input_feeding": attention != "none" and choose.random() < 0.5,
    }


@torch.no_grad()
def test_logits_are_those_of_a_second_reading_with_padding_in_both_texts() -> None:
    choose = random.Random(0)
    for _ in range(count("sequence-to-sequence models")):
        model = build(**random_settings(choose))
        source, target = texts(model, 3, 6, 5)
        source_valid = torch.arange(6) < torch.tensor([[choose.randint(1, 6)] for _ in range(3)])
        valid = torch.arange(5) >= torch.tensor([[choose.randint(0, 4)] for _ in range(3)])
        logits = model(target, model.begin(source, POLICY, source_valid), valid)
        for row in range(3):
            expected = by_the_papers(model, source[row][source_valid[row]].tolist(), target[row][valid[row]].tolist())
            assert_close(logits[row][valid[row]], expected)


def test_gradients_are_those_of_a_second_reading() -> None:
    for variant in VARIANTS.values():
        model = build(**variant)
        source, target = texts(model, 1, 5, 4)
        mine = model(target, model.begin(source, POLICY))[0]
        encoder_weight = model.source_embedding.weight  # the way to it goes through everything
        (gradient,) = torch.autograd.grad(mine.square().sum(), encoder_weight)
        yours = by_the_papers(model, source[0].tolist(), target[0].tolist())
        (expected,) = torch.autograd.grad(yours.square().sum(), encoder_weight)
        assert_close(gradient, expected)


def test_it_is_what_decoding_asks_for(model: Seq2Seq) -> None:
    assert isinstance(model, CausalModel)
    assert isinstance(model.begin(texts(model, 1, 2, 1)[0], POLICY), State)


def test_a_target_in_pieces_is_the_target(model: Seq2Seq) -> None:
    source, target = texts(model, 2, 5, 9)
    state = model.begin(source, POLICY)
    pieces = [model(piece, state) for piece in target.split([1, 5, 1, 2], dim=1)]
    assert_close(torch.cat(pieces, 1), model(target, model.begin(source, POLICY)))


def test_later_tokens_never_change_earlier_logits_and_every_source_token_matters(model: Seq2Seq) -> None:
    source, target = texts(model, 2, 4, 6)
    logits = model(target, model.begin(source, POLICY))
    changed = target.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % 7
    assert_close(model(changed, model.begin(source, POLICY))[:, :3], logits[:, :3])
    for s in range(4):
        other = source.clone()
        other[:, s] = (other[:, s] + 1) % 9
        assert not torch.allclose(model(target, model.begin(other, POLICY)), logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_source_changes_nothing(model: Seq2Seq, side: str) -> None:
    source, target = texts(model, 3, 6, 4)
    lengths = torch.tensor([[6], [2], [4]])
    places = torch.arange(6)
    source_valid = places < lengths if side == "right" else places >= 6 - lengths
    logits = model(target, model.begin(source, POLICY, source_valid))
    other = source.where(source_valid, (source + 1) % 9)
    assert_close(model(target, model.begin(other, POLICY, source_valid)), logits)
    for row in range(3):
        alone = source[row][source_valid[row]][None]
        assert_close(model(target[row : row + 1], model.begin(alone, POLICY))[0], logits[row])


def test_rows_of_a_state_can_be_taken_twice_and_left_out(model: Seq2Seq) -> None:
    source, target = texts(model, 3, 5, 6)
    state = model.begin(source, POLICY)
    model(target[:, :4], state)
    rows = torch.tensor([2, 0, 2, 2])
    state.select(rows)
    assert_close(model(target[rows, 4:], state), model(target[rows], model.begin(source[rows], POLICY))[:, 4:])


def test_readable_and_fast_give_the_same_logits(model: Seq2Seq) -> None:
    source, target = texts(model, 2, 5, 6)
    with use("readable"):
        readable = model(target, model.begin(source, POLICY))
    assert_close(model(target, model.begin(source, POLICY)), readable)


def test_the_loop_of_generation_runs_it_and_gives_the_argmax_of_whole_passes(model: Seq2Seq) -> None:
    source, _ = texts(model, 2, 5, 1)
    prompts = [[2], [2, 4]]
    found: list[list[int]] = [[], []]
    for new in generate(model, prompts, max_new_tokens=8, sampling=Sampling(temperature=0.0), source=source):
        found[new.sequence].append(new.token)
    for row, prompt in enumerate(prompts):
        text = list(prompt)
        for _ in range(8):
            logits = model(torch.tensor([text]), model.begin(source[row : row + 1], POLICY))
            text.append(int(logits[0, -1].argmax()))
        assert found[row] == text[len(prompt) :]


def test_dropout_acts_while_training_alone() -> None:
    model = build(dropout=0.5, attention="dot")
    source, target = texts(model, 1, 4, 3)
    assert torch.equal(*(model(target, model.begin(source, POLICY)) for _ in range(2)))
    model.train()
    assert not torch.equal(*(model(target, model.begin(source, POLICY)) for _ in range(2)))


@pytest.mark.usefixtures("unchecked")  # for its speed
def test_it_learns_to_turn_words_round() -> None:
    """Five letters to their reverse, after 150 steps of 32 words; 1 letter in 5 would be right by chance."""
    config = Seq2SeqConfig(
        source_vocab_size=6,
        vocab_size=6,
        d_model=32,
        bidirectional=True,
        attention="general",
        start_id=0,
        eos_id=0,
        pad_id=0,
    )
    model = Seq2Seq(config)
    optimizer = AdamW(model.parameters(), 0.01)
    for _ in range(150):
        source = torch.randint(1, 6, (32, 5))
        target = torch.cat([torch.zeros(32, 1, dtype=torch.long), source.flip(1)], dim=1)
        loss = F.cross_entropy(model(target[:, :-1], model.begin(source, POLICY)), target[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    source = torch.randint(1, 6, (100, 5))
    state, token, written = model.begin(source, POLICY), torch.zeros(100, 1, dtype=torch.long), []
    for _ in range(5):
        token = model(token, state)[:, -1:].argmax(-1)
        written.append(token)
    assert (torch.cat(written, 1) == source.flip(1)).float().mean() > 0.9


# Sizes, checkpoints, settings


def test_the_preset_has_the_size_that_sutskever_et_al_give() -> None:
    """§3.4: 384 million parameters, of which 64 million are recurrent connections, 32 in either network."""
    assert set(PRESETS) == {"seq2seq-sutskever", "seq2seq-luong", "seq2seq-small", "seq2seq-g2p"}
    with torch.device("meta"):
        model = Seq2Seq(PRESETS["seq2seq-sutskever"])
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert round(sum(sizes.values()) / 1e6) == 384
    for part in ("encoder", "decoder"):
        recurrent = sum(size for name, size in sizes.items() if name.startswith(part) and name.endswith("weight"))
        assert recurrent == 32_000_000


def test_every_weight_has_its_name_and_a_checkpoint_gives_the_model_back(model: Seq2Seq, tmp_path: Path) -> None:
    model = model.float()
    folder = checkpoints.save(model, tmp_path / "model")
    assert set(safetensors.read(folder / "model.safetensors")) == {name for name, _ in model.named_parameters()}
    found: Any = checkpoints.load(folder)
    assert found.config == model.config
    source, target = texts(model, 2, 5, 4)
    assert torch.equal(
        found.module(target, found.module.begin(source, POLICY)), model(target, model.begin(source, POLICY))
    )


def test_its_kind_says_that_it_takes_two_texts() -> None:
    assert models.specs()["seq2seq"].kind == "encoder-decoder"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"source_vocab_size": 0}, "source_vocab_size must be a whole number"),
        ({"n_layers": 1.0}, "n_layers must be a whole number"),
        ({"radius": 0}, "radius must be a whole number"),
        ({"kind": "transformer"}, "kind must be one of rnn, gru, lstm"),
        ({"attention": "bahdanau"}, "attention must be one of none, dot, general, concat"),
        ({"attention": "dot", "window": "local"}, "window must be one of global, local-m, local-p"),
        ({"bidirectional": 2}, "bidirectional must be one of True, False"),
        ({"bidirectional": True, "d_model": 5}, "d_model 5 does not divide"),
        ({"input_feeding": True}, "need attention"),
        ({"window": "local-m"}, "need attention"),
        ({"start_id": 8000}, "start_id must be a whole number from 0 to 7999, not 8000"),
        ({"source_vocab_size": 5, "pad_id": 5}, "pad_id must be a whole number from 0 to 4, not 5"),
        ({"eos_id": True}, "eos_id must be a whole number"),
        ({"dropout": -1}, "dropout must be at least 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_that_cannot_work_is_refused_by_name(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Seq2SeqConfig(**wrong)  # type: ignore[arg-type]


def test_the_variants_cover_every_choice() -> None:
    configs = [Seq2SeqConfig(**SIZES | variant) for variant in VARIANTS.values()]
    for name, choices in {
        "kind": {"rnn", "gru", "lstm"},
        "attention": {"none", "dot", "general", "concat"},
        "window": {"global", "local-m", "local-p"},
        "bidirectional": {True, False},
        "input_feeding": {True, False},
    }.items():
        assert {getattr(config, name) for config in configs} == choices

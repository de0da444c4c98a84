"""fairseq's Transformers: a real one, which translates, and small ones under fairseq's names."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from glassformer.checkpoints import safetensors
from glassformer.checkpoints.build import build
from glassformer.checkpoints.formats import fairseq
from glassformer.checkpoints.formats.format import Source
from glassformer.errors import CheckpointMismatch, ConfigError
from glassformer.inference.beam import Beams, beam_search
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling
from glassformer.models.published.transformer import PUBLISHED
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.nn.kv_cache import full
from glassformer.tokenizers.subword import SubwordTokenizer, read_codes, read_dictionary
from support.published import FAIRSEQ

END, PAD = 2, 1
DIGITS = str.maketrans("߀߁߂߃߄߅߆߇߈߉", "0123456789")


class Translator(NamedTuple):
    """Manding in Latin letters to N'Ko."""

    module: Any
    source: SubwordTokenizer
    target: SubwordTokenizer


def padded(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The texts as one array, and where it holds tokens."""
    lengths = torch.tensor([len(text) for text in texts])
    longest = max(map(len, texts))
    tokens = torch.tensor([text + [PAD] * (longest - len(text)) for text in texts])
    return tokens, torch.arange(longest) < lengths[:, None]


def read(path: Path, **options: Any) -> tuple[TransformerConfig, Mapping[str, Tensor]]:
    """With what the weights here were made with, where nothing else is said."""
    contents, weights = fairseq.read(Source(path), **FAIRSEQ | options)
    return contents.config, weights


@pytest.fixture(scope="module")
def translator(data_dir: Path) -> Translator:
    folder = data_dir / "seq2seq"
    config, weights = read(folder / "latin2nqo_001.35.weights-only.safetensors")
    codes = read_codes(folder / "bpe.code")
    dictionaries = [read_dictionary(folder / f"dict.{name}.txt") for name in ("roman", "nqo")]
    source, target = (SubwordTokenizer(codes, dictionary) for dictionary in dictionaries)
    assert (config.source_vocab_size, config.vocab_size) == (source.vocab_size, target.vocab_size)
    return Translator(build(config, weights), source, target)


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> dict[str, Any]:
    """What an independent implementation made of the same weights."""
    return json.loads((data_dir / "seq2seq" / "latin2nqo_001.35.reference.json").read_text())  # type: ignore[no-any-return]


def test_the_sizes_of_a_real_model_follow_from_its_shapes(translator: Translator) -> None:
    config = translator.module.config
    assert (config.n_encoder_layers, config.n_decoder_layers, config.d_model, config.d_ff) == (5, 5, 128, 512)
    assert (config.norm_placement, config.tied_head, config.n_heads) == ("pre", True, 8)


@torch.no_grad()
def test_a_real_model_encodes_and_predicts_as_published(translator: Translator, reference: dict[str, Any]) -> None:
    for example in reference["examples"]:
        state = translator.module.begin(torch.tensor([example["source_ids"]]), full(1))
        torch.testing.assert_close(state.memory[0, 0, :8], torch.tensor(example["encoder_first_8"]), atol=1e-5, rtol=0)
        logits = translator.module(torch.tensor([[END]]), state)[0, 0]
        ids, expected = zip(*example["first_logits_top5"], strict=True)
        best = logits.topk(5)
        assert best.indices.tolist() == list(ids)
        torch.testing.assert_close(best.values, torch.tensor(expected), atol=1e-4, rtol=0)  # four digits are given


def test_a_real_model_writes_the_published_texts(translator: Translator, reference: dict[str, Any]) -> None:
    examples = reference["examples"]
    source, source_valid = padded([example["source_ids"] for example in examples])
    texts: list[list[int]] = [[] for _ in examples]
    for new in generate(
        translator.module,
        [[END]] * len(examples),
        source=source,
        source_valid=source_valid,
        sampling=Sampling(temperature=0.0),
        max_new_tokens=250,
        stop_tokens=frozenset({END}),
    ):
        texts[new.sequence].append(new.token)
    assert texts == [example["greedy_ids"] for example in examples]
    assert [translator.target.decode(text[:-1]) for text in texts] == [example["output"] for example in examples]


@pytest.mark.parametrize("n_beams", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_real_model_translates_as_many_real_lines_as_the_reference(
    translator: Translator, reference: dict[str, Any], data_dir: Path, n_beams: int
) -> None:
    """41 of 47 lines, every 135th of the corpus, come out exactly; N'Ko's digits count as the Arabic ones."""

    def lines(name: str) -> list[str]:
        text = gzip.decompress((data_dir / "seq2seq" / f"diane_parallel_002.{name}.gz").read_bytes()).decode()
        return [line.strip().strip('"').strip().translate(DIGITS) for line in text.split("\n")[100:6350:135]]

    sources, targets = lines("emk-tonal"), lines("nqo")
    source, source_valid = padded([[*translator.source.encode(line), END] for line in sources])
    found = beam_search(
        translator.module,
        [[END]] * len(sources),
        source=source,
        source_valid=source_valid,
        beams=Beams(n_beams=n_beams),
        max_new_tokens=250,
        stop_tokens=frozenset({END}),
    )
    texts = [translator.target.decode(best.tokens[:-1]).translate(DIGITS) for (best,) in found]
    exact = sum(text == target for text, target in zip(texts, targets, strict=True))
    assert [exact, len(texts)] >= reference["sample_exact"] == [41, 47]


# Small ones

SIZES: dict[str, Any] = {
    "vocab_size": 9,
    "d_model": 16,
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "n_heads": 8,
    "d_ff": 10,
    "position_layout": "tensor2tensor",
    "first_position": 2,
}


def published(config: TransformerConfig) -> tuple[Transformer, dict[str, Tensor]]:
    """A model, and its weights as fairseq saves them: every table by itself, and some numbers that are no weights."""
    model = Transformer(config).eval()
    parameters = dict(model.named_parameters())
    state = {
        theirs.removeprefix("model."): parameters[ours[0]].detach().clone()
        for theirs, ours, _ in PUBLISHED.renames(config, native=True)
    }
    state["decoder.output_projection.weight"] = model.lm_head.weight.detach().clone()
    state.pop("lm_head.weight", None)
    if (shared := state.pop("shared.weight", None)) is not None:
        state |= {f"{side}.embed_tokens.weight": shared.clone() for side in ("encoder", "decoder")}
    state |= {f"{side}.version": torch.tensor([3.0]) for side in ("encoder", "decoder")}
    state |= {f"{side}.embed_positions._float_tensor": torch.zeros(1) for side in ("encoder", "decoder")}
    return model, state


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_placement": "pre", "source_vocab_size": 11},
        {"tied_head": False, "activation": "gelu"},
        {"source_vocab_size": 9, "tied_head": False},
    ],
    ids=str,
)
@torch.no_grad()
def test_what_fairseq_saves_is_read_as_it_was(changes: dict[str, Any], tmp_path: Path) -> None:
    config = TransformerConfig(**SIZES | changes)
    model, state = published(config)
    safetensors.write(tmp_path / "model.safetensors", state)
    found, weights = read(tmp_path / "model.safetensors", activation=config.activation)
    assert found == config
    source, tokens = torch.randint(9, (2, 5)), torch.randint(9, (2, 4))
    again = build(found, weights)
    assert torch.equal(again(tokens, again.begin(source, full(4))), model(tokens, model.begin(source, full(4))))


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


def with_tensor(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: torch.ones(shape)})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without("decoder.embed_tokens.weight"), "there is no matrix decoder.embed_tokens.weight"),
        (without("encoder.layers.0.fc1.weight"), "there is no matrix encoder.layers.0.fc1.weight"),
        (with_tensor("encoder.embed_tokens.weight", 9), "there is no matrix encoder.embed_tokens.weight"),
        (without("decoder.layers.0.encoder_attn.k_proj.bias"), "encoder_attn.k_proj.bias is missing"),
        (with_tensor("decoder.layers.0.fc1.weight", 11, 16), "fc1.weight is .11, 16., but .* asks for .10, 16."),
        (with_tensor("encoder.embed_positions.weight", 9, 16), "encoder.embed_positions.weight: .* learned positions"),
        (with_tensor("encoder.layernorm_embedding.weight", 16), "layernorm_embedding.weight' has no place"),
    ],
)
def test_what_is_no_transformer_of_fairseqs_is_refused_by_name(damage: Any, says: str, tmp_path: Path) -> None:
    _, state = published(TransformerConfig(**SIZES))
    damage(state)
    safetensors.write(tmp_path / "model.safetensors", state)
    with pytest.raises(CheckpointMismatch, match=says):
        read(tmp_path / "model.safetensors")


def test_a_number_of_heads_that_cannot_be_is_refused(tmp_path: Path) -> None:
    _, state = published(TransformerConfig(**SIZES))
    safetensors.write(tmp_path / "model.safetensors", state)
    with pytest.raises(ConfigError, match="d_model 16 does not divide into 3 heads"):
        read(tmp_path / "model.safetensors", n_heads=3)

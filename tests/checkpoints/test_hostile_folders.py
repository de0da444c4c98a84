"""Files from strangers cost no more than they are worth, and end in a sentence whatever is wrong with them."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from checkpoints.hostile import CONFIG, bounded, publish, refused, set_config
from checkpoints.test_published_files import NANO, as_nanogpt
from glassformer import api, checkpoints
from glassformer.errors import ConfigError, ExportError, GlassformerError, TokenizerError
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.tokenizers import Tokenizer, WordTokenizer
from glassformer.tokenizers.byte_level import write_vocab_and_merges
from glassformer.training.load_config import resolve
from support.counts import count

# ---- one rule for numbers that are none


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@torch.no_grad()
def test_a_model_that_would_not_be_read_is_not_written(bad: float, tmp_path: Path) -> None:
    module = GPT2(CONFIG)
    folder = checkpoints.save(module, tmp_path / "a")
    module.final_norm.weight[1] = bad
    with pytest.raises(ExportError, match=r"final_norm.weight holds numbers that are infinite or none"):
        checkpoints.save(module, folder, overwrite=True)
    assert checkpoints.load(folder).module.final_norm.weight.isfinite().all()


# ---- links


def linked(folder: Path, outside: Path, name: str) -> None:
    """Put a file outside of the folder, and a link to it inside."""
    outside.mkdir(exist_ok=True)
    target = outside / Path(name).name
    (folder / name).rename(target)
    (folder / name).symlink_to(target)


def tokenizer_folders(folder: Path) -> dict[str, Callable[[], object]]:
    """How each kind of tokenizer's files come into a model's folder."""
    corpus = folder.parent / "corpus"
    corpus.write_text("to be or not to be")
    bpe = Tokenizer.train(corpus, 262, ["</s>"])
    nested = folder / "source_tokenizer"
    return {
        "tokenizer.json": lambda: bpe.save(folder),
        "vocab.json": lambda: write_vocab_and_merges(bpe, folder),
        "merges.txt": lambda: write_vocab_and_merges(bpe, folder),
        "vocab.txt": lambda: (folder / "vocab.txt").write_text("[UNK]\nto\nbe\n"),
        "source_tokenizer/tokenizer.json": lambda: WordTokenizer(["<unk>", "to"]).save(nested),
    }


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "source_tokenizer/tokenizer.json"]
)
def test_a_tokenizer_is_not_read_through_a_link_out_of_its_folder(name: str, tmp_path: Path) -> None:
    folder = publish(tmp_path / "model")
    tokenizer_folders(folder)[name]()
    linked(folder, tmp_path / "outside", name)
    found = checkpoints.load(folder)
    assert (found.tokenizer, found.source_tokenizer) == (None, None)
    assert f"{name} is a link that leads out of the folder" in found.no_tokenizer
    if "/" not in name:
        with pytest.raises(TokenizerError, match="is a link that leads out"):
            Tokenizer.load(folder)
    assert name not in found.rest.contents


def test_a_folder_of_a_tokenizer_is_no_link_out_of_the_models(tmp_path: Path) -> None:
    folder = publish(tmp_path / "model")
    WordTokenizer(["<unk>", "to"]).save(tmp_path / "outside")
    (folder / "source_tokenizer").symlink_to(tmp_path / "outside")
    found = checkpoints.load(folder)
    assert found.source_tokenizer is None
    assert "leads out of the folder" in found.no_tokenizer
    assert not [name for name in found.rest.contents if name.startswith("source_tokenizer")]


# ---- costs


def written(tmp_path: Path, **parts: Any) -> Path:
    """A byte-level tokenizer.json with some parts in place of its own."""
    corpus = tmp_path / "corpus"
    corpus.write_text("to be or not to be")
    path = Tokenizer.train(corpus, 260).save(tmp_path / "tokenizer")
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))
    return path


def test_added_tokens_that_share_a_long_prefix_cost_no_more_than_others(tmp_path: Path) -> None:
    tokens = [{"id": 260 + number, "content": "x" * 1_000 + f"{number:05}"} for number in range(8_000)]
    path = written(tmp_path, added_tokens=tokens)
    with refused(path):
        Tokenizer.load(path)
    (tmp_path / "few").mkdir()
    path = written(tmp_path / "few", added_tokens=tokens[:200])
    with bounded(path):
        Tokenizer.load(path).encode("x" * 5_000)


def test_a_word_that_takes_seconds_is_not_promised(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n##a\n")
    path = Tokenizer.load(tmp_path / "vocab.txt").save(tmp_path)
    content = json.loads(path.read_text())
    content["model"]["max_input_chars_per_word"] = 10_000
    path.write_text(json.dumps(content))
    with refused(path):
        Tokenizer.load(path)


def test_a_pattern_of_a_strangers_is_never_run(tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    path = written(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]})
    with refused(path):
        Tokenizer.load(path)


def test_a_tree_of_pieces_is_bounded_before_it_is_grown(tmp_path: Path) -> None:
    choose = Random(1)
    for number, length in ((8_000, 1_000), (40_000, 100), (10, 0)):
        pieces = [["".join(choose.choices("abcdefgh", k=length)), -1.0] for _ in range(number)]
        model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], *pieces, *[["x"] * (not length)]]}
        (tmp_path / f"{number}").mkdir()
        path = written(tmp_path / f"{number}", model=model, added_tokens=[], pre_tokenizer=None)
        with refused(path):
            Tokenizer.load(path)


def test_layers_that_no_file_holds_are_refused_before_any_is_built(tmp_path: Path) -> None:
    for number in (3, 9_999, 10**6):
        folder = publish(tmp_path / f"{number}")
        set_config(folder, n_layer=number)
        with refused(folder):
            checkpoints.load(folder)
        with refused(folder):  # which builds the model before it takes the weights
            resolve({"model": {"from": str(folder)}})
    with pytest.raises(ConfigError, match=r"n_layers must be a whole number from 1 to 10,000, not 1000000"):
        api.build("gpt2", n_layers=10**6)


# ---- damage of every kind to every format


def spoilt(data: bytes, choose: Random) -> bytes:
    """A byte changed, or a part cut off, doubled or taken out."""
    place = choose.randrange(len(data))
    kind, length = choose.randrange(8), choose.randint(1, 20)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place:][:length] + data[place:]
    if kind == 2:
        return data[:place] + data[place + length :]
    return data[:place] + bytes([choose.randrange(256)]) + data[place + 1 :]


def sentencepiece_models() -> tuple[bytes, bytes]:
    """One that we read ourselves, and one of Marian's kind."""
    sentencepiece = pytest.importorskip("sentencepiece")
    models = []
    for kind in (
        {"model_type": "bpe", "vocab_size": 290, "byte_fallback": True, "normalization_rule_name": "identity"},
        {"model_type": "unigram", "vocab_size": 24},
    ):
        model = io.BytesIO()
        sentences = iter(["to be or not to be", "that is the question"] * 20)
        options = {"model_writer": model, "minloglevel": 2, "hard_vocab_limit": False, **kind}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, **options)
        models.append(model.getvalue())
    return models[0], models[1]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Folders of every format by the file that is to be spoilt in them."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "corpus").write_text("to be or not to be")
    bpe = Tokenizer.train(folder / "corpus", 262, ["</s>"])
    bpe.save(folder / "bpe")
    write_vocab_and_merges(bpe, folder / "pair")
    pair = {name: (folder / "pair" / name).read_bytes() for name in ("vocab.json", "merges.txt")}
    own, marian = sentencepiece_models()
    ids = json.dumps({"<unk>": 0, "</s>": 1, "▁to": 2, "▁be": 3}).encode()
    translators = {"target.spm": marian, "source.spm": marian, "vocab.json": ids}
    model = {path.name: path.read_bytes() for path in publish(folder / "model", GPT2Config(**SMALL)).iterdir()}
    model["generation_config.json"] = b'{"eos_token_id": [2, 4], "bad_words_ids": [[3]], "temperature": 0.7}'
    pickled = io.BytesIO()
    torch.save(as_nanogpt(GPT2(replace(NANO, n_layers=1)), prefix=""), pickled)
    return {
        "tokenizer.json": {"tokenizer.json": (folder / "bpe" / "tokenizer.json").read_bytes()},
        "vocab.json": pair,
        "merges.txt": pair,
        "vocab.txt": {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\n##s\n"},
        "tokenizer.model": {"tokenizer.model": own},
        "target.spm": translators,
        "config.json": model,
        "generation_config.json": model,
        "model.safetensors": model,
        "ckpt.pt": {"ckpt.pt": pickled.getvalue()},
    }


SMALL: dict[str, Any] = {"vocab_size": 5, "context_length": 8, "d_model": 4, "n_layers": 1, "n_heads": 2, "d_ff": 6}
NAMES = ["tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "target.spm", "config.json"]
NAMES += ["generation_config.json", "model.safetensors", "ckpt.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(
    name: str, published: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    choose, contents = Random(name), published[name]
    for number in range(count("damaged files of a format")):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for other, data in contents.items():
            (folder / other).write_bytes(spoilt(data, choose) if other == name else data)
        with bounded(folder), suppress(GlassformerError):
            if name == "ckpt.pt":
                checkpoints.load(folder / name, from_pickle=True)
            elif "config.json" in contents:
                api.save(api.load(folder), folder / "copy")
            else:
                tokenizer = Tokenizer.load(folder)
                tokenizer.decode(tokenizer.encode("hello, to be 😀</s>\n"))
                tokenizer.save(folder / "copy")

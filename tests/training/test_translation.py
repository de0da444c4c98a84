"""Translation as a task: what a batch is, that it learns, and that a resumed run is the one that was not stopped."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glassformer as gf
from glassformer.config import merge
from glassformer.data.pairs import read_pairs
from glassformer.errors import ConfigError, DataError
from glassformer.inference.beam import Beams, beam_search
from glassformer.nn.kv_cache import full
from glassformer.training.config import RunConfig
from glassformer.training.load_config import resolve
from glassformer.training.loop import train
from glassformer.training.tasks.translation import END, PAD, START, Translation
from support.encoder_decoders import saved_bart, saved_t5
from training.runs import everything

transformers = pytest.importorskip("transformers")

WORDS = {"one": "eins", "two": "zwei", "dog": "Hund", "cat": "Katze"}
TRANSFORMER = {
    "architecture": "transformer",
    "context_length": 32,
    "d_model": 32,
    "n_encoder_layers": 1,
    "n_decoder_layers": 1,
    "n_heads": 2,
    "d_ff": 64,
    "dropout": 0.0,
}
BART, T5 = {**TRANSFORMER, "architecture": "bart"}, {**TRANSFORMER, "architecture": "t5", "d_head": 16}
LUONG = {"architecture": "seq2seq", "d_model": 64, "attention": "general", "input_feeding": True, "bidirectional": True}


def pairs(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """One or two words, and their translations, the last one first."""
    chosen = random.Random(seed)
    found = []
    for _ in range(n):
        words = chosen.choices(sorted(WORDS), k=chosen.randint(1, 2))
        found.append((" ".join(words), " ".join(WORDS[word] for word in reversed(words))))
    return found


def config(folder: Path, base: dict[str, Any], **changes: Any) -> RunConfig:
    (folder / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs(400)))
    settings = {
        "model": base,
        "data": {"path": str(folder / "pairs.tsv"), "tokenizer": "bpe:300"},
        "batch_size": 16,
        "steps": 6,
        "accumulation": 2,
        "eval_interval": 0,
        "save_interval": 3,
        "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
        "schedule": {"warmup_steps": 2},
    }
    return resolve(merge(settings, changes))


def test_a_batch_is_what_the_paper_trains_on(tmp_path: Path) -> None:
    run = config(tmp_path, TRANSFORMER)
    task = Translation(run, tmp_path / "tokens", lambda sentence: None)
    tokenizer = task.extras["tokenizer"]
    pad, start, end = (tokenizer.special_tokens[name] for name in (PAD, START, END))
    batch = task.batch(0, 1)
    source, tokens, valid = batch.inputs
    known = dict(pairs(400))
    for row in range(len(source)):
        text = source[row][valid[row]].tolist()
        asked = batch.targets[row][batch.targets[row] != -100].tolist()
        assert text[-1] == asked[-1] == end
        assert tokenizer.decode(asked[:-1]) == known[tokenizer.decode(text[:-1])]
        assert tokens[row, : len(asked)].tolist() == [start, *asked[:-1]]
        assert (source[row][~valid[row]] == pad).all()
    assert batch.count == int((batch.targets != -100).sum())
    assert task.settings == {"vocab_size": tokenizer.vocab_size, "start_id": start, "eos_id": end, "pad_id": pad}


def test_padding_changes_no_answer(tmp_path: Path) -> None:
    task = Translation(config(tmp_path, TRANSFORMER), tmp_path / "tokens", lambda sentence: None)
    settings = {name: value for name, value in TRANSFORMER.items() if name != "architecture"}
    model = gf.build("transformer", **settings, **task.settings)
    rows = next(iter(task.order.in_turn()))
    mixed = np.array([rows[0], int(task.order.lengths.argmax())])
    together = task.logits(model.module, task.of(task.training, mixed))
    for place, row in enumerate(mixed):
        alone = task.logits(model.module, task.of(task.training, np.array([row])))
        torch.testing.assert_close(together[place, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def test_a_tab_within_a_text_does_not_move_what_is_held_out(tmp_path: Path) -> None:
    both = {"en": [f"a\tx {n}" for n in range(20)], "de": [f"A {n}" for n in range(20)]}
    for language, lines in both.items():
        (tmp_path / f"corpus.{language}").write_text("\n".join(lines))
    place = {"path": str(tmp_path / "corpus.en"), "target_path": str(tmp_path / "corpus.de"), "tokenizer": "bpe:300"}
    run = config(tmp_path, TRANSFORMER, data=place | {"validation_fraction": 0.2})
    Translation(run, tmp_path / "tokens", lambda sentence: None)
    held_out = read_pairs(tmp_path / "tokens" / "validation.tsv")
    assert held_out
    assert all(source == f"a x {target[2:]}" for source, target in held_out)


def test_what_is_held_out_is_kept_and_none_of_its_texts_is_trained_on(tmp_path: Path) -> None:
    task = Translation(config(tmp_path, TRANSFORMER), tmp_path / "tokens", lambda sentence: None)
    held_out = read_pairs(tmp_path / "tokens" / "validation.tsv")
    assert len(held_out) == len(task.validation[0])
    decode = task.extras["tokenizer"].decode
    sources = {decode(task.training[0][row][:-1].tolist()) for row in range(len(task.training[0]))}
    assert sources
    assert not sources & {source for source, _ in held_out}


@pytest.mark.parametrize("model", [TRANSFORMER, LUONG, BART, T5], ids=["Transformer", "Luong", "BART", "T5"])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_it_learns_to_translate(tmp_path: Path, model: dict[str, Any]) -> None:
    known = {"validation_path": str(tmp_path / "pairs.tsv")}  # there are twenty pairs, and all are trained on
    run = config(tmp_path, model, steps=200, accumulation=1, save_interval=0, data=known)
    ended = train(run, tmp_path / "run")
    assert ended.figures["loss"] < 1, "it begins above 5"
    translator = gf.load(tmp_path / "run")
    assert translator.kind == "encoder-decoder"
    tokenizer, held_out = translator.tokenizer, pairs(20, seed=1)
    assert tokenizer is not None
    sources = [[*tokenizer.encode(source), translator.config.eos_id] for source, _ in held_out]
    right = 0
    for source, (_, wanted) in zip(sources, held_out, strict=True):
        ((best,),) = beam_search(
            translator.module,  # type: ignore[arg-type]
            [[translator.config.start_id]],
            source=torch.tensor([source]),
            beams=Beams(n_beams=2),
            max_new_tokens=20,
            stop_tokens=frozenset({translator.config.eos_id}),
        )
        right += tokenizer.decode(best.tokens[:-1]) == wanted
    assert right >= 12, "none would be by chance"


def test_a_resumed_run_is_the_one_that_was_not_stopped(tmp_path: Path) -> None:
    model = {**TRANSFORMER, "dropout": 0.2}
    run = config(tmp_path, model, schedule={"kind": "constant"})
    train(run, tmp_path / "whole")
    half = config(tmp_path, model, schedule={"kind": "constant"}, steps=3)
    train(half, tmp_path / "half")
    (tmp_path / "pairs.tsv").unlink()
    train(run, tmp_path / "half", resume=True)
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"data": {"tokenizer": "char"}}, ConfigError, "no token that ends a text"),
        ({"task": "sort"}, ConfigError, "trains a language model, and this is an encoder-decoder"),
        ({"model": {"pad_id": 7}}, ConfigError, "pad_id is 7, but the data says"),
        ({"model": {"context_length": 1}}, DataError, "No pair of texts fits"),
        ({"data": {"path": ""}}, DataError, "set data.path"),
        ({"data": {"target_path": "nowhere.de"}}, DataError, "no file nowhere.de"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        train(config(tmp_path, TRANSFORMER, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    gf.Tokenizer.train([Path(__file__)], 300).save(tmp_path / "plain")
    run = config(tmp_path, TRANSFORMER, data={"tokenizer": str(tmp_path / "plain")})
    with pytest.raises(ConfigError, match="has no </s>"):
        train(run, tmp_path / "run")


@pytest.mark.parametrize("save", [saved_t5, saved_bart])
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_published_model_learns_with_its_own_tokens(save: Callable[[Path, list[str]], Any], tmp_path: Path) -> None:
    texts = [text for pair in pairs(20) for text in pair]
    published = save(tmp_path / "published", texts)
    published.save_pretrained(tmp_path / "published")
    before = gf.load(tmp_path / "published")
    settings = {"model": {"from": str(tmp_path / "published"), "dropout": 0.0}, "data": {"tokenizer": "auto"}}
    run = config(tmp_path, {}, **settings, steps=4, accumulation=1)
    task = Translation(run, tmp_path / "tokens", lambda sentence: None)
    source, tokens, valid = task.batch(0, 0).inputs
    targets = task.batch(0, 0).targets
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "published")
    known = dict(pairs(400))
    read_again = read.batch_decode(source, skip_special_tokens=True)
    for row in range(len(source)):
        assert read(read_again[row])["input_ids"] == source[row][valid[row]].tolist()
    labels = torch.tensor(read([known[text] for text in read_again], padding=True)["input_ids"])
    labels = labels.masked_fill(labels == read.pad_token_id, -100)
    assert torch.equal(targets, labels)
    module, theirs = before.module.double().eval(), published.double().eval()
    logits = module(tokens, module.begin(source, full(tokens.shape[1]), valid))
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100)
    expected = theirs(input_ids=source, attention_mask=valid.long(), labels=labels).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    train(run, tmp_path / "run")
    after = gf.load(tmp_path / "run")
    assert after.config == replace(before.config, dropout=0.0)
    assert after.tokenizer.vocab == before.tokenizer.vocab
    assert not torch.equal(next(after.module.parameters()), next(before.module.parameters()))
    assert len(after.translate("one dog", max_new_tokens=5)) == 1


def test_a_model_with_two_tokenizers_is_refused_in_a_sentence(tmp_path: Path) -> None:
    words, others = (gf.Tokenizer.train([Path(__file__)], n, [PAD, START, END]) for n in (300, 310))
    ids = {f"{name}_id": words.special_tokens[token] for name, token in (("pad", PAD), ("start", START), ("eos", END))}
    sizes = {**LUONG, "d_model": 8, "vocab_size": 300, "source_vocab_size": 310, **ids}
    del sizes["architecture"]
    model = gf.build("seq2seq", **sizes).having(tokenizer=words, source_tokenizer=others)
    gf.save(model, tmp_path / "model")
    run = config(tmp_path, {}, model={"from": str(tmp_path / "model")}, data={"tokenizer": "auto"})
    with pytest.raises(ConfigError, match=r"reads its sources by a tokenizer of their own.*let it be learned"):
        train(run, tmp_path / "run")

"""Marian's pairs of tokenizers give the ids and texts of `transformers`' MarianTokenizer."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.formats import find_source
from glassformer.tokenizers.marian import MarianTokenizer, write_pair
from support.counts import count

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

ENGLISH = "the cat sat on the mat. a dog, 12 houses and the rain! where is my cat? it was cold; they went home."
GERMAN = "die Katze saß auf der Matte. ein Hund, 12 Häuser und der Regen! wo ist meine Katze? es war kalt."
TEXTS = ["", " ", "the cat", "  the   cat ", "Ｔｈｅ ﬁne cat", "日本 cat", "a\nb\tc", ">>deu<< the cat", ">>xyz<< cat"]
TEXTS += ["</s>", "the cat </s> sat", "<pad>the", "cat >>deu<< dog", "▁cat", "ß", ">>", "the <unk> cat"]


def model_of(text: str, kind: str) -> bytes:
    """A small sentencepiece model that normalises as opus-mt's do."""
    sentences = [" ".join(random.Random(i).sample(text.split(), 8)) for i in range(300)]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=80,
        model_type=kind,
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return written.getvalue()


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def models(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    return model_of(ENGLISH, request.param), model_of(GERMAN, request.param)


def pieces(model: bytes) -> list[str]:
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [library.id_to_piece(id) for id in range(3, library.get_piece_size())]


def vocabulary(*models: bytes) -> dict[str, int]:
    """Ids as Marian has them, apart from those of pieces; some pieces have none."""
    known = dict.fromkeys(piece for model in models for piece in pieces(model)[::-1] if piece not in "qz")
    return {token: id for id, token in enumerate(["</s>", "<unk>", "<pad>", ">>deu<<", *known])}


def folder_of(folder: Path, models: tuple[bytes, bytes], *, separate: bool) -> Path:
    """A folder as it is published."""
    folder.mkdir(exist_ok=True)
    (folder / "source.spm").write_bytes(models[0])
    (folder / "target.spm").write_bytes(models[1])
    ids = vocabulary(models[0]) if separate else vocabulary(*models)
    (folder / "vocab.json").write_text(json.dumps(ids))
    if separate:
        (folder / "target_vocab.json").write_text(json.dumps(vocabulary(models[1])))
    (folder / "tokenizer_config.json").write_text(json.dumps({"separate_vocabs": separate}))
    return folder


def read(folder: Path) -> tuple[MarianTokenizer, MarianTokenizer]:
    path = find_source(folder)
    assert path is not None
    source, target = Tokenizer.load(path), Tokenizer.load(folder)
    assert isinstance(source, MarianTokenizer)
    assert isinstance(target, MarianTokenizer)
    return source, target


def theirs_of(folder: Path) -> Any:
    with pytest.warns(UserWarning, match="sacremoses"):
        return transformers.MarianTokenizer.from_pretrained(folder)


def texts() -> list[str]:
    choose = random.Random(0)
    words = [*ENGLISH.split(), *GERMAN.split(), "queue", "ﬁ", "…", "日本", "12", "\u200b", "\u00a0", "  "]
    drawn = [" ".join(choose.choices(words, k=choose.randint(1, 9))) for _ in range(count("texts for Marian"))]
    return TEXTS + drawn


@pytest.mark.parametrize("separate", [False, True])
def test_ids_and_texts_are_those_of_transformers(tmp_path: Path, models: tuple[bytes, bytes], separate: bool) -> None:
    folder = folder_of(tmp_path / "published", models, separate=separate)
    source, target = read(folder)
    theirs = theirs_of(folder)
    for text in texts():
        assert [*source.encode(text), source.eos_id] == theirs(text).input_ids, text
        ids = theirs(text_target=text).input_ids
        assert [*target.encode(text), target.eos_id] == ids, text
        if "<" not in text:
            plain = [id for id in ids if id not in target.special_tokens.values()]
            assert target.decode(plain).strip() == theirs.decode(plain), text
            stream = target.stream()
            assert "".join(map(stream.push, plain)) + stream.finish() == target.decode(plain)


@pytest.mark.parametrize("separate", [False, True])
def test_what_is_written_is_read_as_the_same_here_and_there(
    tmp_path: Path, models: tuple[bytes, bytes], separate: bool
) -> None:
    pair = read(folder_of(tmp_path / "published", models, separate=separate))
    write_pair(tmp_path / "ours", *pair)
    (tmp_path / "ours" / "tokenizer_config.json").write_text(json.dumps({"separate_vocabs": separate}))
    again, theirs = read(tmp_path / "ours"), theirs_of(tmp_path / "ours")
    for text in texts():
        assert [tokenizer.encode(text) for tokenizer in again] == [tokenizer.encode(text) for tokenizer in pair]
        assert [*again[0].encode(text), again[0].eos_id] == theirs(text).input_ids


def test_what_is_no_model_and_what_lacks_a_vocabulary_is_refused(tmp_path: Path, models: tuple[bytes, bytes]) -> None:
    folder = folder_of(tmp_path / "broken", models, separate=False)
    (folder / "target.spm").write_bytes(b"no model")
    with pytest.raises(TokenizerError, match=r"target\.spm: this is no sentencepiece model"):
        Tokenizer.load(folder)
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(TokenizerError, match=r"source\.spm: the vocabulary lacks <unk> or </s>"):
        Tokenizer.load(folder / "source.spm")
    (folder / "vocab.json").unlink()
    with pytest.raises(TokenizerError, match=r"source\.spm: expected vocab.json beside it"):
        Tokenizer.load(folder / "source.spm")

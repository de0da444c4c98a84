"""WordPiece against transformers' BERT tokenizer, with a vocabulary learnt here."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import tokenizers
from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer
from support.counts import count
from tokenizers import trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def vocab(random_texts: Any) -> dict[str, int]:
    """Pieces of some random texts in many scripts; not all characters are among them."""
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, limit_alphabet=300, show_progress=False)
    library.train_from_iterator([*random_texts(800), *["The cat sat unaffably on the mat, doesn't it!"] * 90], trainer)
    return {token: library.token_to_id(token) for token in library.get_vocab()}


def theirs(tokenizer: WordPieceTokenizer) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.BertTokenizer(
        vocab=tokenizer.pieces,
        do_lower_case=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        tokenize_chinese_chars=tokenizer.split_chinese,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lowercase": False},
        {"strip_accents": False},
        {"lowercase": False, "strip_accents": True},
        {"split_chinese": False},
    ],
    ids=str,
)
def test_ids_and_types_are_those_of_transformers(
    settings: dict[str, Any], vocab: dict[str, int], random_texts: Any
) -> None:
    ours = WordPieceTokenizer(vocab, **settings)
    reference = theirs(ours)
    texts = [*random_texts(count("tokenizer parity strings") // 20), "the [MASK] sat", "a" * 101, "", "  x\x1cy\x00z "]
    for text in texts:
        assert ours.encode(text) == reference(text, add_special_tokens=False)["input_ids"], text
    for first, second in itertools.pairwise(texts):
        if second and "[" not in first + second:  # an empty second text counts as none there
            pair = reference(first, second)
            assert ours.sequence(first, second) == (pair["input_ids"], pair["token_type_ids"]), (first, second)
    assert ours.encode("[MASK]") == [vocab["[MASK]"]]
    assert vocab["[MASK]"] not in ours.encode("[MASK]", allowed_special="none")


def test_chunks_of_a_text_give_the_ids_of_the_whole(vocab: dict[str, int], random_texts: Any) -> None:
    ours = WordPieceTokenizer(vocab)
    text = " ".join(random_texts(300))
    assert list(ours.encode_iterable(text[i : i + 7] for i in range(0, len(text), 7))) == ours.encode(text)


def test_decoding_gives_the_words(vocab: dict[str, int]) -> None:
    ours = WordPieceTokenizer(vocab)
    ids = ours.encode("The cat, unaffably!")
    assert ours.decode(ids) == "the cat , unaffably !"
    assert len(ids) > 4
    stream = ours.stream()
    assert "".join(map(stream.push, ids)) + stream.finish() == "the cat , unaffably !"


@pytest.mark.parametrize("cleanup", [True, False])
def test_decoded_texts_are_those_of_transformers(
    cleanup: bool, vocab: dict[str, int], tmp_path: Path, random_texts: Any
) -> None:
    transformers = pytest.importorskip("transformers")
    WordPieceTokenizer(vocab, cleanup=cleanup).save(tmp_path)
    ours, reference = Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*random_texts(200), "The cat, it doesn't!", "a.b ? 'c' 's 'm do not", ". . , '"]:
        ids = ours.encode(text, allowed_special="none")
        expected = reference.decode(ids)
        assert ours.decode(ids) == expected
        stream = ours.stream()
        assert "".join(map(stream.push, ids)) + stream.finish() == expected


def test_texts_of_a_vocab_txt_are_those_of_transformers(vocab: dict[str, int], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    lines = sorted(vocab, key=vocab.__getitem__)
    (tmp_path / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), newline="\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    ours, reference = Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = ours.encode("The cat, unaffably! It doesn't.")
    assert ours.decode(ids) == reference.decode(ids)


def test_what_is_saved_is_the_same_here_and_in_tokenizers(
    vocab: dict[str, int], tmp_path: Path, random_texts: Any
) -> None:
    ours = WordPieceTokenizer(vocab, lowercase=False, strip_accents=True)
    path = ours.save(tmp_path)
    again, library = Tokenizer.load(tmp_path), tokenizers.Tokenizer.from_file(str(path))
    assert isinstance(again, WordPieceTokenizer)
    assert again.tokenizer_json() == ours.tokenizer_json()
    for text in random_texts(100):
        ids, types = ours.sequence(text)
        assert again.sequence(text) == (ids, types)
        if "[" not in text:
            encoded = library.encode(text)
            assert (encoded.ids, encoded.type_ids) == (ids, types)
            assert library.decode(ids, skip_special_tokens=False) == ours.decode(ids)


def test_vocab_txt_is_read_and_says_itself_whether_it_is_uncased(vocab: dict[str, int], tmp_path: Path) -> None:
    for name, pieces in {
        "cased": vocab,
        "uncased": {p: i for p, i in vocab.items() if p in SPECIAL or p.islower()},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=lambda piece: pieces[piece])) + "\n")
        found = Tokenizer.load(folder)
        assert isinstance(found, WordPieceTokenizer)
        assert found.lowercase == (name == "uncased")
        assert found.bos_id == 2
        assert found.special_tokens.keys() == set(SPECIAL)


def test_padding_and_truncation_of_a_published_file_are_the_callers_business(
    vocab: dict[str, int], tmp_path: Path
) -> None:
    file = json.loads(WordPieceTokenizer(vocab).tokenizer_json())
    file["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    file["padding"] = {"strategy": {"Fixed": 128}, "pad_id": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    assert len(Tokenizer.load(tmp_path).encode("the cat sat on the mat")) >= 6


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("normalizer", {"lowercase": "yes"}, "lowercase must be true or false"),
        ("decoder", {"type": "ByteLevel"}, "data did not match"),
        ("model", {"max_input_chars_per_word": -1}, "max_input_chars_per_word must be a whole number"),
        ("model", {"vocab": {"a": 0}}, r"disagree about the id|lacks \[UNK\]"),
        ("model", {"vocab": {"[UNK]": 0, "a": 0}}, "two tokens have the same id"),
    ],
)
def test_a_file_that_we_cannot_follow_is_refused(
    part: str, change: dict[str, Any], says: str, vocab: dict[str, int], tmp_path: Path
) -> None:
    file = json.loads(WordPieceTokenizer(vocab).tokenizer_json())
    file[part] |= change
    if "vocab" in change:
        file["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(TokenizerError, match=says):
        Tokenizer.load(tmp_path)


def test_lines_of_vocab_txt_end_as_files_do_and_not_at_every_separator_of_unicode(tmp_path: Path) -> None:
    pieces = [*SPECIAL, "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "a\u2028b", "hello"]
    for end in ("\n", "\r\n"):
        (tmp_path / "vocab.txt").write_bytes("".join(piece + end for piece in pieces).encode())
        ours = Tokenizer.load(tmp_path)
        assert isinstance(ours, WordPieceTokenizer)
        assert list(ours.pieces) == pieces
        assert ours.encode("hello") == [len(pieces) - 1]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("strip_accents", [None, False, True])
@pytest.mark.parametrize("chinese", [False, True])
def test_the_settings_of_a_folder_without_tokenizer_json_are_those_of_transformers(
    lowercase: bool, strip_accents: bool | None, chinese: bool, tmp_path: Path, random_texts: Any
) -> None:
    transformers = pytest.importorskip("transformers")
    pieces = [*SPECIAL, "hello", "world", "cafe", "café", "你", "你好", "##好", "Hello"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    settings = {"do_lower_case": lowercase, "strip_accents": strip_accents, "tokenize_chinese_chars": chinese}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "BertTokenizer"}))
    ours, theirs = Tokenizer.load(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
    for text in ["Hello world", "hello CAFÉ café", "你好 hello", *random_texts(20)]:
        assert ours.encode(text, special=True) == theirs(text)["input_ids"], text


def test_a_vocabulary_without_capitals_is_cased_where_its_settings_say_so(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[CLS]\n[UNK]\n[SEP]\n[MASK]\na\nhello\nworld\n")
    assert Tokenizer.load(tmp_path).encode("Hello world") == [6, 7]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert Tokenizer.load(tmp_path).encode("Hello world") == [2, 7]


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"a\nb\na\n", "stands on two lines"), (b"a\n", r"lacks \[UNK\]"), (b"\xff\xfe", "is not UTF-8")],
)
def test_a_broken_vocab_txt_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(TokenizerError, match=says):
        Tokenizer.load(tmp_path / "vocab.txt")

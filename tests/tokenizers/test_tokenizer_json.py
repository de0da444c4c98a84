"""tokenizer.json: what we write, `tokenizers` reads and encodes alike; what we cannot follow, we refuse."""

import base64
import copy
import json

import pytest

import tokenizers
from glassformer.errors import TokenizerError
from glassformer.tokenizers import BPETokenizer, CharTokenizer, SentencePieceTokenizer, Tokenizer
from glassformer.tokenizers.byte_level import BYTE_LEVEL
from glassformer.tokenizers.library import LibraryTokenizer
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

END = "<|endoftext|>"
OFF = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CHARACTERS = ["h", "e", "l", "o", "▁", "▁h", "lo", "el", "▁hel", "é"]
PIECES = ["<unk>", "<s>", "</s>", *BYTES, *CHARACTERS]
PUBLISHED = [
    "gpt2.tiktoken",
    pytest.param("cl100k_base.tiktoken", marks=pytest.mark.slow),
    pytest.param("o200k_base.tiktoken", marks=pytest.mark.slow),
    "llama2-tokenizer.model",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, random_texts):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("".join(random_texts(3_000)), encoding="utf-8", errors="replace")
    return path


def assert_same_everywhere(tokenizer: Tokenizer, folder, texts: list[str]) -> None:
    path = tokenizer.save(folder)
    again, theirs = Tokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))
    assert type(again) is type(tokenizer)
    assert (again.vocab, again.special_tokens) == (tokenizer.vocab, tokenizer.special_tokens)
    assert [entry.name for entry in folder.iterdir()] == ["tokenizer.json"]
    for text in texts:
        ids = tokenizer.encode(text)
        assert theirs.encode(text, add_special_tokens=False).ids == ids, text
        assert again.encode(text) == ids, text
        if not (set(ids) & set(tokenizer.special_tokens.values())):
            assert theirs.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids), text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_trained_tokenizer_is_the_same_in_tokenizers(pattern, corpus, tmp_path, random_texts):
    tokenizer = Tokenizer.train(corpus, 1_200, [END, END + END, "<|", "é☃ x"], pattern=pattern)
    texts = [*random_texts(count("tokenizer parity strings")), f"a é☃ x{END}{END}{END} b", "", " " * 300, "a" * 500]
    assert_same_everywhere(tokenizer, tmp_path, texts)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_tokenizer_is_the_same_in_tokenizers(name, data_dir, tmp_path, random_texts):
    texts = random_texts(count("tokenizer parity strings") // 4) + [f"a{' ' * n}b" for n in range(60)]
    assert_same_everywhere(Tokenizer.load(data_dir / "tokenizers" / name), tmp_path, texts)


@pytest.mark.parametrize("collapse_spaces", [False, True])
def test_a_sentencepiece_tokenizer_is_the_same_in_tokenizers(collapse_spaces, tmp_path, random_texts):
    scores = [-float(i) for i in range(len(PIECES))]
    tokenizer = SentencePieceTokenizer(PIECES, scores, collapse_spaces=collapse_spaces)
    texts = [*random_texts(500), "hello</s>hello", " hello  hello ", "hel lo<s> </s>"]
    assert_same_everywhere(tokenizer, tmp_path, texts)


def test_a_rank_vocabulary_with_a_token_that_no_merges_make_is_the_same_in_tokenizers(tmp_path):
    vocab = {byte: bytes([byte]) for byte in range(256)} | {256: b"abcd", 257: b"bc"}
    assert_same_everywhere(BPETokenizer(vocab, None, [END]), tmp_path, ["abcd", "abcde abc ab bc abcdabcd", END])


def test_sentencepieces_merges_may_come_in_any_order(tmp_path, random_texts):
    """As newer conversions of Llama 2 write the runs of spaces, whose scores are equal."""
    merges = [("▁", "h"), ("l", "o"), ("▁h", "el"), ("e", "l")]
    tokenizer = SentencePieceTokenizer(PIECES, None, merges=merges)
    assert_same_everywhere(tokenizer, tmp_path, [*random_texts(100), "hello hello", "lo hel"])


def test_a_character_tokenizer_is_the_same_in_tokenizers(tmp_path, random_texts):
    texts = [text for text in random_texts(500) if text]
    assert_same_everywhere(CharTokenizer.from_text(texts), tmp_path, texts)


def test_what_tokenizers_trains_and_writes_is_read(corpus, tmp_path, random_texts):
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERNS["llama3"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    theirs.decoder = decoders.ByteLevel()
    theirs.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<s>", END], initial_alphabet=alphabet)
    theirs.train([str(corpus)], trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    assert (ours.bos_id, ours.eos_id) == (0, 1)
    for text in random_texts(1_000):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_the_older_way_to_write_merges_is_read(corpus, tmp_path):
    tokenizer = Tokenizer.train(corpus, 400)
    file = json.loads(tokenizer.save(tmp_path).read_text())
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    again = Tokenizer.load(tmp_path)
    assert isinstance(again, BPETokenizer)
    assert again.merges == tokenizer.merges


# ---- what we do not do is refused


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    tokenizer = BPETokenizer({byte: bytes([byte]) for byte in range(256)} | {256: b"ab"}, [(b"a", b"b")], [END])
    return json.loads(tokenizer.save(tmp_path_factory.mktemp("written")).read_text())


def loaded(file: object, folder) -> Tokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return Tokenizer.load(folder)


def split(pattern: str, **options) -> dict:
    before = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} | options
    return {"type": "Sequence", "pretokenizers": [before, BYTE_LEVEL | {"use_regex": False}]}


def template(parts: list[dict], tokens: dict | None = None) -> dict:
    return {"type": "TemplateProcessing", "single": parts, "special_tokens": tokens or {"x": {"ids": [1]}}}


A = {"Sequence": {"id": "A", "type_id": 0}}
CHARSMAPS = [None, "?", "AAAA", base64.b64encode(b"\4\0\0\0" + b"\0" * 4 + b"x" * 100_000).decode()]
UNSUPPORTED = {
    ("normalizer",): [
        *(3, [], {"type": "Novelty"}, {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}),
        {"type": "Replace", "pattern": {"Regex": "(a|a)*$"}, "content": ""},
        {"type": "Prepend", "prepend": "x" * 10_000},
        {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 20},
        *({"type": "Precompiled", "precompiled_charsmap": table} for table in CHARSMAPS),
    ],
    ("pre_tokenizer",): [
        *({"type": "Metaspace"}, split("(a+)+$"), {"type": "Sequence", "pretokenizers": 5}, split("[a")),
        {"type": "FixedLength", "length": 0},
    ],
    ("decoder",): [{"type": "WordPiece"}, "ByteLevel"],
    ("post_processor",): [
        *({"type": "BertProcessing"}, 7, {"type": "Sequence", "processors": [{"type": "Other"}]}),
        {"type": "RobertaProcessing", "cls": ["a", -1], "sep": ["b", 1]},
        {"type": "RobertaProcessing", "cls": ["a", True], "sep": ["b", 1]},
        template([]),
        template([A, A]),
        template([{"SpecialToken": {"id": "y"}}, A]),
        template([{"SpecialToken": {"id": "x"}}] * 1_000 + [A]),
        template([A], {"x": 5}) | {"single": 5},
        template([{"SpecialToken": {"id": "x"}}, A], {"x": {"ids": ["1"]}}),
        template([{"SpecialToken": {"id": "x"}}, A], {"x": {"ids": [1] * 1_000}}),
    ],
    ("surprise",): [1, None],
    ("added_tokens",): [
        None,
        {},
        "x",
        [1],
        [{"id": 5}],
        [{"id": "5", "content": "x"}],
        [{"id": True, "content": "x"}],
        [{"id": -1, "content": "x"}],
        [{"id": 300, "content": ""}],
        [{"id": 257, "content": "\ud800"}],
        [{"id": 257, "content": "x" * 10_000}],
        [{"id": 257 + i, "content": f"<{i}>"} for i in range(20_000)],
        [{"id": 10**9, "content": "x"}],
        [{"id": 97, "content": "x"}],
        [{"id": 5, "content": END}],
        [{"id": 257, "content": END}, {"id": 257, "content": "y"}],
        [{"id": 257, "content": END}, {"id": 258, "content": END}],
    ],
    ("model",): [None, 5, [], {}, {"type": "Unigram", "vocab": []}, {"type": "WordPiece", "vocab": {}}, {"type": 3}],
    ("model", "dropout"): [0.1, "x"],
    ("model", "continuing_subword_prefix"): ["##"],
    ("model", "ignore_merges"): ["yes", 1],
    ("model", "vocab"): [
        None,
        [],
        {},
        {"a": 0},
        {"a": -1},
        {"a": 0.0},
        {"a": True},
        {"a": "0"},
        {"a": 1e400},
        {"a": None},
        {"a": 0, "b": 0},
        {" ": 0},
        {"\ud800": 0},
    ],
    ("model", "vocab", "ab"): [97, 400, 10**9, -1, 1.5, None],
    ("model", "merges"): [
        None,
        {},
        "a b",
        [1],
        ["ab"],
        ["a b c"],
        [["a"]],
        [["a", 1]],
        [["a", ""]],
        [["a", "c"]],
        [["a", "b"], ["a", "b"]],
        [["zz", "b"]],
        [["a", " "]],
        [{}],
    ],
}


@pytest.mark.parametrize(
    ("where", "value"),
    [(where, value) for where, values in UNSUPPORTED.items() for value in values],
    ids=lambda v: repr(v)[:60],
)
def test_a_file_that_we_cannot_follow_is_refused_in_one_sentence(where, value, written, tmp_path):
    file = copy.deepcopy(written)
    part = file
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(TokenizerError) as refused:
        loaded(file, tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokenizer.json"]


OF_THE_LIBRARY = {
    "normalizer": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Sequence", "normalizers": []}],
    "pre_tokenizer": [
        *(None, {"type": "Whitespace"}, BYTE_LEVEL | {"add_prefix_space": True}, BYTE_LEVEL | {"use_regex": False}),
        *(split(PATTERNS["gpt2"], behavior="MergedWithNext"), split(PATTERNS["gpt2"], invert=True)),
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
    ],
    "decoder": [None, {"type": "Fuse"}],
    "added_tokens": [[{"id": 257, "content": END, **OFF, o: True}] for o in ("lstrip", "rstrip", "single_word")],
}


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in OF_THE_LIBRARY.items() for value in values], ids=str
)
def test_what_our_classes_do_not_follow_the_library_does(part, value, written, tmp_path, random_texts):
    ours = loaded(written | {part: value}, tmp_path)
    assert isinstance(ours, LibraryTokenizer)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [*random_texts(60), f"ab  {END} ab, ABe\u0301"]:
        ids = library.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == ids
        if part != "decoder":
            assert ours.decode(ids) == library.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("added", ["д", " ab", "\n\n"])
def test_an_added_token_may_have_the_bytes_of_an_ordinary_one(added, tmp_path, random_texts):
    vocab = {byte: bytes([byte]) for byte in range(256)} | {256: b"ab", 257: b" ab", 258: b"\n\n", 259: "д".encode()}
    merges = [(b"a", b"b"), (b" ", b"ab"), (b"\n", b"\n"), (b"\xd0", b"\xb4")]
    written = json.loads(BPETokenizer(vocab, merges).tokenizer_json())
    ours = loaded(written | {"added_tokens": [{"id": 260, "content": added, **OFF}]}, tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [*random_texts(60), "x ab ab\n\nдд"]:
        ids = library.encode(text).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == text
    assert 260 in ids


def test_byte_level_bpe_by_the_recipe_of_courses_opens(tmp_path):
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    theirs.train_from_iterator(["the cat ate the hat"] * 5, trainers.BpeTrainer(vocab_size=40, show_progress=False))
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    assert ours.encode("that cat") == theirs.encode("that cat").ids
    with pytest.raises(TokenizerError, match="lacks the byte 0x64, which ' dog' needs"):
        ours.encode("the dog")


def test_a_text_may_be_refused_by_the_library_in_one_sentence(written, tmp_path):
    words = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "<unk>"}
    ours = loaded(written | {"model": words, "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}, tmp_path)
    assert ours.encode("a b") == [0, 1]
    with pytest.raises(TokenizerError, match="the tokenizers library says: WordLevel error: Missing"):
        ours.encode("a c")


def test_sentencepiece_files_of_other_kinds_are_refused(tmp_path):
    tokenizer = SentencePieceTokenizer(PIECES, [-float(i) for i in range(len(PIECES))])
    written = json.loads(tokenizer.save(tmp_path).read_text())
    for part, value in (
        ("pre_tokenizer", {"type": "Metaspace"}),
        ("decoder", {"type": "ByteLevel"}),
        ("model", written["model"] | {"merges": [["h", "zz"]]}),
        ("model", written["model"] | {"vocab": written["model"]["vocab"] | {"zz": 999}}),
        ("model", written["model"] | {"vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}, "merges": []}),
    ):
        with pytest.raises(TokenizerError):
            loaded(written | {part: value}, tmp_path)


def test_word_level_files_of_words_are_refused(tmp_path):
    written = json.loads(CharTokenizer("ABC").save(tmp_path).read_text())
    for vocab in ({"hello": 0}, {"A": 0, "B": 2}, {"A": 1}, {"": 0}):
        with pytest.raises(TokenizerError):
            loaded(written | {"model": written["model"] | {"vocab": vocab}}, tmp_path)


def test_a_special_token_that_is_written_as_another_token_is_refused(tmp_path):
    tokenizer = BPETokenizer({byte: bytes([byte]) for byte in range(256)}, [], ["Ġ"])
    with pytest.raises(TokenizerError, match="cannot hold the special token"):
        tokenizer.save(tmp_path)
    assert list(tmp_path.iterdir()) == []

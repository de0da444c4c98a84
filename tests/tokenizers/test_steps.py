"""A tokenizer at work, watched: what is shown is what encoding does."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from glassformer.tokenizers import CharTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer
from glassformer.tokenizers.subword import SPECIAL, SubwordTokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["▁", "t", "h", "e", "th", "the", "▁the", "c", "a"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Tokenizer:
    path = tmp_path_factory.mktemp("steps") / "corpus.txt"
    path.write_text("the cat sat on the mat; naïve 你好，世界。 " * 40)
    return Tokenizer.train([path], 320, ["<|endoftext|>"])


@pytest.fixture(params=["bytes", "bytes, rank only", "sentencepiece", "sentencepiece, collapsing"])
def tokenizer(request, trained) -> Tokenizer:
    match request.param:
        case "bytes":
            return trained
        case "bytes, rank only":
            return type(trained)(trained.vocab, None, trained.special_tokens)
    pieces = ["<unk>", "<s>", "</s>", *BYTES, *WORDS]
    scores = [0.0] * 259 + [float(len(word)) for word in WORDS]
    return SentencePieceTokenizer(pieces, scores, collapse_spaces="collapsing" in request.param)


def test_the_ids_of_the_pieces_are_those_of_the_text(tokenizer, random_texts):
    for text in [*random_texts(300), "", " ", "the cat" * 100, "<|endoftext|>the</s>the", "\ud800x"]:
        for special in ("all", "none"):
            pieces = tokenizer.steps(text, allowed_special=special)
            assert [id for piece in pieces for id in piece.ids] == tokenizer.encode(text, allowed_special=special)


def test_symbols_only_grow_together_and_end_as_the_tokens(tokenizer, random_texts):
    for text in [*random_texts(300), "x" * 1000]:
        for piece in tokenizer.steps(text):
            assert piece.symbols[-1] == [tokenizer.token_bytes(id) for id in piece.ids]
            assert len({b"".join(row) for row in piece.symbols}) == 1
            if len(piece.text) <= 64 and not tokenizer.special_tokens.get(piece.text):
                assert [len(row) for row in piece.symbols] == sorted({len(row) for row in piece.symbols}, reverse=True)


def test_each_merge_is_a_row(trained):
    (piece,) = trained.steps("the")
    assert [b" ".join(row) for row in piece.symbols] == [b"t h e", b"th e", b"the"]
    (special,) = trained.steps("<|endoftext|>")
    assert (special.special, special.ids) == (True, [trained.eos_id])


def test_characters_are_there_at_once():
    (piece,) = CharTokenizer("ABC").steps("CAB")
    assert (piece.ids, piece.symbols) == ([2, 0, 1], [[b"C", b"A", b"B"]])


def test_each_step_joins_the_neighbours_of_the_least_rank(trained):
    ranks = {pair: rank for rank, pair in enumerate(trained.merges)}
    steps = 0
    for piece in trained.steps("the cat sat on the mattress; naïve 你好"):
        for before, step in zip(piece.symbols, piece.steps, strict=False):
            least = min(ranks[pair] for pair in pairwise(before) if pair in ranks)
            assert step.rank == least == ranks[before[step.at], before[step.at + 1]]
            joined = before[step.at] + before[step.at + 1]
            assert step.symbols == [*before[: step.at], joined, *before[step.at + 2 :]]
            steps += 1
        assert not any(pair in ranks for pair in pairwise(piece.symbols[-1]))
    assert steps > 20


def test_a_word_that_is_a_token_without_merges_has_one_step_without_a_rank(trained):
    vocab = trained.vocab | {trained.vocab_size: b"xyz"}
    whole = type(trained)(vocab, trained.merges, trained.special_tokens, whole_pieces=True)
    (piece,) = whole.steps("xyz")
    assert (piece.begin, [step.rank for step in piece.steps]) == ([b"x", b"y", b"z"], [None])


def test_scores_of_sentencepiece_are_those_of_the_new_pieces():
    pieces = ["<unk>", "<s>", "</s>", *BYTES, *WORDS]
    scores = [0.0] * 259 + [float(len(word)) for word in WORDS]
    (piece,) = SentencePieceTokenizer(pieces, scores).steps("the")
    score_of = dict(zip(pieces, scores, strict=True))
    assert piece.begin == [b" ", b"t", b"h", b"e"]
    for step in piece.steps:
        assert step.score == score_of[step.symbols[step.at].decode().replace(" ", "▁")]
    assert piece.steps[-1].symbols == [b" the"]


def test_wordpiece_cuts_off_the_longest_match():
    vocab = ["[UNK]", "un", "##aff", "##able", "##a", "!"]
    tokenizer = WordPieceTokenizer({piece: id for id, piece in enumerate(vocab)})
    (piece,) = tokenizer.steps("Unaffable!")
    assert [b" ".join(row).decode() for row in piece.symbols] == [
        "unaffable !",
        "un affable !",
        "un ##aff able !",
        "un ##aff ##able !",
        "un ##aff ##able !",
    ]
    (unknown,) = tokenizer.steps("unx")
    assert [step.symbols for step in unknown.steps] == [[b"[UNK]"]]


def test_subwords_are_merged_and_what_the_dictionary_lacks_is_unknown():
    tokenizer = SubwordTokenizer([("l", "o"), ("w", "</w>"), ("lo", "w</w>")], [*SPECIAL, "low", "l@@"])
    low, _, lox = tokenizer.steps("low lox")
    assert [b" ".join(row) for row in low.symbols] == [b"l o w", b"lo w", b"low"]
    assert [b" ".join(row) for row in lox.symbols] == [b"l o x", b"lo x", b"<unk> x", b"<unk> <unk>"]


@pytest.fixture(params=["BPE", "BPE with </w>", "Unigram", "WordPiece"])
def by_library(request, tmp_path: Path) -> Tokenizer:
    """A tokenizer.json that the `tokenizers` library has trained, with a pipeline that is not one of ours."""
    library = pytest.importorskip("tokenizers")
    models, trainers = library.models, library.trainers
    model, trainer = {
        "BPE": (models.BPE(), trainers.BpeTrainer(vocab_size=60)),
        "BPE with </w>": (
            models.BPE(end_of_word_suffix="</w>"),
            trainers.BpeTrainer(vocab_size=60, end_of_word_suffix="</w>"),
        ),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer(vocab_size=40)),
        "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=60)),
    }[request.param]
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.NFC()
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    if request.param == "WordPiece":
        trainer.special_tokens = ["[UNK]"]
    tokenizer.train_from_iterator(["the cat sat on the mat, the hat that the cat has sat on"] * 20, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer.load(tmp_path)


def test_steps_of_the_librarys_models_end_in_its_tokens(by_library, tmp_path):
    kind = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"]
    assert by_library.method == {"BPE": "merges", "Unigram": "best path", "WordPiece": "longest match"}[kind]
    pieces = by_library.steps("the cats sat on that hat")
    assert [id for piece in pieces for id in piece.ids] == by_library.encode("the cats sat on that hat")
    for piece in pieces:
        assert piece.symbols[-1] == [by_library.token_bytes(id) for id in piece.ids]
    assert sum(bool(piece.steps) for piece in pieces) >= 5
    assert all((step.score is not None) == (kind == "Unigram") for piece in pieces for step in piece.steps)
    assert all((step.rank is not None) == (kind == "BPE") for piece in pieces for step in piece.steps)

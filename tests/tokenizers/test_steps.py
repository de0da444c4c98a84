"""A tokenizer at work, watched: what is shown is what encoding does."""

import pytest

from glassformer.tokenizers import CharTokenizer, SentencePieceTokenizer, Tokenizer

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

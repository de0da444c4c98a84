"""sentencepiece's BPE: the same ids as the library gives, and llama2.c's rules."""

import json
import random
import struct
import sys

import pytest
import regex

from glassformer.errors import MissingExtra, TokenizerError
from glassformer.tokenizers import SentencePieceTokenizer, Tokenizer
from support.chat_models import sentencepiece_tokenizer
from support.counts import count

sentencepiece = pytest.importorskip("sentencepiece")

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MODELS = ["tokenizers/llama2-tokenizer.model", "llama/tok512.model"]


def tiny(*words: str, **options) -> SentencePieceTokenizer:
    pieces = ["<unk>", "<s>", "</s>", *BYTES, *words]
    return SentencePieceTokenizer(pieces, [0.0] * 259 + [-float(i) for i in range(len(words))], **options)


@pytest.mark.parametrize("name", MODELS)
def test_ids_and_text_equal_the_librarys(name, data_dir, random_texts):
    ours = Tokenizer.load(data_dir / name)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(data_dir / name))
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (theirs.vocab_size(), theirs.bos_id(), theirs.eos_id())
    texts = random_texts(count("tokenizer parity strings")) + [f"a{' ' * n}b{' ' * n}" for n in range(60)]
    for text in texts:
        ids = theirs.encode(text)
        assert ours.encode(text, allowed_special="none") == ids, text
        if "▁" not in text:
            assert ours.decode(ids) == theirs.decode(ids), text


def test_bytes_that_are_not_utf8_are_text_as_the_library_has_them(tmp_path):
    """Each is one U+FFFD, and those around them are text; a tokenizer.json is read otherwise."""
    ours = sentencepiece_tokenizer(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    rng = random.Random(0)
    byte_ids = [theirs.piece_to_id(f"<0x{byte:02X}>") for byte in b"ab\n" + "é☃😀\ufffd".encode() + b"\xff\xc0\xed\xa0"]
    letters = [id for id in range(theirs.vocab_size()) if theirs.id_to_piece(id).isalpha()]
    for _ in range(count("runs of bytes")):
        ids = [letters[0], *(rng.choice(byte_ids if rng.random() < 0.8 else letters) for _ in range(rng.randint(1, 8)))]
        stream = ours.stream()
        streamed = [stream.push(id) for id in ids]
        assert ours.decode(ids) == "".join(streamed) + stream.finish() == theirs.decode(ids), ids


@pytest.mark.parametrize("collapse_spaces", [False, True])
def test_pieces_across_words_are_those_of_the_library(collapse_spaces, tmp_path, random_texts):
    """Without `split_by_whitespace` a piece may go on after a space; spaces at the end of a text are none even so."""
    corpus = [f"of the {word} in the end  " for word in ("cat", "dog", "house", "trailing", "mat")] * 40
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        split_by_whitespace=False,
        remove_extra_whitespaces=collapse_spaces,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    ours = Tokenizer.load(tmp_path / "tokenizer.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert any("▁" in piece[1:].strip("▁") for piece in ours.pieces)
    (tmp_path / "saved").mkdir()
    saved = Tokenizer.load(ours.save(tmp_path / "saved"))
    texts = ["trailing  ", "  of  the   cat ", " ", "", "the ▁", "▁ in the", "in the end  \n ", *corpus[:5]]
    for text in [*texts, *random_texts(count("tokenizer round trips"))]:
        assert ours.encode(text, allowed_special="none") == theirs.encode(text), text
        assert saved.encode(text, allowed_special="none") == theirs.encode(text), text


def test_the_binary_file_of_llama2c_is_the_same_vocabulary(data_dir, random_texts):
    binary, model = Tokenizer.load(data_dir / "llama/tok512.bin"), Tokenizer.load(data_dir / "llama/tok512.model")
    assert (binary.vocab, binary.special_tokens) == (model.vocab, model.special_tokens)
    # Only the model says that runs of spaces count as one; llama2.c itself keeps them.
    for words in random_texts(500):
        text = " ".join(words.replace("▁", "").split(" ")).strip(" ")
        text = regex.sub(" +", " ", text)
        assert binary.encode(text) == model.encode(text), text
    for text, ids in json.loads((data_dir / "tokenizers/reference.json").read_text())["tok512"]["cases"]:
        if "  " not in text:
            assert binary.encode(text) == ids


def test_the_best_score_is_merged_first_not_the_longest_match():
    tokenizer = tiny("bc", "ab", "a", "b", "c", "▁")
    assert tokenizer.encode("abc") == [264, 261, 259]


def test_of_equal_scores_the_leftmost_is_merged_first():
    pieces = ["<unk>", "<s>", "</s>", *BYTES, "a", "b", "c", "bc", "ab", "▁"]
    tokenizer = SentencePieceTokenizer(pieces, [0.0] * 259 + [-1.0] * 6)
    for n in (1, 100):
        assert tokenizer.encode("abc" * n) == [264] + [263, 261] * n
    pieces[262:264] = ["ab", "bc"]
    tokenizer = SentencePieceTokenizer(pieces, [0.0] * 259 + [-1.0] * 6)
    for n in (1, 100):
        assert tokenizer.encode("abc" * n) == [264] + [262, 261] * n


def test_a_space_is_put_before_each_stretch_of_text_and_taken_away_again():
    tokenizer = tiny("▁", "a", "▁a", "b")
    assert tokenizer.encode("a") == [261]
    assert tokenizer.encode(" a") == [259, 261]
    assert tokenizer.encode("") == []
    assert tokenizer.encode("a</s>b") == [261, 2, 259, 262]
    for text in ("a", " a", "a ", "  ", "a</s>b", "<s>a", "a </s> b", "é"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, tokenizer.encode(text)), stream.finish()]) == text


def test_text_that_goes_on_keeps_its_first_space():
    tokenizer = tiny("▁", "a", "▁a", "b")
    stream = tokenizer.stream(after=[1, 262])
    assert stream.push(261) == " a"


def test_characters_without_a_piece_become_bytes():
    assert tiny("▁").encode("é") == [259, 3 + 0xC3, 3 + 0xA9]


def test_control_tokens_in_untrusted_text_can_be_text():
    tokenizer = tiny("▁", "<", "s", ">", "<s", "s>")
    assert 1 in tokenizer.encode("<s>")
    assert 1 not in tokenizer.encode("<s>", allowed_special="none")
    assert 3 not in tiny("▁").encode("<0x00>")


@pytest.mark.parametrize("collapse_spaces", [False, True])
@pytest.mark.parametrize("crossing", [(), ("a▁",)])
def test_encoding_in_chunks_is_encoding_the_whole(collapse_spaces, crossing):
    tokenizer = tiny("▁a", "▁▁", "ab", "▁ab", *crossing, "a", "b", "▁", collapse_spaces=collapse_spaces)
    rng = random.Random(4)
    for _ in range(count("chunkings") * 3):
        text = "".join(rng.choice(["a", "b", " ", "  ", "▁", "é", "</s>", "<"]) for _ in range(24))
        cuts = sorted(rng.choices(range(len(text) + 1), k=5))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        whole = tokenizer.encode(text)
        assert list(tokenizer.encode_iterable(chunks)) == whole, (text, chunks)


def test_the_missing_library_is_named(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    with pytest.raises(MissingExtra, match=r"glassformer\[text\]"):
        Tokenizer.load(data_dir / MODELS[0])


def binary(*tokens: tuple[float, bytes]) -> bytes:
    return struct.pack("<i", 7) + b"".join(struct.pack("<fi", score, len(token)) + token for score, token in tokens)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07\x00\x00\x00",
        binary((0.0, b"a")),
        binary((0.0, b"\xff")),
        binary(*[(0.0, piece.encode()) for piece in ["<unk>", "<s>", "</s>", *BYTES]])[:-1],
        binary(*[(0.0, piece.encode()) for piece in ["<unk>", "<s>", "</s>", *BYTES, "<s>"]]),
        binary(*[(float("nan"), piece.encode()) for piece in ["<unk>", "<s>", "</s>", *BYTES]]),
        struct.pack("<ifi", 7, 0.0, 2**31 - 1) + b"a",
        struct.pack("<ifi", 7, 0.0, -1) + b"a",
        struct.pack("<ifi", 7, 0.0, 0) + b"a",
    ],
)
def test_a_broken_binary_file_is_refused(tmp_path, data):
    (tmp_path / "tok.bin").write_bytes(data)
    with pytest.raises(TokenizerError):
        Tokenizer.load(tmp_path / "tok.bin")


def test_truncated_and_foreign_models_are_refused(tmp_path, data_dir):
    from sentencepiece import sentencepiece_model_pb2

    data = (data_dir / MODELS[1]).read_bytes()
    path = tmp_path / "tokenizer.model"
    for cut in (0, 1, 100, 5_000):
        path.write_bytes(data[:cut])
        with pytest.raises(TokenizerError):
            Tokenizer.load(path)
    for change in ("trainer_spec.model_type=1", "trainer_spec.byte_fallback=0", "normalizer_spec.add_dummy_prefix=0"):
        model = sentencepiece_model_pb2.ModelProto()
        model.ParseFromString(data)
        (spec, field), value = change.split("=")[0].split("."), int(change.split("=")[1])
        setattr(getattr(model, spec), field, value)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(TokenizerError, match="only sentencepiece models with"):
            Tokenizer.load(tmp_path)

"""Finding and reading vocabulary files, also from strangers: typed errors, at once, and nothing written."""

import base64
import json
import random
import resource
import shutil
import time

import pytest

from glassformer.errors import GlassformerError, TokenizerError
from glassformer.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, formats
from glassformer.tokenizers.byte_level import from_printable, to_printable, write_vocab_and_merges
from glassformer.tokenizers.formats import FORMATS, TokenizerFormat, format_of
from support.counts import count

END = "<|endoftext|>"
BYTES = {byte: bytes([byte]) for byte in range(256)}
TINY = BPETokenizer(BYTES | {256: b"ab", 257: b" ab"}, [(b"a", b"b"), (b" ", b"ab")], [END])


def ranks(tokens: list[bytes] | None = None) -> bytes:
    tokens = [*BYTES.values(), b"ab"] if tokens is None else tokens
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def test_every_byte_has_a_printable_character():
    every = bytes(range(256))
    assert to_printable(b" \n") == "ĠĊ"
    assert from_printable(to_printable(every)) == every
    assert to_printable(every).isprintable()


def test_gpt2s_pair_of_files_is_written_and_read(tmp_path):
    vocab, merges = write_vocab_and_merges(TINY, tmp_path)
    assert json.loads(vocab.read_text())["Ġab"] == 257
    assert merges.read_text().splitlines()[1:] == ["a b", "Ġ ab"]
    for path in (tmp_path, vocab, merges):
        again = Tokenizer.load(path)
        assert (again.vocab, again.special_tokens) == (TINY.vocab, TINY.special_tokens)
    assert BPETokenizer.from_files(vocab, merges).special_tokens == {}
    assert BPETokenizer.from_files(vocab, merges, ["<|x|>", END]).special_tokens == {"<|x|>": 259, END: 258}


def test_a_pair_of_files_may_have_a_name_before_it(data_dir):
    folder = data_dir / "tokenizers"
    for name in ("gpt2-vocab.json", "gpt2-merges.txt"):
        assert Tokenizer.load(folder / name).special_tokens == {END: 50256}


def test_openais_names_of_the_pair_of_files_are_read_as_hugging_faces(data_dir, tmp_path):
    for name, theirs in {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}.items():
        shutil.copy(data_dir / "tokenizers" / f"gpt2-{theirs}", tmp_path / name)
    expected = Tokenizer.load(data_dir / "tokenizers" / "gpt2-vocab.json")
    for path in (tmp_path, tmp_path / "encoder.json", tmp_path / "vocab.bpe"):
        tokenizer = Tokenizer.load(path)
        assert (tokenizer.vocab, tokenizer.special_tokens) == (expected.vocab, expected.special_tokens)
        assert tokenizer.encode("Hello there") == [15496, 612]


def test_added_tokens_and_what_stands_around_a_text_are_read_beside_a_pair_of_files(data_dir, tmp_path):
    transformers = pytest.importorskip("transformers")
    for name in ("vocab.json", "merges.txt"):
        content = (data_dir / "tokenizers" / f"gpt2-{name}").read_bytes()
        (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n") if name == "merges.txt" else content)
    (tmp_path / "added_tokens.json").write_text('{"<|user|>": 50257}')
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|user|>",
        "eos_token": {"__type": "AddedToken", "content": END},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": True}))
    ours, theirs = Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = f"<|user|>Hello there{END}"
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"] == [50257, 15496, 612, 50256]
    assert (ours.bos_id, ours.eos_id) == (50257, 50256)
    assert ours.encode("Hello", special=True) == [50257, 15496]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"add_eos_token": True}))
    assert Tokenizer.load(tmp_path).encode("Hello", special=True) == [15496, 50256]
    (tmp_path / "added_tokens.json").write_text('{"<|user|>": 50000}')
    with pytest.raises(TokenizerError, match="disagree about the id 50000"):
        Tokenizer.load(tmp_path)


def test_a_directory_is_read_by_the_files_in_it(tmp_path, data_dir):
    shutil.copy(data_dir / "tokenizers" / "gpt2.tiktoken", tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == 50257
    shutil.copy(data_dir / "llama" / "tok512.model", tmp_path / "tokenizer.model")
    assert Tokenizer.load(tmp_path).vocab_size == 512
    write_vocab_and_merges(TINY, tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == 259
    CharTokenizer("ABC").save(tmp_path)
    assert Tokenizer.load(str(tmp_path)).vocab_size == 3


def test_the_name_by_which_a_folder_has_a_format_is_a_name_of_that_format():
    for format in FORMATS:
        if format.in_folder is not None:
            assert format_of(format.in_folder.replace("*", "any")) is format


def test_a_new_format_is_a_line_in_the_table(tmp_path, monkeypatch):
    letters = TokenizerFormat(
        names=("*.letters",), in_folder="*.letters", read=lambda path: CharTokenizer(path.read_text())
    )
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, letters))
    (tmp_path / "latin.letters").write_text("xyz")
    for path in (tmp_path, tmp_path / "latin.letters"):
        assert Tokenizer.load(path).encode("zxy") == [2, 0, 1]
    TINY.save(tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == 259  # tokenizer.json stands above it


def test_tiktokens_ranks_need_a_pattern_unless_their_name_is_known(tmp_path):
    (tmp_path / "mine.tiktoken").write_bytes(ranks())
    with pytest.raises(TokenizerError, match="pass pattern"):
        Tokenizer.load(tmp_path)
    assert Tokenizer.load(tmp_path, pattern="gpt2").encode("abc") == [256, 99]


def test_llama3s_ranks_are_known_also_by_metas_name_for_them(tmp_path):
    tokens = [*BYTES.values(), *(b"%06d" % i for i in range(128_000 - 256))]
    (tmp_path / "tokenizer.model").write_bytes(ranks(tokens))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (128_000, 128_001, 128_256)
    assert tokenizer.special_tokens["<|eot_id|>"] == 128_009
    assert tokenizer.special_tokens["<|reserved_special_token_250|>"] == 128_255


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = TINY.save(tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(GlassformerError, match="No space left"):
        CharTokenizer("ABC").save(tmp_path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


HOSTILE = {
    "tokenizer.json": [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": {"x": ' + b"9" * 100_000 + b"}}",
        b'{"model": {"type": "BPE", "vocab": {"a": NaN}, "merges": []}}',
        b"[" + b"0," * 25_000_000 + b"0]",
        b"[" + b"[]," * 10_000_000 + b"0]",
        b'"' + b"x" * 50_000_000 + b'"',
        b'{"model": {"type": "BPE", "vocab": {"' + b"x" * 30_000_000 + b'": 0}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [' + b'["a","a"],' * 900_000 + b"1]}}",
    ],
    "x.tiktoken": [
        b"",
        b"\n",
        b"YQ==",
        b"YQ== 0 0\n",
        b"!!!! 0\n",
        b"YQ== x\n",
        b"YQ== -1\n",
        b"YQ== 99999999999\n",
        ranks() + b"YQ== 300\n",
        ranks() + b"YWI= 256\n",
        ranks() + b" 257\n",
        ranks() + b"AAA= 300\n",
        ranks() + base64.b64encode(b"a" * 5_000) + b" 257\n",
        ranks()[:-400],
        bytes(range(256)) * 1_000,
    ],
    "vocab.json": [
        b"",
        b"{}",
        b"[]",
        b'{"a": 0}',
        b'{"\xc4\xa0\xe2\x82\xac": 0}',
        b'{"a": 1e400}',
        b'{"a": 0, "b": 5}',
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, files in HOSTILE.items() for number in range(len(files))]
)
def test_hostile_files_are_refused_at_once(name, number, tmp_path):
    data = HOSTILE[name][number]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    names = {entry.name for entry in tmp_path.iterdir()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(TokenizerError) as refused:
        Tokenizer.load(tmp_path / name, pattern="gpt2")
    assert time.process_time() - start < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < 3 * len(data) + (200 << 20)
    assert len(str(refused.value)) < 600
    assert {entry.name for entry in tmp_path.iterdir()} == names


@pytest.mark.parametrize("merges", [b"\xff", b"a\n", b"a b c\n", b"a  b\n", b"b a\n", b"a b\na b\n", "€ a\n".encode()])
def test_broken_merges_are_refused(merges, tmp_path):
    vocab, path = write_vocab_and_merges(TINY, tmp_path)
    path.write_bytes(merges)
    with pytest.raises(TokenizerError):
        BPETokenizer.from_files(vocab, path)


def test_missing_and_unknown_files_are_refused(tmp_path):
    for path in ("nowhere", "nowhere/tokenizer.json", "nowhere.bin", "vocab.json", "merges.txt", "."):
        with pytest.raises(TokenizerError):
            Tokenizer.load(tmp_path / path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "weights.zip").touch()
    for path in ("vocab.json", "weights.zip", "."):
        with pytest.raises(TokenizerError):
            Tokenizer.load(tmp_path / path)
    (tmp_path / "a.tiktoken").touch()
    (tmp_path / "b.tiktoken").touch()
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(TokenizerError, match=r"2 \*.tiktoken"):
        Tokenizer.load(tmp_path)


def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path):
    path = TINY.save(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(5)
    for _ in range(count("tokenizer.json mutations")):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    del data[at : at + rng.randrange(1, 30)]
                case 3:
                    data[at:at] = rng.choice([b"0", b'"', b"[", b"{}", b",", b"-1", b"null", b"\xff", b"\\ud800"])
            if not data:
                break
        path.write_bytes(data)
        try:
            tokenizer = Tokenizer.load(path)
        except TokenizerError:
            continue
        assert tokenizer.decode(tokenizer.encode("ab, é")) == "ab, é"

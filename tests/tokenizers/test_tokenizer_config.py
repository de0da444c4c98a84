"""Folders without a tokenizer.json: what they add to a vocabulary, and how, as `transformers` reads them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glassformer.errors import TokenizerError
from glassformer.tokenizers import Tokenizer
from support.counts import count

transformers = pytest.importorskip("transformers")

END = "<|endoftext|>"
PLAIN: dict[str, Any] = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
TEXTS = [
    "a <mask> b",
    "x<mask>",
    "<|user|>  hi<|end|>  you ",
    "own owned own",
    "Own OWN",
    f"Hello there{END} a",
    "",
    " a",
    "qown qowned qown",
]


def folder_of(path: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def assert_as_in_transformers(folder: Path, texts: list[str]) -> Tokenizer:
    """The ids of the folder, and of what we save of it, here and there."""
    ours, theirs = Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in texts:
        assert ours.encode(text, special=True) == theirs(text)["input_ids"], text
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    (folder / "saved").mkdir()
    again = Tokenizer.load(ours.save(folder / "saved"))
    saved = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "saved" / "tokenizer.json"))
    for text in texts:
        ids = ours.encode(text, special=True)
        assert again.encode(text, special=True) == saved(text)["input_ids"] == ids, text
        assert again.decode(ids) == ours.decode(ids)
    return ours


GPT2 = {"tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END}
FOLDERS: dict[str, dict[str, Any]] = {
    "a list with flags": {
        "tokenizer_config.json": GPT2
        | {
            "added_tokens_decoder": {
                "50256": PLAIN | {"content": END, "special": True},
                "50257": PLAIN | {"content": "<mask>", "lstrip": True, "special": True},
                "50258": PLAIN | {"content": "<|end|>", "rstrip": True, "special": True},
                "50259": PLAIN | {"content": "qown", "single_word": True, "special": False},
                "50260": PLAIN | {"content": "<|user|>", "normalized": True, "special": False},
            }
        },
        "special_tokens_map.json": {"mask_token": PLAIN | {"content": "<mask>"}},  # the list is newer
    },
    "two older files": {
        "tokenizer_config.json": GPT2 | {"mask_token": "<mask>"},
        "special_tokens_map.json": {
            "mask_token": PLAIN | {"content": "<mask>", "lstrip": True},
            "eos_token": "<|end|>",
        },
        "added_tokens.json": {"<|user|>": 50257, "<mask>": 50258, "<|end|>": 50259},
    },
    "a token of the vocabulary": {
        "tokenizer_config.json": GPT2 | {"pad_token": PLAIN | {"content": "own", "__type": "AddedToken"}}
    },
    "Qwen2's class": {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None}},
    "GPT-NeoX's class": {"tokenizer_config.json": GPT2 | {"tokenizer_class": "GPTNeoXTokenizer"}},
    "a prefix space": {"tokenizer_config.json": GPT2 | {"add_prefix_space": True, "add_bos_token": True}},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_pair_of_files_with_added_tokens(name: str, data_dir: Path, tmp_path: Path, random_texts: Any) -> None:
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(data_dir / "tokenizers" / f"gpt2-{file}", tmp_path / file)
    folder = folder_of(tmp_path, FOLDERS[name])
    assert_as_in_transformers(folder, [*TEXTS, *random_texts(count("strings of every tokenizer.json"))])


@pytest.mark.parametrize("name", ["RobertaTokenizer", "RobertaTokenizerFast"])
def test_a_class_may_say_what_stands_around_a_text(name: str, tmp_path: Path) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "Ġ", "Ġa", "<mask>"]
    mask = PLAIN | {"content": "<mask>", "lstrip": True, "__type": "AddedToken"}
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": name, **names, "pad_token": "<pad>", "mask_token": mask, "add_prefix_space": True}
    vocab = {piece: id for id, piece in enumerate(pieces)}
    files = {"vocab.json": vocab, "merges.txt": "#version: 0.2\nĠ a\n", "tokenizer_config.json": settings}
    ours = assert_as_in_transformers(folder_of(tmp_path, files), ["a", "b a", "a <mask>b", "<s>a", ""])
    assert ours.encode("a <mask>b", special=True) == [0, 7, 8, 6, 5, 2]


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_pieces_with_added_tokens(lowercase: bool, tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "own", "##ed", "a", "Own", "you", "there"]
    added = {
        "4": PLAIN | {"content": "[MASK]", "lstrip": True, "special": True},
        "12": PLAIN | {"content": "OWN", "normalized": True, "special": False},
        "13": PLAIN | {"content": "<|end|>", "rstrip": True, "special": True},
    }
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase, "added_tokens_decoder": added}
    files = {"vocab.txt": "\n".join(pieces) + "\n", "tokenizer_config.json": settings}
    names = {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    files["tokenizer_config.json"] |= names | {"pad_token": "[PAD]"}
    folder = folder_of(tmp_path, files)
    ours, theirs = Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, "a [MASK] own", "hello [MASK]", "OWN owned"]:
        assert ours.encode(text, special=True) == theirs(text)["input_ids"], text


LLAMA: dict[str, Any] = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
    "added_tokens_decoder": {
        "0": PLAIN | {"content": "<unk>", "special": True},
        "1": PLAIN | {"content": "<s>", "special": True},
        "2": PLAIN | {"content": "</s>", "special": True},
        "32000": PLAIN | {"content": "<|user|>", "rstrip": True, "special": True},
        "32001": PLAIN | {"content": "<|end|>", "special": True},
    },
}


def llama_2(folder: Path, data_dir: Path, settings: dict[str, Any]) -> Path:
    shutil.copy(data_dir / "tokenizers" / "llama2-tokenizer.model", folder / "tokenizer.model")
    return folder_of(folder, {"tokenizer_config.json": LLAMA | settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"legacy": False},
        {"legacy": False, "add_prefix_space": False},
        {"legacy": False, "add_bos_token": True, "add_eos_token": True},
    ],
    ids=str,
)
def test_a_model_of_sentencepiece_may_put_a_space_before_a_text_alone_or_nowhere(
    settings: dict[str, Any], data_dir: Path, tmp_path: Path, random_texts: Any
) -> None:
    """Of runs of spaces, what `transformers` makes of the file differs from what sentencepiece itself does."""
    texts = ["a<|end|>b <|end|> c", "<|user|> hi<|end|>you", *TEXTS]
    texts += random_texts(count("strings of every tokenizer.json"))
    texts = [text for text in texts if "  " not in text and "▁" not in text and not text.startswith(" ")]
    assert_as_in_transformers(llama_2(tmp_path, data_dir, settings), texts)


@pytest.mark.parametrize("settings", [{}, {"legacy": True}], ids=str)
def test_else_the_parts_between_added_tokens_are_encoded_as_sentencepiece_does(
    settings: dict[str, Any], data_dir: Path, tmp_path: Path
) -> None:
    ours = Tokenizer.load(llama_2(tmp_path, data_dir, settings))
    sentencepiece = pytest.importorskip("sentencepiece")
    part = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model")).encode
    for first, second in (("a", " b"), ("  Once ", "upon"), ("▁", "é☃"), ("x\n", " ")):
        ids = [1, *part(first), 32001, *part(second)]
        assert ours.encode(f"{first}<|end|>{second}", special=True) == ids
        assert ours.encode(f"{first}<|user|>{second}") == [*part(first), 32000, *part(second.lstrip())]


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ({"50257": "x"}, "is no added token"),
        ({"50257": {"content": 3}}, "is no added token"),
        ({"50257": {"content": "x", "lstrip": "no"}}, "is no added token"),
        ({"-1": {"content": "x"}}, "an object of ids and their tokens"),
        ({"9" * 30: {"content": "x"}}, "an object of ids and their tokens"),
        ([], "an object of ids and their tokens"),
        ({"50000": {"content": "<|user|>"}}, "disagree about the id 50000"),
        ({"50257": {"content": "<|x|>"}, "50258": {"content": "<|x|>"}}, "none of them twice"),
        ({"900000": {"content": "<|x|>"}}, "far beyond"),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(added: Any, says: str, data_dir: Path, tmp_path: Path) -> None:
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(data_dir / "tokenizers" / f"gpt2-{file}", tmp_path / file)
    folder_of(tmp_path, {"tokenizer_config.json": {"added_tokens_decoder": added}})
    with pytest.raises(TokenizerError, match=says):
        Tokenizer.load(tmp_path)


def test_thousands_of_added_tokens_are_read(data_dir: Path, tmp_path: Path) -> None:
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(data_dir / "tokenizers" / f"gpt2-{file}", tmp_path / file)
    added = {str(50_257 + n): PLAIN | {"content": f"<|{n}|>", "special": True} for n in range(4_000)}
    names = [f"<|{n}|>" for n in range(4_000)]
    folder_of(tmp_path, {"tokenizer_config.json": {"added_tokens_decoder": added, "additional_special_tokens": names}})
    assert Tokenizer.load(tmp_path).encode("<|3999|>a<|0|>") == [54_256, 64, 50_257]

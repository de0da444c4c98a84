"""Every kind of tokenizer.json, as its own saver writes it: the ids of `transformers`, here and in what we save."""

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
import tokenizers
from glassformer.checkpoints.tokenizer_files import write_tokenizers
from glassformer.errors import TokenizerError
from glassformer.models.llama import LlamaConfig
from glassformer.tokenizers import Tokenizer, patience
from glassformer.tokenizers.foreign_patterns import check_pattern
from glassformer.tokenizers.library import LibraryTokenizer
from glassformer.tokenizers.pretokenize import PATTERNS
from support.counts import count
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as parts

transformers = pytest.importorskip("transformers")

END = "<|endoftext|>"
ENGLISH = ["The cat sat on the mat, and 1234 cats didn't; it cost 12,345.67 in all!\n\n  Once upon a time."] * 60
MARKED = [
    "<s> a</s>b",
    "x <|im_end|> y",
    "a <mask> b",
    "[MASK] it",
    "<|user|>  hi<|end|> ",
    "a    b",
    "<tool_call>{}",
]
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
UNMARK = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def fast(pipeline: Any, **settings: Any) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pipeline, **settings)


def byte_level(texts: list[str], pre_tokenizer: Any, special: list[str], normalizer: Any = None) -> Any:
    pipeline = tokenizers.Tokenizer(parts.BPE())
    pipeline.normalizer, pipeline.pre_tokenizer, pipeline.decoder = normalizer, pre_tokenizer, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pipeline.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return pipeline


def sentencepiece(texts: list[str], special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary with bytes, and merges, of texts whose spaces are marked."""
    learner = tokenizers.Tokenizer(parts.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, limit_alphabet=200, show_progress=False))
    model = json.loads(learner.to_str())["model"]
    pieces = [*special, *BYTES, *sorted(model["vocab"], key=model["vocab"].get)]
    return {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, [tuple(pair) for pair in model["merges"]]


def fallback(texts: list[str], special: list[str], normalizer: Any, decoder: Any, pre_tokenizer: Any = None) -> Any:
    vocab, merges = sentencepiece(texts, special)
    model = parts.BPE(vocab=vocab, merges=merges, unk_token=special[0], fuse_unk=True, byte_fallback=True)
    pipeline = tokenizers.Tokenizer(model)
    pipeline.normalizer, pipeline.decoder = normalizer, decoders.Sequence(decoder)
    if pre_tokenizer is not None:
        pipeline.pre_tokenizer = pre_tokenizer
    pipeline.add_special_tokens(special)
    return pipeline


def begins_with(pipeline: Any, token: str) -> Any:
    pipeline.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, pipeline.token_to_id(token))]
    )
    return pipeline


PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
STRIP = [*UNMARK, decoders.Strip(" ", 1, 0)]


def smollm2(texts: list[str]) -> Any:
    cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return fast(byte_level(texts, cut, special), bos_token="<|im_start|>", eos_token="<|im_end|>")


def mistral(texts: list[str]) -> Any:
    pipeline = begins_with(fallback(texts, ["<unk>", "<s>", "</s>"], PREPEND, STRIP), "<s>")
    return fast(pipeline, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama_of_transformers(texts: list[str]) -> Any:
    vocab, merges = sentencepiece(texts, ["<unk>", "<s>", "</s>"])
    return transformers.LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)


def phi3(texts: list[str]) -> Any:
    pipeline = begins_with(fallback(texts, ["<unk>", "<s>", "<|endoftext|>"], PREPEND, STRIP), "<s>")
    pipeline.add_special_tokens([AddedToken(token, rstrip=True) for token in ("<|user|>", "<|end|>")])
    return fast(pipeline, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")


def yi(texts: list[str]) -> Any:
    special = ["<unk>", "<|startoftext|>", "<|endoftext|>"]
    pipeline = fallback(texts, special, normalizers.Replace(" ", "▁"), UNMARK)
    return fast(pipeline, bos_token=special[1], eos_token=special[2], unk_token=special[0], add_bos_token=False)


def gemma(texts: list[str]) -> Any:
    split = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pipeline = begins_with(fallback(texts, special, normalizers.Replace(" ", "▁"), UNMARK, split), "<bos>")
    return fast(pipeline, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>")


def qwen2(texts: list[str]) -> Any:
    model = json.loads(byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), []).to_str())["model"]
    qwen = transformers.Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    qwen.add_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<tool_call>", special=False)])
    return qwen


def deepseek(texts: list[str]) -> Any:
    splits = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK]
    cut = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in splits]
    cut = pre_tokenizers.Sequence([*cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    begin, end = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    pipeline = begins_with(byte_level(texts, cut, [begin, end], normalizers.Sequence([])), begin)
    return fast(pipeline, bos_token=begin, eos_token=end)


def gpt_neox(texts: list[str]) -> Any:
    model = json.loads(byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), []).to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    neox = transformers.GPTNeoXTokenizer(vocab=model["vocab"], merges=merges)
    neox.add_tokens([AddedToken(" " * n, normalized=True, special=False) for n in range(2, 6)])
    return neox


def gpt2(texts: list[str]) -> Any:
    model = json.loads(byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), [END]).to_str())["model"]
    return transformers.GPT2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def llama_3(texts: list[str]) -> Any:
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["llama3"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    pipeline = byte_level(texts, cut, special)
    file = json.loads(pipeline.to_str())
    file["model"]["ignore_merges"] = True
    begin = begins_with(pipeline, special[0]).post_processor
    pipeline = tokenizers.Tokenizer.from_str(json.dumps(file))
    pipeline.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    return fast(pipeline, bos_token=special[0], eos_token=special[1])


def course(texts: list[str]) -> Any:
    """By the recipe of Hugging Face's course: bytes that no text has are none of the vocabulary's."""
    pipeline = tokenizers.Tokenizer(parts.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[END], show_progress=False)
    pipeline.train_from_iterator(texts, trainer)
    pipeline.post_processor, pipeline.decoder = processors.ByteLevel(trim_offsets=False), decoders.ByteLevel()
    return fast(pipeline, bos_token=END, eos_token=END)


def word_level(texts: list[str]) -> Any:
    pipeline = tokenizers.Tokenizer(parts.WordLevel(unk_token="[UNK]"))
    pipeline.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    pipeline.train_from_iterator(texts, trainer)
    around = [("[CLS]", 1), ("[SEP]", 2)]
    pipeline.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    return fast(pipeline, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def roberta(texts: list[str]) -> Any:
    pipeline = byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=True), ["<s>", "<pad>", "</s>", "<unk>"])
    pipeline.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    pipeline.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return fast(pipeline, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", mask_token="<mask>")


def both_ends(texts: list[str]) -> Any:
    pipeline = byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<a>", "<b>", "<c>"])
    pipeline.post_processor = processors.Sequence(
        [
            processors.ByteLevel(),
            processors.TemplateProcessing(single="<a> <b> $A <c>", special_tokens=[("<a>", 0), ("<b>", 1), ("<c>", 2)]),
        ]
    )
    return fast(pipeline, bos_token="<a>", eos_token="<c>")


def pieces_of_words(texts: list[str], *, lowercase: bool) -> dict[str, int]:
    learner = tokenizers.Tokenizer(parts.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, limit_alphabet=300, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    return learner.get_vocab()


def bert(texts: list[str]) -> Any:
    return transformers.BertTokenizer(vocab=pieces_of_words(texts, lowercase=True))


def chinese_bert(texts: list[str]) -> Any:
    """Cased letters, every Chinese character a word, and a separator of lines of Unicode's among the pieces."""
    vocab = pieces_of_words(texts, lowercase=False)
    vocab["\u2028"] = len(vocab)
    return transformers.BertTokenizer(vocab=vocab, do_lower_case=False, tokenize_chinese_chars=True)


def cased_bert_of_old(texts: list[str]) -> Any:
    vocab = pieces_of_words(texts, lowercase=False)
    pipeline = tokenizers.Tokenizer(parts.WordPiece(vocab, unk_token="[UNK]"))
    pipeline.normalizer = normalizers.BertNormalizer(lowercase=False)
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece()
    pipeline.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return fast(pipeline, mask_token="[MASK]", **names)


def scored(texts: list[str], special: list[str]) -> list[tuple[str, float]]:
    """A unigram vocabulary."""
    learner = tokenizers.Tokenizer(parts.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1_500, special_tokens=special, unk_token="<unk>", show_progress=False)
    learner.train_from_iterator(texts, trainer)
    # Rounded: of two ways to cut "aaa" with equal scores the last bit decides, in which readers of JSON differ.
    return [(piece, round(score, 4)) for piece, score in json.loads(learner.to_str())["model"]["vocab"]]


def xlm_roberta(texts: list[str]) -> Any:
    """With sentencepiece's own table of normal forms."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    learnt = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH), model_writer=learnt, vocab_size=40, minloglevel=2
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(learnt.getvalue())
    table = model.normalizer_spec.precompiled_charsmap
    vocab = [*scored(texts, ["<s>", "<pad>", "</s>", "<unk>"]), ("<mask>", 0.0)]
    return transformers.XLMRobertaTokenizer(vocab=vocab, _spm_precompiled_charsmap=table)


def t5(texts: list[str]) -> Any:
    vocab = scored(texts, ["<pad>", "</s>", "<unk>"])
    return transformers.T5Tokenizer(vocab=[*vocab, *((f"<extra_id_{n}>", 0.0) for n in reversed(range(100)))])


KINDS: dict[str, Callable[[list[str]], Any]] = {
    make.__name__: make
    for make in (
        smollm2,
        mistral,
        llama_of_transformers,
        phi3,
        yi,
        gemma,
        qwen2,
        deepseek,
        gpt_neox,
        gpt2,
        llama_3,
        course,
        roberta,
        both_ends,
        bert,
        chinese_bert,
        cased_bert_of_old,
        word_level,
        t5,
        xlm_roberta,
    )
}
OURS = {  # which need no library
    *("mistral", "gpt2", "llama_3", "course", "bert", "chinese_bert", "cased_bert_of_old", "both_ends")
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, random_texts: Any) -> Path:
    path = tmp_path_factory.mktemp(request.param) / request.param
    texts = [text.replace("s>", "") for text in random_texts(600)]  # special tokens are no words to be learnt
    characters = "".join(
        dict.fromkeys("".join([*random_texts(2_000), *MARKED]))
    )  # for those that lack what they have not seen
    KINDS[request.param]([*texts, characters, *ENGLISH]).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def texts(random_texts: Any) -> list[str]:
    return [*random_texts(count("strings of every tokenizer.json")), *ENGLISH[:1], *MARKED, "", " ", "  two", "é☃"]


def ids_of(folder: Path, texts: list[str]) -> Iterator[tuple[str, list[int]]]:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    return ((text, theirs(text)["input_ids"]) for text in texts)


def test_ids_are_those_of_transformers_with_what_stands_around_a_text(folder: Path, texts: list[str]) -> None:
    ours = Tokenizer.load(folder)
    assert isinstance(ours, LibraryTokenizer) is (folder.name not in OURS)
    for text, ids in ids_of(folder, texts):
        assert ours.encode(text, special=True) == ids, text


def test_halves_of_a_surrogate_pair_are_one_character_to_every_kind(folder: Path) -> None:
    ours = Tokenizer.load(folder)
    assert ours.encode("a \ud83d\udc4d b\udc4d") == ours.encode("a \N{THUMBS UP SIGN} b\N{REPLACEMENT CHARACTER}")
    assert list(ours.encode_iterable(["a \ud83d", "\udc4d b"])) == ours.encode("a \N{THUMBS UP SIGN} b")


WRITERS = ["smollm2", "mistral", "llama_of_transformers", "phi3", "yi", "gemma", "qwen2", "deepseek", "gpt_neox"]


@pytest.mark.parametrize("folder", WRITERS, indirect=True)
@torch.no_grad()
def test_a_model_reads_continues_and_ends_a_text_as_in_transformers_and_so_does_its_copy(
    folder: Path, tmp_path: Path
) -> None:
    """The begin token and the one that ends a text are those that the files declare, whatever they are called."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, "pad_token_id": None}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes, **ends)
    theirs = transformers.LlamaForCausalLM(config).eval()
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    theirs.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    ours = gf.load(tmp_path / "model")
    gf.save(ours, tmp_path / "copy")
    assert ours.eos_ids == {id for id in [tokenizer.eos_token_id] if id is not None}
    for place in ("model", "copy"):
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / place)
        reader = transformers.AutoTokenizer.from_pretrained(tmp_path / place)
        for text in ("Hello there", "  two", "a\n\nb"):
            inputs = reader(text, return_tensors="pt")
            ids, valid = inputs["input_ids"], inputs["attention_mask"]
            assert ours.encode(text) == ids[0].tolist()
            torch.testing.assert_close(ours(ids), model(ids).logits, rtol=1e-4, atol=1e-5)
            written = model.generate(ids, attention_mask=valid, max_new_tokens=16, do_sample=False, pad_token_id=0)
            assert ours.generate_ids(ids, max_new_tokens=16, temperature=0.0).tolist() == written.tolist()


def test_what_is_saved_is_the_file_itself_and_gives_the_same_ids(
    folder: Path, texts: list[str], tmp_path: Path
) -> None:
    ours = Tokenizer.load(folder)
    saved = ours.save(tmp_path / "saved")
    if isinstance(ours, LibraryTokenizer):
        assert saved.read_bytes() == (folder / "tokenizer.json").read_bytes()
    shutil.copy(folder / "tokenizer_config.json", tmp_path / "saved")
    (tmp_path / "with a model").mkdir()
    config = LlamaConfig()
    write_tokenizers(tmp_path / "with a model", ours, None, None, config)
    for written in (tmp_path / "saved", tmp_path / "with a model"):
        again = Tokenizer.load(written)
        assert (again.begin_ids, again.end_ids) == (ours.begin_ids, ours.end_ids)
        for text, ids in ids_of(written, texts):
            assert ours.encode(text, special=True) == again.encode(text, special=True) == ids, text


def test_decoding_id_by_id_gives_the_text_of_the_whole(folder: Path, texts: list[str]) -> None:
    ours = Tokenizer.load(folder)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in texts:
        ids = ours.encode(text)
        stream = ours.stream()
        pushed = [stream.push(id) for id in ids]
        assert "".join(pushed) + stream.finish() == ours.decode(ids), text
        assert all("\ufffd" not in each for each in pushed) or "\ufffd" in text
        if isinstance(ours, LibraryTokenizer):
            assert ours.decode(ids) == library.decode(ids, skip_special_tokens=False), text
        assert ours.decode([ours.vocab_size + 5, *ids, 10**7]) == ours.decode(ids)
        assert [id for step in ours.steps(text) for id in step.ids] == ids


@pytest.mark.parametrize("kind", ["mistral", "llama_of_transformers", "phi3", "yi", "gemma"])
def test_bytes_in_a_row_are_all_text_or_none_as_the_library_has_them(kind: str, tmp_path: Path) -> None:
    """One byte that is not UTF-8 makes U+FFFD of every byte next to it, letters among them."""
    KINDS[kind](ENGLISH).save_pretrained(tmp_path)
    ours, library = Tokenizer.load(tmp_path), tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert (type(ours) is LibraryTokenizer) == (kind not in OURS)
    rng, pieces = random.Random(kind), library.get_vocab()
    byte_ids = [pieces[f"<0x{byte:02X}>"] for byte in b"ab \n" + "é☃😀\ufffd".encode() + b"\xff\xc0\xed\xa0"]
    words = sorted(id for piece, id in pieces.items() if not piece.startswith("<"))
    letter = min(id for piece, id in pieces.items() if piece.isascii() and piece.isalpha())
    n_broken = 0
    for _ in range(count("runs of bytes")):
        tail = [rng.choice(byte_ids if rng.random() < 0.8 else words) for _ in range(rng.randint(1, 8))]
        ids = [letter, *tail]
        stream = ours.stream()
        streamed = [stream.push(id) for id in ids]
        expected = library.decode(ids, skip_special_tokens=False)
        assert ours.decode(ids) == "".join(streamed) + stream.finish() == expected, ids
        n_broken += "\ufffd" in expected
    assert n_broken
    broken = [letter, pieces["<0x61>"], pieces["<0xFF>"]]
    assert ours.decode(broken) == ours.decode([letter]) + "\ufffd\ufffd"
    stream = ours.stream([letter, pieces["<0x0A>"], pieces["<0xC3>"]])
    assert stream.push(pieces["<0xA9>"]) + stream.finish() == "é", "a character goes on, and what is before it does not"


def test_special_tokens_in_a_text_may_be_text(folder: Path, texts: list[str]) -> None:
    ours = Tokenizer.load(folder)
    for token, id in list(ours.special_tokens.items())[:5]:
        assert ours.encode(token) == [id]
    if isinstance(ours, LibraryTokenizer):
        library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        library.encode_special_tokens = True
        for text in [*texts, *ours.special_tokens]:
            assert ours.encode(text, allowed_special="none") == library.encode(text, add_special_tokens=False).ids


CUT = {"smollm2", "qwen2", "deepseek", "gpt_neox"}  # whose texts the library encodes part by part


def test_ids_of_chunks_are_those_of_the_whole_wherever_they_are_cut(folder: Path, texts: list[str]) -> None:
    ours = Tokenizer.load(folder)
    rng = random.Random(6)
    pool = ["a", " b", "  ", "\n", "'", "s", "1", "23", "é", "!", "?\n", "\u2028"]
    if folder.name != "course":  # which lacks bytes
        pool += ["漢", "字か", "\u0301", "\u0323", "ㄱ", "\u1100", "\u1161", "\u212b", "\ud83d", "\ude00"]
    pool += [*ours.special_tokens, *(token[:-2] for token in ours.special_tokens)]
    for number in range(count("chunkings") * 3):
        text = "".join(rng.choices(pool, k=20)) if number % 2 else " ".join(rng.choices(texts, k=4))
        cuts = sorted(rng.choices(range(len(text) + 1), k=6))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert list(ours.encode_iterable(chunks)) == ours.encode(text), (text, chunks)


def test_lines_are_read_no_further_than_the_next_id_needs(folder: Path) -> None:
    """Of the pipelines that the library runs, those whose texts may be cut."""
    ours = Tokenizer.load(folder)
    lines = iter(["The cat sat on the mat, and 1234 cats did not.\n"] * 200)
    next(ours.encode_iterable(lines))
    assert len(list(lines)) == (199 if folder.name in CUT | OURS else 0)


def test_truncation_and_padding_in_a_file_are_left_to_the_caller(
    folder: Path, texts: list[str], tmp_path: Path
) -> None:
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.enable_truncation(2)
    library.enable_padding(length=7)
    library.save(str(tmp_path / "tokenizer.json"))
    ours, asked = Tokenizer.load(folder), Tokenizer.load(tmp_path)
    for text in texts:
        assert asked.encode(text, special=True) == ours.encode(text, special=True)


# ---- strangers


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            DEEPSEEK,
            r"\p{N}{1,3}",
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            r"[0-9][0-9][0-9]",
            r"\s?[A-Za-zµÀ-Ö]+",
            r"\A +|[ ▁]+\z",
        ),
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
        r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}|\s+",
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"(?=(?:\d{3})+(?!\d))|[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}]+",
    ],
)
def test_patterns_that_are_in_use_are_run(pattern: str) -> None:
    check_pattern(pattern)
    pre_tokenizers.Split(Regex(pattern), "isolated")


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+$", "(a|a)*$", "(?:a*)*b", "(a|aa)+$", "a*a*a*b", "(x+x+)+y", r"(\w\s?)*!", "(?:a{1,9}){1,9}b"),
        *(
            "a?" * 30 + "a" * 30,
            "(" * 300 + "a" + ")" * 300,
            r"(a)\1*",
            r"\g<0>a",
            "(?<n>a)\\k<n>",
            "(?~a)",
            "a" * 20_000,
        ),
        *("(?:(?:a+){1,3}){1,3}b", "(a+){40}b", "((a{1,16}){1,16}){1,16}b", "a)", "[a", "a{1,500}{1,500}"),
    ],
    ids=lambda pattern: pattern[:30],
)
def test_patterns_that_could_take_for_ever_are_not(pattern: str) -> None:
    with pytest.raises(TokenizerError):
        check_pattern(pattern)


def test_a_pattern_that_a_text_keeps_busy_is_given_up_and_so_is_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tokenizers.Tokenizer(parts.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    library.pre_tokenizer = pre_tokenizers.Split(Regex("a+a+b"), "isolated")
    library.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    assert ours.encode("abaab") == library.encode("abaab").ids
    monkeypatch.setattr(patience, "SECONDS", 0.02)
    monkeypatch.setattr(patience, "TICK", 0.01)
    monkeypatch.setattr(patience, "CHARACTERS_PER_SECOND", 1e9)
    for text in ("a" * 1_000, "ab"):
        with pytest.raises(TokenizerError, match="keep a text busy"):
            ours.encode(text)
    assert Tokenizer.load(tmp_path).encode("abaab") == library.encode("abaab").ids


def test_a_decoder_is_asked_about_each_token_and_repeats_nothing(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(parts.BPE({"a": 0}, []))
    library.decoder = decoders.Replace(Regex("a+b"), "c")
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="too many ways"):
        Tokenizer.load(tmp_path)

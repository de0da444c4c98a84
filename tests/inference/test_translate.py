"""Texts into texts: as transformers translates, whatever stands in the same batch, and real lines of a real model."""

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.api import Model
from glassformer.errors import GenerationError
from glassformer.inference.beam import Beams
from glassformer.tokenizers import CharTokenizer
from support.counts import count
from support.encoder_decoders import TEXTS, far_from_start, saved_bart, saved_t5
from support.published import FAIRSEQ

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

END, PAD, START = 0, 3, 3
LETTERS = CharTokenizer(string.digits + string.ascii_lowercase)  # id 0 is "0", and so on


def random_marian(folder: Path) -> tuple[Any, Model]:
    """A small model of transformers' with numbers that matter, and what we load of it."""
    transformers.utils.logging.disable_progress_bar()
    config = transformers.MarianConfig(
        vocab_size=36,
        decoder_vocab_size=36,
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,  # a head of its own says less often what was said before
        max_position_embeddings=80,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        decoder_start_token_id=START,
        pad_token_id=PAD,
        eos_token_id=END,
        forced_eos_token_id=None,
    )
    theirs = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad and parameter.ndim > 1:  # what comes next depends on the last token most of all
                parameter.normal_(std=1.0 if "embed_tokens" in name or "lm_head" in name else 0.3)
        theirs.final_logits_bias[0, PAD] = 3.0  # so that only a rule keeps padding out
    theirs.save_pretrained(folder)
    model = gf.load(folder)
    model.module.double()  # as theirs, so that no choice is a tie but for rounding
    return theirs.double(), model.having(tokenizer=LETTERS, suppressed=frozenset({PAD}))


def words(choose: random.Random, n: int) -> list[str]:
    return ["".join(choose.choices(string.ascii_lowercase, k=choose.randint(1, 20))) for _ in range(n)]


@pytest.mark.parametrize(("n_beams", "length_penalty"), [(1, 1.0), (4, 1.0), (4, 0.0), (3, 1.8)])
@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_translations_are_those_of_transformers(n_beams: int, length_penalty: float, tmp_path: Path) -> None:
    for seed in range(count("translators of transformers")):
        torch.manual_seed(seed)
        theirs, ours = random_marian(tmp_path / f"{seed}")
        texts = words(random.Random(seed), 9)
        beams = Beams(n_beams=n_beams, length_penalty=length_penalty)
        found = ours.translate(*texts, beams=beams, max_new_tokens=14, batch_size=4)
        for text, translation in zip(texts, found, strict=True):
            (ids,) = theirs.generate(
                torch.tensor([[*LETTERS.encode(text), END]]),
                max_new_tokens=14,
                num_beams=n_beams,
                length_penalty=length_penalty,
                bad_words_ids=[[PAD]],
                do_sample=False,
            ).tolist()
            expected = ids[1:]
            expected = expected[: expected.index(END)] if END in expected else expected
            assert translation == LETTERS.decode(expected)
            assert LETTERS.decode([PAD]) not in translation
        assert len({*found}) > 1


@pytest.mark.parametrize("save", [saved_t5, saved_bart])
@torch.no_grad()
@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_folder_that_transformers_saved_writes_what_it_writes_there(
    save: Callable[[Path], Any], tmp_path: Path
) -> None:
    theirs = save(tmp_path / "theirs").eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    theirs = theirs.double()
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    ours = gf.load(tmp_path / "theirs")
    again = gf.load(gf.save(ours, tmp_path / "ours"))
    n_fixed = int(theirs.generation_config.forced_bos_token_id is not None)  # which counts as a new token there
    for model in (ours, again):
        model.module.double()
        for n_beams, length_penalty in ((1, 1.0), (3, 1.0), (3, -1.5)):
            found = model.translate(
                *TEXTS, beams=Beams(n_beams=n_beams, length_penalty=length_penalty), max_new_tokens=12
            )
            for text, translation in zip(TEXTS, found, strict=True):
                ids = theirs.generate(
                    **read(text, return_tensors="pt"),
                    max_new_tokens=12 + n_fixed,
                    num_beams=n_beams,
                    length_penalty=length_penalty,
                    do_sample=False,
                )
                assert translation == read.decode(ids[0], skip_special_tokens=True)
            assert len({*found}) > 1


@torch.no_grad()
def test_a_t5_reads_and_writes_texts_longer_than_those_that_it_was_trained_on(tmp_path: Path) -> None:
    theirs = saved_t5(tmp_path).eval()
    far_from_start(theirs)
    theirs.save_pretrained(tmp_path)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = " ".join(TEXTS * 3)
    inputs = read(text, return_tensors="pt")
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"n_positions": 8}))
    model = gf.load(tmp_path)
    model.module.double()
    theirs.double()
    for n_beams in (1, 3):
        ids = theirs.generate(**inputs, max_new_tokens=20, do_sample=False, num_beams=n_beams)
        written = model.translate(text, beams=Beams(n_beams=n_beams), max_new_tokens=20)
        assert written == [read.decode(ids[0], skip_special_tokens=True)]
    logits = theirs(**inputs, decoder_input_ids=ids).logits
    torch.testing.assert_close(model(inputs["input_ids"], ids), logits, atol=1e-5, rtol=1e-5)
    assert len(gf.trace(model, text)["logits"].shape) == 3


@pytest.mark.usefixtures("unchecked")  # for its speed
def test_a_translation_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    _, model = random_marian(tmp_path)
    texts = words(random.Random(1), 12)
    for beams in (Beams(n_beams=1), Beams()):
        alone = [model.translate(text, beams=beams, max_new_tokens=10)[0] for text in texts]
        for batch_size in (3, 12):
            assert model.translate(*texts, beams=beams, max_new_tokens=10, batch_size=batch_size) == alone


def test_a_blank_text_stays_blank_and_space_around_one_is_nothing(tmp_path: Path) -> None:
    _, model = random_marian(tmp_path)
    blank, same, empty, again = model.translate(" ", "abc", "", "  abc\n", max_new_tokens=10)
    assert (blank, empty) == ("", "")
    assert same == again
    assert model.translate("", " ") == ["", ""]


def test_greedy_translations_come_piece_by_piece_and_say_how_they_end(tmp_path: Path) -> None:
    _, model = random_marian(tmp_path)
    pieces = list(model.translations(["abc", "defgh"], beams=Beams(n_beams=1), max_new_tokens=6))
    assert len(pieces) > 4
    for sequence, text in enumerate(model.translate("abc", "defgh", beams=Beams(n_beams=1), max_new_tokens=6)):
        mine = [piece for piece in pieces if piece.sequence == sequence]
        assert "".join(piece.text for piece in mine) == text
        assert [piece.finish is not None for piece in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1].finish == ("length" if len(text) == 6 else "stop")


def test_without_a_limit_a_target_ends_at_twice_its_source_and_fifty_more() -> None:
    model = gf.build("seq2seq", vocab_size=36, source_vocab_size=36, d_model=8, eos_id=0, pad_id=0, tokenizer=LETTERS)
    with torch.no_grad():
        model.module.get_parameter("lm_head.bias")[0] = -100  # a text never ends
    for beams in (Beams(n_beams=1), Beams(n_beams=2)):
        for batch_size in (1, 2):
            found = model.translate("ab", "abcd", beams=beams, batch_size=batch_size)
            assert list(map(len, found)) == [2 * 3 + 50, 2 * 5 + 50]
    (last,) = model.translations(["ab"], beams=Beams(), max_new_tokens=7)
    assert (len(last.text), last.finish) == (7, "length")


@pytest.mark.parametrize(
    ("texts", "limits", "says"),
    [
        (["ab", "a" * 80], {}, "Text 2 has 81 tokens, and this model reads 80 at most"),
        (["a"], {"batch_size": 0}, "batch_size must be at least 1"),
        (["a"], {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_what_cannot_be_translated_is_said_before_anything_is(
    texts: list[str], limits: dict[str, int], says: str, tmp_path: Path
) -> None:
    _, model = random_marian(tmp_path)
    with pytest.raises(GenerationError, match=says):
        model.translations(texts, beams=Beams(), **limits)


def test_a_model_without_a_tokenizer_or_of_another_kind_is_refused() -> None:
    with pytest.raises(GenerationError, match="came without a tokenizer"):
        gf.build("seq2seq", vocab_size=9, source_vocab_size=9, d_model=8).translate("a")
    with pytest.raises(GenerationError, match="takes an encoder-decoder, and the model is a language model"):
        gf.build("nano-sort").translate("ABC")


def test_real_models_write_what_their_references_say(data_dir: Path) -> None:
    """Manding into N'Ko's letters by fairseq's Transformer, and words into phonemes by g2p_en's GRU, both greedily."""
    folder = data_dir / "seq2seq"
    examples = json.loads((folder / "latin2nqo_001.35.reference.json").read_text())["examples"]
    transformer = gf.load(folder / "latin2nqo_001.35.weights-only.safetensors", **FAIRSEQ)
    found = transformer.translate(*(example["input"] for example in examples), beams=Beams(n_beams=1))
    assert found == [example["output"] for example in examples]

    words = json.loads((folder / "g2p_en.reference.json").read_text())["predictions"]
    gru = gf.load(folder / "g2p_en-checkpoint20.npz")
    found = gru.translate(*words, beams=Beams(n_beams=1))
    assert found == [" ".join(phonemes) for phonemes in words.values()]

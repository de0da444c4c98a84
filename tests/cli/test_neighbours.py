"""`glassformer neighbours`: from files of any format, from models, and what it says where there is nothing to find."""

import json
from pathlib import Path

import pytest
import torch

from glassformer import checkpoints
from glassformer.checkpoints.word_vectors import VectorFormat, WordVectors, write
from glassformer.models.word2vec import Word2Vec, Word2VecConfig
from glassformer.tokenizers import WordTokenizer
from support.commands import run

WORDS = ("king", "queen", "apple")
VECTORS = torch.tensor([[3.0, 0.1], [5.0, 0.2], [0.0, 1.0]])


@pytest.mark.parametrize(("format", "name"), [("word2vec", "v.txt"), ("word2vec-binary", "v.bin"), ("glove", "v")])
def test_files_of_every_format_are_read(tmp_path: Path, format: VectorFormat, name: str) -> None:
    write(tmp_path / name, WordVectors(words=WORDS, vectors=VECTORS), format)
    done = run("neighbours", "king", "--vectors", str(tmp_path / name), "--n", "1")
    assert (done.stdout, done.stderr) == (" 1.0000  queen\n", "")
    again = run("neighbours", "King", "--vectors", str(tmp_path / name), "--n", "1")
    assert again.stdout == done.stdout, "words are often small"


def test_a_model_s_token_embedding_is_read(tmp_path: Path) -> None:
    module = Word2Vec(Word2VecConfig(vocab_size=4, d_model=2))
    with torch.no_grad():
        module.token_embedding.weight[:3] = VECTORS
    tokenizer = WordTokenizer([*WORDS, "<unk>"])
    checkpoints.save(module, tmp_path / "model", tokenizer=tokenizer)
    done = run("neighbours", "apple", "--vectors", str(tmp_path / "model"), "--json")
    found = json.loads(done.stdout)
    assert found["word"] == "apple"
    assert {neighbour["word"] for neighbour in found["neighbours"]} == {"king", "queen", "<unk>"}


def test_what_cannot_be_served_is_said_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "v.txt", WordVectors(words=WORDS, vectors=VECTORS), "glove")
    module = Word2Vec(Word2VecConfig(vocab_size=4, d_model=2))
    checkpoints.save(module, tmp_path / "model")
    for word, vectors, message in (
        ("kin", "v.txt", "no vector for 'kin' among 3 words. Near in spelling: king"),
        ("king", "missing", "nothing at"),
        ("king", "model", "came without a tokenizer, so its vectors have no words"),
    ):
        done = run("neighbours", word, "--vectors", str(tmp_path / vectors))
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr

"""`glassformer convert --tokenizer`: only a tokenizer that the model can have been trained with goes along."""

from pathlib import Path

import glassformer as gf
from glassformer.tokenizers import CharTokenizer
from support.commands import run


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    """Its further ids would be outside the embedding, so that hardly a text could be read."""
    gf.save(gf.build("gpt2", n_layers=1, d_model=4, n_heads=1, vocab_size=4), tmp_path / "model")
    for alphabet, returncode in (("abcde", 2), ("abcd", 0), ("abc", 0)):  # embeddings are often padded
        CharTokenizer(alphabet).save(tmp_path / alphabet)
        out = tmp_path / f"with-{alphabet}"
        done = run("convert", str(tmp_path / "model"), str(out), "--tokenizer", str(tmp_path / alphabet))
        assert done.returncode == returncode, done.stderr
        assert out.exists() == (returncode == 0)
    done = run("convert", str(tmp_path / "model"), str(out), "--tokenizer", str(tmp_path / "abcde"), "--overwrite")
    assert "has 5 tokens and the model 4: it is another model's" in done.stderr

"""Each verb and each library once, without pytest: `lower_bounds.py` runs this on the oldest versions that are allowed.

python tools/smoke.py        in an environment that has glassformer with all extras but `dev`; takes about a minute
"""

import contextlib
import math
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import glassformer as gf
from glassformer.cli import demo
from glassformer.training import config, load_config

ROOT = Path(__file__).resolve().parents[1]
STEPS = 40  # of the demo's 1,500: it must run, and need not learn
VERBS = (  # in this order, in one folder, after the demo
    "generate runs/sort --prompt BACCAB --temperature 0 --max-new-tokens 6",
    "evaluate runs/sort sort",
    "explain runs/sort --input CBABBC --cell blocks.0.attn.scores[0,1,5,2] --depth 2",
    "trace runs/sort --input CBABBC --out sort.gft",
    "trace --check sort.gft",
    "view runs/sort --input CBABBC --export sort.html",
    "convert runs/sort copy",
    "neighbours B --vectors copy",
    "train sort --steps 4 --name short",
    "train --resume runs/short --steps 6",
    "tokenizer train {root}/README.md --vocab-size 300 --out bpe",
    "tokenizer show bpe Attention",
    "classify preset:vit-mnist picture.png --patches",
    "data list",
    "doctor",
)


def shorter(path: Path, read: Callable[[Path], config.RunConfig] = load_config.load_run_config) -> config.RunConfig:
    """The run that a file describes, with few steps."""
    return replace(read(path), steps=STEPS)


def the_demo() -> None:
    """It runs to its end, and what it writes is there."""
    with patch.object(load_config, "load_run_config", shorter):
        demo.demo(serve=False)
    assert Path("runs/sort/view.html").stat().st_size > 100_000
    assert Path("runs/sort/loss.png").stat().st_size > 1_000
    assert list(Path("runs/sort/tensorboard").iterdir())


def the_verbs() -> None:
    """Each ends with 0."""
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save("picture.png")
    for verb in VERBS:
        command = [sys.executable, "-m", "glassformer", *verb.format(root=ROOT).split()]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"glassformer {verb}: {result.stderr}"


def the_page() -> None:
    """It is served, and a notebook shows one."""
    from glassformer.viewer.notebook import shown
    from glassformer.viewer.serve import listen, served
    from glassformer.viewer.session import Session

    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    with listen("127.0.0.1", 0) as listening, served(session, listening) as address:
        assert b"glassformer" in urllib.request.urlopen(address).read()
    assert type(shown("<p>a page</p>")).__name__ == "View"


def texts() -> None:
    """sentencepiece, its protocol buffer, and tokenizers."""
    import sentencepiece

    from glassformer.tokenizers.formats import load
    from glassformer.tokenizers.wordpiece import WordPieceTokenizer

    lines = iter((ROOT / "README.md").read_text("utf-8").splitlines())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_prefix="pieces", model_type="bpe", vocab_size=500, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_file="pieces.model")
    ours = load(Path("pieces.model"))
    assert ours.encode("Attention 注意") == theirs.encode("Attention 注意")
    pieces = {piece: id for id, piece in enumerate(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "token", "##s"))}
    assert WordPieceTokenizer(pieces).encode("Tokens")


def sounds() -> None:
    """soundfile, soxr and av."""
    import av
    import soundfile

    from glassformer.data.audio import read_audio

    tone = np.sin(np.arange(22_050) * (2 * math.pi * 440 / 22_050)).astype(np.float32)
    soundfile.write("tone.flac", tone, 22_050)
    assert len(read_audio(Path("tone.flac"))) == 16_000
    with av.open("tone.m4a", "w") as container:
        stream = container.add_stream("aac", rate=22_050, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 22_050
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    assert abs(len(read_audio(Path("tone.m4a"))) - 16_000) < 2_000


def figures() -> None:
    """sacrebleu, jiwer and whisper-normalizer."""
    from glassformer.evaluation.bleu import translation_scores
    from glassformer.evaluation.wer import word_errors

    assert translation_scores(["a cat sat on the mat"], ["a cat sat on the mat"]).bleu > 99.9
    assert word_errors(["It's a cat."], ["it is the cat"]).errors == 1


def published_formats() -> None:
    """safetensors, and torch's own zip."""
    small = gf.build("llama", vocab_size=11, context_length=8, d_model=8, n_layers=1, n_heads=2, d_ff=12)
    gf.save(small, Path("llama"))
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(gf.load(Path("llama"))(tokens), small(tokens))


def conversations() -> None:
    """jinja2."""
    from glassformer.inference.chat_template import ChatTemplate

    template = ChatTemplate(text="{% generation %}{{ messages[0].content }}{% endgeneration %}")
    assert template.render([{"role": "user", "content": "Hello"}]) == "Hello"


PARTS: tuple[Callable[[], None], ...] = (
    the_demo,
    the_verbs,
    the_page,
    texts,
    sounds,
    figures,
    published_formats,
    conversations,
)


def main() -> None:
    """Each part, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for part in PARTS:
            part()
            print(f"{part.__name__.replace('_', ' ')}: works", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Every command and every line of Python in the README runs, in the order in which it stands there."""

import functools
import http.server
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.commands import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()

NOT_RUN = {
    "git clone": "there is nothing to clone from here",
    "glassformer view runs/sort --input CBABBC": "serves until Ctrl-C; tests/viewer has it",
    "glassformer chat SmolLM2": "needs a file of 98 MB; tests/cli/test_chat.py has it",
    "echo": "the same",
    "make": "calls the same commands; `make demo` is `glassformer demo`",
}
SHORTER = {  # what a test adds to a command that would take minutes
    "glassformer train configs/sort.toml --view --name watched": "--steps 4",
    "glassformer train --model.from runs/shakespeare-char --data.path data/tinyshakespeare.txt --optimizer.lr 1e-4 "
    "--steps 200": "--steps 4 --eval-batches 1 --batch-size 2",
    "glassformer train configs/shakespeare-char.toml": "--steps 4 --eval-batches 1 --batch-size 2",
}


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder with what a clone has."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("README.md", "docs", "configs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def demo(clone) -> str:
    """What `make demo` prints; its model is in the clone."""
    return glassformer("demo", clone).stdout


def glassformer(arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    expanded = [
        str(path.relative_to(folder)) if (path := folder / word).exists() and "*" not in word else word
        for word in shlex.split(arguments)
    ]
    words = [name for word in expanded for name in (map(str, sorted(folder.glob(word))) if "*" in word else [word])]
    result = run(*words, cwd=folder, **environment)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def mirror(data_dir):
    """A local server with the corpus that the README fetches."""
    handler = functools.partial(Quiet, directory=str(data_dir / "text"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/tinyshakespeare.txt"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.usefixtures("demo")
def test_every_command_of_the_readme_runs(clone, mirror, data_dir):
    for name, place in {
        "tiny.en.pt": "whisper/tiny.en.pt",
        "speech.flac": "audio/jfk.flac",
        "gpt2.tiktoken": "tokenizers/gpt2.tiktoken",
        "checkpoint20.npz": "seq2seq/g2p_en-checkpoint20.npz",
    }.items():
        (clone / name).symlink_to(data_dir / place)
    ran = []
    for command in commands():
        if any(command.startswith(prefix) for prefix in NOT_RUN):
            continue
        program, _, arguments = command.partition(" ")
        assert program == "glassformer", f"unknown program in the README: {command}"
        if arguments.startswith("data get"):
            fetch_from(mirror, clone)
        else:
            shorter = SHORTER.get(command, "")
            for flag in re.findall(r"--\S+", shorter):
                arguments = re.sub(rf" {flag} \S+", "", arguments)
            glassformer(f"{arguments} {shorter}", clone)
        ran.append(command)
    assert len(ran) >= 6


def fetch_from(address: str, folder: Path) -> None:
    """`glassformer data get tinyshakespeare`, from the local server."""
    code = (
        "import dataclasses, sys; from glassformer import cli; from glassformer.data.download import CORPORA; "
        "corpus = CORPORA['tinyshakespeare']; (file,) = corpus.files; "
        f"here = dataclasses.replace(file, url={address!r}); "
        "CORPORA[corpus.name] = dataclasses.replace(corpus, files=(here,)); "
        "sys.argv = ['glassformer', 'data', 'get', 'tinyshakespeare']; cli.main()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


@pytest.mark.usefixtures("demo")
def test_the_python_of_the_readme_runs_and_prints_what_it_says(clone):
    (code,) = blocks("python")
    result = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert lines[0] == "ABBBCC"
    assert lines[1].startswith("[[Guess(")
    assert lines[2].startswith("blocks.1.mlp.")
    assert any("✓" in line for line in lines)
    assert lines[-2].endswith("True")


@pytest.mark.usefixtures("demo")
def test_the_guide_to_looking_inside_runs_as_it_stands(clone):
    text = (ROOT / "docs" / "looking-inside.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    result = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "blocks.0.attn.weights[0,1,5,2] = " in result.stdout


def test_the_figures_of_the_demo_are_those_that_the_readme_shows(demo):
    shown = next(block for block in blocks("") if "sorted right" in block)
    assert without_times(shown) == without_times(demo)


def without_times(text: str) -> str:
    return re.sub(r"\d+ s\b", "… s", text).strip()

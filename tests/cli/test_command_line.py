"""The command line, as a person or a program meets it."""

import json
import resource
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest

from glassformer.cli.app import VERBS
from glassformer.tokenizers import Tokenizer
from support.commands import run


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    *remarks, message = result.stderr.strip().splitlines()
    assert all("weights are random" in remark for remark in remarks), result.stderr
    return message


def test_help_lists_every_verb_and_each_verb_s_help_ends_with_a_command():
    top = run("--help")
    assert top.returncode == 0
    for verb in VERBS:
        assert verb in top.stdout
    inner = {"tokenizer": ("train", "encode", "decode", "show"), "data": ("get", "list")}
    for verb in VERBS:
        for words in [(verb, part) for part in inner.get(verb, ())] or [(verb,)]:
            shown = run(*words, "--help").stdout.rstrip().splitlines()
            assert shown[-1].startswith(f"Example:  glassformer {' '.join(words)}"), words


def test_help_imports_neither_torch_nor_numba():
    code = "import sys, glassformer.cli; assert not {'torch', 'numba', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_answers_quickly():
    """In processor time, which other work on the machine changes less: 0.35 s; with torch it would be 2 s."""
    assert min(_seconds("--help") for _ in range(3)) < 0.8


def _seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "glassformer", *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def sorter(tmp_path_factory) -> Path:
    """A checkpoint with random weights, which behaves like any other."""
    folder = tmp_path_factory.mktemp("cli") / "nano"
    assert run("convert", "preset:nano-sort", str(folder)).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'Did you mean "train"'),
        (["generate"], "MODEL"),
        (["generate", "nowhere"], "nothing at nowhere"),
        (["generate", "gpt2"], "Did you mean preset:gpt2?"),
        (["generate", "preset:gtp2"], "Did you mean gpt2?"),
        (["generate", "preset:cs336", "--prompt", "A"], "without a tokenizer"),
        (["generate", "preset:nano-sort", "--prompt", "X"], "'X' is not in this tokenizer's alphabet"),
        (["generate", "preset:nano-sort", "--prompt", "A", "--cache", "window:0"], "numbers from 1 on"),
        (["generate", "preset:nano-sort", "--prompt", "A", "--stop", ""], "at least one character"),
        (["generate", "preset:nano-sort", "--prompt", "A" * 12], "shorten it"),
        (["generate", "preset:nano-sort"], "The prompt is empty"),
        (["generate", "preset:nano-sort", "--temperature", "warm"], "warm"),
        (["generate", "preset:nano-sort", "--temperature=-1"], "temperature must be at least 0"),
        (["generate", "preset:nano-sort", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1"),
        (["generate", "preset:nano-sort", "--n", "1000000"], "--n must be from 1 to 1024"),
        (["train"], "Name one configuration"),
        (["train", "nano-sort", "gpt2"], "Name one configuration"),
        (["train", "--steps", "2", "nowhere.toml"], "nowhere.toml"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["train", "nano-sort", "--model.n-layer", "2"], "--model.n-layers"),
        (["train", "nano-sort", "--model.n-layers", "two"], "model.n_layers must be a whole number"),
        (["train", "nano-sort", "--model.n-heads", "5"], "does not divide"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "preset:cs336", "nowhere.txt"], "tokenizer"),
        (["evaluate", "preset:nano-sort", "nowhere.txt"], "nowhere.txt"),
        (["evaluate", "preset:cs336", "sort", "--batches", "1"], "no model that sorts"),
        (["evaluate", "preset:nano-sort", "nowhere.txt", "--batches=-1"], "--batches must be at least 0"),
        (["data", "get", "nothing"], "There is no corpus"),
        (["tokenizer", "train", "nowhere.txt", "--vocab-size", "300", "--out", "x"], "nowhere.txt"),
        (["tokenizer", "train", "README.md", "--vocab-size", "300", "--out", "x", "--workers", "0"], "--workers must"),
        (["trace"], "Name a model"),
        (["trace", "preset:nano-sort", "--out", "x"], "something to read"),
        (["trace", "preset:nano-sort", "--input", "ABC"], "Say where"),
        (["trace", "--check", "nowhere"], "nowhere"),
        (["trace", "--check", "nowhere", "--out", "x"], "leave out --input"),
        (["trace", "--check", "nowhere", "--context-length", "9"], "and --context-length."),
        (["trace", "--check", "nowhere", "--cells=-1"], "--cells must be at least 0"),
        (["trace", "nano-sort", "--input", "ABC", "--out", "/dev/null/x.gft"], "/dev/null/x.gft cannot be written"),
        (["explain", "preset:nano-sort", "--tokens", "1,9"], "Token 9 is not"),
        (["explain", "preset:nano-sort", "--tokens", "one"], "whole numbers"),
        (["explain", "preset:nano-sort", "--input", "ABC", "--cell", "logits"], "a place in it"),
        (["explain", "nano-sort", "--input", "ABC", "--cell", "logits[0,1-2]"], "a place in it"),
        (["explain", "nano-sort", "--input", "ABC", "--cell", "logits[0,--2]"], "a place in it"),
        (["explain", "nano-sort", "--input", "ABC", "--names", "*", "--cell", "logits[0,0,0]"], "give one of them"),
        (["view", "nowhere"], "nothing at nowhere"),
        (["view", "preset:nano-sort", "--input", "X"], "'X' is not in this tokenizer's alphabet"),
        (["view", "preset:nano-sort", "--input", ""], "The prompt is empty"),
        (["view", "preset:nano-sort", "--input", "A", "--tokens", "1"], "not both"),
        (["view", "preset:nano-sort", "--tokens", "1,9"], "Token 9 is not"),
        (["view", "preset:nano-sort", "--steps", "6", "--export", "x.html"], "context of 11"),
        (["view", "preset:nano-sort", "--steps", "-1"], "--steps must be at least 0"),
        (["view", "preset:vit-mnist", "--input", "nowhere.png"], "There is no file nowhere.png"),
        (["view", "preset:vit-mnist", "--tokens", "1"], "give it the file of a picture"),
        (["view", "preset:vit-mnist", "--steps", "1"], "which writes no text"),
        (["view", "preset:seq2seq-g2p", "--input", "cab"], "without a tokenizer"),
        (["view", "preset:seq2seq-g2p", "--tokens", "29"], "source vocabulary of 29"),
        (["explain", "preset:vit-mnist", "--input", "nowhere.png"], "There is no file nowhere.png"),
        (["view", "preset:nano-sort", "--port", "70000"], "--port must be from 0 to 65,535"),
        (["view", "preset:nano-sort", "--host", "192.0.2.1"], "Nobody can listen on 192.0.2.1"),
        (["view", "shapes:gtp2"], "Did you mean gpt2?"),
        (["view", "shapes:gpt2", "--context-length", "9"], "shapes:gpt2 is not run: leave out"),
        (["tokenizer", "encode", "nowhere", "text"], "nowhere"),
        (["tokenizer", "encode", "nowhere", "text", "--file", "x"], "not both"),
        (["convert", "nowhere", "x"], "nothing at nowhere"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert message in refused(result)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


def test_convert_never_overwrites_what_is_no_checkpoint(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    message = refused(run("convert", "preset:nano-sort", str(tmp_path), "--overwrite"))
    assert "thesis.txt" in message
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_convert_asks_before_it_replaces_a_checkpoint(sorter):
    assert "--overwrite" in refused(run("convert", "preset:nano-sort", str(sorter)))
    assert run("convert", "preset:nano-sort", str(sorter), "--overwrite").returncode == 0


def test_a_pickle_is_only_read_when_asked_to(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    assert "--from-pickle" in refused(run("generate", str(tmp_path / "model.pt")))


def test_generate_as_json(tmp_path, data_dir):
    model = str(data_dir / "gpt2" / "gpt-nano-sort-model.json")
    result = run("generate", model, "--prompt", "CBABBC", "--temperature", "0", "--n", "2", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [entry["text"] for entry in found["results"]] == ["ABBBCC"] * 2
    assert [entry["finish"] for entry in found["results"]] == ["context"] * 2


def test_generate_ends_at_the_context_with_a_sentence(data_dir):
    result = run(
        "generate", str(data_dir / "gpt2" / "gpt-nano-sort-model.json"), "--prompt", "CBABBC", "--temperature", "0"
    )
    assert result.stdout == "CBABBCABBBCC\n"
    assert "context of 11 tokens is full" in result.stderr


def test_generate_reads_a_prompt_from_standard_input_and_tells_a_story(data_dir):
    model = str(data_dir / "llama" / "stories260K.bin")
    result = run(
        "generate",
        model,
        "--prompt",
        "-",
        "--temperature",
        "0",
        "--max-new-tokens",
        "40",
        stdin="Lily and Tom went to the",
    )
    expected = json.loads((data_dir / "llama" / "stories260K.reference.json").read_text())["prompt_greedy_40_text"]
    assert result.stdout.strip() == expected


def test_tokenizer_verbs_work_together(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat. " * 50 + "Ünïcödé 世界 🙂\n")
    out = tmp_path / "tokenizer"
    assert run("tokenizer", "train", str(corpus), "--vocab-size", "280", "--out", str(out)).returncode == 0
    ids = run("tokenizer", "encode", str(out), "the cat 世界🙂").stdout
    assert run("tokenizer", "decode", str(out), *ids.split()).stdout == "the cat 世界🙂"
    assert run("tokenizer", "decode", str(out), stdin=ids).stdout == "the cat 世界🙂"
    assert run("tokenizer", "encode", str(out), stdin="the cat 世界🙂").stdout == ids
    streamed = json.loads(run("tokenizer", "encode", str(out), "--file", str(corpus), "--json").stdout)
    assert run("tokenizer", "decode", str(out), stdin=str(streamed)).stdout == corpus.read_text()
    shown = json.loads(run("tokenizer", "show", str(out), "cat🙂", "--json").stdout)
    assert bytes.fromhex("".join(token["bytes"] for token in shown["tokens"]).replace(" ", "")) == "cat🙂".encode()
    assert "is not a token id" in refused(run("tokenizer", "decode", str(out), stdin="12 moose"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_text("the cat sat on the mat. " * 50 + "Ünïcödé 世界 🙂\n")
    return Tokenizer.train([folder / "corpus.txt"], 280, ["<|endoftext|>"]).save(folder)


def test_a_text_is_shown_as_its_tokens_over_their_ids(trained):
    text = "the cat\n\x1b[2J好<|endoftext|>"
    shown = run("tokenizer", "show", str(trained), "-", stdin=text)
    assert "\x1b" not in shown.stdout, "a terminal obeys it"
    tokenizer = Tokenizer.load(trained)
    lines = shown.stdout.splitlines()
    pieces, ids = lines[0:4:2], " ".join(lines[1:4:2]).split()
    assert [int(id.removesuffix("*")) for id in ids] == tokenizer.encode(text)
    assert ids[-1] == f"{tokenizer.eos_id}*"
    assert pieces[0].split() == ["the", "␣cat", "⏎"]
    assert pieces[1].split() == [r"\x1b", "[", "2", "J", "⟨E5⟩", "⟨A5⟩", "⟨BD⟩=好", "<|endoftext|>"]
    plain = run("tokenizer", "show", str(trained), "<|endoftext|>", "--plain").stdout
    assert "*" not in plain
    assert "<" in plain.split()


def test_a_word_is_shown_merge_by_merge_and_as_a_tree(trained):
    word = run("tokenizer", "show", str(trained), "the").stdout
    tokenizer = Tokenizer.load(trained)
    t_h, th_e = (tokenizer.merges.index(pair) for pair in ((b"t", b"h"), (b"th", b"e")))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in word.splitlines() if line.count("│") == 5]
    assert rows == [
        ["", "", "", "t  h  e"],
        ["1", "t + h", str(t_h), "th  e"],
        ["2", "th + e", str(th_e), "the"],
    ]
    assert word.split("\n\n")[1].splitlines()[-5:] == [
        f"the  merge 2, rank {th_e}, id {tokenizer.encode('the')[0]}",
        f"├── th  merge 1, rank {t_h}",
        "│   ├── t",
        "│   └── h",
        "└── e",
    ]
    two = run("tokenizer", "show", str(trained), "the cat").stdout
    assert "merge" not in two
    assert run("tokenizer", "show", str(trained), "the cat", "--merges").stdout.count("symbols") == 2
    (first, _) = json.loads(run("tokenizer", "show", str(trained), "the cat", "--merges", "--json").stdout)["words"]
    assert [step["rank"] for step in first["steps"]] == [t_h, th_e]
    assert bytes.fromhex(first["steps"][0]["symbols"][0]) == b"th"


def test_a_tokenizer_without_steps_says_so(sorter):
    assert "there are no steps to show" in run("tokenizer", "show", str(sorter), "CBA", "--merges").stdout


def test_a_tokenizer_is_not_trained_from_bytes_nor_over_a_model(tmp_path, sorter):
    (tmp_path / "broken.txt").write_bytes(b"abc \xff\xfe def")
    out = tmp_path / "out"
    train = ("tokenizer", "train", "--vocab-size", "300", "--out")
    assert "is not UTF-8" in refused(run(*train, str(out), str(tmp_path / "broken.txt")))
    (tmp_path / "fine.txt").write_text("abc")
    assert "belongs to it" in refused(run(*train, str(sorter), str(tmp_path / "fine.txt")))
    assert "fewer than 300" in run(*train, str(out), str(tmp_path / "fine.txt")).stderr
    assert "--overwrite" in refused(run(*train, str(out), str(tmp_path / "fine.txt")))
    assert run(*train, str(out), str(tmp_path / "fine.txt"), "--overwrite").returncode == 0


def test_a_model_of_the_hub_is_no_place_to_write_and_the_message_does_not_promise_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = refused(run("convert", "preset:nano-sort", str(tmp_path)))
    assert "would be lost" in message
    assert "--overwrite" not in message


def test_text_that_is_not_utf_8_is_never_encoded_as_something_else(tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    run("convert", "preset:nano-sort", str(tmp_path / "model"))
    assert "is not UTF-8" in refused(
        run("tokenizer", "encode", str(tmp_path / "model"), "--file", str(tmp_path / "latin"))
    )


def test_ctrl_c_prints_what_has_come(data_dir):
    model = data_dir / "llama" / "stories260K.bin"
    command = [sys.executable, "-m", "glassformer", "generate", model, "--cache", "window:64", "--endless", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    while sum(watched.cpu_times()[:2]) < 8:  # seconds: it is loaded, and writes
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip() == "Stopped."
    (result,) = json.loads(out)["results"]
    assert result["finish"] == "interrupted"
    assert len(result["text"]) > 20


def test_trace_and_explain_work_together(tmp_path, data_dir):
    model = str(data_dir / "gpt2" / "gpt-nano-sort-model.json")
    kept = tmp_path / "trace.gft"
    made = json.loads(run("trace", model, "--input", "CBABBC", "--out", str(kept), "--json").stdout)
    assert made["operations"] == 312
    report = json.loads(run("trace", "--check", str(kept), "--cells", "2000", "--json").stdout)
    assert report["failures"] == 0
    assert report["checked"] >= 2000
    assert report["computed_cells"] == made["computed_cells"]
    first = json.loads(
        run("trace", "--check", str(kept), "--cells", "1", "--modules", "blocks.0.attn", "--json").stdout
    )
    assert first["by_operation"].keys() < report["by_operation"].keys()
    cell = "blocks.0.attn.scores#1[0,1,5,2]"
    from_model = run("explain", model, "--input", "CBABBC", "--cell", cell, "--json")
    from_file = run("explain", str(kept), "--cell", cell, "--json")
    assert from_model.returncode == from_file.returncode == 0, from_model.stderr
    found = json.loads(from_file.stdout)
    assert found["check"]["passed"]
    assert found["source"]["text"].startswith("scores = q @ k.mT / math.sqrt(q.shape[-1])")
    assert found["formula"] == json.loads(from_model.stdout)["formula"]
    shown = run("explain", str(kept), "--cell", "blocks.0.attn.scores[0,1,5,2]", "--depth", "3").stdout
    assert "∑ᵢ blocks.0.attn.q[0,1,5,i] · blocks.0.attn.k[0,1,2,i]" in shown
    assert "✓" in shown
    assert "✗" not in shown
    latex = run("explain", str(kept), "--cell", "blocks.0.attn.total[0,1,5,0]", "--latex").stdout
    assert latex == "\\mathrm{blocks.0.attn.total}_{0,1,5,0} = \\sum_i \\mathrm{blocks.0.attn.exponentials}_{0,1,5,i}\n"
    assert "blocks.0.attn.weights" in run("explain", str(kept)).stdout
    fitting = json.loads(run("explain", str(kept), "--names", "*.scores", "--json").stdout)
    assert [(row["name"], row["axes"]) for row in fitting] == [
        (f"blocks.{i}.attn.scores", list("BHTS")) for i in range(3)
    ]
    assert "no name fits" in refused(run("explain", str(kept), "--names", "scores"))
    for verb in ("explain", "view"):
        assert "--context-length." in refused(run(verb, str(kept), "--context-length", "20"))
    assert "no cell [9]" in refused(run("explain", str(kept), "--cell", "logits[9]"))
    assert "There are" in refused(run("explain", str(kept), "--cell", "blocks.0.attn.score[0]"))
    assert "--overwrite" in refused(run("trace", model, "--input", "C", "--out", str(kept)))


def test_a_check_that_fails_says_so(tmp_path, data_dir):
    model = str(data_dir / "gpt2" / "gpt-nano-sort-model.json")
    run("trace", model, "--input", "CBABBC", "--out", str(tmp_path / "trace"))
    manifest = tmp_path / "trace" / "trace.json"
    manifest.write_text(manifest.read_text().replace("1e-05", "1e-03"))
    assert "SHA-256 is another" in refused(run("trace", "--check", str(tmp_path / "trace")))
    (tmp_path / "trace" / "manifest.json").unlink()
    result = run("trace", "--check", str(tmp_path / "trace"), "--cells", "30000")
    assert result.returncode == 1
    assert "instead of" in result.stdout


def test_doctor_names_the_device_and_every_twin():
    report = json.loads(run("doctor", "--json").stdout)
    assert report["machine"]["device"].startswith(("cpu", "cuda", "mps"))
    assert "nn.functional.layer_norm" in report["what runs"]
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert {*report["extras"], "dev"} == {*tomllib.loads(project.read_text())["project"]["optional-dependencies"]}


def test_output_that_nobody_reads_any_more_is_no_error(data_dir):
    model = data_dir / "llama" / "stories260K.bin"
    script = f"{sys.executable} -m glassformer generate {model} --cache window:64 --max-new-tokens 5000 | head -c 20"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_a_run_can_be_resumed_with_more_steps(tmp_path):
    small = ["--model.n-layers", "1", "--model.d-model", "12", "--batch-size", "2", "--eval-interval", "0"]
    assert run("train", "nano-sort", *small, "--steps", "2", "--runs", str(tmp_path)).returncode == 0
    folder = tmp_path / "nano-sort"
    result = run("train", "--resume", str(folder), "--steps", "4", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["step"] == 4
    assert "leave out --data" in refused(run("train", "--resume", str(folder), "--data.path", "x"))

"""Whatever is typed, the answer is one sentence that says what to do, in the words of the command line."""

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import cyclopts
import pytest

import glassformer
from glassformer.cli import failures, hints
from glassformer.cli.app import VERBS
from support.commands import run

SOURCE = Path(glassformer.__file__).parent


def sentence(result: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one sentence of a refusal, behind remarks such as that weights are random."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    *_, last = result.stderr.strip().splitlines()
    return last


def flags_of(app: cyclopts.App) -> set[str]:
    return {name for argument in app.assemble_argument_collection() for name in argument.names if name.startswith("--")}


def commands() -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command with its flags."""
    for verb in VERBS:
        app = import_module(f"glassformer.cli.{verb}").app
        inner = {"tokenizer": ("train", "encode", "decode", "show"), "data": ("get", "list")}.get(verb)
        for part in inner or [None]:
            yield ((verb,), flags_of(app)) if part is None else ((verb, part), flags_of(app[part]))


COMMANDS = dict(commands())
MODEL_VERBS = ("generate", "translate", "transcribe", "classify", "evaluate", "neighbours", "convert")
LOOKING_VERBS = ("trace", "explain", "view")


# ---- flags


@pytest.mark.parametrize("verb", [*MODEL_VERBS, *LOOKING_VERBS])
def test_every_verb_that_loads_a_model_may_read_a_pickle(verb: str) -> None:
    assert "--from-pickle" in COMMANDS[verb,]


@pytest.mark.parametrize("verb", ["generate", "translate", "transcribe", "classify", "evaluate"])
def test_every_verb_that_runs_a_model_chooses_device_and_precision(verb: str) -> None:
    assert {"--device", "--dtype"} <= COMMANDS[verb,]


@pytest.mark.parametrize("verb", LOOKING_VERBS)
def test_a_recording_is_on_the_cpu_and_the_message_says_so(verb: str) -> None:
    assert "computed on the CPU" in sentence(run(verb, "nano-sort", "--device", "cuda"))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_flag_is_suggested_for_a_misspelling_of_it(words: tuple[str, ...]) -> None:
    for flag in COMMANDS[words]:
        if len(flag) > 5:
            assert hints.nearest(flag[:3] + flag[2:], COMMANDS[words]) == flag


def test_every_setting_is_suggested_by_its_last_part_and_for_a_misspelling() -> None:
    from glassformer.cli.train import setting_defaults

    flags = [f"--{name.replace('_', '-')}" for name in setting_defaults()]
    for flag in flags:
        tail = flag.rpartition(".")[2].lstrip("-")
        assert hints.nearest(f"--{tail}", flags).rpartition(".")[2].lstrip("-") == tail
        assert hints.nearest(f"{flag}s", flags) == flag


@pytest.mark.parametrize("name", hints.SYNONYMS)
def test_what_other_programs_call_a_flag_leads_to_one_that_there_is(name: str) -> None:
    from glassformer.cli.train import setting_defaults

    ours = {f"--{setting.replace('_', '-')}" for setting in setting_defaults()}.union(*COMMANDS.values())
    assert set(hints.SYNONYMS[name]) <= ours


def test_advice_on_memory_names_flags_that_the_verb_has() -> None:
    from glassformer.cli.train import setting_defaults

    for verb, advice in failures.SMALLER.items():
        own = set().union(*(flags for words, flags in COMMANDS.items() if words[0] == verb))
        own |= {f"--{name.replace('_', '-')}" for name in setting_defaults()} if verb == "train" else set()
        assert set(re.findall(r"--[a-z-]+", advice)) <= own


# ---- messages


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("generate nano-sort --lr 3", "There is no option --lr here. See generate --help."),
        ("generate nano-sort --max-tokens 3", "Did you mean --max-new-tokens?"),
        ("generate nano-sort --promt A", "Did you mean --prompt?"),
        ("generate nano-sort A --prompt B", "Give the text once"),
        ("generate nano-sort A B", "There is no place for 'B' here"),
        ("generate nano-sort A --top-k=-1", "--top-k must be at least 0"),
        ("generate nano-sort A --top-p 2", "--top-p must be above 0 and at most 1"),
        ("generate nano-sort A --repetition-penalty 0", "--repetition-penalty must be above 0"),
        ("generate nano-sort A --seed=-1", "--seed must be from 0"),
        ("generate nano-sort A --max-new-tokens 0", "--max-new-tokens must be at least 1"),
        ("generate nano-sort A --n 0", "--n must be from 1 to 1024"),
        ("generate nano-sort A --device meta", "--device is 'meta', and this machine has cpu"),
        ("generate nano-sort A --device banana", "--device is 'banana', and this machine has cpu"),
        ("generate nano-sort A --device cuda:99", "--device is 'cuda:99', and this machine has cpu"),
        ("generate nano-sort A --dtype int8", 'Choose from: "float32", "bfloat16", "float16"'),
        ("generate preset:cs336 A", "glassformer convert MODEL FOLDER --tokenizer FILE"),
        (
            "generate preset:vit-mnist A",
            "takes a language model, and the model is an image classifier. It is for glassformer cla",
        ),
        ("generate  A", "this name is empty"),
        ("generate .", "config.json"),
        ("trace nano-sort --out x --input ", "The prompt is empty"),
        ("view nano-sort --port 999999", "--port must be from 0 to 65,535"),
        ("view nano-sort --host 192.0.2.1", "Choose another --host or --port."),
        ("view nano-sort --check --export x.html", "give one of them"),
        ("translate nano-sort x", "It is for glassformer generate"),
        ("translate preset:seq2seq-g2p x --beams 0", "--beams must be from 1 to 1024"),
        ("translate preset:seq2seq-g2p x --length-penalty 99", "--length-penalty must be from −10 to 10"),
        ("translate preset:seq2seq-g2p x --batch-size 0", "--batch-size must be at least 1"),
        ("translate preset:seq2seq-g2p --file nowhere", "nowhere cannot be read"),
        ("translate preset:seq2seq-g2p --file .", "cannot be read"),
        ("transcribe nano-sort x.wav", "x.wav: expected a file with sound"),
        ("transcribe nano-sort", "Name at least one recording"),
        ("classify nano-sort x.png", "takes an image classifier"),
        ("classify preset:vit-mnist x.png --top-k 0", "--top-k must be at least 1"),
        ("classify preset:vit-mnist x.png --processor nowhere", "nowhere"),
        ("evaluate nano-sort nowhere", "nowhere"),
        ("evaluate nano-sort .", "."),
        ("evaluate nano-sort sort --beams 2", "--beams is not for a language model"),
        ("evaluate nano-sort sort --limit 0", "--limit must be at least 1"),
        ("neighbours A", "--vectors requires an argument"),
        ("neighbours A --vectors nano-sort --n 0", "--n must be at least 1"),
        ("neighbours A --vectors nowhere", "nothing at nowhere"),
        ("neighbours Q --vectors nano-sort", "There is no vector for 'Q'"),
        ("convert nano-sort", "DESTINATION"),
        ("convert nowhere x", "nothing at nowhere"),
        ("trace nano-sort ABC", "Did you mean --input 'ABC'?"),
        ("trace nano-sort --input ABC --out x --modules zzz", "zzz"),
        ("explain nano-sort ABC", "Did you mean --input 'ABC'?"),
        ("explain nano-sort --input ABC --latex", "--latex prints the equation of a --cell"),
        ("explain nano-sort --input ABC --depth 0", "--depth and --terms must be at least 1"),
        ("view nano-sort ABC", "Did you mean --input 'ABC'?"),
        ("view preset:cs336 --input ABC", "Give it --tokens 1,2,3 instead of --input"),
        ("trace preset:cs336 --input ABC --out x", "Give it --tokens 1,2,3 instead of --input"),
        ("view preset:nano-sort --seed 100000000000000000000", "--seed must be from 0"),
        ("view preset:nano-sort --seed=-1", "--seed must be from 0"),
        ("train sort --lr 3", "Did you mean --optimizer.lr?"),
        ("train sort --setings", "Did you mean --settings?"),
        ("train sort --steps", "--steps requires an argument"),
        ("train --data.path x", "a checkpoint is named with --model.from"),
        ("train --resume runs/x --overwrite", "give one of them"),
        ("train --model.from nowhere --data.path x", "there is no nowhere"),
        ("train shakespeare-chr", "Did you mean shakespeare-char?"),
        ("train sort --threads 9007199254740992", "threads must be from 0 to 1,024"),
        ("train sort --device mps:7", "--device is 'mps:7', and this machine has cpu"),
        ("train shakespeare-char", "glassformer data get tinyshakespeare"),
        ("train sort --steps 0", "steps must be from 1"),
        ("train .", "--model.from . begins a new one"),
        ("train --resume nowhere", "There is no run in nowhere: --resume takes the folder of one"),
        ("classify preset:vit-mnist .", ". is a folder: name the pictures in it"),
        ("transcribe nano-sort .", ". is a folder: name the recordings in it"),
        ("tokenizer encode nowhere x", "nowhere"),
        ("tokenizer encode . x", "expected tokenizer.json"),
        ("tokenizer decode nano-sort 1", "nano-sort"),
        ("tokenizer train nowhere --vocab-size 300 --out x", "nowhere"),
        ("tokenizer encode tok x --workers 2", "--workers has no effect without --out"),
        ("tokenizer encode tok x --ray local", "--ray has no effect without --out"),
        ("tokenizer encode tok x --shard-bytes 9", "--shard-bytes has no effect without --out"),
        ("tokenizer encode tok --file x.jsonl --field body", "--field has no effect without --out"),
        ("tokenizer encode tok x --overwrite", "--overwrite has no effect without --out"),
        ("tokenizer show tok --merges", "--merges has no effect without a text"),
        ("tokenizer show tok --plain", "--plain has no effect without a text"),
        ("generate nano-sort A --beams 2 --temperature 1", "--temperature has no effect with --beams"),
        ("generate nano-sort A --beams 2 --top-k 3", "--top-k has no effect with --beams"),
        ("generate nano-sort A --beams 2 --seed 3", "--seed has no effect with --beams"),
        ("translate preset:seq2seq-g2p x --overwrite", "--overwrite has no effect without --out"),
        ("translate preset:seq2seq-g2p x --beams 1 --length-penalty 2", "--length-penalty has no effect with one"),
        ("transcribe m x.wav --overwrite", "--overwrite has no effect without --out"),
        ("transcribe m x.wav --line-width 40", "--line-width has no effect with --format txt"),
        ("transcribe m x.wav --json --format srt", "--format has no effect with --json, unless there is --out"),
        ("convert nano-sort x.gguf --quantize f16 --native", "--native has no effect on a GGUF file"),
        ("evaluate nano-sort sort --streaming 8", "--streaming is for texts"),
        ("evaluate nano-sort sort --batches 2", "--batches is for texts, and sort is none"),
        ("train --resume runs/x --runs other", "--runs has no effect with --resume"),
        ("train sort --settings --overwrite", "--overwrite has no effect with --settings"),
        ("trace --check x --overwrite", "--overwrite has no effect with --check"),
        ("trace --check x --seed 3", "--seed has no effect without --cells"),
        ("trace nano-sort --input ABC --out x --cells 3", "--cells has no effect without --check"),
        ("explain nano-sort --input ABC --depth 2", "--depth has no effect without --cell"),
        ("view nano-sort --check --port 8000", "--port has no effect with --check"),
        ("view nano-sort --export x.html --open", "--open has no effect with --export"),
        ("view nano-sort --overwrite", "--overwrite has no effect without --export"),
        ("view nano-sort --seed 3", "--seed has no effect on a model that has its weights"),
        ("data get nothing", "There is no corpus"),
    ],
)
def test_one_sentence_in_the_words_of_the_command_line(
    arguments: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = sentence(run(*arguments.split(" ")))
    assert expected in message
    assert not re.search(r"\w=True|generate_ids|from_pickle|max_new_tokens|\bgf\.", message), message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


PYTHON = re.compile(
    r"max_hours|max_bytes|[a-z]_[a-z_]+=|\w=True|\bgf\.|\bgenerate_ids|\bmodule\.|\bmodel\.(load|save|build|to)\b"
)


def test_no_message_names_python_outside_of_its_part_for_python() -> None:
    """By kind: of every error that is raised, what is not `python=` is read by people who typed a command."""
    classes = set(dir(import_module("glassformer.errors")))
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parts[-2] in ("nn",):  # layers are called from Python alone
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                parts = [*node.args, *(each.value for each in node.keywords if each.arg != "python")]
                texts = [inner.value for part in parts for inner in ast.walk(part) if isinstance(inner, ast.Constant)]
                told = "".join(text for text in texts if isinstance(text, str))
                assert not PYTHON.search(told) or path.name == "base.py", f"{path.name}:{node.lineno}: {told}"

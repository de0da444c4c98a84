"""`glassformer chat`: a conversation with a model, by the chat template in its files."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from glassformer.cli.choosing import CHOOSING, Choosing
from glassformer.cli.loading import RUNNING, ContextLength, Running, load
from glassformer.cli.output import print_line, read_argument, read_line, remark, write_text
from glassformer.errors import GenerationError, GlassformerError

if TYPE_CHECKING:
    from glassformer.inference.chat import Conversation

COMMANDS = {
    "/reset": "forget the conversation, but not what the model is told before it",
    "/system TEXT": "tell the model something before all else; without TEXT, nothing any more",
    "/save FILE": "write the conversation to a new file, as JSON",
    "/tokens": "say how many tokens the conversation has",
    "/help": "list the commands; a message that begins with a slash needs a space before it",
    "/quit": "end, as Ctrl-D does; Ctrl-C stops an answer",
}

app = App(
    name="chat",
    help_epilogue="Example:  glassformer chat SmolLM2-135M-Instruct.Q4_1.gguf",
)


@app.default
def chat(
    model: str,
    /,
    *,
    system: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    template: str = "",
    max_new_tokens: int = 1024,
    choosing: Choosing = CHOOSING,
    cache: str = "full",
    stop: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    context_length: ContextLength = None,
    running: Running = RUNNING,
) -> None:
    """Talk with a model. At a terminal each line is a message; what comes through a pipe is one, and is answered.

    Parameters
    ----------
    model
        A checkpoint directory, a published file or a name on the Hub (org/name), with a chat template: a GGUF file has
        it inside.
    system
        What the model is told before all else.
    template
        The name of a chat template, where the model has several.
    max_new_tokens
        Where an answer stops at the latest.
    cache
        full, window:N (the N latest tokens) or sinks:K+N (the first K and the N latest ones): how the conversation can
        go on beyond the model's context.
    stop
        End an answer before this text; can be given several times.
    """
    settings = choosing.settings()
    if max_new_tokens < 1:
        raise GenerationError(f"must be at least 1, not {max_new_tokens}.", setting="max_new_tokens")
    conversation = load(model, "language-model", opening=running, context_length=context_length).conversation(
        system=system, template=template, max_new_tokens=max_new_tokens, cache=cache, stop=stop, **settings
    )
    if sys.stdin.isatty():
        talk(conversation)
    elif question := read_argument("-").strip():
        answer(conversation, question)
    else:
        raise GenerationError("There is no message: standard input is empty.")


def talk(conversation: "Conversation") -> None:
    """Message by message, until the person at the terminal ends it."""
    remark("Write a message. /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends.")
    try:
        while (line := read_line("> ")) not in (None, "/quit"):
            try:
                if line.startswith("/"):
                    obey(conversation, line)
                elif line.strip():
                    answer_at_terminal(conversation, line.strip())
            except GlassformerError as error:
                remark(error.at_command_line())
    except KeyboardInterrupt:  # while nothing was answered
        remark("")


def answer_at_terminal(conversation: "Conversation", question: str) -> None:
    """The same as `answer`, which Ctrl-C stops."""
    try:
        answer(conversation, question)
    except KeyboardInterrupt:
        remark("Stopped.")


def answer(conversation: "Conversation", question: str) -> None:
    """Write the answer as it comes, and why it ends where it has not come to its end."""
    finish = None
    with closing(conversation.ask(question)) as pieces:
        try:
            for piece in pieces:
                write_text(piece.text, at_once=True)
                finish = piece.finish
        finally:
            write_text("\n", at_once=True)
    if finish == "length":
        n = conversation.request.max_new_tokens
        remark(
            f"The answer ends here, after {n:,} tokens: --max-new-tokens allows more. Where it repeats itself, "
            f"--temperature 0.8 or --repetition-penalty 1.1 may end it."
        )
    if finish == "context":
        length = conversation.context_length
        remark(
            f"The answer ends here: the model's context of {length:,} tokens is full. To go on beyond it, let old "
            f"tokens leave: --cache sinks:4+{max(length - 4, 1)}"
        )


def obey(conversation: "Conversation", line: str) -> None:
    """Do what a command says."""
    command, _, text = line.partition(" ")
    text = text.strip()
    match command:
        case "/reset":
            conversation.reset()
        case "/system":
            conversation.system = text
        case "/save":
            save(conversation, text)
        case "/tokens":
            print_line(f"{conversation.n_tokens:,} tokens, and the model has {conversation.context_length:,} positions")
        case "/help":
            for usage, meaning in COMMANDS.items():
                print_line(f"{usage:14}{meaning}")
        case _:
            remark(f"There is no command {command}: /help lists them.")


def save(conversation: "Conversation", name: str) -> None:
    """Write the messages to a new file, in the form in which `Model.chat` takes them."""
    from glassformer.files import write_file

    if not name:
        remark("/save takes the name of a file.")
        return
    path = Path(name).expanduser()
    text = json.dumps({"messages": conversation.messages}, ensure_ascii=False, indent=2)
    write_file(path, f"{text}\n".encode(errors="backslashreplace"))
    n = len(conversation.messages)
    remark(f"{n} message{' is' if n == 1 else 's are'} in {path}.")

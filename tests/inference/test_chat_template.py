"""Chat templates: their text is that of `transformers`, and a stranger's takes no more than its share."""

import json
import random
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from glassformer.errors import GenerationError, MissingExtra
from glassformer.inference import chat_template
from glassformer.inference.chat_sandbox import MAX_CHARACTERS
from glassformer.inference.chat_template import ChatTemplate, run_sandbox
from support.chat_templates import CHATML, TEMPLATES, TOOLS, conversation
from support.counts import count
from tokenizers import Tokenizer as TheirTokenizer

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=TheirTokenizer(WordLevel({"<unk>": 0}, "<unk>")), **TOKENS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_conversations_become_the_text_that_transformers_makes_of_them(name: str, theirs: Any) -> None:
    """Where it refuses one, so do we; all cases of a template run in one process."""
    rng = random.Random(name)
    template = ChatTemplate(text=TEMPLATES[name], tokens=TOKENS)
    cases = [
        (conversation(rng), rng.choice([None, TOOLS]), rng.random() < 0.5) for _ in range(count("random conversations"))
    ]
    request = {"template": template.text, "cases": [template.variables(*case) for case in cases]}
    n_texts = 0
    for (messages, tools, begin), outcome in zip(cases, run_sandbox(json.dumps(request)), strict=True):
        try:
            expected = theirs.apply_chat_template(
                messages, tools, chat_template=template.text, add_generation_prompt=begin, tokenize=False
            )
        except Exception:
            expected = None
        assert outcome.get("text") == expected, messages
        n_texts += expected is not None
    assert n_texts > len(cases) / 5


def test_a_text_ends_where_the_answer_begins_unless_it_is_not_asked_to() -> None:
    template = ChatTemplate(text=CHATML)
    text, behind = template.render_with_end(HELLO)
    assert text == template.render(HELLO)
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert template.render(HELLO, add_generation_prompt=False) == text.removesuffix("<|im_start|>assistant\n")
    assert behind == "<|im_end|>\n"


def test_what_none_stands_for_is_not_written() -> None:
    template = ChatTemplate(text="{{ messages[0].content }}{{ messages[0].tool_calls }}")
    assert template.render([{"role": "user", "content": None, "tool_calls": None}]) == ""


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("one\ntwo\n{% if %}", 3, "Expected an expression"),
        ("one\n{% for m in messages %}\n{{ m.content }}", 3, "endfor"),
        (
            "one\n{% for m in messages %}\n\n{{ raise_exception('no,\nnot this') }}{% endfor %}",
            4,
            "refuses.*no, not this",
        ),
        ("one\n{{ messages[0].absent.field }}", 2, "no attribute 'absent'"),
        ("{% macro f(x) %}\n{{ x + 1 }}\n{% endmacro %}\n{{ f('a') }}", 2, "TypeError"),
        ("\n\n{% include 'other' %}", 3, "no loader"),
    ],
)
def test_a_template_that_fails_says_in_which_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(GenerationError, match=reason) as raised:
        ChatTemplate(text=text).render(HELLO)
    assert f"in line {line}: " in str(raised.value)


FORBIDDEN, MEMORY, NO_END = "does what templates may not", "needs more memory than it may have", "comes to no end"
HOSTILE = {  # the template, and which of the bounds it meets
    "attributes of classes": ("{{ ''.__class__.__mro__ }}", FORBIDDEN),
    "globals of functions": ("{{ dict.__globals__.sys }}{{ strftime_now.__globals__['sys'].modules }}", FORBIDDEN),
    "a class by its instance": ("{{ cycler.__init__.__globals__.os }}", FORBIDDEN),
    "a namespace with a class": ("{% set ns = namespace(__class__=1) %}", FORBIDDEN),
    "a namespace that gets one": ("{% set ns = namespace() %}{% set ns.__init__ = 1 %}", FORBIDDEN),
    "attributes by a filter": ("{{ ('' | attr('__class__')).x }}", FORBIDDEN),
    "attributes of many": ("{{ (messages | map(attribute='__class__') | list)[0].x }}", FORBIDDEN),
    "format strings": ("{{ '{0.__class__.__mro__}'.format('') }}", FORBIDDEN),
    "messages that change": ("{{ messages.append(1) }}", FORBIDDEN),
    "messages that a class changes": ("{{ dict.pop(messages[0], 'role') }}", "fails.*no attribute 'pop'"),
    "a range of a billion": ("{% for i in range(10 ** 9) %}{% endfor %}", FORBIDDEN),
    "loops in loops": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", NO_END),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails"),
    "a text repeated": ("{{ 'x' * 10 ** 10 }}", FORBIDDEN),
    "a list repeated": ("{{ ([0] * 10 ** 10) | length }}", FORBIDDEN),
    "a power": ("{{ (9 ** (9 ** 9)) ** 9 }}", FORBIDDEN),
    "a text that doubles": (
        "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        MEMORY,
    ),
    "a wide number": ("{{ '%9999999999d' % 1 }}", MEMORY),
    "a wide format": ("{{ '{:>9999999999}'.format(1) }}", MEMORY),
    "a wide line": ("{{ 'x' | center(10 ** 10) }}", MEMORY),
    "nested brackets": ("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "fails"),
    "a text too long": ("{% for i in range(90000) %}" + "0123456789" * 10 + "{% endfor %}", FORBIDDEN),
    "other files": ("{% extends '/etc/passwd' %}", "fails.*no loader"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_a_bounded_time(name: str) -> None:
    """Seconds of computing time end it, or a minute of any time: this test comes to its end."""
    text, reason = HOSTILE[name]
    with pytest.raises(GenerationError, match=f"The chat template {reason}"):
        ChatTemplate(text=text).render(HELLO)


def test_the_text_of_a_template_has_a_bound_that_conversations_do_not_reach() -> None:
    long = [{"role": "user", "content": "x" * (MAX_CHARACTERS // 2)}]
    assert len(ChatTemplate(text="{{ messages[0].content }}").render(long)) == MAX_CHARACTERS // 2
    with pytest.raises(GenerationError, match="characters"):
        ChatTemplate(text="{{ messages[0].content }}" * 3).render(long)


def test_a_process_that_comes_to_no_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system knows no limits of computing time."""
    monkeypatch.setattr(chat_template, "PATIENCE", 0.01)
    with pytest.raises(GenerationError, match="comes to no end"):
        ChatTemplate(text=CHATML).render(HELLO)


def test_the_process_sees_neither_secrets_nor_the_modules_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setenv("HF_TOKEN", "secret")
    environments = []
    run = subprocess.run

    def spied(*arguments: Any, **options: Any) -> Any:
        environments.append(options["env"])
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", spied)
    assert ChatTemplate(text="{{ messages[0].content }}").render(HELLO) == "Hello"
    assert "secret" not in str(environments)


@pytest.mark.parametrize(
    "messages", [[], "Hello", {"role": "user"}, [{"content": "x"}], ["Hello"], [{"role": 1}], None], ids=str
)
def test_what_is_no_conversation_is_refused(messages: Any) -> None:
    with pytest.raises(GenerationError, match=r"A conversation is a list|A message has a role"):
        ChatTemplate(text=CHATML).render(messages)


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(GenerationError, match="made of what JSON has"):
        ChatTemplate(text=CHATML).render([{"role": "user", "content": object()}])


@pytest.mark.parametrize("version", ["3.1.5", "2.11", None])
def test_a_jinja_whose_sandbox_has_holes_is_none(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    with pytest.raises(MissingExtra, match=r"jinja2 3\.1\.6 or newer: install it with.*glassformer\[chat\]"):
        ChatTemplate(text=CHATML).render(HELLO)

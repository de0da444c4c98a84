"""Conversations: prompts as `transformers` has them, answers that end, and turns that read only what is new."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import glassformer as gf
from glassformer.errors import GenerationError
from glassformer.inference.chat import end_ids, template_of
from support.chat_models import (
    BEGIN,
    END,
    TEMPLATE,
    byte_tokenizer,
    sentencepiece_tokenizer,
    with_special_tokens,
    write_chat_model,
)
from support.chat_templates import TEMPLATES, TOOLS, conversation
from support.counts import count

ASKED = [{"role": "user", "content": "Which city?"}]
ENDLESS = [{"role": "user", "content": "Go on!"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture
def model(folder: Path) -> gf.Model:
    return gf.load(folder)


def text(pieces: Any) -> str:
    return "".join(piece.text for piece in pieces)


def test_an_answer_is_what_transformers_generates_from_its_own_prompt(folder: Path, model: gf.Model) -> None:
    tokenizer, theirs = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=False)
    assert list(model.chat_prompt(ASKED).tokens) == ids
    row = theirs.generate(
        torch.tensor([ids]), max_new_tokens=20, do_sample=False, eos_token_id=tokenizer.convert_tokens_to_ids(END)
    )
    assert tokenizer.decode(row[0, len(ids) :], skip_special_tokens=True) == "Paris." == model.chat(ASKED)
    assert model.render(ASKED) == tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)


def test_an_answer_ends_with_the_token_that_the_template_writes_behind_one(model: gf.Model) -> None:
    """No other file names it: the tokenizer's own end of a text is another token."""
    assert model.tokenizer is not None
    end = model.tokenizer.special_tokens[END]
    assert end not in model.stop_tokens
    assert model.chat_prompt(ASKED).end_ids == {end}
    assert model.chat(ASKED, max_new_tokens=50) == "Paris."
    assert model.chat(ENDLESS, max_new_tokens=7) == "hohohoh"
    assert model.chat(ENDLESS, max_new_tokens=50, stop=["oho"]) == "h"


def test_special_tokens_within_an_answer_have_no_text_as_in_transformers(folder: Path, tmp_path: Path) -> None:
    """Added tokens that are not special, such as <think>, stay, in a copy too; a stop string may be a special token."""
    model = with_special_tokens(gf.load(folder))
    theirs = AutoTokenizer.from_pretrained(gf.save(model, tmp_path / "copy"))
    assert model.tokenizer is not None
    prompt = list(model.chat_prompt(ASKED).tokens)
    ids = model.generate_ids([prompt], max_new_tokens=8)[0, len(prompt) :].tolist()
    assert theirs.decode(ids) == f"P<think>{BEGIN}s.{END}" == model.tokenizer.decode(ids)
    assert theirs.decode(ids, skip_special_tokens=True) == "P<think>s." == model.chat(ASKED)
    assert gf.load(tmp_path / "copy").chat(ASKED) == "P<think>s."
    talk = model.conversation()
    assert text(talk.ask("Which city?")) == talk.messages[-1]["content"] == "P<think>s."
    again = talk.messages + ASKED
    assert text(talk.ask("Which city?")) == model.chat(again) == "P<think>s."
    assert model.chat(ASKED, stop=[BEGIN]) == text(model.conversation(stop=[BEGIN]).ask("Which city?")) == "P<think>"
    written = "".join(model.generate("?", max_new_tokens=5))
    assert written == f"P<think>{BEGIN}s.", "what is no answer shows all that the model writes"


def test_an_answer_goes_on_behind_a_begin_token_as_in_transformers(folder: Path, tmp_path: Path) -> None:
    """It has no text, and only tokens that end a text end an answer; a text that is no answer is over there."""
    model = with_special_tokens(gf.load(folder))
    assert model.tokenizer is not None
    model.tokenizer.bos_id = begin = model.tokenizer.special_tokens[BEGIN]
    copy = gf.save(model, tmp_path / "copy")
    tokenizer, theirs = AutoTokenizer.from_pretrained(copy), AutoModelForCausalLM.from_pretrained(copy)
    assert tokenizer.bos_token_id == begin
    ids = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=False)
    row = theirs.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :]
    assert begin in row
    answer = tokenizer.decode(row, skip_special_tokens=True)
    assert answer == "P<think>s." == model.chat(ASKED) == text(model.conversation().ask("Which city?"))
    assert "".join(model.generate("?", max_new_tokens=8, temperature=0.0)) == "P<think>"


def test_an_answer_streams_and_what_cannot_be_served_raises_before(model: gf.Model) -> None:
    assert [piece for piece in model.answer(ASKED) if piece] == ["P", "a", "r", "i", "s", "."]
    with pytest.raises(GenerationError, match="setting"):
        model.answer(ASKED, temprature=1.0)
    with pytest.raises(GenerationError, match="context"):
        model.answer([{"role": "user", "content": "x" * 5000 + "?"}])
    with pytest.raises(GenerationError, match="There is no chat template 'rag': the model has default"):
        model.answer(ASKED, template="rag")


def test_the_begin_token_that_a_template_writes_comes_once(model: gf.Model) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    tokenizer.bos_id = tokenizer.special_tokens["<|endoftext|>"]
    tokenizer.begin_ids = (tokenizer.bos_id,)
    contents = {"chat_template.jinja": b"{{ bos_token }}{{ messages[0].content }}"}
    rest = model.rest.__class__(contents=contents, tokenizer=tokenizer)
    tokens = model.having(tokenizer=tokenizer, rest=rest).chat_prompt(ASKED).tokens
    assert tokens[:2] == (tokenizer.bos_id, *tokenizer.encode("W"))


def test_a_model_without_a_template_says_so_in_one_sentence() -> None:
    with pytest.raises(GenerationError, match=r"^The model has no chat template, .*: it continues texts\. `generate`"):
        gf.load("nano-sort").chat(ASKED)
    with pytest.raises(GenerationError, match="language model"):
        gf.build("vit-mnist").chat(ASKED)


def test_a_template_goes_with_its_tokenizer(model: gf.Model, tmp_path: Path) -> None:
    other = gf.Tokenizer.train([__file__], 300, ["<|endoftext|>"])
    with pytest.raises(GenerationError, match="no chat template"):
        model.having(tokenizer=other).chat(ASKED)
    gf.save(model, tmp_path / "copy")
    assert gf.load(tmp_path / "copy").chat(ASKED) == "Paris."


@pytest.mark.parametrize(
    ("behind", "ends"),
    [("<|im_end|>\n", [END]), (" \n<|im_end|>", [END]), ("\n\n", []), ("", []), ("\n### End <|im_end|>", [])],
)
def test_what_ends_an_answer_is_the_special_token_behind_it(behind: str, ends: list[str], tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    assert end_ids(behind, tokenizer) == {tokenizer.special_tokens[token] for token in ends}


def test_a_template_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    files = {
        "chat_template.jinja": b"usual",
        "additional_chat_templates/tool_use.jinja": b"{{ tools | length }} tool",
        "additional_chat_templates/rag.jinja": b"rag",
    }
    chosen = [({}, "usual"), ({"tools": TOOLS}, "1 tool"), ({"name": "rag", "tools": TOOLS}, "rag")]
    for options, expected in chosen:
        template = template_of(files, tokenizer, **options)  # type: ignore[arg-type]
        assert template.render(ASKED, tools=options.get("tools")) == expected  # type: ignore[arg-type]
    with pytest.raises(GenerationError, match="no chat template 'default': the model has rag"):
        template_of({"additional_chat_templates/rag.jinja": b"rag"}, tokenizer)


# ---- conversations that go on


def test_a_conversation_remembers_its_messages_and_answers_as_chat_does(model: gf.Model) -> None:
    talk = model.conversation(system="Be brief.")
    assert text(talk.ask("Which city?")) == "Paris."
    assert text(talk.ask("Really?")) == "Paris."
    roles = [message["role"] for message in talk.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert talk.messages[0]["content"] == talk.system == "Be brief."
    assert model.chat(talk.messages[:-1]) == "Paris."
    rendered = model.render(talk.messages, add_generation_prompt=False)
    assert model.tokenizer is not None
    assert talk.n_tokens == len(model.tokenizer.encode(rendered))
    talk.reset()
    assert [message["role"] for message in talk.messages] == ["system"]
    talk.system = ""
    assert talk.messages == []
    assert talk.n_tokens == 0


BY_LENGTH: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "longrope": {"short_factors": [1.0] * 8, "long_factors": [2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0]},
}


@pytest.mark.parametrize(
    ("cache", "kind"),
    [("full", None), ("window:20", None), ("sinks:4+30", None), ("full", "dynamic"), ("full", "longrope")],
)
def test_a_conversation_says_what_a_model_says_that_reads_all_of_it_anew(
    cache: str, kind: str | None, tmp_path: Path
) -> None:
    """A model with random weights, whose every token depends on all that it sees.

    Where frequencies depend on the length of the text, a turn is read with those of all of it.
    """
    tokenizer = byte_tokenizer(tmp_path / "tokenizer")
    torch.manual_seed(0)
    small = {"vocab_size": 259, "context_length": 400, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 32}
    scaling = None if kind is None else {"kind": kind, "factor": 8.0, "original_context_length": 60, **BY_LENGTH[kind]}
    model = gf.build("llama", **small, rope_scaling=scaling).having(tokenizer=tokenizer).to(dtype="float32")
    if kind is not None:
        for parameter in model.module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    files = {"chat_template.jinja": TEMPLATES["chatml"].encode()}
    model = model.having(rest=model.rest.__class__(contents=files, tokenizer=tokenizer))
    settings: dict[str, Any] = {"max_new_tokens": 8, "temperature": 0.0, "cache": cache}
    talk = model.conversation(**settings)
    read: list[int] = []
    step = talk.engine._read

    def counted(tokens: Any, *others: Any) -> Any:
        read.append(tokens.shape[-1])
        return step(tokens, *others)

    talk.engine._read = counted  # type: ignore[method-assign]
    for question in ("One", "Two", "Three"):
        asked = [*talk.messages, {"role": "user", "content": question}]
        assert text(talk.ask(question)).strip() == model.chat(asked, **settings)
    texts = [model.chat_prompt(talk.messages[:n]).tokens for n in (1, 3, 5)]
    if kind is not None:
        assert len(texts[0]) + 8 <= 60 < len(texts[1])
    whole = [True, kind is not None, kind == "dynamic"]
    for n_read, text_, before, is_whole in zip(read, texts, [(), *texts[:-1]], whole, strict=True):
        if is_whole:
            assert n_read == len(text_)
        else:
            assert n_read <= len(text_) - len(before), "only what is new is read"


def test_an_answer_that_is_left_stays_as_far_as_it_has_come(model: gf.Model) -> None:
    talk = model.conversation()
    pieces = talk.ask("Go on!")
    begun = next(pieces).text + next(pieces).text
    pieces.close()
    assert talk.messages[-1] == {"role": "assistant", "content": begun}
    assert not talk.engine.running
    assert text(talk.ask("Which city?")) == "Paris."
    left = talk.ask("Go on!")
    left.close()
    assert talk.messages[-1]["content"] == "Paris.", "of what has not begun nothing stays"


def test_a_question_that_cannot_be_served_leaves_the_conversation_as_it_was(model: gf.Model) -> None:
    talk = model.conversation()
    assert text(talk.ask("Which city?")) == "Paris."
    before = talk.messages
    with pytest.raises(GenerationError, match="context"):
        talk.ask("x" * 5000 + "?")
    with pytest.raises(GenerationError, match="at least one character"):
        replace(talk, stop=[""]).ask("Really?")
    assert talk.messages == before
    assert text(talk.ask("Really?")) == "Paris."


def test_prompts_have_the_ids_that_transformers_has(folder: Path, model: gf.Model) -> None:
    rng = random.Random(0)
    theirs = AutoTokenizer.from_pretrained(folder)
    for _ in range(min(10, count("random conversations"))):
        messages = conversation(rng, plain=True)
        messages[-1]["content"] += "?"
        expected = theirs.apply_chat_template(
            messages, add_generation_prompt=True, sanitize_control_tokens=True, return_dict=False
        )
        assert list(model.chat_prompt(messages).tokens) == expected
    assert theirs.chat_template == TEMPLATE


@pytest.mark.parametrize("name", ["llama2", "zephyr"])
def test_prompts_of_sentencepiece_have_the_ids_that_transformers_has(name: str, tmp_path: Path) -> None:
    """Begin and end tokens are the template's, and spaces stand where the library puts them."""
    tokenizer = sentencepiece_tokenizer(tmp_path)
    small = {"context_length": 512, "d_model": 8, "n_layers": 1, "n_heads": 1, "d_ff": 4}
    model = gf.build("llama", vocab_size=tokenizer.vocab_size, **small).having(tokenizer=tokenizer)
    folder = gf.save(model, tmp_path / "model")
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    ours, theirs = gf.load(folder), AutoTokenizer.from_pretrained(folder)
    rng = random.Random(name)
    for _ in range(min(8, count("random conversations"))):
        messages = conversation(rng, plain=True)
        for message in messages:
            for token in (END, "</s>"):
                message["content"] = message["content"].replace(token, "")
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert list(ours.chat_prompt(messages).tokens) == expected
    assert ours.chat_prompt(ASKED).end_ids == {theirs.eos_token_id}


def test_what_the_files_keep_from_coming_does_not_come_in_an_answer_either(model: gf.Model) -> None:
    assert model.tokenizer is not None
    (point,) = model.tokenizer.encode(".")
    without = model.having(suppressed=frozenset({point}))
    assert "." not in without.chat(ASKED, max_new_tokens=20)
    assert "." not in text(without.conversation(max_new_tokens=20).ask("Which city?"))


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_template_is_refused_with_what_to_do(empty: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    (copy / "manifest.json").unlink(missing_ok=True)
    config = copy / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": empty}))
    with pytest.raises(GenerationError, match=r"'default' in the model's files is empty.*into chat_template.jinja"):
        gf.load(copy).chat([{"role": "user", "content": "Hello"}])

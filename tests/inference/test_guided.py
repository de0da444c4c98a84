"""Guided choice: what a random model writes is matched by the expression, or described by the schema."""

import json
import re
from random import Random
from typing import Any

import jsonschema
import pytest

import glassformer as gf
from glassformer import Tokenizer
from glassformer.api import Model
from glassformer.errors import GenerationError
from glassformer.inference.beam import Beams
from glassformer.inference.logits import Sampling
from support.counts import count

pytest.importorskip("llguidance")

EXPRESSIONS = [
    r"(yes|no|perhaps)",
    r"[a-c]{3,6}(, [0-9]{2})?",
    r"[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]",
    r"é{1,3}[^a-z]{2}",
    r"(the |cat |sat ){1,4}\.",
]
SCHEMAS: list[dict[str, Any]] = [
    {"enum": ["one", 2, None]},
    {"type": "string", "pattern": "^[a-z]{3}$"},
    {"type": "integer", "minimum": -5, "maximum": 900},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {
        "$defs": {"leaf": {"type": "object", "properties": {"v": {"const": 1}}, "required": ["v"],
                           "additionalProperties": False}},
        "anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    corpus = tmp_path_factory.mktemp("corpus") / "text"
    corpus.write_text('the cat sat on the mat {"name": "the", "age": 12} ' * 20)
    tokenizer = Tokenizer.train(corpus, 280, ["<|endoftext|>", "<|pad|>"], workers=1)
    sizes = {"context_length": 256, "d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
    return gf.build("llama", vocab_size=288, **sizes, tokenizer=tokenizer)


def written(model: Model, n: int, seed: int, **guide: Any) -> list[str]:
    """So many texts that came to an end, of prompts that differ in length."""
    sampling = Sampling(temperature=1.5, seed=seed)
    texts, finishes = [""] * n, [""] * n
    prompts = ["the cat", "a", '{"name', "on the mat"]
    pieces = model.stream(
        [prompts[i % 4] for i in range(n)], max_new_tokens=200, sampling=sampling, guide=model.guide(**guide)
    )
    for piece in pieces:
        texts[piece.sequence] += piece.text
        finishes[piece.sequence] = piece.finish or ""
    assert set(finishes) == {"stop"}
    return texts


@pytest.mark.usefixtures("unchecked")
def test_every_text_is_one_that_the_expression_matches(model: Model) -> None:
    for expression in EXPRESSIONS:
        for text in written(model, count("guided texts"), 1, regex=expression):
            assert re.fullmatch(expression, text), (expression, text)


@pytest.mark.usefixtures("unchecked")
def test_every_text_is_json_that_the_schema_describes(model: Model) -> None:
    for schema in SCHEMAS:
        texts = written(model, count("guided texts"), 2, json_schema=schema)
        for text in texts:
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.usefixtures("unchecked")
def test_greedy_lookup_and_a_guide_go_together(model: Model) -> None:
    settings: dict[str, Any] = {"temperature": 0.0, "regex": r"(ab|cd){3,20}x", "max_new_tokens": 60}
    plain = "".join(model.generate("abab", **settings))
    assert plain == "".join(model.generate("abab", lookup=True, **settings))
    assert re.fullmatch(settings["regex"], plain)


@pytest.mark.usefixtures("unchecked")
def test_no_beam_goes_on_with_a_token_that_the_guide_forbids(model: Model) -> None:
    for schema in SCHEMAS:  # in most of them only one token can come first, and there are more beams
        guide = model.guide(json_schema=schema)
        texts = model.continuations("x", beams=Beams(n_beams=3), n=3, max_new_tokens=24, guide=guide, special=False)
        for text in texts:
            if text.finish == "stop":
                jsonschema.validate(json.loads(text.text), schema)
        assert texts


def test_pieces_that_lose_their_space_behind_a_special_token_do_not_begin_a_text(data_dir) -> None:
    tokenizer = Tokenizer.load(data_dir / "llama" / "tok512.bin")
    sizes = {"context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16}
    model = gf.build("llama", vocab_size=512, **sizes, tokenizer=tokenizer)
    for seed in range(5):
        for prompt in ("", "Once"):
            text = "".join(model.generate(prompt, regex=" ?(he|she) said", seed=seed, max_new_tokens=40))
            assert re.fullmatch(" ?(he|she) said", text), text


@pytest.mark.usefixtures("unchecked")
def test_a_published_vocabulary_of_fifty_thousand_tokens_is_followed(data_dir) -> None:
    tokenizer = Tokenizer.load(data_dir / "tokenizers" / "gpt2.tiktoken")
    sizes = {"context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 1, "d_ff": 8}
    model = gf.build("llama", vocab_size=tokenizer.vocab_size, **sizes, tokenizer=tokenizer)
    text = "".join(model.generate("A person: ", json_schema=SCHEMAS[4], max_new_tokens=60))
    jsonschema.validate(json.loads(text), SCHEMAS[4])
    pattern = r"[A-Z][a-z]{2,9}( [a-z]{1,9}){1,5}\."
    assert re.fullmatch(pattern, "".join(model.generate("So: ", regex=pattern, max_new_tokens=60)))


@pytest.mark.parametrize(
    ("guide", "says"),
    [
        ({"regex": "(open"}, "The regular expression cannot be followed: .*unclosed group"),
        ({"regex": "a(?=b)"}, "look-around, including look-ahead and look-behind, is not supported"),
        ({"regex": r"[^\x00-\U0010ffff]"}, "The regular expression cannot be followed"),
        ({"regex": "x" * (1 << 20) + "y"}, "has 1,048,577 characters; at most 1,048,576 are read"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, r"minimum \(5\) is greater than maximum"),
        ({"json_schema": {"$ref": "#"}}, "The JSON schema cannot be followed"),
        ({"json_schema": {"not": {}}}, "Unimplemented keys"),
        ({"json_schema": {"$ref": "http://somewhere/else"}}, "The JSON schema cannot be followed"),
        ({"json_schema": {"type": "strange"}}, "Invalid type: strange"),
        ({"json_schema": {"enum": [{1, 2}]}}, "The JSON schema is no JSON: Object of type set"),
        ({"regex": "a", "json_schema": {}}, "give one of them"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_one_sentence(model: Model, guide: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says) as refused:
        model.generate("the", **guide)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 450


def test_hostile_patterns_end_in_bounded_time_with_a_text_or_a_sentence(model: Model) -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(100):
        deep = {"type": "array", "items": deep, "minItems": 1}
    wide = {"anyOf": [{"type": "string", "pattern": f"^(a|b|ab){{{n},50}}c{n}$"} for n in range(40)]}
    hostile = [{"regex": "((a{1,1000}){1,1000}){1,1000}"}, {"regex": "(.{0,300}x){0,300}"}, {"regex": "(a*)*b" * 50}]
    for guide in (*hostile, {"json_schema": deep}, {"json_schema": wide}):
        ended = ""
        try:
            ended = "".join(model.generate("the", max_new_tokens=30, **guide))
        except GenerationError as error:
            ended = str(error)
        assert "\n" not in ended


def test_models_without_an_end_and_texts_without_one_are_refused(model: Model) -> None:
    with pytest.raises(GenerationError, match="no token that ends a text"):
        gf.load("nano-sort").generate("CBA", regex="A+")
    with pytest.raises(GenerationError, match="it cannot go on past it"):
        model.generate("the", regex="A+", ignore_eos=True)


def test_random_expressions_are_followed_as_python_reads_them(model: Model) -> None:
    random = Random(5)

    def expression(depth: int) -> str:
        if depth == 0 or random.random() < 0.3:
            return random.choice(["a", "the", "[b-e]", "[0-9]", "é", " ", r"\."])
        parts = [expression(depth - 1) for _ in range(random.randint(1, 3))]
        if random.random() < 0.5:
            return "".join(parts)
        return f"({'|'.join(parts)})" + random.choice(["", "?", "{0,2}", "{2}"])

    for _ in range(count("random expressions")):
        pattern = expression(3)
        (text,) = written(model, 1, random.randrange(99), regex=pattern)
        assert re.fullmatch(pattern, text), (pattern, text)

"""What a chapter says of numbers holds for the numbers that were recorded, in both languages."""

import math
import re
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.tracing.trace import Trace
from glassformer.viewer.chapters import load_chapters, missing_roles
from glassformer.viewer.claims import broken_claims
from glassformer.viewer.scene import Scene
from glassformer.viewer.selectors import select
from glassformer.viewer.session import Session
from glassformer.viewer.tiles import block_window
from support.viewed import KINDS, TWO_SPINES, recorded

MODELS = (
    "nano-sort",
    "llama",
    "qwen3",
    "gpt_neox",
    "longrope",
    "olmo2",
    "granite",
    "no positions",
    "post-norm",
    "no norm",
    "gru",
    "luong fed",
    *TWO_SPINES,
    *KINDS,
)
VALUE = r"\{value:((?:[^{}]|\{[^{}]*\})*)\}"
EQUATION = re.compile(rf"{VALUE}(?: [-+−·/] {VALUE})+ = {VALUE}")
PARTS = re.compile(rf"{VALUE}| ([-+−·/=]) ")
WRITTEN = {"embedding", "layer-norm", "softmax", "llama", "mlp", "image", "both-ways"}  # the chapters that have one


def number(trace: Trace, scene: Scene, selector: str, variables: Any) -> float:
    cells = select(scene, selector, variables)[0]
    return float(block_window(trace, scene.blocks[cells.block])[cells.y0, cells.x0])


def sides(equation: str, trace: Trace, scene: Scene, variables: Any) -> tuple[float, float, float]:
    """What both sides of an equation come to, products before sums, and how far rounding may take them apart."""
    found = list(PARTS.finditer(equation))
    numbers = [number(trace, scene, part[1], variables) for part in found if part[1]]
    signs = [part[2] for part in found if part[2]]
    addends = [numbers[0]]
    for sign, value in zip(signs[:-1], numbers[1:-1], strict=True):
        match sign:
            case "·":
                addends[-1] *= value
            case "/":
                addends[-1] /= value
            case "+":
                addends.append(value)
            case _:
                addends.append(-value)
    return sum(addends), numbers[-1], 1e-5 * sum(map(abs, addends))


def steps_of(scene: Scene) -> Any:
    """Each step that this model has, with its chapter."""
    for chapter in load_chapters():
        if not missing_roles(scene, chapter):
            for step in chapter["steps"]:
                conditions = step["when"].split(" & ") if "when" in step else []
                if all(
                    bool(select(scene, one.removeprefix("!"), chapter["vars"])) != one.startswith("!")
                    for one in conditions
                ):
                    yield chapter, step


def false_in(trace: Trace, scene: Scene, chapter: Any, step: Any) -> list[str]:
    """The equations in a step's texts, and what it claims of numbers, that do not hold."""
    equations = [match[0] for text in step["text"].values() for match in EQUATION.finditer(text)]
    false = []
    for equation in equations:
        left, right, allowed = sides(equation, trace, scene, chapter["vars"])
        if left != pytest.approx(right, abs=allowed):
            false.append(equation)
    return [*false, *broken_claims(trace, scene, chapter, step)]


def check_all(trace: Trace, scene: Scene) -> set[str]:
    """Assert that nothing is false; the chapters that had an equation."""
    for chapter, step in steps_of(scene):
        assert false_in(trace, scene, chapter, step) == [], chapter["id"]
    return {chapter["id"] for chapter, step in steps_of(scene) if EQUATION.search(str(step["text"]))}


def test_a_model_without_norms_in_front_of_its_sublayers_is_not_told_of_them() -> None:
    lacking = {chapter["id"] for chapter in load_chapters() if missing_roles(recorded("post-norm")[1], chapter)}
    assert {"layer-norm", "llama"} <= lacking


@pytest.mark.parametrize("name", MODELS)
def test_every_equation_and_every_claim_holds_for_the_recorded_numbers(name: str) -> None:
    check_all(*recorded(name))


def test_no_chapter_with_an_equation_is_left_unchecked() -> None:
    met = set().union(*(check_all(*recorded(name)) for name in ("nano-sort", "llama", "vit", "bert")))
    assert met == WRITTEN
    written = {
        chapter["id"] for chapter in load_chapters() for step in chapter["steps"] if EQUATION.search(str(step["text"]))
    }
    assert written == WRITTEN


def test_every_equation_holds_for_a_published_llama(data_dir: Any) -> None:
    session = Session(gf.load(data_dir / "llama" / "stories260K.bin"), name="stories260K")
    step = session.run(text="Once upon a time").steps[0]
    assert {"llama", "mlp"} <= check_all(step.trace, step.scene)


def test_a_gate_is_quoted_as_it_is_multiplied() -> None:
    """Behind SiLU, which is a number of its own with a name."""
    trace, scene = recorded("llama")
    gate, opened, up, gated = (trace[f"blocks.0.mlp.{name}"].value for name in ("gate", "opened", "up", "gated"))
    torch.testing.assert_close(opened, torch.nn.functional.silu(gate))
    torch.testing.assert_close(opened * up, gated)
    assert {block.label.en for block in scene.blocks if block.role == "opened"} == {"Gate after SiLU"}


@pytest.mark.parametrize("letters", ["C", "CB", "BBBBBB", "ABCABCABCAB"])
def test_nothing_is_false_of_a_text_of_any_length(letters: str) -> None:
    """Of one token, the heads' results and the heads joined are one storage, and the model is laid out all the same."""
    session = Session(gf.load("nano-sort"), name="nano-sort")
    step = session.run(text=letters).steps[0]
    assert {"embedding", "layer-norm", "softmax"} <= check_all(step.trace, step.scene)


def test_nothing_is_false_of_a_translation_that_has_just_begun() -> None:
    """Of two tokens the one in the middle is the last one."""
    session = Session(gf.build("transformer", **TWO_SPINES["encoder-decoder"][1]), name="translator")
    step = session.run(tokens=[3, 1, 4]).steps[0]
    assert len(step.inputs.tokens) == 2
    assert {"embedding", "softmax"} <= check_all(step.trace, step.scene)


SEEDS = {  # what chapters have said, and which model it was false of
    "the sum of BERT's vectors is quoted behind its norm": (
        "bert",
        "{value:@token_embedded{t=t,c=c}} + {value:@place_embedded{t=t,c=c}} + {value:@type_embedded{t=t,c=c}} = "
        "{value:@embedding.x[last]{t=t,c=c}}",
        [],
    ),
    "the gate is quoted before SiLU": (
        "llama",
        "{value:@layer[L].gate{t=t,f=c}} · {value:@layer[L].up{t=t,f=c}} = {value:@layer[L].activated{t=t,f=c}}",
        [],
    ),
    "a variance is one, whatever ε is": ("nano-sort", "", ["squares(@layer[L].norm[first].normalised{t=t}) = 1"]),
    "nothing is masked": ("nano-sort", "", ["min(@layer[L].head[h].weights) > 0"]),
    "a claim about what is not there": ("nano-sort", "", ["sum(@gate) = 1"]),
    "no claim": ("nano-sort", "", ["weights add up"]),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_false_is_found(seed: str) -> None:
    name, text, claims = SEEDS[seed]
    chapter = {"vars": {"L": 0, "h": 0, "t": "last", "c": "first"}}
    assert len(false_in(*recorded(name), chapter, {"text": {"en": text}, "claims": claims})) == 1


@pytest.mark.parametrize("letters", ["C", "CB", "CBA", "CBABBC"])
def test_a_score_that_is_said_to_be_hidden_is_hidden_in_a_text_of_any_length(letters: str) -> None:
    """Of two tokens the one in the middle is the last one, which may look at itself."""
    session = Session(gf.load("nano-sort"), name="nano-sort")
    step = session.run(text=letters).steps[0]
    texts = [(chapter, text) for chapter, told in steps_of(step.scene) for text in told["text"].values()]
    said = [(chapter, text) for chapter, text in texts if re.search("replaced by −∞|一律换成 −∞", text)]
    assert len(said) == 2 * (len(letters) > 1)
    for chapter, text in said:
        quoted = [number(step.trace, step.scene, selector, chapter["vars"]) for selector in re.findall(VALUE, text)]
        assert quoted == [-math.inf]


def test_no_vocabulary_is_said_to_know_every_text_that_does_not() -> None:
    """The sorter knows three letters, and WordPiece has a token for what it does not know."""
    (tokens,) = (chapter for chapter in load_chapters() if chapter["id"] == "tokens")
    (english,) = (step["text"]["en"] for step in tokens["steps"] if "unknown" in step["text"]["en"])
    (chinese,) = (step["text"]["zh"] for step in tokens["steps"] if "不认识" in step["text"]["zh"])
    assert "where the pieces begin with all of these, none is ever unknown" in english
    assert "词表若从全部字节开始，就没有什么是不认识的" in chinese


def test_no_text_says_that_all_positions_were_trained_to_guess_what_follows() -> None:
    """The sorter was not: of its six letters it guesses four wrongly, and surely, for nobody ever asked."""
    model = gf.load("nano-sort")
    tokens = torch.tensor([[2, 1, 0, 1, 1, 2]])
    probs = torch.softmax(model(tokens), -1)[0, :-1]
    wrong = probs.argmax(-1) != tokens[0, 1:]
    assert wrong.sum() == 4
    assert probs.max(-1).values[wrong].min() > 0.99
    (training,) = (chapter for chapter in load_chapters() if chapter["id"] == "training")
    (english, chinese) = ([step["text"][language] for step in training["steps"]] for language in ("en", "zh"))
    assert not [text for text in english if re.search(r"\b(every|each|all) positions? guess", text, re.IGNORECASE)]
    assert not [text for text in chinese if "每个位置都要猜" in text]
    assert any("only from those in its answer" in text for text in english)
    assert any("只从答案里的问题中学习" in text for text in chinese)

"""The public surface: what users may rely on. A change here is a change for all of them."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import glassformer as gf
from glassformer.errors import CheckpointError, ConfigError, GenerationError
from glassformer.kinds import kind_of
from glassformer.tokenizers import CharTokenizer
from glassformer.viewer.session import Session
from support.commands import run

SURFACE = {
    "GlassformerError": None,
    "Model": None,
    "Sampling": "temperature top_k top_p min_p repetition_penalty seed",
    "Tokenizer": None,
    "build": "name seed tokenizer changes",
    "compare": "a b given tolerance as_is keywords",
    "load": "source from_pickle device dtype context_length revision quantize progress options",
    "Trace": None,
    "ablate_head": "trace layer_path head value",
    "activation_patching": "clean corrupted paths metric",
    "attention_patterns": "trace name",
    "attribute": "trace cell minus",
    "explain": "cell depth terms",
    "load_trace": "path",
    "logit_lens": "trace layers logits",
    "why": "cell n",
    "save": "model directory native overwrite",
    "trace": "model given modules positions decompose max_bytes keywords",
    "use": "mode attention",
    "view": "shown given port open",
}


def test_the_public_names_are_these():
    assert set(gf.__all__) == set(SURFACE)
    assert set(gf.__all__) <= set(dir(gf))


@pytest.mark.parametrize("name", [name for name, parameters in SURFACE.items() if parameters])
def test_public_functions_take_these_parameters(name):
    assert " ".join(inspect.signature(getattr(gf, name)).parameters) == SURFACE[name]


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, glassformer; assert 'torch' not in sys.modules; glassformer.use; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="transmogrify"):
        _ = gf.transmogrify


def test_build_load_save_generate_work_together(tmp_path):
    tokenizer = gf.Tokenizer.train(_corpus(tmp_path), vocab_size=270, special_tokens=["<|endoftext|>"])
    model = gf.build("gpt2", vocab_size=270, n_layers=2, d_model=32, n_heads=2, context_length=32, tokenizer=tokenizer)
    assert model.config.d_ff == 128, "it follows d_model"
    gf.save(model, tmp_path / "model")
    again = gf.load(tmp_path / "model")
    tokens = torch.tensor([tokenizer.encode("the cat")])
    torch.testing.assert_close(again(tokens), model(tokens), rtol=0, atol=0)
    assert again.tokenizer is not None
    text = "".join(again.generate("the cat", max_new_tokens=8, temperature=0.0))
    ids = again.generate_ids(tokens, max_new_tokens=8, temperature=0.0)
    new = [token for token in ids[0, tokens.shape[1] :].tolist() if token not in again.stop_tokens]
    assert again.tokenizer.decode(new).startswith(text)


def _corpus(folder):
    path = folder / "corpus.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log. " * 20)
    return [path]


def test_the_model_that_sorts_letters_comes_with_their_tokenizer():
    for model in (gf.build("nano-sort"), gf.load("preset:nano-sort")):
        assert model.tokenizer is not None
        assert model.encode("CAB") == [2, 0, 1]
    assert gf.build("nano-sort", vocab_size=5).tokenizer is None


def test_a_preset_keeps_what_is_not_changed_and_what_follows_from_a_change_follows():
    config = gf.build("llama", n_layers=1, d_model=32, n_heads=4, d_ff=48, vocab_size=50).config
    assert (config.n_kv_heads, config.d_head) == (4, 8)
    config = gf.build("nano-sort", n_heads=4).config
    assert (config.vocab_size, config.d_model, config.n_heads, config.d_ff) == (3, 48, 4, 192)


def test_the_same_seed_builds_the_same_weights_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    first, second = gf.build("nano-sort", seed=3), gf.build("nano-sort", seed=3)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_mistakes_get_typed_errors():
    with pytest.raises(ConfigError, match="Did you mean gpt2"):
        gf.build("gtp2")
    with pytest.raises(ConfigError, match=r"n_layer.*Did you mean n_layers"):
        gf.build("gpt2", n_layer=2)
    with pytest.raises(CheckpointError, match="preset:gpt2"):
        gf.load("gpt2")
    model = gf.build("nano-sort")
    with pytest.raises(GenerationError, match="do not fit"):
        model(torch.zeros(1, 12, dtype=torch.long))
    with pytest.raises(GenerationError, match="tokenizer"):
        gf.build("gpt2", n_layers=1, d_model=12).generate("A")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": "ABC" * 9}, "shorten it"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"stop": [""]}, "at least one character"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temprature": 1.0}, "no sampling setting temprature; there are temperature, top_k"),
    ],
)
def test_what_cannot_be_generated_is_said_by_the_call_and_not_by_the_first_piece(settings, says):
    model = gf.build("nano-sort", tokenizer=CharTokenizer("ABC"))
    with pytest.raises(GenerationError, match=says):
        model.generate(**{"prompt": "A", **settings})


def test_generate_ids_names_the_sampling_settings_that_there_are():
    with pytest.raises(GenerationError, match="no sampling setting temp; there are temperature, top_k"):
        gf.build("nano-sort").generate_ids(torch.zeros(1, 1, dtype=torch.long), temp=0.0)


def test_the_tokens_that_end_a_text_stay_with_the_model_and_can_be_ignored(tmp_path):
    model = gf.build("nano-sort", tokenizer=CharTokenizer("ABC")).having(eos_ids=frozenset({0, 2}))
    gf.save(model, tmp_path / "a")
    again = gf.load(tmp_path / "a")
    assert again.eos_ids == {0, 2}
    gf.save(again, tmp_path / "b")
    assert gf.load(tmp_path / "b").stop_tokens == {0, 2}
    tokens = torch.tensor([[1]])
    stopped = again.generate_ids(tokens, max_new_tokens=9)
    assert stopped.shape[1] < 10
    assert again.generate_ids(tokens, max_new_tokens=9, ignore_eos=True).shape[1] == 10
    shown = "".join(again.generate("B", max_new_tokens=9, ignore_eos=True))
    assert set(shown) <= {"B", "\n"}
    assert shown != "".join(again.generate("B", max_new_tokens=9))


def test_an_id_without_a_token_ends_no_text_and_can_be_looked_at(data_dir):
    """cl100k has such ids between its tokens, and a model may choose one; others are past the last token."""
    tokenizer = gf.Tokenizer.load(data_dir / "tokenizers" / "cl100k_base.tiktoken")
    gaps = sorted(set(range(tokenizer.vocab_size)) - tokenizer.vocab.keys())
    assert gaps
    sizes = {"vocab_size": tokenizer.vocab_size + 3, "context_length": 16, "d_model": 8, "n_layers": 1, "n_heads": 1}
    model = gf.build("gpt2", **sizes, tokenizer=tokenizer)
    word = tokenizer.encode(" word")[0]

    def in_turn(logits, texts):
        forced = torch.full_like(logits, -torch.inf)
        for row, text in enumerate(texts):
            forced[row, gaps[0] if len(text) % 2 else word] = 0.0
        return forced

    assert "".join(model.generate("a", max_new_tokens=8, filters=[in_turn])) == " word" * 4
    session = Session(model, name="gaps")
    run = session.start(kind_of(model).read(model, [word, gaps[0], tokenizer.vocab_size + 1]))
    assert len(session.step(run.id, 0).tokens) == 3


def test_ids_behind_the_tokenizers_last_are_never_chosen_and_help_says_so(tmp_path):
    """Vocabularies are padded so; `transformers` may choose one, and the difference is said where a user reads it."""
    tokenizer = gf.Tokenizer.train(_corpus(tmp_path), vocab_size=260)
    model = gf.build("gpt2", vocab_size=264, context_length=16, d_model=8, n_layers=1, n_heads=1, tokenizer=tokenizer)

    def padding_first(logits, texts):
        assert logits.shape[-1] == 260
        return logits

    ids = model.generate_ids([[5, 6]], max_new_tokens=8, temperature=50.0, filters=[padding_first], ignore_eos=True)
    assert ids.max() < 260
    for name in ("generate", "generate_ids"):
        assert "never chosen" in getattr(gf.Model, name).__doc__
    assert "never chosen" in " ".join(run("generate", "--help").stdout.split())


def test_the_end_that_the_tokenizer_knows_is_one_of_the_model(tmp_path):
    tokenizer = gf.Tokenizer.train(_corpus(tmp_path), vocab_size=270, special_tokens=["<|endoftext|>"])
    model = gf.build("nano-sort", vocab_size=270, tokenizer=tokenizer)
    assert model.eos_ids == {tokenizer.eos_id}


def test_the_model_that_the_package_carries_sorts_every_input_and_is_what_the_demo_trains(tmp_path, monkeypatch):
    from glassformer.evaluation.sorting import sort_accuracy
    from glassformer.training.load_config import load_run_config

    monkeypatch.chdir(tmp_path)  # nothing of its name lies here
    model = gf.load("nano-sort")
    found = sort_accuracy(model.module)
    assert (found.correct, found.total) == (729, 729)
    assert "".join(model.generate("CBABBC", max_new_tokens=6, temperature=0.0)) == "ABBBCC"
    configs = Path(__file__).resolve().parents[1] / "configs"
    assert model.config == load_run_config(configs / "sort.toml").model_config()


MISUSES: dict[str, Callable[[gf.Model], object]] = {
    "load takes a path, not int": lambda model: gf.load(5),  # type: ignore[arg-type]
    "there is nothing at CABCAB": lambda model: gf.load("CAB" * 2000),
    "build takes the name of a preset": lambda model: gf.build(5),  # type: ignore[arg-type]
    "save takes a Model, not str": lambda model: gf.save("runs/sort", "x"),  # type: ignore[arg-type]
    "seed must be from 0": lambda model: gf.build("nano-sort", seed=-1),
    "prompt must be a text, not int": lambda model: model.generate(5),  # type: ignore[arg-type]
    "temperature must be a number, not 'hot'": lambda model: model.generate("A", temperature="hot"),
    "top_k must be a whole number, not 1.5": lambda model: model.generate("A", top_k=1.5),
    "max_new_tokens must be a whole number, not 'x'": lambda model: model.generate("A", max_new_tokens="x"),  # type: ignore[arg-type]
    r"of shape \(batch, positions\).* not torch.int64 of shape \(3,\)": lambda model: model.generate_ids([1, 2, 3]),
    "or as lists of one length": lambda model: model.generate_ids([[1], [2, 3]]),
    "not torch.float32 of shape": lambda model: model.generate_ids(torch.ones(1, 2)),
    "A model takes tensors, not str": lambda model: model("ABC"),  # type: ignore[arg-type]
    "trace takes a Model or a torch.nn.Module, not int": lambda model: gf.trace(3),  # type: ignore[arg-type]
    "a list of tokens or tensors, not int": lambda model: gf.trace(model, 5),
    "Explain one cell": lambda model: gf.explain("logits"),  # type: ignore[arg-type]
    "view takes a Model or a Trace, not str": lambda model: gf.view("nano-sort"),  # type: ignore[arg-type]
    "load_trace takes a path, not int": lambda model: gf.load_trace(3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("says", MISUSES)
def test_what_a_function_does_not_take_is_a_typed_error_in_one_sentence(says: str, unchecked: None) -> None:
    model = gf.build("nano-sort")
    with pytest.raises(gf.GlassformerError, match=says):
        MISUSES[says](model)


def test_lists_of_token_ids_are_taken_as_tensors() -> None:
    model = gf.build("nano-sort")
    as_lists = model.generate_ids([[1, 2], [0, 1]], max_new_tokens=3)
    assert torch.equal(as_lists, model.generate_ids(torch.tensor([[1, 2], [0, 1]]), max_new_tokens=3))


def test_an_explanation_is_readable_as_the_last_line_of_a_notebook() -> None:
    trace = gf.trace(gf.load("nano-sort"), "CBABBC")
    told = gf.explain(trace["blocks.0.attn.scores"][0, 1, 5, 2])
    assert repr(told) == str(told)
    html = told._repr_html_()
    assert html.startswith("<math")
    assert "scores.masked_fill(~allowed &amp; sees_any" in html
    assert "Explanation(" not in html

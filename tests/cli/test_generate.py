"""`glassformer generate` beside Python's `generate`: the same defaults, the same text."""

import json
from pathlib import Path

import pytest

import glassformer as gf
from glassformer.errors import ConfigError
from glassformer.tokenizers import CharTokenizer
from support.commands import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose files say how tokens are chosen."""
    gf.save(gf.load("nano-sort"), tmp_path / "model")
    config = tmp_path / "model" / "generation_config.json"
    settings = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**settings, "temperature": 500.0, "top_k": 2, "do_sample": True}))
    (tmp_path / "model" / "manifest.json").unlink(missing_ok=True)
    return tmp_path / "model"


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"top_k": 0}], ids=str)
def test_the_models_own_settings_hold_from_python_and_from_the_command_line(settings, folder: Path) -> None:
    model = gf.load(folder)
    assert (model.sampling.temperature, model.sampling.top_k) == (500.0, 2)
    texts = ["".join(model.generate("CBABBC", max_new_tokens=6, **(settings | {"seed": seed}))) for seed in range(5)]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    written = []
    for seed in range(5):
        done = run("generate", str(folder), "CBABBC", "--max-new-tokens=6", "--json", *flags, f"--seed={seed}")
        written.append(json.loads(done.stdout)["results"][0]["text"])
    assert written == texts
    if not settings:
        assert len(set(texts)) > 1, "at this temperature letters are drawn"


def test_settings_that_cannot_be_are_refused_with_the_name_of_the_file(folder: Path) -> None:
    config = folder / "generation_config.json"
    config.write_text(json.dumps({"temperature": "hot"}))
    done = run("generate", str(folder), "CBABBC")
    assert done.returncode == 2
    assert "generation_config.json: temperature must be a number, not 'hot'" in done.stderr
    done = run("generate", str(folder), "CBABBC", "--temperature=-1")
    assert done.returncode == 2
    assert "--temperature must be at least 0" in done.stderr


def test_a_context_is_another_one_where_no_weight_depends_on_it(tmp_path: Path) -> None:
    sizes = {"vocab_size": 3, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}
    scaling = {"kind": "linear", "factor": 2.0}
    tokenizer = CharTokenizer("abc")
    gf.save(gf.build("llama", **sizes, rope_scaling=scaling, tokenizer=tokenizer), tmp_path / "llama")
    gf.save(gf.build("gpt2", **sizes, tokenizer=tokenizer), tmp_path / "gpt2")
    command = ["--prompt", "abcabcabcabc", "--max-new-tokens", "4"]
    refused = run("generate", str(tmp_path / "llama"), *command)
    assert refused.returncode == 2
    assert "this model's context is 8" in refused.stderr
    assert "--context-length N reads more" in refused.stderr
    longer = run("generate", str(tmp_path / "llama"), *command, "--context-length", "16")
    assert (longer.returncode, len(longer.stdout.strip())) == (0, 16)
    learned = run("generate", str(tmp_path / "gpt2"), *command, "--context-length", "16")
    assert learned.returncode == 2
    assert "--context-length must be 8, not 16: gpt2 has a learned vector for each position, and no o" in learned.stderr
    (tmp_path / "text").write_text("abc" * 20)
    for name, says in (("llama", '"tokens": '), ("gpt2", "--context-length must be 8, not 16: gpt2 has a learned vec")):
        flags = ["--context-length", "16", "--json"]
        measured = run("evaluate", str(tmp_path / name), str(tmp_path / "text"), *flags)
        assert says in measured.stdout + measured.stderr
    assert gf.load(tmp_path / "gpt2", context_length=8).config.context_length == 8
    assert gf.load("preset:nano-sort", context_length=20).config.context_length == 20
    with pytest.raises(ConfigError, match="context_length must be a whole number from 1"):
        gf.load(tmp_path / "llama", context_length=0)


def test_drafts_leave_a_text_as_it_is_and_say_how_many_were_right() -> None:
    command = ["generate", "nano-sort", "CBABBC", "--temperature=0", "--max-new-tokens=6"]
    plain = run(*command)
    drafted = run(*command, "--draft=nano-sort", "--n-drafted=2")
    assert (drafted.returncode, drafted.stdout) == (0, plain.stdout)
    assert "Tokens drafted: 2, of which accepted: 2." in drafted.stderr
    looked_up = run(*command, "--lookup", "--json", "--cache=window:11")
    results = json.loads(looked_up.stdout)
    assert plain.stdout == "CBABBC" + results["results"][0]["text"] + "\n"
    assert results["accepted"] <= results["drafted"]
    assert "Old tokens leave the cache window:11 once it is full" in looked_up.stderr
    refused = run(*command, "--n-drafted=2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--n-drafted is for draft and lookup" in refused.stderr


def test_a_text_is_guided_by_an_expression_or_a_schema(tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    (tmp_path / "text").write_text('the cat {"a": 12} ' * 20)
    tokenizer = gf.Tokenizer.train(tmp_path / "text", 270, ["<|endoftext|>"], workers=1)
    sizes = {"vocab_size": 270, "context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}
    gf.save(gf.build("llama", **sizes, tokenizer=tokenizer), tmp_path / "model")
    command = ["generate", str(tmp_path / "model"), "the ", "--json"]
    done = run(*command, "--regex", "-(yes|no)", "--n", "2")
    assert {each["text"] for each in json.loads(done.stdout)["results"]} <= {"-yes", "-no"}
    (tmp_path / "schema.json").write_text('{"type": "array", "items": {"const": 7}, "maxItems": 2}')
    done = run(*command, "--json-schema", str(tmp_path / "schema.json"))
    assert json.loads(json.loads(done.stdout)["results"][0]["text"]) in ([], [7], [7, 7])
    cut = run(*command, "--regex", "a{30}", "--max-new-tokens", "3")
    assert "The text was cut short" in cut.stderr
    (tmp_path / "broken.json").write_text("[1]")
    for flags, says in (
        (["--regex", "("], "The regular expression cannot be followed"),
        (["--json-schema", str(tmp_path / "broken.json")], "must hold a JSON object"),
        (["--json-schema", str(tmp_path)], "cannot be read"),
        (["--regex", "a", "--endless"], "A guided text has an end"),
    ):
        refused = run(*command, *flags)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert says in refused.stderr


def test_the_best_texts_are_shown_and_log_probabilities_in_json() -> None:
    command = ["generate", "nano-sort", "CBABBC", "--max-new-tokens=4"]
    best = run(*command, "--best-of=4", "--n=2")
    assert (best.returncode, best.stdout.splitlines()[::2]) == (0, ["--- 1", "--- 2"])
    searched = run(*command, "--beams=3")
    assert (searched.returncode, searched.stdout) == (0, "CBABBCABBB\n")
    done = run(*command, "--temperature=0", "--logprobs=2", "--json")
    (result,) = json.loads(done.stdout)["results"]
    assert result["text"] == "ABBB" == "".join(token["text"] for token in result["tokens"])
    for token in result["tokens"]:
        assert token["likeliest"][0] == {key: token[key] for key in ("id", "text", "logprob")}
        assert len(token["likeliest"]) == 2
    for flags, says in (
        (["--logprobs=2"], "--logprobs is for --json"),
        (["--beams=2", "--best-of=2"], "A search is by itself: without --best-of, --logprobs, --draft and --lookup."),
        (["--beams=0"], "--beams must be from 1 to 1024, not 0."),
        (["--beams=2", "--n=3"], "--n must be from 1 to the 2 beams, not 3."),
        (["--best-of=2", "--endless"], "leave out --endless"),
        (["--n=3", "--best-of=2"], "--best-of must be from 3 to 1024"),
    ):
        refused = run(*command, *flags)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert says in refused.stderr

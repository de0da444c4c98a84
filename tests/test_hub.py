"""Models of the Hub, from a server on this machine that speaks its API: what comes, what is asked for, what is said."""

import errno
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import constants

import glassformer as gf
from glassformer import hub
from glassformer.data import download
from glassformer.errors import CheckpointError, ConfigError, GlassformerError, MissingExtra
from glassformer.training.load_config import load_run_config
from support.commands import run, run_process
from support.gguf_models import write_llama
from support.hub_server import COMMIT, FakeHub, serve
from support.tiny import TINY

TEXT = "CBABBC"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that sorts letters, as `gf.save` writes it, with what else people put beside a model."""
    path = gf.save(gf.load("nano-sort"), tmp_path_factory.mktemp("models") / "tiny")
    for name in ("README.md", "flax_model.msgpack", "pytorch_model.bin", "onnx/model.onnx", "photo.png"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"not needed")
    (path / "LICENSE").write_text("as you like")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What HF_ENDPOINT does, which the library reads when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, an address at which nobody answers, and no token; whatever the environment says."""
    for name in ("HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    at(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(online: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = FakeHub()
    fake.add("org/tiny", folder)
    with serve(fake):
        at(monkeypatch, fake.address)
        yield fake


def sorted_letters(model: gf.Model) -> str:
    return "".join(model.generate(TEXT, max_new_tokens=6, temperature=0.0))


NEEDED = {"LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "glassformer.json",
          "model.safetensors", "tokenizer.json", "tokenizer_config.json"}  # fmt: skip


def test_a_name_on_the_hub_is_a_model_and_only_what_it_is_read_from_comes(server: FakeHub) -> None:
    progress: list[tuple[int, int | None]] = []
    model = gf.load("org/tiny", progress=lambda *done: progress.append(done))
    assert sorted_letters(model) == "ABBBCC"
    assert model.origin == f"org/tiny@{COMMIT}"
    assert set(server.fetched()) == NEEDED
    size = len(server.repositories["org/tiny"]["model.safetensors"])
    assert progress[-1] == (size, size)
    server.requests.clear()
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    assert [path for _, path, _, _ in server.requests] == ["/api/models/org/tiny"]


@pytest.mark.parametrize("name", ["org/tiny@v1.0", f"org/tiny@{COMMIT}"])
def test_a_revision_is_named_behind_the_name_or_beside_it(server: FakeHub, name: str) -> None:
    assert gf.load(name).origin == f"org/tiny@{COMMIT}"
    assert gf.load("org/tiny", revision=name.partition("@")[2]).origin == f"org/tiny@{COMMIT}"
    assert {path.split("/")[4] for _, path, _, _ in server.requests if "/resolve/" in path} == {COMMIT}


@pytest.mark.parametrize("name", ["org/tiny@v1.0", "nano-sort", "preset:gpt2"])
def test_a_revision_for_what_has_none_is_refused(server: FakeHub, name: str) -> None:
    with pytest.raises(ConfigError, match="revision is for names on the Hub"):
        gf.load(name, revision="v2")


def test_the_commit_is_kept_in_what_is_saved_and_read_from_there(server: FakeHub, tmp_path: Path) -> None:
    gf.save(gf.load("org/tiny"), tmp_path / "copy")
    assert gf.load(tmp_path / "copy").origin == f"org/tiny@{COMMIT}"
    assert gf.load("nano-sort").origin == ""


def test_the_cache_is_the_one_that_other_tools_use(server: FakeHub, tmp_path: Path) -> None:
    huggingface_hub.hf_hub_download("org/tiny", "model.safetensors")
    server.requests.clear()
    gf.load("org/tiny")
    assert set(server.fetched()) == NEEDED - {"model.safetensors"}
    server.requests.clear()
    for name in NEEDED:
        assert Path(huggingface_hub.hf_hub_download("org/tiny", name, local_files_only=True)).is_file()
    cache = huggingface_hub.scan_cache_dir(tmp_path / "cache")
    assert not cache.warnings
    assert [(repo.repo_id, repo.nb_files) for repo in cache.repos] == [("org/tiny", len(NEEDED))]
    assert server.requests == []


def test_transformers_opens_what_was_fetched_here(server: FakeHub) -> None:
    model = gf.load("org/tiny")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        "org/tiny", local_files_only=True, cache_dir=constants.HF_HUB_CACHE
    )
    tokens = torch.tensor([[0, 1, 2]])
    torch.testing.assert_close(theirs(tokens).logits, model(tokens))


def test_a_folder_of_that_name_goes_first(server: FakeHub, tmp_path: Path) -> None:
    gf.save(gf.build("gpt2", **TINY["gpt2"]), tmp_path / "org" / "tiny")
    assert gf.load("org/tiny").config.vocab_size == TINY["gpt2"]["vocab_size"]
    assert server.requests == []


def sharded(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    """The same model, saved by `transformers` in small shards."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="200KB")
    tokenizer = {"tokenizer.json": (folder / "tokenizer.json").read_bytes()}
    return {path.name: path.read_bytes() for path in (tmp_path / "sharded").iterdir()} | tokenizer


def test_of_a_model_in_shards_all_come_that_its_index_names(server: FakeHub, folder: Path, tmp_path: Path) -> None:
    files = sharded(folder, tmp_path)
    shards = {name for name in files if name.endswith(".safetensors")}
    assert len(shards) > 1
    server.add("org/sharded", files | {"model-00099.safetensors": b"of another time"})
    assert sorted_letters(gf.load("org/sharded")) == "ABBBCC"
    assert {name for name in server.fetched() if name.endswith(".safetensors")} == shards


def test_a_shard_that_is_not_there_is_said(server: FakeHub, folder: Path, tmp_path: Path) -> None:
    files = sharded(folder, tmp_path)
    name = max(name for name in files if name.endswith(".safetensors"))
    server.add("org/sharded", {each: data for each, data in files.items() if each != name})
    with pytest.raises(CheckpointError, match=rf"org/sharded: '{name}', which its index names, is not there\."):
        gf.load("org/sharded")


def test_a_pickle_comes_only_where_nothing_else_is_there_and_it_is_allowed(
    server: FakeHub, folder: Path, tmp_path: Path
) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    files = {name: (folder / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    server.add("org/old", files | {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()})
    with pytest.raises(
        CheckpointError, match=r"org/old: its weights are there as pytorch_model.bin alone.*from_pickle"
    ):
        gf.load("org/old")
    assert server.ranges() == []
    assert sorted_letters(gf.load("org/old", from_pickle=True)) == "ABBBCC"


def test_one_gguf_file_is_named_behind_the_repository(server: FakeHub, tmp_path: Path) -> None:
    sizes = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "intermediate_size": 12, "max_position_embeddings": 8}  # fmt: skip
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    path = write_llama(tmp_path / "model.gguf", theirs)
    assert gguf.GGUFReader(path).tensors
    server.add("org/gguf", {"model-f32.gguf": path.read_bytes(), "q8/model-q8_0.gguf": b"another"})
    model = gf.load("org/gguf/model-f32.gguf")
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(model(tokens), theirs(tokens).logits)
    assert model.origin == f"org/gguf/model-f32.gguf@{COMMIT}"
    assert server.fetched() == ["model-f32.gguf"]
    names = r"Name one of its files: org/gguf/model-f32\.gguf, org/gguf/q8/model-q8_0\.gguf\."
    with pytest.raises(CheckpointError, match=f"org/gguf/other.gguf: it has no such file. {names}"):
        gf.load("org/gguf/other.gguf")
    server.repositories["org/gguf"]["config.json"] = server.repositories["org/tiny"]["config.json"]
    with pytest.raises(CheckpointError, match=f"neither model.safetensors nor pytorch_model.bin. {names}"):
        gf.load("org/gguf")


def test_a_model_that_is_not_known_here_is_refused_before_its_weights_come(server: FakeHub) -> None:
    server.add("org/new", {"config.json": b'{"model_type": "new"}', "model.safetensors": b"x" * 1000})
    with pytest.raises(GlassformerError, match=r"org/new: config.json: model_type 'new' is unknown"):
        gf.load("org/new")
    assert server.fetched() == ["config.json"]


@pytest.mark.parametrize("with_settings", [True, False])
def test_an_adapter_is_refused_by_the_name_of_its_base_before_its_weights_come(
    with_settings: bool, server: FakeHub
) -> None:
    kept = [name for name in server.repositories["org/tiny"] if name.endswith(".json") and "safetensors" not in name]
    adapter = {name: server.repositories["org/tiny"][name] for name in kept if with_settings}
    adapter |= {"adapter_model.safetensors": b"", "adapter_config.json": b'{"base_model_name_or_path": "org/base"}'}
    server.add("org/adapter", adapter)
    with pytest.raises(CheckpointError, match="an adapter of 'org/base', not a model: merge it into its base first"):
        gf.load("org/adapter")
    assert "adapter_model.safetensors" not in server.fetched()


def test_a_name_that_leads_out_of_the_folder_is_refused_though_there_is_such_a_file(
    server: FakeHub, folder: Path, tmp_path: Path
) -> None:
    shard = str(tmp_path / "outside.safetensors")
    Path(shard).write_bytes(b"of somebody else")
    index = json.dumps({"weight_map": {"lm_head.weight": shard}}).encode()
    files = {each: (folder / each).read_bytes() for each in ("config.json", "tokenizer.json")}
    server.add("org/out", files | {"model.safetensors.index.json": index, shard: b"x"})
    with pytest.raises(CheckpointError, match=r"org/out: The file name '.*' leads out of the folder"):
        gf.load("org/out")
    assert shard not in server.fetched()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_a_file_of_settings_that_is_too_large_does_not_come(server: FakeHub, folder: Path, name: str) -> None:
    files = {each: (folder / each).read_bytes() for each in ("config.json", "tokenizer.json")}
    server.add("org/large", files | {name: b"x" * (17 << 20)})
    sentence = r"org/large: \S+ has 17,825,792 bytes; at most (4,194,304|16,777,216) are read here\."
    with pytest.raises(CheckpointError, match=sentence):
        gf.load("org/large")
    assert server.fetched() == []


def test_a_tokenizer_as_large_as_gemmas_comes(server: FakeHub) -> None:
    files = server.repositories["org/tiny"]
    server.add("org/large", files | {"tokenizer.json": files["tokenizer.json"] + b" " * (34 << 20)})
    assert sorted_letters(gf.load("org/large")) == "ABBBCC"


def test_a_text_that_is_too_large_stays_on_the_hub_and_that_is_said(
    server: FakeHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MAX_FILE_BYTES", 100_000)
    server.add("org/large", server.repositories["org/tiny"] | {"vocab.txt": b"x" * 100_001})
    assert sorted_letters(gf.load("org/large")) == "ABBBCC"
    assert "vocab.txt" not in server.fetched()
    sentence = "vocab.txt has 100,001 bytes and is not fetched, since at most 100,000 are read of such a file."
    assert caplog.messages == [f"org/large: {sentence}"]


# ---- downloads that break off


def test_what_breaks_off_goes_on_at_once_where_it_stopped(server: FakeHub) -> None:
    server.cuts = [300_000, 1000]
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    assert server.ranges() == ["", "bytes=300000-", "bytes=301000-"]


def test_what_was_interrupted_goes_on_with_the_next_call(server: FakeHub) -> None:
    server.cuts = [300_000, 0]
    size = len(server.repositories["org/tiny"]["model.safetensors"])
    with pytest.raises(CheckpointError, match=f"model.safetensors: .* broke off after 300,000 of {size:,} bytes"):
        gf.load("org/tiny")
    server.requests.clear()
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    assert server.ranges() == ["bytes=300000-"]


def test_what_stops_in_the_middle_goes_on_with_the_next_call(server: FakeHub) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gf.load("org/tiny", progress=stop)
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    assert server.ranges() == ["", f"bytes={download.CHUNK}-"]


def test_several_that_ask_at_once_fetch_it_once(server: FakeHub) -> None:
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(lambda _: gf.load("org/tiny"), range(4)))
    assert {model.origin for model in models} == {f"org/tiny@{COMMIT}"}
    assert server.ranges() == [""]


def test_bytes_that_are_not_those_of_the_listing_are_discarded(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = hub._of_hub(hub.HubName(repo="org/tiny"))
    files = {
        **real.files,
        "model.safetensors": hub.RemoteFile(size=real.files["model.safetensors"].size, sha256="0" * 64),
    }
    monkeypatch.setattr(hub, "_of_hub", lambda name: hub.Listing(repo="org/tiny", commit=COMMIT, files=files))
    with pytest.raises(CheckpointError, match="It was discarded"):
        gf.load("org/tiny")
    assert not list((tmp_path / "cache").rglob("*.part"))


# ---- no network, no permission, no room


def test_without_a_network_what_the_cache_has_is_used(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gf.load("org/tiny")
    at(monkeypatch, "http://127.0.0.1:1")
    model = gf.load("org/tiny")
    assert model.origin == f"org/tiny@{COMMIT}"
    used = "org/tiny: what the cache has of it is used, since the Hub gives no answer that helps: .*refused"
    assert any(re.match(used, message) for message in caplog.messages)
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sorted_letters(gf.load(f"org/tiny@{COMMIT}")) == "ABBBCC"
    assert caplog.messages == []


def test_where_the_hub_answers_that_it_has_no_such_model_the_cache_is_used_and_that_is_said(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gf.load("org/tiny")
    del server.repositories["org/tiny"]
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    used = "org/tiny: what the cache has of it is used, since"
    assert f"{used} the Hub has no such model, or shows it to those alone whose token may read it." in caplog.messages
    at(monkeypatch, f"{server.address}/elsewhere")
    gf.load("org/tiny")
    assert re.match(f"{used} the Hub gives no answer that helps: .*404", caplog.messages[-1])


def test_a_part_of_a_model_in_the_cache_is_no_model(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub.hf_hub_download("org/tiny", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"org/tiny: it has neither model.safetensors nor pytorch_model.bin"):
        gf.load("org/tiny")


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@v1.0", "org/gguf/model.gguf", "runs/srot"])
def test_a_name_that_nobody_knows_is_said_in_one_sentence(
    online: None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=f"There is nothing at {name} here, and .* cannot be asked for it: "):
        gf.load(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=f"There is nothing at {name} here, and the cache of the Hub has no such"):
        gf.load(name)


def test_a_repository_or_a_revision_that_does_not_exist_is_said(server: FakeHub) -> None:
    with pytest.raises(
        CheckpointError, match="nothing at runs/srot here, and no model runs/srot on the Hub; a private"
    ):
        gf.load("runs/srot")
    with pytest.raises(CheckpointError, match=r"org/tiny is on the Hub, and has no revision 'v9'\."):
        gf.load("org/tiny@v9")


@pytest.mark.parametrize(
    "name",
    ["tiny", "a/b/c", "./org/tiny", "../tiny", "/org/tiny", "org/--", "org/tiny@", "org/.x", "org/tiny//etc/x.gguf"],
)
def test_what_is_no_name_on_the_hub_is_not_asked_for(server: FakeHub, name: str) -> None:
    with pytest.raises(CheckpointError, match="A model is a checkpoint's path, and there is nothing at"):
        gf.load(name)
    assert server.requests == []


def test_a_server_that_is_no_hub_is_said(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, f"{server.address}/elsewhere")
    with pytest.raises(
        CheckpointError, match=r"There is nothing at org/tiny here, and the Hub does not give it: .*404"
    ):
        gf.load("org/tiny")


def test_a_gated_model_asks_for_the_token_of_the_environment_which_only_the_hub_is_told(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.gated.add("org/tiny")
    with pytest.raises(
        CheckpointError, match=rf"org/tiny is gated: accept its conditions at {server.address}/org/tiny"
    ):
        gf.load("org/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_of_another_account")
    with pytest.raises(
        CheckpointError, match=r"and give a token of the account that has done so in the environment's HF_TOKEN\."
    ):
        gf.load("org/tiny")
    monkeypatch.setenv("HF_TOKEN", server.token)
    server.requests.clear()
    assert sorted_letters(gf.load("org/tiny")) == "ABBBCC"
    told = {path.split("/")[1]: sent for _, path, _, sent in server.requests}
    assert told == {"api": "Bearer hf_secret", "org": "Bearer hf_secret", "storage": ""}


@pytest.mark.parametrize("large", [True, False])
def test_a_full_disk_is_said(server: FakeHub, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if large:
        monkeypatch.setattr(download.os, "fsync", full)
    else:
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(CheckpointError, match=r"org/tiny: .*(No space left on device|no room left in)"):
        gf.load("org/tiny")


def test_without_the_library_the_extra_is_named(online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    sentence = r"There is nothing at org/tiny, and a model of the Hugging Face Hub needs huggingface_hub: .*\[hub\]"
    with pytest.raises(MissingExtra, match=sentence):
        gf.load("org/tiny")


# ---- from the command line


def test_commands_take_the_name_and_say_the_commit(server: FakeHub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    arguments = ["generate", "org/tiny@v1.0", "--prompt", TEXT, "--max-new-tokens", "6", "--temperature", "0"]
    first = run_process(*arguments, cwd=tmp_path, **environment)
    assert (first.returncode, first.stderr) == (0, f"org/tiny@v1.0 is org/tiny@{COMMIT}.\n")
    assert first.stdout.strip().endswith("ABBBCC")
    assert (tmp_path / "home" / "hub" / "models--org--tiny").is_dir()
    converted = run_process("convert", "org/tiny@v1.0", "copy", cwd=tmp_path, **{**environment, "HF_HUB_OFFLINE": "1"})
    assert converted.returncode == 0, converted.stderr
    ours = json.loads((tmp_path / "copy" / "glassformer.json").read_text())
    assert ours["origin"] == f"org/tiny@{COMMIT}"
    absent = run_process("generate", "org/absent", "--prompt", TEXT, cwd=tmp_path, **environment)
    assert (absent.returncode, absent.stdout, absent.stderr.count("\n")) == (2, "", 1)
    assert "nothing at org/absent here, and no model org/absent on the Hub" in absent.stderr


VERBS = {
    "trace": ["--input", TEXT, "--out", "recording.gft"],
    "explain": ["--input", TEXT, "--cell", "logits[0,0,0]"],
    "view": ["--check"],
    "evaluate": ["sort"],
    "neighbours": [],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_name(verb: str, server: FakeHub, tmp_path: Path) -> None:
    model = ["B", "--vectors", "org/tiny"] if verb == "neighbours" else ["org/tiny"]
    done = run(verb, *model, *VERBS[verb], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"org/tiny is org/tiny@{COMMIT}." in done.stderr


def test_a_long_name_is_no_name_on_the_hub(server: FakeHub, tmp_path: Path) -> None:
    done = run("generate", "org/" + "x" * 2000, "--prompt", TEXT, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is nothing at org/xxx" in done.stderr
    assert server.requests == []


def test_a_run_begins_with_the_weights_of_a_name_on_the_hub(server: FakeHub, tmp_path: Path) -> None:
    config = load_run_config(None, {"model": {"from": "org/tiny@v1.0"}, "task": "sort"})
    assert config.name == "tiny-tuned"
    assert Path(config.model["from"]).name == COMMIT
    assert (Path(config.model["from"]) / "model.safetensors").is_file()

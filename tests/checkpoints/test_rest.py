"""What we do not understand survives a copy, and `transformers` does with the copy what it does with the source."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from checkpoints.hostile import CONFIG, publish, set_config
from glassformer import api, checkpoints
from glassformer.checkpoints.folder_files import FolderFiles
from glassformer.checkpoints.rest import MAX_FILES, NOTHING, read
from glassformer.features.image_processor import ImageProcessor
from glassformer.inference.beam import Beams
from glassformer.models.gpt2 import GPT2
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.models.vit import ViT, ViTConfig
from glassformer.tokenizers import CharTokenizer, Tokenizer
from support.commands import run

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "a"]
FILES = {
    "README.md": "---\nlicense: mit\n---\n",
    "LICENSE": "MIT",
    "chat_template.jinja": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "modules.json": '[{"idx": 0}]',
    "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
    "preprocessor_config.json": '{"something": "else"}',
}
CONFIG_SETTINGS = {"initializer_range": 0.7, "id2label": {"0": "no", "1": "yes"}, "task_specific_params": {"x": 1}}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, as `transformers` publishes it, and what people put beside one."""
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("bert") / "bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        **CONFIG_SETTINGS,
    )
    transformers.BertForPreTraining(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab={word: id for id, word in enumerate(WORDS)}, model_max_length=16)
    tokenizer.save_pretrained(folder)
    put(folder, FILES)
    return folder


def put(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def settings(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_a_masked_word_is_filled_and_texts_are_padded_on_the_copy_as_on_the_source(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, pipeline

    done = run("convert", str(bert), str(tmp_path / "copy"))
    assert done.returncode == 0
    fillings, paddings = [], []
    for folder in (bert, tmp_path / "copy"):
        fillings.append(
            [(answer["token_str"], answer["score"]) for answer in pipeline("fill-mask", folder)("[MASK] a")]
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(["a", "hello worlds a"], padding=True, truncation=True)
        paddings.append((batch["input_ids"], tokenizer.model_max_length, tokenizer.chat_template))
    assert fillings[0] == fillings[1]
    assert paddings[0] == paddings[1]
    assert paddings[1][1:] == (16, FILES["chat_template.jinja"])


def test_settings_and_files_that_we_do_not_understand_survive_a_copy_of_a_copy(bert: Path, tmp_path: Path) -> None:
    api.save(api.load(bert), tmp_path / "a")
    api.save(api.load(tmp_path / "a"), tmp_path / "b")
    for folder in (tmp_path / "a", tmp_path / "b"):
        for name, text in FILES.items():
            assert (folder / name).read_text() == text
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (folder / name).read_bytes() == (bert / name).read_bytes()
        assert settings(folder, "config.json").items() >= {**CONFIG_SETTINGS, "pad_token_id": 0}.items()
        assert settings(folder, "config.json")["architectures"] == ["BertForMaskedLM"]
        assert "dtype" not in settings(folder, "config.json")  # torch_dtype says it


def test_what_a_copy_leaves_out_is_said(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassformer.checkpoints.rest.MAX_TENSOR_BYTES", 100)
    source = publish(tmp_path / "source")
    put(source, {"pytorch_model.bin": "?", ".gitattributes": "*", "model.py": "print()"})
    (source / "LICENSE").symlink_to(bert / "LICENSE")
    with caplog.at_level(logging.WARNING, "glassformer"):
        api.save(api.load(source), tmp_path / "copy")
        api.save(api.load(bert), tmp_path / "bert")
    said = " ".join(record.getMessage() for record in caplog.records)
    for part in (
        "model.py, pytorch_model.bin",
        "LICENSE is a link",
        "pooler.dense.weight",
        "weights of another task, which are",
    ):
        assert part in said
    assert not {"LICENSE", "pytorch_model.bin", "model.py"} & {path.name for path in (tmp_path / "copy").iterdir()}
    done = run("convert", str(source), str(tmp_path / "again"))
    assert "leaves out model.py, pytorch_model.bin" in done.stderr


SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
IMAGES = {**SMALL, "image_size": 8, "patch_size": 4}
OTHER_TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertModel": ("BertConfig", {**SMALL, "vocab_size": 9}),
    "BertForPreTraining": ("BertConfig", {**SMALL, "vocab_size": 9}),
    "RobertaModel": ("RobertaConfig", {**SMALL, "vocab_size": 9}),
    "ViTModel": ("ViTConfig", IMAGES),
    "Dinov2Model": ("Dinov2Config", {**IMAGES, "use_mask_token": True}),
    "Dinov2ForImageClassification": ("Dinov2Config", {**IMAGES, "use_mask_token": True}),
}


@pytest.mark.parametrize("kind", OTHER_TASKS)
def test_weights_that_only_other_tasks_use_survive_a_copy_of_a_copy(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers")
    config, sizes = OTHER_TASKS[kind]
    theirs = getattr(transformers, kind)(getattr(transformers, config)(**sizes))
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight)
    theirs.save_pretrained(tmp_path / "source")
    api.save(api.load(tmp_path / "source"), tmp_path / "copy")
    api.save(api.load(tmp_path / "copy"), tmp_path / "again")
    again, report = getattr(transformers, kind).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    weights = again.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in theirs.state_dict().items())
    assert not caplog.records
    half = api.save(api.load(tmp_path / "source", dtype="bfloat16"), tmp_path / "half")
    assert {tensor.dtype for tensor in load_file(half / "model.safetensors").values()} == {torch.bfloat16}


def test_weights_of_other_tasks_are_not_true_of_a_model_that_was_trained(bert: Path) -> None:
    trained = api.load(bert).rest.after_training()
    assert trained.tensors == {}
    assert "bert.pooler.dense.weight" in trained.left_out[0]


def test_weights_that_were_pickled_are_no_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = publish(tmp_path / "source")
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING, "glassformer"):
        api.save(api.load(source, from_pickle=True), tmp_path / "copy")
    assert not caplog.records


def test_sampling_defaults_and_end_tokens_survive_a_copy(tmp_path: Path) -> None:
    source = publish(tmp_path / "source")
    set_config(source, bos_token_id=1, eos_token_id=2, pad_token_id=3)
    chosen = {"eos_token_id": [2, 4], "temperature": 0.7, "do_sample": True, "top_p": 0.9, "pad_token_id": 3}
    put(source, {"generation_config.json": json.dumps(chosen)})
    model = api.load(source)
    api.save(model, tmp_path / "copy")
    assert settings(tmp_path / "copy", "generation_config.json") == {**chosen, "bos_token_id": None}
    kept = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    assert settings(tmp_path / "copy", "config.json").items() >= kept.items()
    api.save(model.having(eos_ids=frozenset({0})), tmp_path / "changed")
    assert settings(tmp_path / "changed", "generation_config.json")["eos_token_id"] == 0
    assert settings(tmp_path / "changed", "generation_config.json")["temperature"] == 0.7


def test_another_tokenizer_takes_the_place_of_all_that_names_tokens(bert: Path, tmp_path: Path) -> None:
    other = CharTokenizer("abcdefghi")
    api.save(api.load(bert).having(tokenizer=other), tmp_path / "copy")
    copy = checkpoints.load(tmp_path / "copy")
    assert copy.tokenizer is not None
    assert copy.tokenizer.encode("ab") == [0, 1]
    assert not (tmp_path / "copy" / "chat_template.jinja").exists()
    assert "pad_token_id" not in settings(tmp_path / "copy", "config.json")
    assert (tmp_path / "copy" / "LICENSE").exists()


def test_a_tokenizer_that_cannot_be_read_survives_a_copy(tmp_path: Path) -> None:
    source = publish(tmp_path / "source")
    put(source, {"tokenizer.json": '{"model": {"type": "Unigram"}}', "special_tokens_map.json": "{}"})
    done = run("convert", str(source), str(tmp_path / "copy"))
    assert "goes along as it is, and was not understood" in done.stderr
    for name in ("tokenizer.json", "special_tokens_map.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (source / name).read_bytes()


def test_a_tokenizer_json_alone_gets_the_class_without_which_transformers_cuts_text_by_other_rules(
    tmp_path: Path,
) -> None:
    source = publish(tmp_path / "source")
    CharTokenizer("abcde").save(source)
    api.save(api.load(source), tmp_path / "copy")
    assert (tmp_path / "copy" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert settings(tmp_path / "copy", "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_processor_survives_a_copy_with_the_settings_that_we_do_not_know(tmp_path: Path) -> None:
    config = ViTConfig(image_size=(8, 8), patch_size=(4, 4), n_classes=3, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    checkpoints.save(ViT(config), tmp_path / "source", processor=ImageProcessor(size=(8, 8)))
    (tmp_path / "source" / "manifest.json").unlink()
    chosen = settings(tmp_path / "source", "preprocessor_config.json") | {"do_dance": False, "processor_class": "X"}
    put(tmp_path / "source", {"preprocessor_config.json": json.dumps(chosen)})
    model = api.load(tmp_path / "source")
    api.save(model, tmp_path / "copy")
    assert settings(tmp_path / "copy", "preprocessor_config.json") == chosen
    api.save(model.having(processor=ImageProcessor(size=(8, 8), resample="bicubic")), tmp_path / "other")
    assert settings(tmp_path / "other", "preprocessor_config.json")["resample"] == 3


def test_after_training_the_licence_holds_and_the_card_is_that_of_the_source(bert: Path) -> None:
    rest = checkpoints.load(bert).rest.after_training()
    assert {"LICENSE", "README.source.md", "tokenizer.json", "chat_template.jinja"} <= rest.contents.keys()
    assert not {"README.md", "modules.json"} & rest.contents.keys()
    assert "modules.json" in rest.left_out[0]
    assert rest.after_training().contents == rest.contents
    assert rest.config["initializer_range"] == 0.7


def test_a_folder_of_many_or_large_files_is_taken_in_part(tmp_path: Path) -> None:
    folder = publish(tmp_path / "a")
    put(folder, {f"{number}.txt": "x" for number in range(MAX_FILES + 10)} | {"large.txt": "x" * (5 << 20)})
    rest = read(FolderFiles(folder), CONFIG)
    assert len(rest.contents) == MAX_FILES
    assert "large.txt: too large, or one of too many files." in rest.left_out
    assert NOTHING.contents == {}


def test_a_copy_of_a_run_takes_nothing_for_its_own_that_says_what_the_run_wrote(tmp_path: Path) -> None:
    source = publish(tmp_path / "run")
    (source / "manifest.json").unlink(missing_ok=True)
    put(source, {"written.json": '{"format": 1, "files": ["written.json"]}', "run.lock": "1", "run.json": "{}"})
    assert api.load(source).rest.contents == {}


def test_a_folder_that_may_not_be_looked_into_stops_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = publish(tmp_path / "drive")
    (source / "lost+found").mkdir()
    iterdir = Path.iterdir

    def refused(path: Path) -> Any:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    api.load(source)


def test_an_export_that_only_we_read_says_so(tmp_path: Path) -> None:
    done = run("convert", "preset:seq2seq-g2p", str(tmp_path / "g2p"))
    assert done.returncode == 0
    assert f"{tmp_path / 'g2p'} is read by glassformer alone: Hugging Face has no seq2seq." in done.stderr


# ---- what we write begins texts in other programs as it does here

LLAMA: dict[str, Any] = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 8}


def test_a_text_begins_with_the_same_token_in_transformers(data_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = run("convert", str(data_dir / "llama" / "stories260K.bin"), str(tmp_path / "stories"))
    assert done.returncode == 0
    theirs, tokenizer = (kind.from_pretrained(tmp_path / "stories") for kind in (AutoModelForCausalLM, AutoTokenizer))
    ours = api.load(tmp_path / "stories")
    assert tokenizer("Once upon a time")["input_ids"] == ours.encode("Once upon a time") == [1, 403, 407, 261, 378]
    for prompt in ("Once upon a time", ""):
        inputs = tokenizer(prompt, return_tensors="pt")
        written = theirs.generate(inputs["input_ids"], max_new_tokens=20, do_sample=False)[0].tolist()
        text = prompt + "".join(ours.generate(prompt, max_new_tokens=20, temperature=0.0))
        assert tokenizer.decode(written, skip_special_tokens=True).strip() == text.strip()


@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_llama_2_keeps_its_begin_token_through_load_and_save(form: str, data_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.load(data_dir / "tokenizers" / "llama2-tokenizer.model")
    source = checkpoints.save(Llama(LlamaConfig(vocab_size=32000, context_length=16, **LLAMA)), tmp_path / "source")
    (source / "manifest.json").unlink()
    if form == "tokenizer.json":
        tokenizer.save(source)
        put(source, {"tokenizer_config.json": '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}'})
    else:
        (source / form).write_bytes((data_dir / "tokenizers" / "llama2-tokenizer.model").read_bytes())
    api.save(api.load(source), tmp_path / "copy")
    assert AutoTokenizer.from_pretrained(tmp_path / "copy")("Hello there")["input_ids"] == [1, 15043, 727]
    assert api.load(tmp_path / "copy").encode("Hello there") == [1, 15043, 727]


def test_a_file_beside_a_tokenizer_json_that_cannot_be_read_is_named_and_not_taken(
    data_dir: Path, tmp_path: Path
) -> None:
    """It may be older; what a tokenizer.json alone can say, such as tokens that were added, would go missing."""
    model = Llama(LlamaConfig(vocab_size=32000, context_length=16, **LLAMA))
    source = checkpoints.save(model, tmp_path / "source")
    (source / "manifest.json").unlink()
    original = data_dir / "tokenizers" / "llama2-tokenizer.model"
    (source / "tokenizer.model").write_bytes(original.read_bytes())
    (source / "tokenizer.json").write_text('{"model": ')
    loaded = api.load(source)
    assert loaded.tokenizer is None
    assert "tokenizer.model beside it may be older" in loaded.no_tokenizer
    named = loaded.having(tokenizer=Tokenizer.load(source / "tokenizer.model"))
    assert named.encode("Hello there") == [1, 15043, 727]
    (source / "tokenizer.json").unlink()
    assert api.load(source).encode("Hello there") == [1, 15043, 727]


def test_an_export_says_what_its_special_tokens_are_for_and_how_long_a_text_may_be(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "text").write_text("to be or not to be")
    tokenizer = Tokenizer.train(tmp_path / "text", 262, ["<s>", "</s>", "<pad>", "<unk>"])
    tokenizer.bos_id = tokenizer.special_tokens["<s>"]
    tokenizer.begin_ids = (tokenizer.bos_id,)
    checkpoints.save(GPT2(replace(CONFIG, vocab_size=262)), tmp_path / "a", tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token, theirs.unk_token) == ("<s>", "</s>", "<pad>", "<unk>")
    assert theirs.model_max_length == CONFIG.context_length
    first, second = theirs(["to", "to be"], padding=True)["input_ids"]
    assert first[0] == second[0] == tokenizer.bos_id
    assert theirs("to", "be")["input_ids"] == [
        *(tokenizer.bos_id, *tokenizer.encode("to")),
        *(tokenizer.bos_id, *tokenizer.encode("be")),
    ]


@torch.no_grad()
def test_a_translator_that_was_built_here_translates_in_transformers_as_here(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    (tmp_path / "text").write_text("to be or not to be that is the question " * 9)
    tokenizer = Tokenizer.train(tmp_path / "text", 275, ["<pad>", "<s>", "</s>"])
    pad_id, start_id, eos_id = (tokenizer.special_tokens[name] for name in ("<pad>", "<s>", "</s>"))
    ends = {"pad_id": pad_id, "start_id": start_id, "eos_id": eos_id}
    sizes = {"d_model": 16, "n_encoder_layers": 1, "n_decoder_layers": 2, "n_heads": 2, "d_ff": 32, **ends}
    config = TransformerConfig(vocab_size=tokenizer.vocab_size, context_length=64, **sizes)
    module = Transformer(config).eval()
    for parameter in module.parameters():
        parameter.mul_(3)
    model = api.Model(checkpoints.Checkpoint(module=module, config=config, tokenizer=tokenizer))
    api.save(model, tmp_path / "a")
    source = AutoTokenizer.from_pretrained(tmp_path / "a")(["to be or not"], return_tensors="pt")
    assert source["input_ids"][0].tolist() == [*tokenizer.encode("to be or not"), eos_id]
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "a")
    written = theirs.generate(source["input_ids"], max_new_tokens=20, num_beams=1, do_sample=False)[0].tolist()
    (text,) = model.translate("to be or not", beams=Beams(n_beams=1), max_new_tokens=20)
    assert tokenizer.decode(id for id in written if id not in ends.values()) == text
    (again,) = api.load(tmp_path / "a").translate("to be or not", beams=Beams(n_beams=1), max_new_tokens=20)
    assert again == text


def test_a_folder_that_only_we_read_keeps_the_order_of_its_features(tmp_path: Path) -> None:
    """As all folders with the paper's Transformer were until its form in Marian's was known."""
    sizes: dict[str, Any] = {"vocab_size": 9, "d_model": 8, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_heads": 2}
    module = Transformer(TransformerConfig(**sizes, norm_placement="pre")).eval()
    folder = checkpoints.save(module, tmp_path / "a", native=True)
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(stored["model.shared.weight"], module.token_embedding.weight)
    found = dict(checkpoints.load(folder).module.named_parameters())
    assert all(torch.equal(found[name], parameter) for name, parameter in module.named_parameters())

"""The walkthrough: data that any model can be told by, in two languages that say the same."""

import re
from functools import cache
from typing import Any

import pytest
import torch

import glassformer as gf
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.viewer.chapters import MOVING, PLACEHOLDER, WITH_WORDS, check_chapter, load_chapters
from glassformer.viewer.pack import pack_scene, record
from glassformer.viewer.scene import Scene, Token

Data = dict[str, Any]
CHAPTERS = load_chapters()
CORE = (  # what every model that writes a text is told by
    "overview training tokens embedding layer-norm query-key-value scores softmax mixing heads residual mlp stack "
    "sampling generation scale"
)
CORE_CHAPTERS = [chapter for chapter in CHAPTERS if chapter["id"] in CORE.split()]
STEPS = [
    pytest.param(step, id=f"{chapter['id']}-{number}")
    for chapter in CHAPTERS
    for number, step in enumerate(chapter["steps"], 1)
]
VERBS: dict[str, set[str]] = {  # what a step may say, and the fields of each; web/src/types.ts explains them
    "camera": {"fit", "from", "margin"},
    "sweep": {"block", "axis", "from", "to", "popup"},
    "unroll": {"cell"},
    "fly": {"from", "to"},
    "stack": {"blocks", "onto", "gap"},
    "split": {"blocks", "gap"},
    "arcs": {"row", "over", "keys"},
    "powers": {"of", "add"},
}
PLAIN = {"text", "claims", "when", "seconds", "focus", "dim", "show", "hide", "pulse", "popup", "panel", "lens"}
PANELS = {"tokenizer", "sampling", "scale", "cache"}
GLOSSARY = {  # normative: the words by which a Chinese reader knows these things
    "token": "词元",
    "embedding": "嵌入",
    "attention": "注意力",
    "cross-attention": "交叉注意力",
    "encoder": "编码器",
    "decoder": "解码器",
    "mask": "掩码",
    "query": "查询",
    "queries": "查询",
    "key": "键",
    "value": "值",
    "residual stream": "残差流",
    "layer norm": "层归一化",
    "logits": "未归一化得分（logits）",
    "softmax": "softmax",
    "sampling": "采样",
    "temperature": "温度",
    "KV cache": "键值缓存",
    "RoPE": "旋转位置编码",
    "grouped-query attention": "分组查询注意力",
}
WITH_A_DIGIT = re.compile(r"GPT-[23]|float32")


@cache
def scene_of(model: str) -> Scene:
    """The packaged model, and small ones of the other kinds with random weights."""
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24, "vocab_size": 11, "context_length": 16}
    module: torch.nn.Module = {
        "nano-sort": lambda: gf.load("nano-sort").module,
        "gpt2": lambda: GPT2(GPT2Config(**sizes)),
        "llama": lambda: Llama(LlamaConfig(**sizes)),
        "llama-grouped": lambda: Llama(LlamaConfig(**sizes, n_kv_heads=2)),
    }[model]()
    tokens = [Token(id=i, text="ABC"[i], bytes="ABC"[i].encode().hex()) for i in (2, 1, 0, 1, 1, 2)]
    trace = record(module, torch.tensor([[token.id for token in tokens]]))
    return pack_scene(trace, module=module, config=module.config, name=model, tokens=tokens)


def prose(text: str) -> str:
    """A text as it is read: the words of its terms, without the other placeholders."""
    return PLACEHOLDER.sub(lambda found: found[2].partition("|")[2] if found[1] in WITH_WORDS else "", text)


def test_the_sixteen_chapters_follow_the_text_through_the_model():
    assert [chapter["id"] for chapter in CORE_CHAPTERS] == CORE.split()
    assert [chapter["order"] for chapter in CORE_CHAPTERS] == list(range(16))


@pytest.mark.parametrize("model", ["nano-sort", "gpt2", "llama", "llama-grouped"])
@pytest.mark.parametrize("chapter", CORE_CHAPTERS, ids=CORE.split())
def test_every_core_chapter_runs_on_every_model_that_writes(chapter: Data, model: str):
    report = check_chapter(scene_of(model), chapter)
    assert report.applies, report.missing
    assert not report.problems
    assert 4 <= report.steps <= 9


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter["id"] for chapter in CHAPTERS])
def test_every_chapter_moves_data_in_at_least_two_ways(chapter: Data):
    always = [step for step in chapter["steps"] if "when" not in step]
    assert len({verb for step in always for verb in MOVING & step.keys()}) >= 2


@pytest.mark.parametrize("step", STEPS)
def test_a_step_says_only_what_the_page_understands(step: Data):
    assert step.keys() <= PLAIN | VERBS.keys()
    assert all(step[verb].keys() <= fields for verb, fields in VERBS.items() if verb in step)
    assert step.get("panel", "scale") in PANELS


@pytest.mark.parametrize("step", STEPS)
def test_no_number_is_written_by_hand(step: Data):
    for text in step["text"].values():
        assert not re.search(r"\d", WITH_A_DIGIT.sub("", prose(text)))


@pytest.mark.parametrize("step", STEPS)
def test_the_chinese_uses_the_words_of_the_glossary(step: Data):
    english, chinese = prose(step["text"]["en"]), prose(step["text"]["zh"])
    assert "变压器" not in chinese
    assert "变形金刚" not in chinese
    for word, ours in GLOSSARY.items():
        if re.search(rf"(?<![\w-]){word}s?\b", english, re.IGNORECASE):
            assert ours in chinese, word

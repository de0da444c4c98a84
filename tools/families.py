"""The families of models in README.md and README.zh.md, by their pages and tables. Run: python tools/families.py

What is particular is the first sentence of a page in `models/`; presets, Hugging Face's folders and GGUF are asked of
the specs. `tests/test_families.py` holds the tables to what this writes.
"""

import importlib
import re
from pathlib import Path

from glassformer.checkpoints.gguf_families import FAMILIES
from glassformer.models import specs
from glassformer.models.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r"(?<=<!-- families: tools/families.py -->\n).*?(?=<!-- end of families -->)", re.DOTALL)
KINDS = {
    "language-model": "语言模型",
    "encoder-decoder": "编码器-解码器",
    "encoder": "编码器",
    "image-classifier": "图像分类",
    "speech-recognizer": "语音识别",
    "word-vectors": "词向量",
}


def table() -> str:
    """The families in English."""
    rows = ["| family | what is particular | presets | Hugging Face | GGUF |", "| --- | --- | --- | --- | --- |"]
    for spec in _specs():
        name, particular = described(spec)
        page = f"[{name}]({_page(spec)})"
        rows.append(f"| {page} | {particular} | {_presets(spec)} | {_files(spec)} | {_gguf(spec)} |")
    return "\n".join(rows) + "\n"


def table_in_chinese() -> str:
    """The families by their kinds; what is particular stands on their pages."""
    rows = ["| 模型 | 种类 | 预设 | Hugging Face | GGUF |", "| --- | --- | --- | --- | --- |"]
    for spec in _specs():
        page = f"[{described(spec)[0]}]({_page(spec)})"
        files = f"{_files(spec, '读写', '同', '无')} | {_gguf(spec, '读写', '无')}"
        rows.append(f"| {page} | {KINDS[spec.kind]} | {_presets(spec)} | {files} |")
    return "\n".join(rows) + "\n"


def described(spec: ModelSpec) -> tuple[str, str]:
    """What a family is called, and the first sentence of its page without that."""
    sentence = (importlib.import_module(spec.config.__module__).__doc__ or "").replace("\n", " ").partition(". ")[0]
    name, colon, particular = sentence.rstrip(". ").partition(": ")
    published = spec.published if spec.model_types else None
    return (name, particular) if colon else (published.name if published else spec.name, name)


def _specs() -> list[ModelSpec]:
    """The architectures, those of a kind together."""
    kinds = list(KINDS)
    return sorted(specs().values(), key=lambda spec: (kinds.index(spec.kind), spec.name))


def _page(spec: ModelSpec) -> str:
    return f"src/{spec.config.__module__.replace('.', '/')}.py"


def _presets(spec: ModelSpec) -> str:
    """The presets, or the first and the last of many."""
    names = [f"`{name}`" for name in spec.presets]
    return ", ".join(names) if len(names) < 5 else f"{names[0]} … {names[-1]} ({len(names)})"


def _files(spec: ModelSpec, both: str = "in and out", as_another: str = "as", neither: str = "no") -> str:
    """Whether Hugging Face's folders have the family, and as what."""
    if spec.published is None:
        return neither
    types = ", ".join(f"`{name}`" for name in spec.published.model_types)
    return f"{both}: {types}" if types else f"{as_another} {spec.published.name}"


def _gguf(spec: ModelSpec, both: str = "in and out", neither: str = "no") -> str:
    return both if spec.model_types & {family.model_type for family in FAMILIES.values()} else neither


def main() -> None:
    """Write both tables."""
    for name, rows in (("README.md", table()), ("README.zh.md", table_in_chinese())):
        before, after = TABLE.split((ROOT / name).read_text("utf-8"), maxsplit=1)
        (ROOT / name).write_text(before + rows + after, "utf-8")


if __name__ == "__main__":
    main()

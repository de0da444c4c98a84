"""The layers of the package, and the table of them in docs/architecture.md. Run: python tools/architecture.py

What a row says of a folder or a file is the first sentence of its docstring. `tests/test_layers.py` holds the imports
to the layers, and the table to what this writes.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "glassformer"
PAGE = ROOT / "docs" / "architecture.md"
TABLE = re.compile(r"\| layer \|.*?\n(?!\|)", re.DOTALL)

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "strict_json",
        "printable",
        "config",
        "registration",
        "twins",
        "files",
        "compressed",
        "workers",
        "torch_internals",
        "http_guard",
        "kernels",
    ),
    ("nn", "tokenizers", "features"),
    ("models",),
    ("checkpoints", "data"),
    ("inference", "tracing", "hub"),
    ("evaluation",),
    ("kinds",),
    ("training",),
    ("server", "viewer"),
    ("api",),
    ("cli",),
    ("__main__",),
)


def table() -> str:
    """The layers from the top, in Markdown; a folder that is not there yet has no row."""
    rows = ["| layer | where | what |", "| --- | --- | --- |"]
    for level, parts in reversed(list(enumerate(LAYERS))):
        for part in parts:
            if (file := SOURCE / f"{part}.py").is_file():
                rows.append(f"| {level} | `{part}.py` | {first_sentence(file)} |")
            elif (file := SOURCE / part / "__init__.py").is_file():
                rows.append(f"| {level} | `{part}/` | {first_sentence(file)} |")
    return "\n".join(rows) + "\n"


def first_sentence(file: Path) -> str:
    """What a module's docstring begins with."""
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    sentence, end, _ = docstring.replace("\n", " ").partition(". ")
    return sentence.rstrip(".") + "." if end or sentence else ""


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text("utf-8"), count=1), "utf-8")


if __name__ == "__main__":
    main()

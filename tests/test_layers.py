"""Imports go strictly downward: the tree is the architecture."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import glassformer
from architecture import LAYERS, PAGE, TABLE, table

SOURCE = Path(glassformer.__file__).parent

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
FOUNDATION = ("errors", "strict_json", "registration")  # which other files of layer 0 may use; each those before it

Sources = Mapping[str, str]  # dotted module name ("glassformer.nn" for its __init__): source text


def sources() -> dict[str, str]:
    """Every module of the package."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("glassformer", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(part for part in parts if part != "__init__")] = path.read_text()
    return found


def imports(module: str, text: str, known: Sources) -> Iterator[str]:
    """The modules of ours that a module imports: at its top, inside functions, and by name through importlib or twins.

    Imports for the type checker alone count like others: who reads the one file has to read the other.
    `from package import name` means the submodule where there is one, else the package itself, and a package that
    looks for its modules, by `f"{__name__}.…"`, imports them all.
    """
    tree = ast.parse(text)
    package = module if any(other.startswith(f"{module}.") for other in known) else module.rpartition(".")[0]
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    named = {*known} - {"glassformer", module}  # strings that a lazy import may use
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "glassformer")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base.split(".")[0] == "glassformer":
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield whole if whole in known else base
        elif isinstance(node, ast.Constant) and node not in docstrings and node.value in named:
            yield str(node.value)
        elif isinstance(node, ast.JoinedStr) and ast.unparse(node).startswith(("f'{__name__}.", 'f"{__name__}.')):
            yield from (other for other in known if other.startswith(f"{module}."))


def part(module: str) -> str:
    """The file or folder of the package's top that a module belongs to; "" is the package itself."""
    return module.split(".")[1] if "." in module else ""


def violations(known: Sources) -> list[str]:
    """Imports that go upward or sideways, and cycles, as sentences."""
    return [*_wrong_directions(known), *_cycles(known)]


def _wrong_directions(known: Sources) -> Iterator[str]:
    for module, text in known.items():
        if not part(module):
            tree = ast.parse(text)
            for node in tree.body:
                if isinstance(node, ast.Import | ast.ImportFrom) and "glassformer" in ast.dump(node):
                    yield f"{module} imports at its top; it must hand names on lazily"
            continue
        if part(module) not in LEVEL:
            yield f"{module} belongs to no layer"
            continue
        for target in imports(module, text, known):
            here, there = part(module), part(target)
            if there == here:
                continue
            if there == "":
                if LEVEL[here] <= LEVEL["api"]:
                    yield f"{module} imports the package's own front, {target}"
            elif there not in LEVEL:
                yield f"{module} imports {target}, which belongs to no layer"
            elif LEVEL[there] >= LEVEL[here] and there not in FOUNDATION[: _order(here)]:
                way = "upward" if LEVEL[there] > LEVEL[here] else "sideways"
                yield f"{module} imports {way}: {target}"


def _order(here: str) -> int:
    return FOUNDATION.index(here) if here in FOUNDATION else len(FOUNDATION)


def _cycles(known: Sources) -> Iterator[str]:
    """Depth-first search along all imports, inside packages too; an edge back into the path closes a cycle.

    The package's own front hands on names of all layers, so nothing that it names counts as its import.
    """
    graph = {
        module: sorted(set(imports(module, text, known)) & set(known)) if part(module) else []
        for module, text in known.items()
    }
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[str]:
        if module in path:
            yield "a cycle: " + " → ".join([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in graph[module]:
            yield from visit(target, [*path, module])
        done.add(module)

    for module in graph:
        yield from visit(module, [])


def test_imports_go_strictly_downward_and_in_no_circle() -> None:
    assert violations(sources()) == []


def test_every_file_and_folder_of_the_package_has_a_layer() -> None:
    assert {part(module) for module in sources()} - {""} <= set(LEVEL)


def test_the_table_of_layers_in_the_docs_is_that_of_the_check() -> None:
    found = TABLE.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[0] == table(), "run: python tools/architecture.py"


LOWER = {
    "glassformer": "",
    "glassformer.errors": "",
    "glassformer.twins": "from glassformer.errors import ConfigError",
    "glassformer.nn": "",
    "glassformer.nn.norm": "from glassformer.twins import twin",
    "glassformer.nn.fused": "",
    "glassformer.tokenizers": "",
    "glassformer.tokenizers.bpe": "",
    "glassformer.models": "",
    "glassformer.models.gpt2": "from glassformer.nn.norm import LayerNorm\nfrom glassformer.nn import norm",
    "glassformer.training": "",
    "glassformer.training.loop": "from glassformer.models import gpt2",
    "glassformer.api": "def load():\n    from glassformer.training.loop import train",
}

SEEDS = {
    "glassformer.nn.norm imports upward: glassformer.models.gpt2": {
        "glassformer.nn.norm": "from glassformer.models.gpt2 import GPT2"
    },
    "glassformer.models.gpt2 imports upward: glassformer.training.loop": {
        "glassformer.models.gpt2": "def f():\n    if True:\n        from glassformer.training import loop"
    },
    "glassformer.nn.norm imports upward: glassformer.training": {"glassformer.nn.norm": "import glassformer.training"},
    "glassformer.nn.norm imports upward: glassformer.api": {"glassformer.nn.norm": "from ..api import load"},
    "glassformer.nn.norm imports sideways: glassformer.tokenizers.bpe": {
        "glassformer.nn.norm": "from glassformer.tokenizers import bpe"
    },
    "glassformer.errors imports sideways: glassformer.twins": {"glassformer.errors": "from glassformer import twins"},
    "glassformer.errors imports sideways: glassformer.strict_json": {
        "glassformer.errors": "from glassformer import strict_json",
        "glassformer.strict_json": "",
    },
    "glassformer.twins imports sideways: glassformer.files": {
        "glassformer.twins": "from glassformer import files",
        "glassformer.files": "",
    },
    "glassformer.models.gpt2 imports the package's own front, glassformer": {
        "glassformer.models.gpt2": "from glassformer import load"
    },
    "glassformer.nn.norm imports upward: glassformer.training.loop": {
        "glassformer.nn.norm": '@twin("glassformer.training.loop")\ndef f(): ...'
    },
    "a cycle: glassformer.nn.norm → glassformer.nn.fused → glassformer.nn.norm": {
        "glassformer.nn.norm": "from glassformer.nn import fused",
        "glassformer.nn.fused": "from .norm import RMSNorm",
    },
    "a cycle: glassformer.training.loop → glassformer.training.fused → glassformer.training.loop": {
        "glassformer.training.loop": '@twin("glassformer.training.fused")\ndef f(): ...',
        "glassformer.training.fused": "def f():\n    from glassformer.training.loop import train",
    },
    "a cycle: glassformer.tokenizers.bpe → glassformer.tokenizers.base → glassformer.tokenizers.bpe": {
        "glassformer.tokenizers.base": "if TYPE_CHECKING:\n    from glassformer.tokenizers.bpe import BPETokenizer",
        "glassformer.tokenizers.bpe": "from glassformer.tokenizers.base import Tokenizer",
    },
    "a cycle: glassformer.models → glassformer.models.gpt2 → glassformer.models": {
        "glassformer.models": 'def specs():\n    return importlib.import_module(f"{__name__}.{name}")',
        "glassformer.models.gpt2": "from glassformer.models import spec_of",
    },
    "glassformer imports at its top; it must hand names on lazily": {"glassformer": "from glassformer.api import load"},
    "glassformer.helpers belongs to no layer": {"glassformer.helpers": ""},
}


def test_the_check_lets_a_right_tree_pass() -> None:
    assert violations(LOWER) == []
    assert violations({**LOWER, "glassformer.cli": "from glassformer import load"}) == []
    assert violations({**LOWER, "glassformer.nn.fused": "def f():\n    from glassformer.nn.norm import RMSNorm"}) == []
    assert violations({**LOWER, "glassformer.nn.norm": '@twin("glassformer.nn.fused")\ndef f(): ...'}) == []


@pytest.mark.parametrize("expected", SEEDS)
def test_the_check_detects(expected: str) -> None:
    assert expected in violations({**LOWER, **SEEDS[expected]})

"""Examples in docstrings run, and come to what they say."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import glassformer

SOURCE = Path(glassformer.__file__).parent
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, name and docstring of what has examples; a decorated function's are found too."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text("utf-8")
        if ">>> " in text:
            module = ".".join(("glassformer", *path.relative_to(SOURCE).with_suffix("").parts))
            for node in ast.walk(ast.parse(text)):
                docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
                if docstring and ">>> " in docstring:
                    yield module.removesuffix(".__init__"), getattr(node, "name", "module"), docstring


EXAMPLES = {f"{module}.{name}": (module, docstring) for module, name, docstring in examples()}


def test_there_are_examples_where_learners_begin() -> None:
    assert {name.split(".")[1] for name in EXAMPLES} >= {"nn", "tokenizers", "features", "inference", "training"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_comes_to_what_it_says(name: str) -> None:
    module, docstring = EXAMPLES[name]
    test = doctest.DocTestParser().get_doctest(
        docstring, dict(vars(importlib.import_module(module))), name, module, None
    )
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=output.append).failed == 0, "".join(output)

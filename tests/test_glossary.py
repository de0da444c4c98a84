"""No name stands for two things, and no thing has two names: the package is held to docs/glossary.md."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import glassformer

SOURCE = Path(glassformer.__file__).parent
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "glossary.md").read_text("utf-8")
WORDS, EXCEPTIONS = PAGE.split("\n## Names that stand for several things\n")


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text("utf-8"))


def top_level(tree: ast.Module) -> Iterator[str]:
    """What a module defines: functions, classes, and names that something is assigned to."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def is_type_name(name: str) -> bool:
    """Whether a name is written as those of classes and of aliases of types are."""
    return re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) is not None and not name.isupper()


DEFINED = {file: set(top_level(tree)) for file, tree in trees()}


def test_every_word_stands_once_with_a_meaning_and_where_it_is_defined() -> None:
    table = rows(WORDS)
    assert len({row[0] for row in table}) == len(table) > 40
    for word, _symbol, meaning, where, _ in table:
        file, name = where.strip("`").split("::")
        assert name in DEFINED[file], word
        assert meaning, word


def test_no_name_of_a_type_stands_for_two_things() -> None:
    files = defaultdict(list)
    for file, names in DEFINED.items():
        for name in filter(is_type_name, names):
            files[name].append(file)
    excused = {
        name: sorted(re.findall(r"`(.+?)`", row[1])) for row in rows(EXCEPTIONS) for name in re.findall(r"\w+", row[0])
    }
    assert {name: sorted(where) for name, where in files.items() if len(where) > 1} == excused


def test_no_thing_has_a_second_name_in_the_code() -> None:
    """No function, class, argument or variable is called by a word that the glossary says not to use."""
    refused = {word.strip() for row in rows(WORDS) for word in row[4].split(",") if word.strip()}
    assert refused
    found = set()
    for file, tree in trees():
        for node in ast.walk(tree):
            name = getattr(node, "name", None) or getattr(node, "arg", None)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            if isinstance(name, str) and any(singular(word) in refused for word in words_of(name)):
                found.add(f"{file}: {name}")
    assert found == set()


def words_of(name: str) -> list[str]:
    """An identifier in its words, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def singular(word: str) -> str:
    return word.removesuffix("es") if word.endswith("ches") else word.removesuffix("s")


def test_words_are_cut_as_identifiers_are() -> None:
    assert [*map(singular, words_of("read_IDXStretches"))] == ["read", "idx", "stretch"]

"""A text's tokens as a terminal shows them: pieces over their ids, and how a word becomes its tokens."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glassformer.printable import visible
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.steps import Branch, Method, PreToken, merge_trees

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

STYLES = ("black on color(153)", "black on color(157)", "black on color(229)", "black on color(218)")
SPECIAL_STYLE = "bold white on color(125)"
QUIET = "dim"
SPECIAL = "*"  # after the id of a special token
HEADERS: dict[Method, tuple[str, ...]] = {
    "merges": ("merge", "pair", "rank", "symbols"),
    "longest match": ("step", "piece", "symbols"),
    "best path": ("step", "piece", "score", "symbols"),
}
TITLES: dict[Method, str] = {
    "merges": "of all neighbours, the two of the least rank are merged",
    "longest match": "from the left, each time the longest piece of the vocabulary",
    "best path": "the pieces whose scores, the logarithms of their probabilities, have the greatest sum",
}


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token: what stands above, and below it."""

    text: str
    id: str
    style: str
    whole: str = ""  # the character whose bytes end with this token, having begun in another one


def cells_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[ShownToken]:
    """The tokens of a text; those of one character are one colour, and the last of them says which it is."""
    special = set(tokenizer.special_tokens.values())
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    cells: list[ShownToken] = []
    style = 0
    for id in ids:
        data = tokenizer.token_bytes(id)
        if id in special:
            decoder.reset()
            cells.append(ShownToken(visible(data), f"{id}{SPECIAL}", SPECIAL_STYLE))
            continue
        waiting, _ = decoder.getstate()
        text = decoder.decode(data)
        whole = visible(text[:1].encode()) if waiting and text and not text.startswith("\ufffd") else ""
        cells.append(ShownToken(visible(data), str(id), STYLES[style], f"={whole}" if whole else ""))
        style = style if decoder.getstate()[0] else (style + 1) % len(STYLES)
    return cells


def grid(cells: Sequence[ShownToken], width: int) -> "Iterator[Text]":
    """The cells in lines of two rows, the ids below; a line ends where the text has an end of line."""
    from rich.cells import cell_len
    from rich.text import Text

    above, below = Text(), Text()
    for cell in cells:
        wide = max(cell_len(cell.text + cell.whole), len(cell.id))
        if above and cell_len(above.plain) + wide > width:
            yield from (above, below)
            above, below = Text(), Text()
        above.append(cell.text, cell.style).append(cell.whole, QUIET)
        above.append(" " * (wide - cell_len(cell.text + cell.whole) + 1))
        below.append(f"{cell.id:{wide}} ", QUIET)
        if cell.text.endswith("⏎"):
            yield from (above, below)
            above, below = Text(), Text()
    if above:
        yield from (above, below)


def one_word(pre_tokens: Sequence[PreToken]) -> bool:
    """Whether a text is one word, whatever spaces stand around it."""
    return sum(not pre_token.text.isspace() for pre_token in pre_tokens) == 1


def step_rows(pre_token: PreToken, method: Method) -> Iterator[tuple[str, ...]]:
    """A row of the table for each step, under `HEADERS`."""
    blank = [""] * (len(HEADERS[method]) - 1)
    yield (*blank, _row(pre_token.begin))
    for number, (before, step) in enumerate(zip(pre_token.symbols, pre_token.steps, strict=False), start=1):
        new, symbols = visible(step.symbols[step.at]), _row(step.symbols)
        score = "" if step.score is None else f"{step.score:.4g}"
        match method:
            case "merges" if step.rank is None:
                yield str(number), "in the vocabulary as a whole", "", symbols
            case "merges":
                pair = " + ".join(map(visible, before[step.at : step.at + 2]))
                yield str(number), pair, f"{step.rank:,}", symbols
            case "best path":
                yield str(number), new, score, symbols
            case _:
                yield str(number), new, symbols


def _row(symbols: Sequence[bytes]) -> str:
    return "  ".join(map(visible, symbols))


def tree_of(pre_token: PreToken) -> "Tree":
    """The merges of a word as a tree: a token is of those under it, down to the symbols at first."""
    from rich.text import Text
    from rich.tree import Tree

    branches = merge_trees(pre_token)
    ids = dict(enumerate(pre_token.ids))
    if len(branches) == 1:
        root = Tree(_label(branches[0], ids[0]))
        _grow(root, branches[0])
        return root
    root = Tree(Text(visible(pre_token.text.encode(errors="replace"))))
    for place, branch in enumerate(branches):
        _grow(root.add(_label(branch, ids[place])), branch)
    return root


def _grow(node: "Tree", branch: Branch) -> None:
    for part in branch.parts:
        _grow(node.add(_label(part)), part)


def _label(branch: Branch, id: int | None = None) -> "Text":
    from rich.text import Text

    label = Text(visible(branch.symbol), "bold" if id is not None else "")
    facts = [] if branch.rank is None else [f"merge {branch.step}", f"rank {branch.rank:,}"]
    facts += [] if id is None else [f"id {id}"]
    return label.append(f"  {', '.join(facts)}" if facts else "", QUIET)


def words_to_json(pre_tokens: Sequence[PreToken], method: Method) -> list[dict[str, Any]]:
    """The steps of each word for a program, bytes in hexadecimal."""
    return [
        {
            "text": pre_token.text,
            "ids": pre_token.ids,
            "special": pre_token.special,
            "method": method,
            "begin": [symbol.hex() for symbol in pre_token.begin],
            "steps": [
                {
                    "at": step.at,
                    "rank": step.rank,
                    "score": step.score,
                    "symbols": [symbol.hex() for symbol in step.symbols],
                }
                for step in pre_token.steps
            ],
        }
        for pre_token in pre_tokens
    ]

"""How a cell of each operation's result follows from cells of its operands: one short rule an operation.

A rule is a function of a `BoundOperation` and the index of a cell; it returns a `Formula` over *recorded operands*. It
never calls the operation that it explains, with one exception: operations that only move numbers are replayed on
numbers that say where they were (`movement.py`). An operation without a rule leaves its cells unexplained, and fails
the check. `rule.py` has what a file of rules is made with.
"""

import importlib
from functools import cache

from glassformer.tracing.rules.rule import RULES, OperationRule
from glassformer.tracing.trace import Operation

FILES = ("elementwise", "movement", "contraction", "reduction", "normalisation", "signal", "source")


@cache
def load() -> None:
    """Bring all rules into the table."""
    for file in FILES:
        importlib.import_module(f"{__name__}.{file}")


def has_rule(base: str) -> bool:
    """Whether an operation of this name can be explained in one piece."""
    load()
    return base in RULES


def rule_of(operation: Operation) -> OperationRule | None:
    """The rule of an operation, if it has one."""
    load()
    entry = RULES.get(operation.base)
    return None if entry is None else entry[1]


def kind_of(operation: Operation) -> str:
    """The file that has an operation's rule: its kind; "none" where it has none."""
    load()
    return RULES.get(operation.base, ("none",))[0]

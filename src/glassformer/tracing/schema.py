"""What torch's operations declare of themselves, and what they leave unsaid: names, defaults, what is written into."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glassformer.torch_internals import declaration, is_composite
from glassformer.tracing.nested import tensors_in

TURNED_IN_PLACE = {  # declared to write, but only another window is put in front of the same numbers
    *(f"{name}_" for name in ("transpose", "t", "squeeze", "unsqueeze", "as_strided", "detach")),
}
UNDECLARED = {"native_batch_norm": ("running_mean", "running_var")}  # written into in training, which no schema says
DRAWN = {  # at random, or whatever stood in memory: no operands say what comes out
    *("bernoulli", "rand", "randn", "rand_like", "randn_like", "randint", "multinomial", "normal", "uniform"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "exponential", "random", "randperm"),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """What an operation declares of itself."""

    name: str  # less its namespace
    base: str
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    written: tuple[str, ...]  # the parameters whose tensors it writes into
    writes: bool
    composite: bool  # of other operations: no kernel of its own
    drawn: bool  # what comes out is chance

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by the names of the parameters."""
        return {**self.defaults, **dict(zip(self.parameters, args, strict=False)), **kwargs}

    def targets(self, arguments: Mapping[str, Any]) -> list[Tensor]:
        """The tensors that a call writes into."""
        written = self.written
        if self.base in UNDECLARED and arguments["training"]:
            written = UNDECLARED[self.base]
        return [tensor for name in written for _, tensor in tensors_in(arguments[name])]


@functools.lru_cache(None)
def schema_of(operation: Any) -> Schema:
    """The schema of an operation, as torch's dispatcher hands it over; each is read once."""
    declared = declaration(operation)
    base = declared.name.removeprefix("aten::")
    writable = declared.arguments if declared.is_mutable and base not in TURNED_IN_PLACE else ()
    written = tuple(each.name for each in writable if each.alias_info and each.alias_info.is_write)
    return Schema(
        name=f"{base}.{declared.overload_name}" if declared.overload_name else base,
        base=base,
        parameters=tuple(argument.name for argument in declared.arguments),
        defaults={a.name: a.default_value for a in declared.arguments if a.has_default_value()},
        written=written,
        writes=bool(written) or base in UNDECLARED,
        composite=is_composite(operation),
        drawn=base.rstrip("_") in DRAWN,
    )

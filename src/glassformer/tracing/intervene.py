"""Running a recorded forward pass again with other numbers in some places, and what is read off a recording.

    patched = patch(trace, {"blocks.0.attn.scores": lambda scores: scores * 2, trace["blocks.1.x#1"][0, 3, 5]: 0.0})
    patched.changed()                    which tensors differ, and by how much
    patched.difference("logits")         after − before

The model stays as it is: results of operations are replaced on their way (`edits` of `recorder.py`), inputs and weights
in copies. A replaced tensor counts as a constant in the new trace, which is a trace like any other: to explain, to
check, to patch again. A tensor that shares its bytes with others, such as a transposed one, is replaced alone.
"""

import copy
import fnmatch
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer import twins
from glassformer.errors import GlassformerError, TraceError
from glassformer.torch_internals import declaration
from glassformer.tracing.nested import copied, tensors_in
from glassformer.tracing.recorder import record
from glassformer.tracing.replay import Edit, Replay
from glassformer.tracing.trace import Cell, Change, Operation, Patched, Recorded, Ref, Trace

EditTarget = Cell | Recorded | str
Writer = Callable[[Tensor], None]  # writes into a tensor of our own
LAYERS = ("blocks.*", "decoder.blocks.*", "encoder.blocks.*")  # of our models, before what makes the answer


def patch(trace: Trace, changes: Mapping[EditTarget, Change]) -> Patched:
    """Run the recorded module again with `changes` in place.

    A place is a cell, a recorded tensor or its path. What goes there is a number, a tensor that broadcasts to the
    place, or a function of what would be there without the change. Random draws are those of the recorded run.
    """
    replay = _replay_of(trace)
    functions: dict[int, list[Writer]] = {}
    for place, change in changes.items():
        tensor, function = _function(trace, place, change)
        functions.setdefault(tensor, []).append(function)
    inputs: dict[int, list[Writer]] = {}
    weights: dict[int, list[Writer]] = {}
    results: dict[int, dict[int, list[Writer]]] = {}  # by operation
    for tensor, its_functions in functions.items():
        operation = _maker(trace, tensor)
        if operation is not None:
            results.setdefault(operation.id, {})[tensor] = its_functions
        elif tensor in trace.parameters:
            weights[tensor] = its_functions
        elif tensor in trace.inputs:
            inputs[trace.inputs.index(tensor)] = its_functions
        else:
            raise TraceError(
                f"{trace.tensors[tensor].name} comes from outside of what was recorded, so it cannot be changed: "
                f"trace the whole model, or patch the tensor that is computed from it."
            )
    module = _with_weights(replay.module, trace, weights)
    after = _run(trace, replay, module, inputs, _edits(trace, results, replay.edits))
    _same_steps(trace, after, [trace.operations[number] for number in results])
    if not weights and not inputs:
        _same_before(trace, after, min(results, default=len(trace.operations)))
    return Patched(before=trace, after=after)


def activation_patching(
    clean: Trace, corrupted: Trace, paths: Sequence[str], metric: Callable[[Trace], float]
) -> dict[str, float]:
    """The metric of the corrupted run with one clean tensor put in, for each path: where it recovers, the path matters.

    Compare with `metric(clean)` and `metric(corrupted)`. Meng et al. 2022 (arXiv:2202.05262), there causal tracing.
    """
    return {path: float(metric(patch(corrupted, {path: clean[path].value}).after)) for path in paths}


def ablate_head(trace: Trace, layer_path: str, head: int, value: float | Literal["mean"] = 0.0) -> Patched:
    """Replace what a head of a layer gives to the others, before they are merged: by a number, or by its own mean.

    The mean is over the batch and the positions, for each feature. Michel et al. 2019 (arXiv:1905.10650).
    """
    outputs = [out for out in _all(trace, f"{layer_path}.out") if len(out.shape) == 4]
    if not outputs:
        raise TraceError(f'{layer_path} has no variable "out" with an axis for heads: give the path of an Attention.')
    out = outputs[0]
    if not 0 <= head < out.shape[1]:
        raise TraceError(f"{layer_path} has {out.shape[1]} heads, counted from 0, so there is no head {head}.")

    def without(out: Tensor) -> Tensor:
        out[:, head] = out[:, head].mean((0, 1)) if value == "mean" else value
        return out

    return patch(trace, {out: without})


def logit_lens(trace: Trace, *, layers: str | None = None, logits: str = "logits") -> Float[Tensor, "L ..."]:
    """What the model would answer if it ended after each layer: whatever follows the last one, run on its output.

    nostalgebraist 2020, "interpreting GPT: the logit lens". `layers` is a pattern in which a `*` stands for one part of
    a path; without one they are those of our models, an encoder-decoder's the decoder's. `logits` names the answer.

    Each layer but the last costs a run of the whole model that is recorded anew: n layers take n times the time of a
    trace, which grows with the square of n.
    """
    patterns = LAYERS if layers is None else (layers,)
    stacks = ([part.path for part in trace.modules if _fits(part.path, pattern)] for pattern in patterns)
    paths = next(filter(None, stacks), None)
    if paths is None:
        raise TraceError(f"The model has no modules {patterns[0]}: give the pattern of its layers, such as blocks.*")
    *earlier, last = (trace[f"{path}.output" if f"{path}.output" in trace else f"{path}.output.0"] for path in paths)
    answers = [patch(trace, {last: output.value}).after[logits].value for output in earlier]
    return torch.stack([*answers, trace[logits].value])


def attention_patterns(trace: Trace, name: str = "weights") -> dict[str, Tensor]:
    """The attention weights of each module that has a variable of this name with an axis for heads: its last one."""
    patterns_by_module = {}
    for path in trace.names:
        module, _, variable = path.rpartition(".")
        patterns = [pattern for pattern in _all(trace, path) if len(pattern.shape) == 4]
        if variable == name and patterns:
            patterns_by_module[module] = patterns[-1].value
    return patterns_by_module


# ---- what is to be changed


def _function(trace: Trace, place: EditTarget, change: Change) -> tuple[int, Writer]:
    """The tensor that a place is in, and what is done to it."""
    if not isinstance(place, str) and place.trace is not trace:
        raise TraceError(f"{place} is of another trace: pick the place from the trace that is patched.")
    if isinstance(place, Cell):
        return place.tensor, lambda tensor: _put(tensor[place.index], change, str(place))
    recorded = trace[place] if isinstance(place, str) else place

    def function(tensor: Tensor) -> None:
        _put(tensor.permute(recorded.order) if recorded.order else tensor, change, recorded.name)

    return recorded.id, function


EXACT = {float: torch.float64}  # which may be cast to any number with a fraction


def _put(window: Tensor, change: Change, name: str) -> None:
    """Write into a window of a tensor of our own."""
    value: Any = change(window.clone()) if callable(change) else change
    if not isinstance(value, Tensor | bool | int | float):
        raise TraceError(f"What is put into {name} must be a number or a tensor, and not {type(value).__name__}.")
    if not isinstance(value, Tensor):
        _check_range(value, window.dtype, name)
        number = float(value) if window.is_floating_point() else value  # a whole one may be longer than any of torch's
        value = torch.tensor(number, dtype=EXACT.get(type(number)))
    if not torch.can_cast(value.dtype, window.dtype):
        raise TraceError(f"{name} holds {window.dtype}, which {value.dtype} does not fit into.")
    try:
        window.copy_(value)
    except RuntimeError:
        shape, needed = tuple(value.shape), tuple(window.shape)
        raise TraceError(f"What is put into {name} has the shape {shape}, which does not fit {needed}.") from None


def _check_range(value: int | float, dtype: torch.dtype, name: str) -> None:
    """Raise for a finite number that is too large for the type."""
    if dtype.is_complex or dtype == torch.bool or (isinstance(value, float) and not math.isfinite(value)):
        return
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        number = f"{value:g}" if abs(value) < sys.float_info.max else "a number of hundreds of digits"
        raise TraceError(
            f"{name} holds {dtype}, from {limits.min:g} to {limits.max:g}, which {number} does not fit into."
        )


def _check_places(trace: Trace, tensor: int, numbers: Tensor) -> None:
    """Raise for a number that is to pick a row of a table, and picks none: torch counts −1 from the end."""
    for table, axis in _tables(trace, tensor):
        n = trace.tensors[table].shape[axis]
        outside = numbers[(numbers < 0) | (numbers >= n)]
        if outside.numel():
            name, rows = trace.tensors[tensor].name, trace.tensors[table].name
            raise TraceError(
                f"{name} picks one of {n} from {rows}, counted from 0: {outside[0].item()} is none of them."
            )


def _tables(trace: Trace, tensor: int) -> Iterator[tuple[int, int]]:
    """The tensors that this one's numbers pick from, each with the axis along which they do."""
    for operation in trace.operations:
        match operation.base, operation.arguments:
            case "embedding", {"indices": Ref(tensor=picking), "weight": Ref(tensor=table)} if picking == tensor:
                yield table, 0
            case "index_select", {"index": Ref(tensor=picking), "self": Ref(tensor=table), "dim": dim} if (
                picking == tensor
            ):
                yield table, dim
            case "index", {"indices": [*picking], "self": Ref(tensor=table)}:
                yield from ((table, axis) for axis, one in enumerate(picking) if one == Ref(tensor=tensor))


def _maker(trace: Trace, tensor: int) -> Operation | None:
    """The operation whose result is replaced: that which made the tensor, or wrote the bytes that it shows."""
    replaced = trace.tensors[tensor]
    number = replaced.made_by if replaced.made_by is not None else trace.storages[replaced.storage].written_by
    return None if number is None else trace.operations[number]


# ---- the second run


def _replay_of(trace: Trace) -> Replay:
    if trace.replay is None:
        raise TraceError("This trace cannot be run again, since it is from a file or its inputs could not be copied.")
    for tensor in trace.parameters:
        trace.value(tensor)  # raises for a weight that has changed since
    replay: Replay = trace.replay
    return replay


def _run(
    trace: Trace,
    replay: Replay,
    module: nn.Module,
    changed: Mapping[int, list[Writer]],
    edits: Mapping[int, Edit],
) -> Trace:
    inputs, keywords = copied((replay.inputs, replay.keywords))
    tensors = [tensor for _, tensor in tensors_in((inputs, keywords))]
    for number, functions in changed.items():
        for function in functions:
            function(tensors[number])
        if not tensors[number].is_floating_point():
            _check_places(trace, trace.inputs[number], tensors[number])
    with twins.use(replay.choice.mode, attention=replay.choice.attention), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(replay.random_state)
        try:
            return record(module, *inputs, edits=edits, **replay.settings, **keywords)
        except (IndexError, ValueError, RuntimeError) as error:
            if isinstance(error, GlassformerError):
                raise
            reason = str(error).partition("\n")[0].rstrip(".")
            raise TraceError(f"With these changes the model does not run: {reason}.") from error


def _with_weights(module: nn.Module, trace: Trace, changed: Mapping[int, list[Writer]]) -> nn.Module:
    """A copy of the module that shares its weights, but for those that are changed, and has its state for itself."""
    memo: dict[int, Any] = {id(weight): weight for weight in module.parameters()}
    for tensor, functions in changed.items():
        weight = trace.parameters[tensor]
        new = weight.detach().clone()
        for function in functions:
            function(new)
        memo[id(weight)] = nn.Parameter(new, requires_grad=False) if isinstance(weight, nn.Parameter) else new
    return copy.deepcopy(module, memo)


def _edits(
    trace: Trace, changed: Mapping[int, Mapping[int, list[Writer]]], earlier: Mapping[int, Edit]
) -> dict[int, Edit]:
    """Edits by the numbers of operations; those of a run that was patched itself come first."""
    edits = dict(earlier)
    for number, tensors in changed.items():
        operation = trace.operations[number]
        make = _edit_in_place if _writes_in_place(operation) else _edit
        edits[operation.number] = _after(edits.get(operation.number), make(trace, operation, tensors))
    return edits


def _after(first: Edit | None, second: Edit) -> Edit:
    return second if first is None else lambda output, tensor: second(output, first(output, tensor))


def _edit(trace: Trace, operation: Operation, tensors: Mapping[int, list[Writer]]) -> Edit:
    """Return a changed copy: the result may be a view of a weight."""

    def edit(output: int, tensor: Tensor) -> Tensor:
        number = operation.outputs[output]
        if number not in tensors:
            return tensor
        if tuple(tensor.shape) != trace.tensors[number].shape:
            raise _other_steps(trace, operation)
        own = _own(tensor)
        for function in tensors[number]:
            function(own)
        return own

    return edit


def _edit_in_place(trace: Trace, operation: Operation, tensors: Mapping[int, list[Writer]]) -> Edit:
    """Write into the result, which is the very tensor that the operation wrote into, or a window of it."""
    storages = [trace.tensors[number].storage for number in operation.outputs]

    def edit(output: int, tensor: Tensor) -> Tensor:
        for number, functions in tensors.items():
            target = trace.tensors[number]
            if storages.index(target.storage) == output:
                window = tensor.as_strided(target.shape, target.strides, target.offset)
                for function in functions:
                    function(window)
        return tensor

    return edit


def _writes_in_place(operation: Operation) -> bool:
    name, _, overload = operation.name.partition(".")
    namespace, _, name = name.rpartition("::")
    operator = getattr(getattr(getattr(torch.ops, namespace or "aten"), name), overload or "default")
    return bool(declaration(operator).is_mutable)


def _own(tensor: Tensor) -> Tensor:
    """A copy with the same strides, so that the same kernels run on it; a repeated axis becomes a real one."""
    if any(stride == 0 and n > 1 for stride, n in zip(tensor.stride(), tensor.shape, strict=True)):
        return tensor.clone(memory_format=torch.contiguous_format)
    window = torch.empty(0, dtype=tensor.dtype)
    storage = tensor.untyped_storage().clone()  # type: ignore[no-untyped-call]
    return window.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def _same_steps(before: Trace, after: Trace, changed: Sequence[Operation]) -> None:
    """The operations that were edited must be those that were meant: other numbers may lead a model another way."""
    numbers = {operation.number: operation for operation in after.operations}
    for operation in changed:
        counterpart = numbers.get(operation.number)
        if counterpart is None or (counterpart.name, counterpart.module) != (operation.name, operation.module):
            raise _other_steps(before, operation)


def _same_before(before: Trace, after: Trace, first: int) -> None:
    """What comes before the first change must be what it was: else the model does not repeat itself."""
    for a, b in zip(before.operations[:first], after.operations[:first], strict=False):
        for one, other in zip(a.outputs, b.outputs, strict=False):
            same = torch.equal(before.value(one).nan_to_num(), after.value(other).nan_to_num())
            if not same and before.tensors[one].kind == "computed":
                raise TraceError(
                    f"{before.tensors[one].name} is another in a second run with the same inputs: the model keeps a "
                    f"state or draws numbers that are not torch's, so it cannot be patched."
                )


def _other_steps(trace: Trace, operation: Operation) -> TraceError:
    name = trace.tensors[operation.outputs[0]].name
    return TraceError(f"With these changes the model takes other steps, so {name} is not what it was: patch less.")


# ---- by name


def _all(trace: Trace, path: str) -> list[Recorded]:
    return [Recorded(trace, tensor) for tensor in trace.names.get(path, [])]


def _fits(path: str, pattern: str) -> bool:
    return path.count(".") == pattern.count(".") and fnmatch.fnmatchcase(path, pattern)

"""Recording a forward pass from outside: nothing is added to the model, and nothing stays behind.

Between a module and torch's kernels stands torch's dispatcher, where every operation passes with its tensors, whoever
called it: a Python layer, the C++ of an LSTM, an operation in place. A mode put there for the time of one call sees
them all, while Python's stack still shows the line that asked. (A mode around torch's Python functions was measured
too, in `benchmarks/tracing.py`: it is cheaper, but sees neither what C++ calls nor how a product is made of views.)
"""

import fnmatch
import functools
import gc
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import TraceError
from glassformer.torch_internals import AT_ONCE, DispatchMode, is_compiled, storage_key, version
from glassformer.tracing import source_names
from glassformer.tracing.nested import tensors_in
from glassformer.tracing.replay import Call, Edit, replay_of
from glassformer.tracing.schema import TURNED_IN_PLACE, schema_of
from glassformer.tracing.storage_table import GIB, StorageTable
from glassformer.tracing.tensor_names import TensorNames, join
from glassformer.tracing.trace import ModuleRecord, Operation, Ref, TensorKind, Trace
from glassformer.tracing.visible_steps import steps_of, visible_steps

PLAIN = {type(None), bool, int, float, str}  # arguments that are kept as they are
ONE_AT_A_TIME = threading.RLock()  # hooks and torch's switches are seen by all threads


def record(
    module: nn.Module,
    *inputs: Any,
    call: Call = nn.Module.__call__,
    modules: str | Sequence[str] = "*",
    decompose: bool = False,
    max_bytes: int = 4 * GIB,
    edits: Mapping[int, Edit] | None = None,
    **keywords: Any,
) -> Trace:
    """The forward pass of `module` on these inputs, operation by operation.

    `call(module, *inputs, **keywords)` is recorded where it is more than the module's own forward.

    `modules` limits the recording to the modules whose path fits one of the patterns (`"blocks.3.*"`), and to what they
    call; the rest runs unseen. Kernels that no rule explains in one piece run as their visible steps, whose numbers may
    differ from the plain run's in the last bits: oneDNN's LSTM, the fast path of `nn.MultiheadAttention` and
    `nn.TransformerEncoder`, GLU and its kin, some losses. With `decompose`, so do those that have a rule: attention,
    norms, softmax, GELU, products with a bias. `edits` changes results on their way, by the number of the operation:
    see `intervene.py`.

    Raises `TraceError` for a compiled module, and where the recording grows beyond `max_bytes`.
    """
    patterns = [modules] if isinstance(modules, str) else list(modules)
    paths = {part: path for path, part in module.named_modules()}
    for part, path in paths.items():
        if is_compiled(part):
            raise TraceError(f"{path or 'The module'} is compiled, so its steps cannot be seen: trace it as written.")
    check_patterns(patterns, list(paths.values()))
    settings = {"call": call, "modules": modules, "decompose": decompose, "max_bytes": max_bytes}
    replay = replay_of(module, inputs, keywords, settings, edits or {})
    recorder = Recorder(module, paths, patterns, decompose=decompose, max_bytes=max_bytes, edits=edits or {})
    with ExitStack() as stack:
        stack.enter_context(ONE_AT_A_TIME)
        stack.enter_context(torch.no_grad())
        stack.enter_context(_nothing_collected())
        stack.enter_context(visible_steps(module, decompose=decompose))
        stack.enter_context(recorder.watching())
        recorder.run(call, inputs, keywords)
    recorder.names.settle()
    recorder.trace.replay = replay
    return recorder.trace


def check_patterns(patterns: Sequence[str], paths: Sequence[str]) -> None:
    """Raise for a pattern that fits no module: nothing would be recorded, or checked."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise TraceError(f"No module's path fits {pattern!r}; there are {', '.join(filter(None, paths[:6]))} ….")


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """All that is made here stays, so that looking for garbage in it would only take time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Recorder(DispatchMode):  # type: ignore[no-untyped-call]
    """A mode that writes into `trace`: weights first, then every operation of the modules that are watched."""

    def __init__(
        self,
        module: nn.Module,
        paths: Mapping[nn.Module, str],
        patterns: Sequence[str],
        *,
        decompose: bool,
        max_bytes: int,
        edits: Mapping[int, Edit],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.module, self.paths, self.patterns = module, paths, patterns
        self.decompose, self.edits = decompose, edits
        self.trace = Trace(modules=[ModuleRecord(path=path, cls=type(part).__name__) for part, path in paths.items()])
        self.storages = StorageTable(self.trace, max_bytes, lambda: self.running[-1][0] or "the model")
        self.names = TensorNames(self.trace, self.storages)
        self.n_operations = 0  # seen or not
        # Held until the next one, as what is seen is held for good: of a new tensor that somebody holds, torch's
        # factories such as arange return a detached one, which is an operation more, and all runs shall number alike.
        self._latest: Any = None
        self.running: list[tuple[str, bool]] = [("", patterns == ["*"])]  # paths of modules, and whether they are seen
        self._thread = threading.get_ident()
        for name, weight in module.named_parameters(remove_duplicate=False):
            self._note_weight(name, weight, "weight")
        for name, buffer in module.named_buffers(remove_duplicate=False):
            self._note_weight(name, buffer, "buffer")

    def _note_weight(self, name: str, weight: Tensor, kind: TensorKind) -> None:
        tensor = self.storages.tensor(weight.detach(), kind)
        self.names.add(name, tensor)
        if not weight.is_inference():  # such a tensor counts no versions
            self.trace.parameters[tensor] = weight
            self.trace.versions[tensor] = version(weight)

    # ---- modules: which one runs, what it is given and what it returns

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch this module, its parts and their operations. The whole is watched by `run`."""
        with ExitStack() as stack:
            for part, path in self.paths.items():
                if path:
                    stack.callback(part.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                    stack.callback(part.register_forward_hook(self._leave, always_call=True).remove)
            stack.enter_context(self)
            yield

    def run(self, call: Call, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """What is recorded: the whole, with the names of its inputs and of what it returns."""
        seen = self._sees("")
        self.running.append(("", seen))
        if seen:
            self.trace.inputs = [self.storages.tensor(tensor, "input") for _, tensor in tensors_in((inputs, keywords))]
            names, fixed = _names_of(call)
            self._name_inputs(names[1:] if fixed else _parameters(self.module), "", inputs, keywords)
        output = call(self.module, *inputs, **keywords)
        if seen:
            self._name_outputs("", output)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            path = self.paths[module]
            seen = self._sees(path)
            self.running.append((path, seen))
            if seen:
                self._name_inputs(_parameters(module), path, inputs, keywords)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        path, seen = self.running.pop()
        if not seen or output is None:  # it raised
            return
        tensors = self._name_outputs(path, output)
        caller, caller_seen = self.running[-1]
        if caller_seen:
            located = source_names.locate()
            if not located.inner and len(tensors) == len(located.names):
                for name, tensor in zip(located.names, tensors, strict=True):
                    if name is not None:
                        self.names.hold(join(caller, name), tensor)

    def _sees(self, path: str) -> bool:
        return self.running[-1][1] or any(fnmatch.fnmatchcase(path, pattern) for pattern in self.patterns)

    def _name_inputs(
        self, parameters: Sequence[str], path: str, inputs: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """Name what a module is given after the parameters of its forward; the last one may take all the rest."""
        by_place = [(parameters[min(i, len(parameters) - 1)], value) for i, value in enumerate(inputs) if parameters]
        for name, value in [*by_place, *keywords.items()]:
            for suffix, tensor in tensors_in(value):
                self.names.hold(join(path, name + suffix), self.storages.tensor(tensor, "input"))

    def _name_outputs(self, path: str, output: Any) -> list[int]:
        outputs = [(suffix, self.storages.tensor(tensor)) for suffix, tensor in tensors_in(output)]
        for suffix, tensor in outputs:
            self.names.hold(join(path, f"output{suffix}"), tensor)
        return [tensor for _, tensor in outputs]

    # ---- operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, or the steps that it is taken apart into, and write it down."""
        func = AT_ONCE.get(func, func)
        schema = schema_of(func)
        kwargs = kwargs or {}
        steps = steps_of(func, schema, self.decompose)
        if steps is not None:
            with self:
                output = steps(*args, **kwargs)
            if output is not NotImplemented:
                return output
        number, self.n_operations = self.n_operations, self.n_operations + 1
        path, seen = self.running[-1]
        by_name = schema.by_name(args, kwargs)
        targets = schema.targets(by_name) if schema.writes else []
        arguments = self._arguments(by_name) if seen else {}
        if targets:
            self.storages.keep_before_writing(targets)
        output = func(*args, **kwargs)
        if schema.base in TURNED_IN_PLACE:
            self.storages.forget_windows()
        if number in self.edits:
            output = _edited(output, self.edits[number])
        self._latest = output
        if not seen:
            self.storages.forget_content(targets)
            return output
        located = source_names.locate()
        operation = Operation(
            id=len(self.trace.operations),
            number=number,
            name=schema.name,
            arguments=arguments,
            outputs=(),
            module=path,
            source=located.source,
            writes=False,
        )
        self.trace.operations.append(operation)
        self.names.locate(located)
        kind: TensorKind = "constant" if number in self.edits or schema.drawn else "computed"
        self._note_outputs(operation, output, targets, kind)
        if not targets:
            self.names.results(operation, located)
        return output

    def _arguments(self, by_name: Mapping[str, Any]) -> dict[str, Any]:
        return {n: value if type(value) in PLAIN else self._argument(value) for n, value in by_name.items()}

    def _argument(self, value: Any) -> Any:
        """An argument as it is kept: tensors by number, what JSON has no word for by its name."""
        if isinstance(value, Tensor):
            return Ref(tensor=self.storages.tensor(value))
        if isinstance(value, list | tuple):
            return [part if type(part) in PLAIN else self._argument(part) for part in value]
        return value if isinstance(value, bool | int | float | str | complex) else str(value)

    def _note_outputs(self, operation: Operation, output: Any, targets: Sequence[Tensor], kind: TensorKind) -> None:
        """The results of an operation: what it returns, and what it wrote into without returning it."""
        results = [output] if isinstance(output, Tensor) else [tensor for _, tensor in tensors_in(output)]
        if targets:
            returned = {storage_key(tensor.untyped_storage()) for tensor in results}
            results += [target for target in targets if storage_key(target.untyped_storage()) not in returned]
        outputs = []
        for tensor in results:
            result, before = self.storages.result(tensor, kind, operation)
            outputs.append(result)
            if before is not None:
                self.names.overwrite(before, self.trace.tensors[result].storage)
        operation.outputs = tuple(outputs)


def _edited(output: Any, edit: Edit) -> Any:
    """What an edit makes of a result on its way."""
    if isinstance(output, Tensor):
        return edit(0, output)
    return type(output)([edit(i, part) if isinstance(part, Tensor) else part for i, part in enumerate(output)])


@functools.lru_cache(None)
def _of_forward(forward: Any) -> tuple[Sequence[str], bool]:
    return _names_of(forward)


def _parameters(module: nn.Module) -> Sequence[str]:
    """What a module's forward calls its arguments; where it takes whatever comes, the class behind it knows better."""
    signatures = [_of_forward(vars(base)["forward"]) for base in type(module).__mro__ if "forward" in vars(base)]
    names = next((names for names, fixed in signatures if fixed), signatures[0][0])
    return [name for name in names if name != "self"]


def _names_of(function: Any) -> tuple[Sequence[str], bool]:
    """The names of what a function takes, and whether there are some for all of it."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return [], False
    return list(parameters), not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())

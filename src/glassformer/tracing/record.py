"""Recording a forward pass from outside: nothing is added to the model, and nothing stays behind.

Between a module and torch's kernels stands torch's dispatcher, where every operation passes with its tensors, whoever
called it: a Python layer, the C++ of an LSTM, an operation in place. A mode put there for the time of one call sees
them all, while Python's stack still shows the line that asked. (A mode around torch's Python functions was measured
too, in `benchmarks/tracing.py`: it is cheaper, but sees neither what C++ calls nor how a product is made of views.)
"""

import copy
import dataclasses
import fnmatch
import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer import twins
from glassformer.errors import TraceError
from glassformer.tracing import names
from glassformer.tracing.rules import has_rule
from glassformer.tracing.trace import Kind, ModuleRecord, Operation, Ref, Storage, TensorRecord, Trace

GIB = 1 << 30
Edit = Callable[[int, Tensor], Tensor]  # which of the results, and the result
FUSED = (
    *("native_layer_norm", "_softmax", "_log_softmax", "_safe_softmax", "native_group_norm", "gelu", "silu"),
    *("glu", "mish", "hardswish", "hardsigmoid", "_prelu_kernel", "log_sigmoid_forward"),
    *("mse_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"),
)
ONE_AT_A_TIME = threading.RLock()  # hooks and torch's switches are seen by all threads
UNDECLARED = {"native_batch_norm": ("running_mean", "running_var")}  # written into in training, which no schema says
DRAWN = (
    "bernoulli",
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "randint",
    "multinomial",
    "normal",
    "uniform",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "exponential",
    "random",
    "randperm",
)


AT_ONCE = {  # torch only notes that these are to be done when the numbers are read, which a window does not show
    torch.ops.aten._conj.default: torch.ops.aten._conj_physical.default,
    torch.ops.aten._neg_view.default: torch.ops.aten.neg.default,
}
TURNED_IN_PLACE = {f"{name}_" for name in ("transpose", "t", "squeeze", "unsqueeze", "as_strided", "detach")}


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor got a name: from the operation that stands in an assignment, or from a module's call."""

    path: str
    tensor: int
    operation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How a recording came about, so that `intervene.py` can run it again."""

    module: nn.Module
    inputs: tuple[Any, ...]  # copies from before the run, which may have changed them: a cache grows
    keywords: dict[str, Any]
    settings: dict[str, Any]  # the other arguments of `record`
    edits: Mapping[int, Edit]
    choice: twins.Choice
    random_state: Tensor


def record(
    module: nn.Module,
    *inputs: Any,
    modules: str | Sequence[str] = "*",
    decompose: bool = False,
    max_bytes: int = 4 * GIB,
    edits: Mapping[int, Edit] | None = None,
    **keywords: Any,
) -> Trace:
    """The forward pass of `module` on these inputs, operation by operation.

    `modules` limits the recording to the modules whose path fits one of the patterns (`"blocks.3.*"`), and to what
    they call; the rest runs unseen. Kernels that no rule explains in one piece run as their visible steps, whose
    numbers may differ from the plain run's in the last bits: oneDNN's LSTM, the fast path of `nn.MultiheadAttention`
    and `nn.TransformerEncoder`, GLU and its kin, some losses. With `decompose`, so do those that have a rule:
    attention, norms, softmax, GELU. `edits` changes results on their way, by the number of the operation: see
    `intervene.py`.

    Raises `TraceError` for a compiled module, and where the recording grows beyond `max_bytes`.
    """
    patterns = [modules] if isinstance(modules, str) else list(modules)
    for path, part in module.named_modules():
        compiled = hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        if compiled or isinstance(part, torch.jit.ScriptModule):
            raise TraceError(f"{path or 'The module'} is compiled, so its steps cannot be seen: trace it as written.")
    check_patterns(patterns, [path for path, _ in module.named_modules()])
    settings = {"modules": modules, "decompose": decompose, "max_bytes": max_bytes}
    replay = _replay(module, inputs, keywords, settings, edits or {})
    recorder = Recorder(module, patterns, decompose, max_bytes, edits)
    with ExitStack() as stack:
        stack.enter_context(ONE_AT_A_TIME)
        stack.enter_context(torch.no_grad())
        stack.enter_context(_nothing_collected())
        stack.enter_context(recorder.hooks())
        stack.enter_context(_visible_steps(module))
        if decompose:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(recorder)
        output = module(*inputs, **keywords)
    return recorder.finish(output, replay)


def check_patterns(patterns: Sequence[str], paths: Sequence[str]) -> None:
    """Raise for a pattern that fits no module: nothing would be recorded, or checked."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise TraceError(f"No module's path fits {pattern!r}; there are {', '.join(filter(None, paths[:6]))} ….")


def _replay(
    module: nn.Module,
    inputs: tuple[Any, ...],
    keywords: dict[str, Any],
    settings: dict[str, Any],
    edits: Mapping[int, Edit],
) -> Replay | None:
    """None where the inputs cannot be copied, so that a second run would not begin as this one."""
    try:
        inputs, keywords = copied((inputs, keywords))
    except (TypeError, RuntimeError, copy.Error):
        return None
    return Replay(
        module=_before_the_run(module),
        inputs=inputs,
        keywords=keywords,
        settings=settings,
        edits=edits,
        choice=twins.current(),
        random_state=torch.get_rng_state(),
    )


def _before_the_run(module: nn.Module) -> nn.Module:
    """The module, or a copy that shares its weights where it has a state that the run may change."""
    stateless = all(
        not part._buffers and not any(isinstance(value, Tensor) for value in vars(part).values())
        for part in module.modules()
    )
    if stateless:
        return module
    return copy.deepcopy(module, {id(weight): weight for weight in module.parameters()})


def copied(inputs: Any) -> Any:
    """Inputs that no run shares with another one; what they share among themselves they share as before."""
    storages: dict[int, Any] = {}
    memo: dict[int, Any] = {}
    for _, tensor in tensors_in(inputs):
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = storage.clone()  # type: ignore[no-untyped-call]
        window = torch.empty(0, dtype=tensor.dtype)
        own = storages[storage._cdata]
        memo[id(tensor)] = window.set_(own, tensor.storage_offset(), tensor.shape, tensor.stride())
    return copy.deepcopy(inputs, memo)


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


@contextmanager
def _visible_steps(module: nn.Module) -> Iterator[None]:
    """Have torch itself take the written-out path where no rule explains its kernel: many layers are one operation."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    onednn = torch._C._get_mkldnn_enabled()

    def without_onednn(*_: Any) -> None:
        torch._C._set_mkldnn_enabled(False)

    def as_before(*_: Any) -> None:
        torch._C._set_mkldnn_enabled(onednn)

    torch.backends.mha.set_fastpath_enabled(False)
    recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    handles = [part.register_forward_pre_hook(without_onednn) for part in recurrent]
    handles += [part.register_forward_hook(as_before, always_call=True) for part in recurrent]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        torch.backends.mha.set_fastpath_enabled(fastpath)
        as_before()


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The mode. It keeps what it has seen alive, so that an address never stands for two storages."""

    def __init__(
        self,
        module: nn.Module,
        patterns: Sequence[str],
        decompose: bool,
        max_bytes: int,
        edits: Mapping[int, Edit] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.module, self.patterns, self.decompose, self.max_bytes = module, patterns, decompose, max_bytes
        self.edits = edits or {}
        self.count = 0  # of operations, seen or not
        self.nbytes = 0
        self.stack: list[tuple[str, bool]] = [
            ("", patterns == ["*"])
        ]  # paths of the modules that run, and whether seen
        self._current: dict[int, int] = {}  # address of a storage: its newest version
        self._kinds: dict[int, Kind] = {}  # of versions
        self._replaced: set[int] = set()  # versions whose storage has been written into
        self._windows: dict[tuple[Any, ...], int] = {}
        self._objects: dict[int, tuple[int, int, Tensor, int]] = {}  # one met before: record, version, itself, address
        self._alive: list[Any] = []
        self._thread = threading.get_ident()
        self._own: set[int] = set()  # versions whose bytes nobody else can write into
        self._named_in: dict[int, list[Named]] = {}  # what variables hold, by version
        self._located: list[names.Located] = []
        self._named: list[Named] = []  # in the order of time
        self._paths = self._note_weights()

    # ---- what is there before the first operation

    def _note_weights(self) -> dict[int, str]:
        for name, weight in self.module.named_parameters(remove_duplicate=False):
            self._note_weight(name, weight, "weight")
        for name, buffer in self.module.named_buffers(remove_duplicate=False):
            self._note_weight(name, buffer, "buffer")
        paths: dict[int, str] = {}
        for path, part in self.module.named_modules():
            paths[id(part)] = path
            self.trace.modules.append(ModuleRecord(path=path, cls=type(part).__name__))
        return paths

    def _note_weight(self, name: str, weight: Tensor, kind: Kind) -> None:
        tensor = self.tensor(weight.detach(), kind)
        self._named.append(Named(name, tensor))
        if not weight.is_inference():  # such a tensor counts no versions
            self.trace.parameters[tensor] = weight
            self.trace.versions[tensor] = weight._version

    def _name_inputs(self, module: nn.Module, path: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Name what a module is given after the parameters of its forward."""
        parameters = _parameters(module)
        given = (
            [(parameters[min(i, len(parameters) - 1)], value) for i, value in enumerate(inputs)] if parameters else []
        )
        for name, value in [*given, *keywords.items()]:
            for suffix, tensor in tensors_in(value):
                self._hold(Named(join(path, name + suffix), self.tensor(tensor, "input")))

    # ---- modules

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follow which module runs, and name what it is given and what it returns."""
        handles = []
        try:
            for part in self.module.modules():
                handles.append(part.register_forward_pre_hook(self._enter, with_kwargs=True))
                handles.append(part.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if threading.get_ident() != self._thread:
            return
        path = self._paths[id(module)]
        seen = self.stack[-1][1] or any(fnmatch.fnmatchcase(path, pattern) for pattern in self.patterns)
        self.stack.append((path, seen))
        if seen:
            if not path:
                self.trace.inputs = [self.tensor(tensor, "input") for _, tensor in tensors_in((inputs, keywords))]
            self._name_inputs(module, path, inputs, keywords)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        path, seen = self.stack.pop()
        if not seen or output is None:  # it raised
            return
        found = [(suffix, self.tensor(tensor)) for suffix, tensor in tensors_in(output)]
        for suffix, tensor in found:
            self._hold(Named(join(path, f"output{suffix}"), tensor))
        if path and self.stack[-1][1]:
            located = names.locate()
            if not located.inner and len(found) == len(located.names):
                caller = self.stack[-1][0]
                for name, (_, tensor) in zip(located.names, found, strict=True):
                    if name is not None:
                        self._hold(Named(join(caller, name), tensor))

    def _hold(self, named: Named) -> None:
        self._named.append(named)
        self._named_in.setdefault(self.trace.tensors[named.tensor].storage, []).append(named)

    # ---- operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = AT_ONCE.get(func, func)
        schema = _schema(func)
        kwargs = kwargs or {}
        if schema.composed or (schema.base in FUSED and (self.decompose or not has_rule(schema.base))):
            with self:
                output = _steps(func, schema)(*args, **kwargs)
            if output is not NotImplemented:
                return output
        number, self.count = self.count, self.count + 1
        path, seen = self.stack[-1]
        given = schema.by_name(args, kwargs)
        written = schema.written
        if schema.base in UNDECLARED and given["training"]:
            written = UNDECLARED[schema.base]
        targets = [tensor for name in written for _, tensor in tensors_in(given[name])]
        arguments = {name: self.argument(value) for name, value in given.items()} if seen else {}
        self._keep_before_writing(targets)
        output = func(*args, **kwargs)
        if schema.base in TURNED_IN_PLACE:
            self._objects.clear()
        if self.edits:
            output = self._edited(number, output)
        if not seen:
            for tensor in targets:  # nobody knows where its new content comes from
                self._current.pop(_address(tensor), None)
            return output
        located = names.locate()
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
        self._located.append(located)
        self._note_outputs(operation, output, targets, number in self.edits)
        return output

    def _edited(self, number: int, output: Any) -> Any:
        """What an edit makes of a result on its way."""
        edit = self.edits.get(number)
        if edit is None:
            return output
        if isinstance(output, Tensor):
            return edit(0, output)
        return type(output)([edit(i, part) if isinstance(part, Tensor) else part for i, part in enumerate(output)])

    def _keep_before_writing(self, targets: Sequence[Tensor]) -> None:
        """Before an operation in place: what was recorded of the storage becomes a copy, of the content so far."""
        for tensor in targets:
            version = self._current.get(_address(tensor))
            if version is not None and version not in self._replaced:
                self._replaced.add(version)
                if version not in self._own:
                    self._take(self.trace.storages[version])
                for weight in [w for w in self.trace.parameters if self.trace.tensors[w].storage == version]:
                    del self.trace.parameters[weight], self.trace.versions[weight]  # the bytes are ours now

    def _take(self, storage: Storage) -> None:
        """Have bytes of our own; the live ones stay in memory, so that their address keeps its meaning."""
        self._grow(storage.nbytes)
        self._alive.append(storage.bytes)
        with no_dispatch():  # our own copying is no part of the run
            storage.bytes = storage.bytes.clone()  # type: ignore[no-untyped-call]
        self._own.add(storage.id)

    def _note_outputs(self, operation: Operation, output: Any, targets: Sequence[Tensor], edited: bool) -> None:
        returned = [output] if isinstance(output, Tensor) else [tensor for _, tensor in tensors_in(output)]
        if targets:
            addresses = {_address(tensor) for tensor in returned}
            returned += [target for target in targets if _address(target) not in addresses]
        outputs = []
        for tensor in returned:
            storage = tensor.untyped_storage()
            version = self._current.get(storage._cdata)
            if version is None or version in self._replaced:
                kind: Kind = "constant" if edited or operation.base in DRAWN else "computed"
                before, version = version, self._new_version(tensor, storage, kind, operation.id, version)
                operation.writes = True
                outputs.append(self._window(tensor, version, operation.id))
                if before is not None:
                    self._rename(before, version)
            else:
                outputs.append(self._window(tensor, version, operation.id))
        operation.outputs = tuple(outputs)
        if targets:
            return
        located = self._located[operation.id]
        known = located.names if len(located.names) == len(outputs) else located.names[:1]
        for name, tensor_id in zip(known, outputs, strict=False):
            if name is not None:
                named = Named(join(operation.module, name), tensor_id, operation.id)
                self._named.append(named)
                if not located.inner:
                    self._named_in.setdefault(self.trace.tensors[tensor_id].storage, []).append(named)

    def _rename(self, old: int, new: int) -> None:
        """Variables that held a tensor hold what an operation in place has made of it."""
        for named in self._named_in.pop(old, []):
            shown = self.trace.tensors[named.tensor]
            window = (new, shown.dtype, shown.offset, shown.shape, shown.strides)
            tensor = self._windows.get(window)
            if tensor is None:
                tensor = self._windows[window] = len(self.trace.tensors)
                self.trace.tensors.append(
                    dataclasses.replace(shown, id=tensor, storage=new, kind=self._kinds[new], made_by=None)
                )
            renamed = Named(named.path, tensor)
            self._named.append(renamed)
            self._named_in.setdefault(new, []).append(renamed)

    # ---- records

    def argument(self, value: Any) -> Any:
        """An argument as it is kept: tensors by number, what JSON has no word for by its name."""
        if isinstance(value, Tensor):
            return Ref(tensor=self.tensor(value))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [self.argument(part) for part in value]
        return value if isinstance(value, complex) else str(value)

    def tensor(self, tensor: Tensor, kind: Kind = "constant") -> int:
        """The number of a tensor's record; `kind` is for a storage that was not seen before."""
        met = self._objects.get(id(tensor))
        if met is not None and met[1] not in self._replaced and met[3] == tensor.data_ptr():
            return met[0]
        storage = tensor.untyped_storage() if tensor.layout == torch.strided else None
        version = None if storage is None else self._current.get(storage._cdata)
        if version is None:
            version = self._new_version(tensor, storage, kind, None, None)
        return self._window(tensor, version)

    def _window(self, tensor: Tensor, version: int, made_by: int | None = None) -> int:
        """The record of a tensor that shows this version of its storage."""
        shape, strides, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
        window = (version, tensor.dtype, offset, shape, strides)
        known = self._windows.get(window)
        if known is None:
            known = len(self.trace.tensors)
            self.trace.tensors.append(
                TensorRecord(
                    id=known,
                    storage=version,
                    dtype=tensor.dtype,
                    shape=tuple(shape),
                    strides=strides,
                    offset=offset,  # type: ignore[arg-type]
                    kind=self._kinds[version],
                    made_by=made_by,
                )
            )
            self._windows[window] = known
        self._objects[id(tensor)] = known, version, tensor, tensor.data_ptr()
        return known

    def _new_version(
        self, tensor: Tensor, storage: Any, kind: Kind, written_by: int | None, previous: int | None
    ) -> int:
        """Take note of a storage, or of what an operation in place has made of it."""
        if storage is None or type(tensor) not in (Tensor, nn.Parameter) or tensor.is_conj() or tensor.is_neg():
            raise TraceError(f"A tensor of type {type(tensor).__name__} and layout {tensor.layout} cannot be recorded.")
        if tensor.device.type != "cpu":
            raise TraceError(
                f"The model runs on {tensor.device}; recording needs it on the CPU.", python="Call module.cpu() first."
            )
        if written_by is not None and previous is None:
            self._grow(storage.nbytes())
        record = Storage(id=len(self.trace.storages), bytes=storage, written_by=written_by, previous=previous)
        self.trace.storages.append(record)
        self._kinds[record.id] = kind
        self._current[storage._cdata] = record.id
        if kind in ("input", "constant") and written_by is None:
            self._take(record)
        return record.id

    def _grow(self, nbytes: int) -> None:
        self.nbytes += nbytes
        if self.nbytes > self.max_bytes:
            raise TraceError(
                f"The recording has grown beyond {self.max_bytes / GIB:.1f} GiB in {self.stack[-1][0] or 'the model'}. "
                "Record some modules only, or a shorter input.",
                python='That is modules="blocks.0.*"; max_bytes sets the limit.',
            )

    # ---- the end

    def finish(self, output: Any, replay: Any) -> Trace:
        """Settle the names: the last tensor of a name has it plain, the k-th as name#k; the others get derived ones."""
        trace = self.trace
        trace.replay = replay
        tensors = trace.tensors
        inner = [self._is_inner(number) for number in range(len(trace.operations))]
        for named in self._named:
            path, derived = named.path, named.operation is not None and inner[named.operation]
            if derived:
                path = f"{path}.{_word(trace.operations[named.operation or 0].base)}"
            ids = trace.names.setdefault(path, [])
            if named.tensor not in ids[-1:]:
                ids.append(named.tensor)
            record = tensors[named.tensor]
            if not record.name or (record.derived and not derived):
                record.name, record.derived = f"{path}#{len(ids)}", derived
        for record in tensors:
            if not record.name:
                operation = None if record.made_by is None else trace.operations[record.made_by]
                path = "constant" if operation is None else join(operation.module, _word(operation.base))
                ids = trace.names.setdefault(path, [])
                ids.append(record.id)
                record.name, record.derived = f"{path}#{len(ids)}", True
        for path, ids in trace.names.items():  # the last one of a name has it plain
            last = tensors[ids[-1]]
            if last.name == f"{path}#{len(ids)}":
                last.name = path
            axes = names.axes(path, len(last.shape))
            for tensor in ids if axes else ():
                if not tensors[tensor].derived and len(tensors[tensor].shape) == len(axes):
                    tensors[tensor].axes = axes
        return trace

    def _is_inner(self, number: int) -> bool:
        """Whether an operation is a part of its expression, as a later one in it shows by working on its result."""
        located, operation = self._located[number], self.trace.operations[number]
        if located.inner:
            return True
        for later in range(number + 1, len(self._located)):
            if self._located[later].key != located.key:
                return False
            following = self.trace.operations[later]
            if operation.base != following.base and any(
                ref.tensor in operation.outputs for ref in refs(following.arguments)
            ):
                return True
        return False


def refs(value: Any) -> Iterator[Ref]:
    """The tensors among arguments."""
    match value:
        case Ref():
            yield value
        case list() | tuple():
            for part in value:
                yield from refs(part)
        case Mapping():
            yield from refs(list(value.values()))


def tensors_in(value: Any, suffix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a module takes or returns, each with where it is: ".0", ".logits"."""
    if isinstance(value, Tensor):
        yield suffix, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors_in(part, f"{suffix}.{key}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from tensors_in(part, f"{suffix}.{i}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from tensors_in(getattr(value, part.name), f"{suffix}.{part.name}")


def join(path: str, name: str) -> str:
    """A dotted path; the model itself has the empty one."""
    return f"{path}.{name}" if path else name


def _word(base: str) -> str:
    """An operation's name for people: where a product of many axes gets its shape, it is the product."""
    return "matmul" if base == "_unsafe_view" else base.strip("_")


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


@dataclass(frozen=True, slots=True)
class Schema:
    """What an operation declares of itself."""

    name: str  # less its namespace
    base: str
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    written: tuple[str, ...]  # the parameters whose tensors it writes into
    composed: bool  # of other operations: no kernel of its own

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by the names of the parameters."""
        return {**self.defaults, **dict(zip(self.parameters, args, strict=False)), **kwargs}


@functools.lru_cache(None)
def _schema(func: Any) -> Schema:
    declared = func._schema
    base = declared.name.removeprefix("aten::")
    writes = declared.is_mutable and base not in TURNED_IN_PLACE
    return Schema(
        name=base if func._overloadname == "default" else f"{base}.{func._overloadname}",
        base=base,
        parameters=tuple(argument.name for argument in declared.arguments),
        defaults={a.name: a.default_value for a in declared.arguments if a.has_default_value()},
        written=tuple(a.name for a in declared.arguments if writes and a.alias_info and a.alias_info.is_write),
        composed=torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
    )


def _steps(func: Any, schema: Schema) -> Callable[..., Any]:
    """What runs instead of an operation that is a composition, or that is to be taken apart."""
    from torch._decomp import decomposition_table

    steps: Callable[..., Any] = func.decompose if schema.composed else decomposition_table[func]
    return steps


def _parameters(module: nn.Module) -> Sequence[str]:
    """What a module's forward calls its arguments; where it takes whatever comes, the class behind it knows better."""
    found = [_signature(vars(base)["forward"]) for base in type(module).__mro__ if "forward" in vars(base)]
    return next((names for names, fixed in found if fixed), found[0][0])


@functools.lru_cache(None)
def _signature(forward: Any) -> tuple[Sequence[str], bool]:
    """The names of what a function takes, and whether there are some for all of it."""
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return [], False
    fixed = not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    return [name for name in parameters if name != "self"], fixed

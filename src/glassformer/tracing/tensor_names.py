"""What recorded tensors are called: after variables, after a module's inputs and outputs; the others by derivation."""

from dataclasses import dataclass

from glassformer.tracing.axes import axes_of
from glassformer.tracing.source_names import Located
from glassformer.tracing.storage_table import StorageTable
from glassformer.tracing.trace import Operation, Trace, refs


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor got a name: from the operation that stands in an assignment, or from a module's call."""

    path: str
    tensor: int
    operation: int | None = None


class TensorNames:
    """The names of a trace's tensors in the order of time, which `settle` writes into their records."""

    def __init__(self, trace: Trace, storages: StorageTable) -> None:
        self.trace, self.storages = trace, storages
        self._named: list[Named] = []
        self._held: dict[int, list[Named]] = {}  # what variables hold, by version of a storage
        self._located: list[Located] = []  # by operation

    def add(self, path: str, tensor: int) -> None:
        """A name for good, such as a weight's."""
        self._named.append(Named(path, tensor))

    def hold(self, path: str, tensor: int) -> None:
        """A variable's name: where an operation in place writes into the tensor, the variable holds the new content."""
        self._hold(Named(path, tensor))

    def _hold(self, named: Named) -> None:
        self._named.append(named)
        self._held.setdefault(self.trace.tensors[named.tensor].storage, []).append(named)

    def locate(self, located: Located) -> None:
        """Where the next operation stands in the source."""
        self._located.append(located)

    def results(self, operation: Operation, located: Located) -> None:
        """The names that the source gives to the results of an operation."""
        outputs = operation.outputs
        names = located.names if len(located.names) == len(outputs) else located.names[:1]
        for name, tensor in zip(names, outputs, strict=False):
            if name is not None:
                named = Named(join(operation.module, name), tensor, operation.id)
                if located.inner:
                    self._named.append(named)
                else:
                    self._hold(named)

    def overwrite(self, before: int, version: int) -> None:
        """Variables that held a version of a storage hold what an operation in place has made of it."""
        for named in self._held.pop(before, []):
            self._hold(Named(named.path, self.storages.same_window(named.tensor, version)))

    def settle(self) -> None:
        """The last tensor of a name has it plain, the k-th as name#k; what no variable holds gets a derived name."""
        trace, tensors = self.trace, self.trace.tensors
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
            axes = axes_of(path, len(last.shape))
            for tensor in ids if axes else ():
                if not tensors[tensor].derived and len(tensors[tensor].shape) == len(axes):
                    tensors[tensor].axes = axes

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


def join(path: str, name: str) -> str:
    """A dotted path; the model itself has the empty one."""
    return f"{path}.{name}" if path else name


def _word(base: str) -> str:
    """An operation's name for people: where a product of many axes gets its shape, it is the product."""
    return "matmul" if base == "_unsafe_view" else base.strip("_")

"""From a trace to what is shown of it: for every storage one item, with a role and the windows that show its cells.

An item's *role* is the stable word that chapters use. It is given by the names that its tensors have; a foreign
variable's role is its own name. What only leads to the next named number (a product before its bias is added, an
earlier version of a variable) is a *step* of that number's item.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise

from glassformer.tracing import costs
from glassformer.tracing.trace import TensorRecord, Trace, refs
from glassformer.viewer.roles import LAYER, readings_of, role_of
from glassformer.viewer.windows import MAX_SLICES, CellWindow, covers, flat, windows

MANY = 64  # times that all tensors together show a storage, where it is looked at which of them show what
MAX_SOURCES = 256  # of a step that no page shows by itself
MAX_STEPS = 12  # of one item; where more lead to it, each stands for itself
EVERY_VERSION = ("x", "q", "k", "v", "out")  # variables of which each version says something of its own


@dataclass(slots=True, eq=False)
class Item:
    """A storage as it is shown."""

    storage: int
    tensor: TensorRecord
    name: str
    role: str
    module: str
    order: int
    windows: list[CellWindow]
    step_of: "Item | None" = None
    sources: list["Item"] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What the tensor is: a weight, an input, computed."""
        return self.tensor.kind

    @property
    def layer(self) -> int | None:
        """The number of the layer that it belongs to, if any."""
        match = LAYER.match(self.name)
        return int(match[1]) if match else None


def make_foreign(model_items: Sequence[Item]) -> None:
    """Where the whole is no model of ours, a name that happens to be one of our roles is not to be taken for it."""
    for item in model_items:
        item.role = _own_role(item.name)


def _own_role(name: str) -> str:
    """A variable's own name, with an underscore where chapters mean something else by it."""
    own = name.partition("#")[0].rpartition(".")[2]
    return own if role_of(own).label is None else f"{own}_"


def items(trace: Trace) -> list[Item]:
    """Everything that is to be shown, in the order in which it came to be."""
    return Reader(trace).items()


def _affordable(cell_windows: Sequence[CellWindow], record: TensorRecord, nbytes: int) -> bool:
    """Whether as much is drawn as is stored, or not much more: a tensor may repeat its storage without end."""
    n_elements = nbytes // record.dtype.itemsize
    area = max((math.prod(window.size) for window in cell_windows), default=0)
    return area <= max(costs.SHOWN, n_elements) and len(cell_windows) <= max(MAX_SLICES, n_elements)


def _all_shown(
    cell_windows: Sequence[CellWindow], record: TensorRecord, records: Sequence[TensorRecord], nbytes: int
) -> bool:
    """Whether all that other tensors show of the storage can be seen; not asked of those that show it many times."""
    if sum(other.n_different * other.dtype.itemsize for other in records) > MANY * (nbytes + costs.FREE):
        return False
    return covers(cell_windows, record.dtype.itemsize, records)


def _nearest(source: Item, tied: Sequence[Item], reader: Item) -> Item:
    """Of a weight that is shown several times the one in the reader's module."""
    same = [item for item in (source, *tied) if item.storage == source.storage]
    return next((item for item in same if item.module == reader.module), source)


def _tell_versions_apart(main_items: Sequence[Item]) -> None:
    """Queries and keys as computed, normalised, rotated; keys and values repeated for all heads; heads joined to one.

    And norms of what a sublayer reads, and of what it has computed, which is added to the stream.
    """
    sublayers: set[str] = set()
    first: dict[tuple[str, str], Item] = {}
    for item in main_items:
        if item.role in ("q", "k", "v"):
            before = first.setdefault((item.name.rpartition(".")[0], item.role), item)
            if item.module.endswith("_norm"):
                item.role += "_normed"
            elif item is not before:
                same_heads = item.tensor.shape[-3:-2] == before.tensor.shape[-3:-2]
                item.role += "_rotated" if same_heads else "_shared"
        elif item.role == "out" and len(item.tensor.shape) == 3:
            item.role = "heads"
        elif item.role in ("attn_out", "mlp_out"):
            sublayers.add(item.name)
        elif item.role == "attn_scaled" and f"{item.name.rpartition('.')[0]}.mlp.output" in sublayers:
            item.role = "mlp_scaled"
        elif item.role == "norm" and item.name.replace("_norm.", ".") in sublayers:
            item.role = "norm_out"


class Reader:
    """A trace, asked who reads what and what it is called."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._next_versions: dict[str, dict[int, int]] = {}

    def items(self) -> list[Item]:
        """All items of the trace, in the order in which they came to be."""
        items_by_storage = {
            storage: self._item(storage, records)
            for storage, records in self._tensors_of.items()
            if any(record.n_cells for record in records)
        }
        main = {storage: item for storage, item in items_by_storage.items() if not self._is_step(item)}
        targets = self._targets(items_by_storage, main)
        n_steps = Counter(target for target in targets.values() if target)
        for storage, item in items_by_storage.items():
            target = targets.get(storage)
            if target is None or n_steps[target] > MAX_STEPS:  # it leads nowhere, or is no step but a whole computation
                main[storage] = item
            else:
                item.step_of = target
        tied = list(self._tied(main))
        self._find_sources(items_by_storage, main, tied)
        all_items = sorted([*items_by_storage.values(), *tied], key=lambda item: item.order)
        _tell_versions_apart([item for item in all_items if item.step_of is None])
        for item in all_items:
            if item.role == "allowed" and item.tensor.n_cells > 1 and self._all_true(item.tensor):
                item.role = "allowed_all"
        return all_items

    def _all_true(self, record: TensorRecord) -> bool:
        once = tuple(slice(None) if stride else slice(1) for stride in record.strides)
        return bool(self.trace.array(record.id)[once].all())

    def _targets(self, items_by_storage: dict[int, Item], main: dict[int, Item]) -> dict[int, Item | None]:
        """For each step the first item that is computed from it, however many steps later."""
        targets: dict[int, Item | None] = {}
        for storage in sorted(
            items_by_storage.keys() - main.keys(), key=lambda storage: items_by_storage[storage].order, reverse=True
        ):
            readers = self._readers.get(storage, [])
            targets[storage] = next(filter(None, (main.get(reader) or targets.get(reader) for reader in readers)), None)
        return targets

    def _find_sources(self, items_by_storage: dict[int, Item], main: dict[int, Item], tied: Sequence[Item]) -> None:
        """Which items each is computed from, seen through steps."""
        through: dict[int, list[Item]] = {}
        for storage in sorted(items_by_storage, key=lambda storage: items_by_storage[storage].order):
            sources: dict[Item, None] = {}
            for read in self._reads.get(storage, []):
                sources.update(dict.fromkeys([main[read]] if read in main else through.get(read, [])))
            through[storage] = list(sources) if storage in main else list(sources)[:MAX_SOURCES]
        for storage, item in main.items():
            item.sources = [_nearest(source, tied, item) for source in through[storage] if source is not item]

    def _tied(self, main: dict[int, Item]) -> Iterator[Item]:
        """A weight that several modules have is shown in each of them."""
        for item in main.values():
            if item.kind == "weight":
                for path in self._paths_of.get(item.tensor.id, []):
                    module, _, word = path.rpartition(".")
                    if module in self._modules and module != item.module:
                        role = next((role for rank, role, _ in readings_of(path) if rank > 0), word)
                        yield replace(item, name=path, role=role, module=module, sources=[])

    # ---- one storage

    def _item(self, storage: int, records: Sequence[TensorRecord]) -> Item:
        role, name, record = self._role(storage, records)
        nbytes = self.trace.storages[storage].nbytes
        widest = max(records, key=lambda other: other.n_cells * (0 not in other.strides))
        for tensor in (record, widest):
            cell_windows = windows(tensor)
            if _affordable(cell_windows, tensor, nbytes) and _all_shown(cell_windows, tensor, records, nbytes):
                break
        else:
            cell_windows = list(flat(tensor, nbytes))
        written_by = self.trace.storages[storage].written_by
        return Item(
            storage=storage,
            tensor=tensor,
            name=name,
            role=role,
            module=self._module(storage, name),
            order=-1 if written_by is None else written_by,
            windows=cell_windows,
        )

    def _role(self, storage: int, records: Sequence[TensorRecord]) -> tuple[str, str, TensorRecord]:
        """The role, the name that gives it, and the tensor of that name."""
        written_by = self.trace.storages[storage].written_by
        module = "" if written_by is None else self.trace.operations[written_by].module
        names = [(path, record) for record in records for path in self._paths_of.get(record.id, [])]
        best: tuple[int, str, str, TensorRecord] | None = None  # the row that comes first, and of its names the last
        for path, record in names:
            plain, _, version = path.partition("#")
            passed = plain.endswith(".output") and not module.startswith(plain.removesuffix(".output"))
            if passed or record.derived:
                continue
            for rank, role, given in readings_of(plain):
                own = rank > 0 or path.rpartition(".")[0] == module
                if own and not (given and version == "1") and (best is None or rank <= best[0]):
                    best = rank, role, path, record
        if best is not None:
            return best[1:]
        by_variable = [record for record in records if not record.derived]
        record = max(by_variable or records, key=lambda record: (record.n_cells, record.id))
        return _own_role(record.name), record.name, record

    def _module(self, storage: int, name: str) -> str:
        written_by = self.trace.storages[storage].written_by
        if written_by is not None:
            return self.trace.operations[written_by].module
        path = name.rpartition(".")[0]
        while path and path not in self._modules:
            path = path.rpartition(".")[0]
        return path

    # ---- steps

    def _is_step(self, item: Item) -> bool:
        if item.kind not in ("computed", "constant"):
            return False
        if item.tensor.derived:
            return True
        path, _, number = item.name.partition("#")
        if not number or item.role in EVERY_VERSION or item.role == "logits":
            return False
        next_version = self._next_version(path).get(item.storage)
        return next_version is not None and self._read_by_name[item.storage] <= {next_version}

    def _next_version(self, path: str) -> dict[int, int]:
        """For each storage that had a name, the one that had it next."""
        if path not in self._next_versions:
            versions = list(dict.fromkeys(self.trace.tensors[i].storage for i in self.trace.names[path]))
            self._next_versions[path] = dict(pairwise(versions))
        return self._next_versions[path]

    @cached_property
    def _read_by_name(self) -> dict[int, set[int]]:
        """What is computed from each storage, directly or by way of what has no name: two of them stand for all."""
        readers_by_storage: dict[int, set[int]] = {}
        for storage in sorted(self._tensors_of, key=self._written, reverse=True):  # readers come later
            readers: set[int] = set()
            for reader in self._readers.get(storage, []):
                readers |= readers_by_storage.get(reader, set()) if reader in self._derived else {reader}
            readers_by_storage[storage] = set(islice(sorted(readers), 2))
        return readers_by_storage

    def _written(self, storage: int) -> int:
        written_by = self.trace.storages[storage].written_by
        return -1 if written_by is None else written_by

    @cached_property
    def _derived(self) -> set[int]:
        """The storages that no variable of the source holds."""
        return {storage for storage, records in self._tensors_of.items() if all(record.derived for record in records)}

    # ---- what the records say

    @cached_property
    def _tensors_of(self) -> dict[int, list[TensorRecord]]:
        tensors: dict[int, list[TensorRecord]] = {}
        for record in self.trace.tensors:
            tensors.setdefault(record.storage, []).append(record)
        return tensors

    @cached_property
    def _paths_of(self) -> dict[int, list[str]]:
        """Every name that a tensor has, as `trace[...]` takes it."""
        paths: dict[int, list[str]] = {}
        for path, ids in self.trace.names.items():
            for number, tensor in enumerate(ids, 1):
                paths.setdefault(tensor, []).append(path if number == len(ids) else f"{path}#{number}")
        return paths

    @cached_property
    def _modules(self) -> set[str]:
        return {module.path for module in self.trace.modules}

    @cached_property
    def _reads(self) -> dict[int, list[int]]:
        """The storages that an operation read to write one."""
        reads: dict[int, list[int]] = {}
        tensors = self.trace.tensors
        for operation in self.trace.operations:
            if operation.writes:
                read = dict.fromkeys(tensors[ref.tensor].storage for ref in refs(operation.arguments))
                for output in operation.outputs:
                    storage = self.trace.storages[tensors[output].storage]
                    if storage.written_by == operation.id:
                        before = [] if storage.previous is None else [storage.previous]
                        sources = reads.setdefault(storage.id, [])
                        sources += [s for s in (*read, *before) if s != storage.id and s not in sources]
        return reads

    @cached_property
    def _readers(self) -> dict[int, list[int]]:
        readers: dict[int, list[int]] = {}
        for written, read in self._reads.items():
            for storage in read:
                readers.setdefault(storage, []).append(written)
        return readers

"""Which recorded tensors share memory: storages, their versions, and the windows into them that tensors are."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import TraceError
from glassformer.torch_internals import storage_key, undispatched
from glassformer.tracing.trace import Operation, Storage, TensorKind, TensorRecord, Trace

GIB = 1 << 30
StorageWindow = tuple[
    int, torch.dtype, Any, tuple[int, ...], tuple[int, ...]
]  # a version, dtype, offset, shape, strides


class StorageTable:
    """The storages and tensors of a trace as they come up, each once.

    An operation in place makes a new version of a storage; what was recorded of the one before becomes a copy. Whatever
    was seen stays alive, so that neither an address nor an id ever stands for two things.
    """

    def __init__(self, trace: Trace, max_bytes: int, place: Callable[[], str]) -> None:
        """`place` says in which module the recording is, should it grow beyond `max_bytes`."""
        self.trace, self.max_bytes, self.place = trace, max_bytes, place
        self.nbytes = 0
        self._newest: dict[int, int] = {}  # by a storage's key: its newest version
        self._kinds: dict[int, TensorKind] = {}  # of versions
        self._overwritten: set[int] = set()  # versions that an operation in place has replaced
        self._owned: set[int] = set()  # versions whose bytes nobody else can write into
        self._windows: dict[StorageWindow, int] = {}
        self._met: dict[int, tuple[int, int, Tensor, int]] = {}  # by id of a tensor: record, version, itself, address
        self._alive: list[torch.UntypedStorage] = []

    def tensor(self, tensor: Tensor, kind: TensorKind = "constant") -> int:
        """The number of a tensor's record; `kind` is for a storage that was not seen before."""
        met = self._met.get(id(tensor))
        if met is not None and met[1] not in self._overwritten and met[3] == tensor.data_ptr():
            return met[0]
        storage = tensor.untyped_storage() if tensor.layout == torch.strided else None
        version = None if storage is None else self._newest.get(storage_key(storage))
        if version is None:
            version = self._new_version(tensor, storage, kind, None, None)
        return self._window(tensor, version)

    def result(self, tensor: Tensor, kind: TensorKind, operation: Operation) -> tuple[int, int | None]:
        """The record of an operation's result, and where it has written into a storage the version before that."""
        storage = tensor.untyped_storage()
        version = self._newest.get(storage_key(storage))
        if version is not None and version not in self._overwritten:  # a view
            return self._window(tensor, version, operation.id), None
        operation.writes = True
        written = self._new_version(tensor, storage, kind, operation.id, version)
        return self._window(tensor, written, operation.id), version

    def keep_before_writing(self, targets: Sequence[Tensor]) -> None:
        """Before an operation in place: what was recorded of these storages becomes a copy, of the content so far."""
        for tensor in targets:
            version = self._newest.get(storage_key(tensor.untyped_storage()))
            if version is not None and version not in self._overwritten:
                self._overwritten.add(version)
                if version not in self._owned:
                    self._take(self.trace.storages[version])
                for weight in [w for w in self.trace.parameters if self.trace.tensors[w].storage == version]:
                    del self.trace.parameters[weight], self.trace.versions[weight]  # the bytes are ours now

    def forget_content(self, targets: Sequence[Tensor]) -> None:
        """Something unseen has written into these: nobody knows where their new content comes from."""
        for tensor in targets:
            self._newest.pop(storage_key(tensor.untyped_storage()), None)

    def forget_windows(self) -> None:
        """Tensors met before may be other windows now."""
        self._met.clear()

    def same_window(self, tensor: int, version: int) -> int:
        """The record of a tensor as it shows another version of its storage."""
        record = self.trace.tensors[tensor]
        window = (version, record.dtype, record.offset, record.shape, record.strides)
        number = self._windows.get(window)
        if number is None:
            number = self._windows[window] = len(self.trace.tensors)
            kind = self._kinds[version]
            self.trace.tensors.append(dataclasses.replace(record, id=number, storage=version, kind=kind, made_by=None))
        return number

    # ---- records

    def _window(self, tensor: Tensor, version: int, made_by: int | None = None) -> int:
        """The record of a tensor that shows this version of its storage."""
        shape, strides, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
        window = (version, tensor.dtype, offset, shape, strides)
        number = self._windows.get(window)
        if number is None:
            number = self._windows[window] = len(self.trace.tensors)
            self.trace.tensors.append(
                TensorRecord(
                    id=number,
                    storage=version,
                    dtype=tensor.dtype,
                    shape=tuple(shape),
                    strides=strides,
                    offset=offset,  # type: ignore[arg-type]
                    kind=self._kinds[version],
                    made_by=made_by,
                )
            )
        self._met[id(tensor)] = number, version, tensor, tensor.data_ptr()
        return number

    def _new_version(
        self, tensor: Tensor, storage: Any, kind: TensorKind, written_by: int | None, previous: int | None
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
        self._newest[storage_key(storage)] = record.id
        if kind in ("input", "constant") and written_by is None:
            self._take(record)
        return record.id

    def _take(self, storage: Storage) -> None:
        """Have bytes of our own; the live ones stay in memory, so that their address keeps its meaning."""
        self._grow(storage.nbytes)
        self._alive.append(storage.bytes)
        with undispatched():  # our own copying is no part of the run
            storage.bytes = storage.bytes.clone()  # type: ignore[no-untyped-call]
        self._owned.add(storage.id)

    def _grow(self, nbytes: int) -> None:
        self.nbytes += nbytes
        if self.nbytes > self.max_bytes:
            raise TraceError(
                f"The recording has grown beyond {self.max_bytes / GIB:.1f} GiB in {self.place()}. "
                "Record some modules only, or a shorter input.",
                python='That is modules="blocks.0.*"; max_bytes sets the limit.',
            )

"""How often a step waits for the device: what it launches must not be held up by what it wants to know.

A CPU has nothing to wait for, so operations are counted whose result or shape a GPU would have to be asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.training.tasks import TASKS
from training.runs import of_task, trainer_of

WAITING = {  # a number of the host's, or a shape that depends on numbers
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim",
    "repeat_interleave",
}  # fmt: skip
READING = ("tolist", "cpu", "numpy")  # methods of a tensor that copy it to the host


class Waits(TorchDispatchMode):
    """Counts operations that wait, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[str]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if name in WAITING or by_mask:
            self.seen[name] += 1
        return operation(*args, **(kwargs or {}))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What waits in the block."""
    waits = Waits()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def method_and_count(self: Tensor, *args: Any, **settings: Any) -> Any:
            waits.seen[name] += 1
            return method(self, *args, **settings)

        return method_and_count

    with monkeypatch.context() as patch, waits:
        for name in READING:
            patch.setattr(Tensor, name, counting(name, getattr(Tensor, name)))
        yield waits.seen


def test_what_waits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(4.0)
    with counted(monkeypatch) as seen:
        float(x[0]), x[0].item(), bool(x[0]), x[x > 1], x.tolist(), x.cpu(), torch.equal(x, x), x.where(x > 1, 0)
    assert seen == {"_local_scalar_dense": 3, "index": 1, "tolist": 1, "cpu": 1, "equal": 1}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.usefixtures("unchecked")
def test_a_step_waits_for_the_device_once(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(of_task(task, tmp_path, accumulation=2), tmp_path)
    batches = [trainer.task.batch(step, micro_step) for step in range(2) for micro_step in range(2)]
    monkeypatch.setattr(trainer, "read", lambda step, micro_step, world: batches[2 * step + micro_step])
    for _ in range(2):
        with counted(monkeypatch) as seen:
            trainer.accumulate()
            trainer.accumulate()
            trainer.update()
        assert seen == {"tolist": 1}

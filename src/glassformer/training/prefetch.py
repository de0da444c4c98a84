"""The next batch is prepared while the step runs, by one thread.

A batch is a function of its address, so that neither the order of batches nor anything random depends on when one is
prepared; which batch is asked for next is a guess, and a wrong one costs only its work.
"""

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from glassformer.training.tasks.task import Batch
from glassformer.training.world import ALONE, World

Read = Callable[[int, int, World], Batch]  # step, micro-step and rank to a batch
Address = tuple[int, int]


@contextmanager
def prefetching(read: Read, *, steps: int, accumulation: int) -> Iterator[Read]:
    """In the block, `read` as a function that prepares the batch after the one that it returns, up to the run's end.

    An error of `read` is raised where its batch is asked for. At the end of the block, whatever ends it, the batch in
    preparation is waited for, so that no thread stays.
    """
    ahead: dict[Address, Future[Batch]] = {}  # at most one
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")

    def begin(address: Address, world: World) -> Future[Batch]:
        context = contextvars.copy_context()  # which twins run is this thread's choice
        return executor.submit(lambda: context.run(read, *address, world))

    def next_batch(step: int, micro_step: int, world: World = ALONE) -> Batch:
        address = step, micro_step
        future = ahead.pop(address, None) or begin(address, world)
        batch = future.result()
        ahead.clear()
        following = (step, micro_step + 1) if micro_step + 1 < accumulation else (step + 1, 0)
        if following < (steps, 0):
            ahead[following] = begin(following, world)
        return batch

    try:
        yield next_batch
    finally:
        executor.shutdown(cancel_futures=True)

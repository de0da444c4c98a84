"""A function called for many jobs at once: in threads, in processes of this machine, or on a Ray cluster.

    in_threads(task, jobs, n)
    in_processes(task, jobs, n)
    on_ray(task, jobs, address)

`task(job)` is a generator of numbers, how much more of the job is done, and last of its result, which is no number. All
three give the numbers and results of all jobs, in no order. A worker that dies costs its job alone, which another one
does from the beginning: its numbers come once more with a minus. An error ends all; no worker outlives the call.
"""

import multiprocessing
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar, cast

from glassformer.errors import ConfigError, GlassformerError, MissingExtra, WorkerDied

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
JobFunction = Callable[[Job], Iterator[int | Outcome]]
Results = Generator[int | Outcome, None, None]

MAX_DEATHS = 3  # of workers at one job: what kills so many kills the next one too
PATIENCE = 5.0  # seconds in which a cluster takes a call
DIED = (
    f"A worker died {MAX_DEATHS} times at the same part of the work, killed perhaps because memory ran out: take fewer "
    f"workers."
)
IN_A_SCRIPT = 'In a script, the call must stand under `if __name__ == "__main__":`.'


def in_threads(task: JobFunction[Job, Outcome], jobs: Iterable[Job], n_threads: int) -> Results[Outcome]:
    """Call the task in threads of this process."""
    messages: SimpleQueue[Any] = SimpleQueue()
    waiting = deque(jobs)
    is_over = Event()

    def work() -> None:
        try:
            while waiting and not is_over.is_set():
                try:
                    job = waiting.popleft()
                except IndexError:  # another thread was faster
                    break
                for message in task(job):
                    messages.put(message)
                    if is_over.is_set():
                        break
            messages.put(None)
        except BaseException as error:
            messages.put(error)

    threads = [Thread(target=work, daemon=True) for _ in range(min(n_threads, len(waiting)))]
    n_working = len(threads)
    try:
        for thread in threads:
            thread.start()
        while n_working:
            message = messages.get()
            if isinstance(message, BaseException):
                raise message
            if message is None:
                n_working -= 1
            else:
                yield message
    finally:
        is_over.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


# ---- processes


@dataclass(eq=False)
class _Worker:
    """A process, and the job that it is at."""

    process: BaseProcess
    number: int
    job: Any
    n_done: int = 0


def in_processes(task: JobFunction[Job, Outcome], jobs: Iterable[Job], n_processes: int) -> Results[Outcome]:
    """Call the task in processes, which are new ones and not copies of this one."""
    waiting, n_deaths = deque(enumerate(jobs)), dict[int, int]()
    workers: dict[Connection, _Worker] = {}
    context = multiprocessing.get_context("spawn")
    try:
        while waiting or workers:
            while waiting and len(workers) < n_processes:
                connection, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, task), daemon=True)
                process.start()
                theirs.close()
                workers[connection] = _Worker(process, *waiting.popleft())
                _send(connection, workers[connection].job)
            for connection in cast("list[Connection]", wait(list(workers))):
                worker = workers[connection]
                try:
                    message = connection.recv()
                except (EOFError, ConnectionResetError):
                    n_deaths[worker.number] = n_deaths.get(worker.number, 0) + 1
                    if n_deaths[worker.number] == MAX_DEATHS:
                        raise WorkerDied(DIED, python=IN_A_SCRIPT) from None
                    waiting.appendleft((worker.number, worker.job))
                    _end(connection, workers.pop(connection))
                    yield -worker.n_done
                    continue
                if isinstance(message, Exception):
                    raise message
                yield message
                if isinstance(message, int):
                    worker.n_done += message
                elif waiting:
                    (worker.number, worker.job), worker.n_done = waiting.popleft(), 0
                    _send(connection, worker.job)
                else:
                    _end(connection, workers.pop(connection))
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for connection, worker in workers.items():
            _end(connection, worker)


def _send(connection: Connection, job: object) -> None:
    with suppress(BrokenPipeError):  # it has died, which is noticed where it is listened to
        connection.send(job)


def _end(connection: Connection, worker: _Worker) -> None:
    worker.process.terminate()
    worker.process.join()
    connection.close()


def _serve(connection: Connection, task: JobFunction[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    with suppress(EOFError, ConnectionError):  # the parent was killed: nobody is told any more
        while True:
            job = connection.recv()
            try:
                for message in task(job):
                    connection.send(message)
            except Exception as error:
                connection.send(error)


# ---- Ray


def on_ray(task: JobFunction[Job, Outcome], jobs: Sequence[Job], address: str) -> Results[Outcome]:
    """Call the task on a cluster, whose machines must see the same files; "local" starts one on this machine."""
    ray = _ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    try:
        call = ray.remote(max_retries=MAX_DEATHS - 1)(_last)
        waiting = deque(jobs)
        n_at_once = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        calls: list[Any] = []
        while waiting or calls:
            while waiting and len(calls) < n_at_once:
                calls.append(call.remote(task, waiting.popleft()))
            done, calls = ray.wait(calls)
            try:
                n_done, result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, GlassformerError | OSError) else error from None
            except ray.exceptions.RayError:
                raise WorkerDied(DIED) from None
            yield n_done
            yield result
    finally:
        if is_ours:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "Work on a cluster") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    _check_listens(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")[:200]
        raise _no_cluster(address, reason) from None


def _no_cluster(address: str, reason: object) -> ConfigError:
    return ConfigError(f"is {address!r}: no Ray cluster answers there ({reason}).", setting="ray")


def _check_listens(address: str) -> None:
    """Raise where nothing listens at an address with a port, which Ray would try for most of a minute."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "local" or "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _no_cluster(address, reason) from None


def _last(task: JobFunction[Job, Any], job: Job) -> tuple[int, Any]:
    """How much was done in all, and the result."""
    *numbers, result = task(job)
    return sum(numbers), result

"""Jobs in threads, processes and on a Ray cluster: all results once, whoever dies; and nobody outlives the call."""

import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from glassformer import workers
from glassformer.errors import ConfigError, DataError, GlassformerError, MissingExtra, WorkerDied
from glassformer.workers import in_processes, in_threads, on_ray


def letters(folder: Path, job: int) -> Iterator[int | str]:
    """Two steps a job. The first process that comes to job 3 dies in the middle of it; all that come to job 9 do."""
    yield 1
    if job == 9 or (job == 3 and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 7:
        raise DataError("the seventh", setting="job", python="here.", command="--there.")
    if job == 8:
        raise MissingExtra("eight", "nine", "Counting")
    yield 1
    yield chr(ord("a") + job)


def outcome(messages: Iterator[Any]) -> tuple[int, str]:
    numbers, results = 0, ""
    for message in messages:
        if isinstance(message, int):
            numbers += message
        else:
            results += message
    return numbers, "".join(sorted(results))


def test_threads_do_all_jobs_once_and_end_with_who_stops_listening(tmp_path: Path) -> None:
    n_threads = threading.active_count()
    (tmp_path / "died").touch()
    assert outcome(in_threads(partial(letters, tmp_path), range(7), 3)) == (14, "abcdefg")
    messages = in_threads(partial(letters, tmp_path), range(7), 3)
    next(messages)
    messages.close()  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="the seventh"):
        list(in_threads(partial(letters, tmp_path), range(9), 3))
    assert threading.active_count() == n_threads


def test_processes_do_the_job_of_one_that_dies_again_and_what_is_refused_comes_as_it_was(tmp_path: Path) -> None:
    assert outcome(in_processes(partial(letters, tmp_path), range(5), 2)) == (10, "abcde")
    assert (tmp_path / "died").exists()
    with pytest.raises(DataError) as refused:
        list(in_processes(partial(letters, tmp_path), [7], 1))
    assert refused.value.at_command_line() == "--job the seventh --there."
    assert not multiprocessing.active_children()


def test_a_worker_whose_parent_was_killed_ends_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for jobs in ([0], [7], []):  # killed while it works, while it is refused something, and while it waits
        ours, theirs = multiprocessing.Pipe()
        for job in jobs:
            ours.send(job)
        ours.close()
        workers._serve(theirs, partial(letters, tmp_path))


def test_what_kills_every_worker_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_DEATHS", 1)
    with pytest.raises(WorkerDied, match="at the same part of the work"):
        list(in_processes(partial(letters, tmp_path), [9], 1))
    assert not multiprocessing.active_children()


def test_every_error_of_ours_is_the_same_in_another_process() -> None:
    for error in (DataError("a", setting="b", python="c", command="d"), MissingExtra("a", "b", "c")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.at_command_line()) == (str(error), error.at_command_line())


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"needs ray: install it with  pip install 'glassformer\[ray\]'"):
        list(on_ray(partial(letters, tmp_path), [1], "local"))


class NoCluster:
    """Ray, where nobody answers."""

    @staticmethod
    def is_initialized() -> bool:
        return False

    @staticmethod
    def init(**options: object) -> None:
        raise ConnectionError("nobody is there.\nand much more")


def test_a_cluster_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "_ray", lambda: NoCluster)
    with pytest.raises(ConfigError, match=r"ray is 'auto': no Ray cluster answers there \(nobody is there\)"):
        list(on_ray(partial(letters, tmp_path), [1], "auto"))


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://localhost:{}", "[::1]:{}", "127.0.0.1:{}00000", "..:{}"])
def test_where_nothing_listens_ray_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    monkeypatch.setattr(workers, "_ray", lambda: NoCluster)
    monkeypatch.setattr(NoCluster, "init", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match=r"ray is '.*': no Ray cluster answers there \((?!nobody).*\)\.$"):
        list(on_ray(partial(letters, tmp_path), [1], address.format(port)))


@pytest.mark.slow
def test_a_ray_cluster_does_the_job_of_a_worker_that_dies_again(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        assert outcome(on_ray(partial(letters, tmp_path), range(5), "local")) == (10, "abcde")
        assert (tmp_path / "died").exists()
        for job, kind in ((7, DataError), (8, MissingExtra), (9, WorkerDied)):
            with pytest.raises(kind):
                list(on_ray(partial(letters, tmp_path), [job], "local"))
    finally:
        ray.shutdown()
    assert issubclass(WorkerDied, GlassformerError)

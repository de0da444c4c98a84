"""SIGKILL at random moments of a run that saves and plots all the time: it resumes, and has lost one interval at most.

One helper process imports torch once and forks a child for every run, so that a kill costs no import.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from glassformer import checkpoints, files
from glassformer.config import to_mapping
from glassformer.training.events import Event, StepDone
from glassformer.training.ledger import Ledger
from glassformer.training.loop import train
from support.counts import count
from training.runs import everything, small

HELPER = """
import json, os, sys
from pathlib import Path
import torch
from glassformer.training import events, load_config, loop, report
import matplotlib.backends.backend_agg, matplotlib.figure
torch.set_num_threads(1)

def tell(event):
    if isinstance(event, (events.StepDone, events.Evaluated, events.Saved)):
        print(type(event).__name__, event.step, flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        settings, folder, resume = json.loads(line)
        with report.reports(Path(folder), quiet=True) as write:
            on_event = report.all_of(tell, write)
            loop.train(load_config.resolve(settings), Path(folder), resume=resume, on_event=on_event)
        os._exit(0)
    print("Child", child, flush=True)
    os.waitpid(child, 0)
    print("Gone 0", flush=True)
"""


@pytest.fixture(scope="module")
def helper() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.communicate()


def test_a_killed_run_resumes_and_has_lost_one_interval_at_most(helper: subprocess.Popen[str], tmp_path: Path) -> None:
    generator = random.Random("kills")
    config = small(tmp_path, steps=24, save_interval=2, eval_interval=3, accumulation=1)
    events: list[Event] = []
    train(config, tmp_path / "straight", on_event=events.append)
    expected = everything(tmp_path / "straight")
    for number in range(count("kills while training")):
        run = tmp_path / f"run-{number}"
        for resume in (False, True):  # a resumed run is killed as well
            killed_at = run_and_kill(helper, to_mapping(config), run, generator, resume=resume)
            resumed: list[Event] = []
            if resume:
                begun = (run / "run.json").is_file()
                train(config, run, resume=begun, on_event=resumed.append)
                first = next((event.step for event in resumed if isinstance(event, StepDone)), config.steps + 1)
                assert first > killed_at - config.save_interval
        assert everything(run) == expected
        assert checkpoints.load(run).config.d_model == 16
        files.verify(run)
        assert [*run.rglob(".*"), *run.rglob("run.lock"), *Ledger(run).strangers()] == []


def run_and_kill(
    helper: subprocess.Popen[str], settings: dict[str, object], run: Path, generator: random.Random, *, resume: bool
) -> int:
    """Start a run, kill it some milliseconds after one of its first steps; return the last step that it told of."""
    assert helper.stdin is not None
    assert helper.stdout is not None
    helper.stdin.write(json.dumps([settings, str(run), resume]) + "\n")
    helper.stdin.flush()
    patience = generator.randrange(1, 46)  # of 44 lines: the last kills meet a model that is being published
    last, child = 0, 0
    for line in helper.stdout:
        kind, value = line.split()
        if kind == "Gone":
            return last
        if kind == "Child":
            child = int(value)
        else:
            last = max(last, int(value))
            patience -= 1
        if patience == 0 and child:
            time.sleep(generator.uniform(0, 0.03))
            with suppress(ProcessLookupError):  # it has come to its end
                os.kill(child, signal.SIGKILL)
            patience = -1
    raise AssertionError("the helper has ended")

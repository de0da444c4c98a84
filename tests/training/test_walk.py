"""The way from a configuration to the first step is the one that `docs/architecture.md` tells."""

import sys
from pathlib import Path

from glassformer.training.events import Event, StepDone
from glassformer.training.load_config import load_run_config
from glassformer.training.loop import train
from support.walks import stops, walked
from training.runs import TEXT

CONFIG = """
batch_size = 2
steps = 1
eval_interval = 0
[model]
architecture = "gpt2"
context_length = 8
d_model = 8
n_layers = 1
n_heads = 1
[data]
path = "{path}"
"""


def test_each_stop_is_called_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "run.toml").write_text(CONFIG.format(path=tmp_path / "text.txt"))

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            sys.setprofile(None)

    names = stops("From a configuration to the first step")
    config = tmp_path / "run.toml"
    assert walked(names, lambda: train(load_run_config(config), tmp_path / "run", on_event=listen)) == names

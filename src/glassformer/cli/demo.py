"""`glassformer demo`: a nano-GPT learns to sort letters, from scratch, and is checked on every input there is."""

import sys
from dataclasses import asdict
from pathlib import Path

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.output import new_destination, print_json, print_line, remark

app = App(
    name="demo",
    help_epilogue="Example:  glassformer demo",
)


@app.default
def demo(
    *,
    runs: Path = Path("runs"),
    serve: bool = True,
    overwrite: Flag = False,
    json: Flag = False,
) -> None:
    """Train a nano-GPT to sort six letters, from scratch, and check it on all 729 inputs.

    Parameters
    ----------
    runs
        The folder of runs; the model goes to `sort` in it, over one of an earlier demo.
    serve
        At a terminal, open the model in the browser at the end, until Ctrl-C.
    overwrite
        Replace a run that is there and has other settings.
    json
        Print one JSON object at the end.
    """
    from glassformer import api
    from glassformer.cli.train import exit_if_interrupted
    from glassformer.errors import ConfigError
    from glassformer.evaluation.sorting import sort_accuracy
    from glassformer.training.ledger import Ledger
    from glassformer.training.load_config import CONFIGS, load_run_config
    from glassformer.training.loop import train
    from glassformer.training.report import reports
    from glassformer.training.run_folder import SETTINGS, RunFolder
    from glassformer.viewer.export import export_html
    from glassformer.viewer.session import Session

    folder = runs / "sort"
    page, config, ledger = folder / "view.html", load_run_config(CONFIGS / "sort.toml"), Ledger(folder)
    if not overwrite and ledger.names() and (folder / SETTINGS).is_file() and RunFolder(folder).before() != config:
        raise ConfigError(f"{folder} holds a run with settings of its own: add --overwrite, or --runs FOLDER.")
    new_destination(page, overwrite=overwrite or page.name in ledger.names(), folder=False)
    remark("A Transformer with 3 layers, 3 heads and 85,728 weights learns to sort six letters A, B, C.")
    remark("It sees three quarters of the 729 possible inputs; the rest is held out.\n")
    with reports(folder, quiet=json) as on_event:
        ended = train(config, folder, overwrite=True, on_event=on_event)
    exit_if_interrupted(ended)
    model = api.load(folder)
    accuracy = sort_accuracy(model.module)
    answer = "".join(model.generate("CBABBC", max_new_tokens=6, temperature=0.0))
    session = Session(model, name="nano-sort")
    session.run(text="CBABBC")
    ledger.add(page.name)
    export_html(session, page, overwrite=True)
    if json:
        seconds = round(ended.seconds, 1)
        print_json({"folder": str(folder), "page": str(page), "seconds": seconds, **asdict(accuracy), "CBABBC": answer})
        return
    print_line(f"trained in        {ended.seconds:.0f} s")
    print_line(f"sorted right      {accuracy.correct} of all {accuracy.total} inputs")
    print_line(f"of the held-out   {accuracy.held_out_correct} of {accuracy.held_out_total}")
    print_line(f"CBABBC            {answer}")
    print_line(f"the model is in   {folder}")
    print_line(f"to walk through   {page}")
    print_line()
    print_line(f"Try it:  glassformer generate {folder} --prompt BACCAB --temperature 0 --max-new-tokens 6")
    if serve and sys.stdout.isatty():
        from glassformer.cli import view

        print_line(f"         glassformer view {folder}")
        print_line()
        view.serve(session, host="127.0.0.1", port=0, hosts=(), open=True)

"""`glassformer data`: public corpora by name."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from glassformer.cli.output import print_json, progress_bar, remark

app = App(
    name="data",
    help="Fetch public corpora, for whoever has none.",
)

Json = Annotated[bool, Parameter(negative="")]


@app.command(help_epilogue="Example:  glassformer data get tinyshakespeare")
def get(name: str, /, *, out: Path = Path("data"), json: Json = False) -> None:
    """Fetch a corpus, check its SHA-256, and put it in place.

    Parameters
    ----------
    name
        As `glassformer data list` shows.
    out
        The folder for it.
    json
        Print a JSON object.
    """
    from glassformer.data import download

    corpus = download.corpus(name)
    remark(f"{corpus.name}: {corpus.about}. Licence: {corpus.licence}.\n{corpus.url}")
    with progress_bar(f"fetching {corpus.name}", corpus.max_bytes) as update:
        path, sha256 = download.fetch(corpus, out, update)
    if json:
        print_json({"path": str(path), "sha256": sha256, "licence": corpus.licence})
        return
    print(path)
    remark(f"SHA-256 {sha256}, " + ("as published." if corpus.sha256 else "of which there is no published value."))


@app.command(name="list", help_epilogue="Example:  glassformer data list")
def list_(*, json: Json = False) -> None:
    """List the corpora.

    Parameters
    ----------
    json
        Print a JSON list.
    """
    from glassformer.data.download import CORPORA

    if json:
        print_json([{"name": c.name, "about": c.about, "licence": c.licence, "url": c.url} for c in CORPORA.values()])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "licence")
    for corpus in CORPORA.values():
        table.add_row(corpus.name, corpus.about, corpus.licence)
    Console().print(table)

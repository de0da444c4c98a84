"""`glassformer data`: public corpora by name."""

import dataclasses
from pathlib import Path

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.output import print_json, print_line, print_table, progress_bar, remark

app = App(
    name="data",
    help="Fetch public corpora, for whoever has none.",
)


@app.command(help_epilogue="Example:  glassformer data get tinyshakespeare")
def get(name: str, /, *, out: Path = Path("data"), json: Flag = False) -> None:
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
    remark(f"{corpus.name}: {corpus.about}. Licence: {corpus.licence}.")
    fetched: list[dict[str, str]] = []
    for file in corpus.files:
        remark(file.url)
        with progress_bar(f"fetching {file.name}", file.max_bytes) as update:
            path, sha256 = download.fetch(file, out, update)
        fetched.append({"path": str(path), "sha256": sha256})
        if not json:
            print_line(str(path))
            remark(
                f"SHA-256 {sha256}, " + ("as published." if file.sha256 else "of which there is no published value.")
            )
    if json:
        print_json({"licence": corpus.licence, "files": fetched})


@app.command(name="list", help_epilogue="Example:  glassformer data list")
def list_(*, json: Flag = False) -> None:
    """List the corpora.

    Parameters
    ----------
    json
        Print a JSON list.
    """
    from glassformer.data.download import CORPORA

    if json:
        print_json([dataclasses.asdict(corpus) for corpus in CORPORA.values()])
        return
    print_table(
        ("name", "what it is", "licence"), [(corpus.name, corpus.about, corpus.licence) for corpus in CORPORA.values()]
    )

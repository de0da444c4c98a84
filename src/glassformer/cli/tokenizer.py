"""`glassformer tokenizer`: learn byte-level BPE, encode, decode, and look at the pieces."""

import io
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from glassformer.cli.flags import Flag, no_effect, unless
from glassformer.cli.output import (
    new_destination,
    print_json,
    print_line,
    print_styled,
    print_table,
    progress_bar,
    read_argument,
    remark,
    terminal_width,
    write_text,
)
from glassformer.printable import visible

if TYPE_CHECKING:
    from glassformer.tokenizers import Tokenizer

LONGEST_WORD = 64  # characters of a text that is shown step by step because it is one word

IDS_AT_ONCE = 1 << 14  # that are written together
SHARD_BYTES = 64 << 20  # of files, that become a shard

app = App(
    name="tokenizer",
    help="Learn, use and look at tokenizers.",
)


@app.command(help_epilogue="Example:  glassformer tokenizer train README.md --vocab-size 300 --out runs/tok")
def train(
    *files: Path,
    vocab_size: int,
    out: Path,
    special: Annotated[tuple[str, ...], Parameter(negative="")] = ("<|endoftext|>",),
    pattern: str = "gpt2",
    field: str = "text",
    workers: int | None = None,
    ray: str = "",
    overwrite: Flag = False,
) -> None:
    """Learn a byte-level BPE vocabulary from text files of any size.

    Parameters
    ----------
    files
        UTF-8 text, or documents: .jsonl, or .parquet; also packed as .gz or .zst. It is read in pieces.
    vocab_size
        Bytes, special tokens and merges together.
    out
        The directory that gets tokenizer.json.
    special
        A token that is never split and never learned; can be given several times.
    pattern
        How text is split before merging: gpt2, cl100k, o200k, llama3 or qwen2.
    field
        What is learnt from in files of documents: the name of a text in each line of .jsonl, or of a column.
    workers
        How many count at once; by default one for small files, else one a core.
    ray
        The address of a Ray cluster that counts instead, whose machines see the same files; "local" starts one here.
    overwrite
        Replace a tokenizer that is already there.
    """
    from glassformer.errors import DataError, TokenizerError
    from glassformer.files import MANIFEST
    from glassformer.tokenizers import Tokenizer

    if workers is not None and workers < 1:
        raise TokenizerError(f"--workers must be at least 1, not {workers}; without it, the files' sizes decide.")
    if not files:
        raise DataError("Name at least one text file to learn from.")
    if (out / MANIFEST).exists() or (out / "config.json").exists():
        raise TokenizerError(f"{out} holds a model, and its tokenizer belongs to it: choose another folder.")
    new_destination(out / "tokenizer.json", overwrite=overwrite, folder=False, reads=files)
    with progress_bar("learning merges", None) as update:
        tokenizer = Tokenizer.train(
            list(files),
            vocab_size,
            special,
            pattern=pattern,
            field=field,
            workers=workers,
            ray=ray,
            progress=lambda stage, done, total: update(done, total, stage),
        )
    path = tokenizer.save(out, overwrite=overwrite)
    remark(f"{path}: {tokenizer.vocab_size:,} tokens")
    if tokenizer.vocab_size < vocab_size:
        remark(f"That is fewer than {vocab_size:,}: the text has no more pairs to merge.")


@app.command(help_epilogue="Example:  glassformer tokenizer encode runs/tok 'to be seen through'")
def encode(
    tokenizer: Path,
    /,
    *texts: str,
    file: Path | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "--output"))] = None,
    field: str = "text",
    workers: int = 0,
    ray: str = "",
    shard_bytes: int = SHARD_BYTES,
    overwrite: Flag = False,
    plain: Flag = False,
    json: Flag = False,
) -> None:
    """Print the token ids of a text, or write those of files, which training and evaluation read.

    With --out, files of any size become a folder of shards, and the same command again goes on where it was stopped.
    Documents (.jsonl, .parquet) end with the end-of-text token each.

    Parameters
    ----------
    tokenizer
        A checkpoint or tokenizer directory, tokenizer.json, vocab.json, .tiktoken, .model, .gguf or tok512.bin.
    texts
        One text; without it and without --file, standard input is read. With --out, files: text, .jsonl, .parquet;
        the first two also packed as .gz or .zst.
    file
        A file to encode, in constant memory.
    out
        The directory that gets the tokens of all files, for --data.path.
    field
        What is encoded in files of documents: the name of a text in each line of .jsonl, or of a column.
    workers
        How many processes encode at once; the result does not depend on it. With 0, this one does.
    ray
        The address of a Ray cluster that encodes instead, whose machines see the same files; "local" starts one here.
    shard_bytes
        How much of the files becomes one shard.
    overwrite
        Replace the tokens of other files, or by another tokenizer, that are already there, whole or begun.
    plain
        Treat the text of special tokens as ordinary text.
    json
        Print a JSON list; with --out, an object.
    """
    from glassformer.data.text import read_text
    from glassformer.errors import DataError

    special: Literal["all", "none"] = "none" if plain else "all"
    if out is not None:
        paths = [*map(Path, texts), *([] if file is None else [file])]
        if not paths:
            raise DataError("Name at least one file to encode into --out.")
        encode_into(
            out,
            paths,
            opened(tokenizer),
            json=json,
            field=field,
            allowed_special=special,
            workers=workers,
            ray=ray,
            shard_bytes=shard_bytes,
            overwrite=overwrite,
        )
        return
    to_folders = {"workers": workers, "ray": ray, "shard_bytes": unless(shard_bytes, SHARD_BYTES)}
    no_effect("without --out", **to_folders, field=unless(field, "text"), overwrite=overwrite)
    if len(texts) > 1 or (texts and file is not None):
        raise DataError("Give one text or --file, not both; with --out, any number of files.")
    loaded = opened(tokenizer)
    if texts:
        ids: Iterator[int] = iter(loaded.encode(texts[0], allowed_special=special))
    else:
        chunks = read_text(file) if file is not None else standard_input()
        ids = loaded.encode_iterable(chunks, allowed_special=special)
    if json:
        print_json(list(ids))
        return
    separator = ""
    while some := list(islice(ids, IDS_AT_ONCE)):
        write_text(separator + " ".join(map(str, some)))
        separator = " "
    write_text("\n")


def opened(path: Path) -> "Tokenizer":
    """The tokenizer of a file or a folder, as `Tokenizer.load` reads it, or of a GGUF file, a whole model."""
    from glassformer.tokenizers import Tokenizer

    if path.suffix == ".gguf":
        from glassformer.checkpoints import gguf_tokenizer

        return gguf_tokenizer.load(path)
    return Tokenizer.load(path)


def encode_into(out: Path, paths: list[Path], tokenizer: "Tokenizer", *, json: bool, **options: Any) -> None:
    """Encode files into a folder, and say what became of them."""
    from glassformer.data.encoding import encode_files

    try:
        with progress_bar("encoding", None) as update:
            info = encode_files(paths, tokenizer, out, update, **options)
    except KeyboardInterrupt:
        if out.exists():
            remark(f"{out} has the shards that are whole: the same command goes on with the others.")
        raise
    if json:
        print_json({"out": str(out), "tokens": info.count, "dtype": info.dtype, "shards": len(info.shards)})
        return
    remark(f"{out}: {info.count:,} tokens of {info.dtype}; shards: {len(info.shards):,}")


def standard_input() -> Iterator[str]:
    """The text of standard input in pieces, its line ends as they are."""
    from glassformer.errors import DataError

    source = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")
    try:
        yield from iter(lambda: source.read(1 << 16), "")
    except UnicodeDecodeError:
        raise DataError("Standard input is not UTF-8 text: convert it first, for instance with iconv.") from None


@app.command(help_epilogue="Example:  glassformer tokenizer decode runs/tok 116 111")
def decode(tokenizer: Path, /, *ids: int) -> None:
    """Print the text of token ids: of arguments, or of standard input.

    Parameters
    ----------
    tokenizer
        As for encode.
    ids
        Numbers; without them, standard input is read.
    """
    from glassformer.errors import TokenizerError

    stream = opened(tokenizer).stream()
    words = map(str, ids) if ids else (word for line in sys.stdin for word in line.replace(",", " ").split())
    for word in words:
        try:
            token = int(word.strip("[]"))
        except ValueError:
            raise TokenizerError(f"{word!r} is not a token id; ids are whole numbers.") from None
        write_text(stream.push(token))
    write_text(stream.finish())
    if sys.stdout.isatty():
        write_text("\n")


@app.command(help_epilogue="Example:  glassformer tokenizer show runs/tok transformer")
def show(
    tokenizer: Path,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    merges: Flag = False,
    plain: Flag = False,
    json: Flag = False,
) -> None:
    """Show what a tokenizer knows, or how it cuts a text: each token over its id, and of a word every step.

    Spaces are shown as ␣, ends of lines as ⏎, bytes that are no whole characters as ⟨E4 BD⟩, and special tokens have a
    star.

    Parameters
    ----------
    tokenizer
        As for encode.
    text
        A text to cut, of which - reads it from standard input; without it, the longest tokens are listed.
    merges
        Show of each word how it becomes its tokens: which neighbours are merged, at what rank, as a table and a tree;
        or the longest matches, or the path of the best scores, as the tokenizer has it. A single word is shown so
        without this.
    plain
        Treat the text of special tokens as ordinary text.
    json
        Print a JSON object.
    """
    if text is None:
        no_effect("without a text", merges=merges, plain=plain)
    loaded = opened(tokenizer)
    if text is None:
        _show_vocabulary(loaded, json=json)
    else:
        _show_text(loaded, read_argument(text), "none" if plain else "all", merges=merges, json=json)


def _show_vocabulary(tokenizer: "Tokenizer", *, json: bool) -> None:
    longest = sorted(tokenizer.vocab, key=lambda token: len(tokenizer.token_bytes(token)), reverse=True)[:10]
    rows = [(token, tokenizer.token_bytes(token)) for token in longest]
    if json:
        tokens = [{"id": token, "bytes": piece.hex(" ")} for token, piece in rows]
        facts = {"vocab_size": tokenizer.vocab_size, "special_tokens": tokenizer.special_tokens}
        print_json({**facts, "tokens": tokens})
        return
    table = [(str(token), repr(piece.decode("utf-8", errors="replace"))[1:-1], piece.hex(" ")) for token, piece in rows]
    title = f"{tokenizer.vocab_size:,} tokens; the longest"
    print_table(("id", "text", "bytes"), table, title=title, right=("id",))
    if tokenizer.special_tokens:
        print_line("special: " + ", ".join(f"{name} = {i}" for name, i in tokenizer.special_tokens.items()))


def _show_text(tokenizer: "Tokenizer", text: str, special: Literal["all", "none"], *, merges: bool, json: bool) -> None:
    from glassformer.cli import watched

    words = tokenizer.steps(text, allowed_special=special) if merges or len(text) <= LONGEST_WORD else []
    words = words if merges or watched.one_word(words) else []
    ids = tokenizer.encode(text, allowed_special=special)
    size = len(text.encode("utf-8", errors="replace"))
    if json:
        tokens = [{"id": token, "bytes": tokenizer.token_bytes(token).hex(" ")} for token in ids]
        steps = {"words": watched.words_to_json(words, tokenizer.method)} if words else {}
        print_json({"text": text, "bytes": size, "tokens": tokens, **steps})
        return
    cells = watched.cells_of(tokenizer, ids)
    print_styled(*watched.grid(cells, terminal_width()))
    star = f"; {watched.SPECIAL} a special token" if any(cell.id.endswith(watched.SPECIAL) for cell in cells) else ""
    print_line(f"{size:,} bytes in {len(ids):,} tokens{star}")
    if tokenizer.method == "look-up":
        if merges:
            print_line(f"A {type(tokenizer).__name__} looks tokens up as a whole: there are no steps to show.")
        return
    for word in words:
        if word.steps:
            print_line()
            print_line(f"{visible(word.text.encode(errors='replace'))}: {watched.TITLES[tokenizer.method]}")
            rows = watched.step_rows(word, tokenizer.method)
            print_table(watched.HEADERS[tokenizer.method], rows, right=("merge", "step", "rank", "score"))
            if tokenizer.method == "merges":
                print_styled(watched.tree_of(word))

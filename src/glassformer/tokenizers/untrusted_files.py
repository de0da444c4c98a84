"""Files of vocabularies, which may come from strangers: their sizes are checked before they are read.

Every departure from a format is a TokenizerError. `vocabulary.py` checks what the files say; `formats.py` lists them.
"""

from pathlib import Path
from typing import Any

from glassformer import files, strict_json
from glassformer.errors import CheckpointError, TokenizerError

MAX_FILE_BYTES = 64 << 20  # Gemma 2's tokenizer.json has 33
MAX_JSON_ITEMS = 4_000_000  # brackets and commas: o200k's tokenizer.json, the largest in use, has 1.5 million

Json = dict[str, Any]


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that is not larger than a tokenizer can be."""
    try:
        if not path.is_file():
            raise TokenizerError(f"{path}: expected a tokenizer file, and there is none.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TokenizerError(
                f"{path} has {path.stat().st_size:,} bytes: a tokenizer has at most {MAX_FILE_BYTES:,}."
            )
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """The text of such a file, which must be UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise TokenizerError(f"{path} is not UTF-8 text.") from None


def read_json(path: Path) -> Json:
    """The JSON object of such a file."""
    return strict_json.parse(read_bytes(path), str(path), max_values=MAX_JSON_ITEMS, error=TokenizerError)


def file_in(folder: Path, name: str) -> Path:
    """A file of a folder; a link that leads out of the folder is an error."""
    try:
        return files.file_in(folder, name)
    except CheckpointError as error:
        raise TokenizerError(f"{folder}: {error}") from None


def sibling(path: Path, name: str) -> Path:
    """The file of another name in the same folder, which must exist."""
    if not path.with_name(name).is_file():
        raise TokenizerError(f"{path}: expected {name} beside it, and there is none.")
    return file_in(path.parent, name)

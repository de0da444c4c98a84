"""Files that torch pickled: only tensors and plain values are read, and no more of them than the file has bytes.

`torch.load(weights_only=True)` runs no code of the file's; but a zip may inflate without end, and a tensor may be a
view of one number. torch stores the members of its zips uncompressed, so that their sizes can be compared first. Before
its version 1.6 (2020) it wrote no zips, but five pickles and behind them the numbers of all tensors.
"""

import io
import os
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from glassformer.errors import CheckpointCorrupt

MAX_MEMBERS = 100_000
MAX_PICKLE_BYTES = 2 << 20  # names, shapes and settings; those of a tensor take some 200
# The records at the end of a zip (APPNOTE.TXT, 4.3.14 to 4.3.16); the first two are there where a size needs 64 bits.
LARGE = struct.Struct("<4sQHHIIQQQQ")
LOCATOR = struct.Struct("<4sIQI")
END = struct.Struct("<4sHHHHIIH")
BEFORE_ZIPS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of a number, torch's MAGIC_NUMBER
N_PICKLES = 5  # that number, a version, the sizes of numbers on the machine, what was saved, and the storages' keys
UNKNOWN = 0xFFFFFFFF  # "see the record with 64 bits"


def load(path: Path) -> Any:
    """What was pickled. Tensors are mapped from the file, so that one that lies about its size cannot leave it."""
    with path.open("rb") as file:
        if file.read(len(BEFORE_ZIPS)) == BEFORE_ZIPS:
            return _load_before_zips(file)
    members = check_zip(path)
    content = sum(member.file_size for member in members if member.filename.endswith("data.pkl"))
    if content > MAX_PICKLE_BYTES:
        raise CheckpointCorrupt(
            f"it holds {content:,} bytes beside its tensors; {MAX_PICKLE_BYTES:,} are read at most."
        )
    return _weights_only(path, mmap=True)


def _weights_only(file: Any, **options: Any) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, **options)
    except Exception as error:  # whatever a hostile pickle makes the unpickler say
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointCorrupt(f"it holds more than tensors and plain values, or is broken: {reason}") from None


class _WithoutDescriptor:
    """A file that can only be read: of one with a descriptor torch looks first whether it is a tar to be extracted."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.readline, self.seek, self.tell = file.read, file.readline, file.seek, file.tell


def _load_before_zips(file: BinaryIO) -> Any:
    """The same from the older form; the numbers of a tensor are read as they come, at most those that the file has."""
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    try:
        for _ in range(N_PICKLES):
            for _ in pickletools.genops(head):
                pass
    except Exception as error:  # there are many ways to be no pickle
        raise CheckpointCorrupt(
            f"its pickles are broken, or larger than the {MAX_PICKLE_BYTES:,} bytes that are read at most: "
            f"{str(error)[:200]}."
        ) from None
    file.seek(0)
    return _weights_only(_WithoutDescriptor(file))


def load_state(path: Path) -> dict[str, Tensor]:
    """A pickled state dict: tensors by their names, mapped from the file."""
    content = load(path)
    if not isinstance(content, Mapping):
        raise CheckpointCorrupt("it holds no tensors by their names.")
    state = {str(name): plain(tensor) for name, tensor in content.items()}
    check_tensors(state, path)
    return state


def plain(value: Any) -> Any:
    """A parameter as the tensor that it is; anything else as it came."""
    return value.data if type(value) is nn.Parameter else value


def check_zip(path: Path, writer: str = "torch") -> list[zipfile.ZipInfo]:
    """The members of a zip that is as its writer leaves it: stored as they are, none counted twice, none damaged.

    There must be no two opinions about where its directory is, since not all that read it are alike.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            listed_twice = len({member.header_offset for member in members}) < len(members)
            stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members)
            stored &= size > UNKNOWN or not any(member.extra for member in members)  # sizes that others may read
            declared = sum(m.file_size for m in members)
            if not stored or listed_twice or len(members) > MAX_MEMBERS or declared > size:
                raise CheckpointCorrupt(
                    f"it has {size:,} bytes and would inflate to {declared:,}; {writer} stores its members as they are."
                )
            _check_directory(path, archive.start_dir)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointCorrupt(f"it is not a zip as {writer} writes it: {error}.") from None
    if damaged is not None:
        raise CheckpointCorrupt(f"{damaged[:200]!r} in it is not what was written, as its CRC-32 tells: copy it anew.")
    return members


def _check_directory(path: Path, start: int) -> None:
    """Raise unless the directory that begins at `start` is where each record at the end of the file says it is."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, LARGE.size + LOCATOR.size + END.size), os.SEEK_END)
        tail = file.read()
    signature, *_, length, offset, comment = END.unpack(tail[-END.size :])
    end = path.stat().st_size - END.size
    places = [(offset, offset + length)]
    if tail[-END.size - LOCATOR.size :].startswith(b"PK\6\7"):
        end -= LOCATOR.size + LARGE.size
        _, _, record, _ = LOCATOR.unpack(tail[-END.size - LOCATOR.size : -END.size])
        mark, *_, length, offset = LARGE.unpack(tail[: LARGE.size])
        places = [(offset, offset + length)] + [place for place in places if place[0] != UNKNOWN]
        if mark != b"PK\6\6" or record != end:
            raise CheckpointCorrupt("its directory is not where the end of the file says, so it has two of them.")
    if signature != b"PK\5\6" or comment or any(place != (start, end) for place in places):
        raise CheckpointCorrupt("its directory does not end with the file, so that there may be two of them.")


def check_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Raise unless these are plain tensors whose memory came from the file."""
    for name, tensor in state.items():
        if type(tensor) is not Tensor or tensor.layout is not torch.strided:
            raise CheckpointCorrupt(f"{name[:200]!r} is no plain tensor.")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointCorrupt(f"{name[:200]!r} shows the same numbers many times, and would grow when copied.")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(storages.values()) > path.stat().st_size:
        raise CheckpointCorrupt("its tensors are larger than the file.")

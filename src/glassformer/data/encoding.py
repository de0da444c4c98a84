"""A corpus becomes token ids on disk: planned as shards, which workers write, each whole or not at all.

`encode_files` fills a folder, which training reads (`memmap.py`):

    tokenizer.json                the tokenizer
    tokens-00001-of-00012.bin     the ids of a shard (uint16 or uint32, little-endian), and
    shard-00001-of-00012.json     what it was made of and by, how many they are, and their SHA-256
    tokens.json                   dtype, count, vocabulary, and all shards
    manifest.json                 the SHA-256 of each file

Where one shard is enough, it is `tokens.bin` and `shard.json`. The last two files come when all shards are there. The
shards follow from the corpus and the tokenizer alone, so that the same bytes come of any number of workers, and who is
stopped and called again goes on with what is missing.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer import files, strict_json
from glassformer.config import from_mapping
from glassformer.data.text import size_of
from glassformer.errors import CheckpointError, ConfigError, DataError
from glassformer.tokenizers import BPETokenizer, Tokenizer
from glassformer.tokenizers.base import AllowedSpecial
from glassformer.tokenizers.corpus import FileSpan, cuts_of, has_documents
from glassformer.tokenizers.span_reader import SpanReader
from glassformer.tokenizers.tokenizer_json import PARTS
from glassformer.workers import in_processes, in_threads, on_ray

ReadProgress = Callable[[int, int], None]  # bytes of text read, of how many

DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
SHARD_BYTES = 64 << 20  # of the corpus: seconds of work, which are lost where a worker dies
MAX_SHARDS = 10_000  # what the manifest has room for
MAX_SPANS = 10_000  # of a shard
BLOCK_BYTES = 1 << 18  # that are encoded at once
SHARD_NAME = re.compile(r"tokens(-\d{5}-of-\d{5})?\.bin")
INFO, LOCK, TOKENIZER = "tokens.json", "encoding.lock", "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file of ids."""

    file: str
    count: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What `tokens.json` says; folders of before shards have all in `tokens.bin`."""

    dtype: str
    count: int
    vocab_size: int
    tokenizer: str  # its fingerprint
    shards: tuple[Shard, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.count < 0 or self.vocab_size < 1:
            raise ConfigError(f"dtype {self.dtype!r}, count {self.count}, vocab_size {self.vocab_size} cannot be.")
        if self.shards and (
            min(shard.count for shard in self.shards) < 0 or sum(shard.count for shard in self.shards) != self.count
        ):
            raise ConfigError(f"its shards do not have the {self.count} tokens that it says.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """A span of a file, and what the file was when it was read: whether it has changed, its time says."""

    path: str
    start: int
    stop: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """What a shard is made of and by: all that its bytes follow from."""

    file: str
    dtype: str
    tokenizer: str
    field: str
    special: AllowedSpecial
    sources: tuple[SourceSpan, ...]

    @property
    def record(self) -> str:
        """The name of the file that says it."""
        return Path(self.file).with_suffix(".json").name.replace("tokens", "shard", 1)


def encode_files(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    out: Path,
    on_progress: ReadProgress | None = None,
    *,
    field: str = "text",
    allowed_special: AllowedSpecial = "all",
    threads: int = 1,
    workers: int = 0,
    ray: str = "",
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
) -> TokenInfo:
    """Encode files of any size into the folder `out`, one after the other, in constant memory.

    A text is encoded by itself: no token spans two files, and none is put between them. Of files of documents
    (`tokenizers/corpus.py`), `field` is encoded, and the token that ends a text comes after each. The work is that of
    `threads` here, of so many `workers`, which are processes, or of the Ray cluster at an address, whose machines see
    the same files. A folder with some of these shards keeps those that are whole; any other needs `overwrite`.
    """
    for name, value, least in (("threads", threads, 1), ("workers", workers, 0), ("shard_bytes", shard_bytes, 1)):
        if value < least:
            raise ConfigError(f"must be at least {least}, not {value}.", setting=name)
    if ray and workers:
        raise ConfigError("workers are of this machine, and ray names a cluster: give one of them.")
    plans = _plans(paths, tokenizer, field, allowed_special, shard_bytes)
    _check_out(out, paths)
    total = sum(source.stop - source.start for plan in plans for source in plan.sources)
    with _folder(out, plans, tokenizer, overwrite) as folder:
        if ray or workers:
            task = partial(_shard_of_worker, folder.resolve(), Path.cwd())
            results = on_ray(task, plans, ray) if ray else in_processes(task, plans, workers)
        else:
            results = in_threads(partial(write_shard, folder, Path(), tokenizer), plans, threads)
        done, shards = 0, dict[str, Shard]()
        with closing(results):  # no worker writes there once the folder is not ours
            for result in results:
                if isinstance(result, Shard):
                    shards[result.file] = result
                    continue
                done += result
                if on_progress is not None:
                    on_progress(done, total)
        in_order = tuple(shards[plan.file] for plan in plans)
        count = sum(shard.count for shard in in_order)
        if count == 0:
            for plan in plans:
                (folder / plan.record).unlink()
                (folder / plan.file).unlink()
            raise DataError(f"There is no text in {', '.join(map(str, paths))}.")
        info = TokenInfo(
            dtype=plans[0].dtype,
            count=count,
            vocab_size=tokenizer.vocab_size,
            tokenizer=plans[0].tokenizer,
            shards=in_order,
        )
        files.write_file(folder / INFO, f"{json.dumps(asdict(info), indent=1)}\n".encode(), overwrite=True)
    return info


def fingerprint(tokenizer: Tokenizer) -> str:
    """The SHA-256 of its tokenizer.json: two that share it make the same tokens of every text."""
    return hashlib.sha256(tokenizer.tokenizer_json().encode()).hexdigest()


def are_alike(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two make the same tokens of every text, though their files may be others.

    What stands around a text is none of its tokens, and what a file has off it need not say.
    """
    return (_content_of(one), one.eos_id) == (_content_of(other), other.eos_id)


def _content_of(tokenizer: Tokenizer) -> dict[str, Any]:
    content = json.loads(tokenizer.tokenizer_json())
    content["model"] = {name: value for name, value in content["model"].items() if value}
    if merges := content["model"].get("merges"):
        content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    content["added_tokens"] = sorted(content.get("added_tokens") or [], key=itemgetter("id"))
    return {name: content.get(name) for name in (*PARTS, "added_tokens")}


# ---- the plan


def _plans(
    paths: Sequence[Path], tokenizer: Tokenizer, field: str, special: AllowedSpecial, shard_bytes: int
) -> list[ShardPlan]:
    """The shards of a corpus, each of about so many bytes of it, and at most `MAX_SHARDS`."""
    sizes = [(path, size_of(path)) for path in paths]
    for path in paths:
        if has_documents(path) and tokenizer.eos_id is None:
            raise DataError(
                f"{path} has many documents, and this tokenizer has no token such as <|endoftext|> to end each."
            )
    shard_bytes = max(shard_bytes, -(-sum(size for _, size in sizes) // MAX_SHARDS) * 2)
    walls = [] if special == "none" else [token.encode() for token in tokenizer.special_tokens]
    shares: list[list[SourceSpan]] = [[]]
    n_bytes = 0
    for path, size in sizes:
        status = path.stat()
        parts = max(1, round(size / shard_bytes)) if _can_be_cut(path, tokenizer) else 1
        for start, stop in pairwise(cuts_of(path, size, parts, walls)) if parts > 1 else [(0, size)]:
            if shares[-1] and (n_bytes + stop - start > shard_bytes or len(shares[-1]) == MAX_SPANS):
                shares.append([])
                n_bytes = 0
            source = SourceSpan(
                path=str(path), start=start, stop=stop, size=status.st_size, mtime_ns=status.st_mtime_ns
            )  # fmt: skip
            shares[-1].append(source)
            n_bytes += stop - start
    numbers = [f"-{n:05}-of-{len(shares):05}" if len(shares) > 1 else "" for n in range(1, len(shares) + 1)]
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    digest = fingerprint(tokenizer)
    return [
        ShardPlan(
            file=f"tokens{number}.bin",
            dtype=dtype,
            tokenizer=digest,
            field=field,
            special=special,
            sources=tuple(share),
        )
        for number, share in zip(numbers, shares, strict=True)
    ]


def _can_be_cut(path: Path, tokenizer: Tokenizer) -> bool:
    """Whether a file's parts have the tokens of the whole: documents have, and of texts those of byte-level BPE."""
    return has_documents(path) or isinstance(tokenizer, BPETokenizer)


# ---- the folder


def _check_out(out: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        if path.resolve().is_relative_to(out.resolve()):
            raise CheckpointError(f"{path} is in {out}, where its tokens would go: choose another folder.")


@contextmanager
def _folder(out: Path, plans: Sequence[ShardPlan], tokenizer: Tokenizer, overwrite: bool) -> Iterator[Path]:
    """Where the shards go: `out`, if it is new or has some of them; else a new folder, which takes its place.

    What an encoding has left that was stopped, and is not this one, goes before this one begins.
    """
    is_other = not _goes_on(out, plans, tokenizer)
    if is_other and not _was_stopped(out):
        with files.new_directory(out, overwrite=overwrite) as folder:
            tokenizer.save(folder)
            yield folder
        return
    if is_other and not overwrite:
        raise DataError(
            f"{out} has shards of an encoding that was stopped, of other files or settings, or of these files before "
            f"they changed: choose another folder, or begin anew",
            python="by overwrite=True.",
            command="with --overwrite.",
        )
    files.restore(out)
    if not out.exists():
        files.check_new_directory(out)
    out.resolve().mkdir(parents=True, exist_ok=True)  # a link stays a link
    try:
        with files.exclusive_lock(out / LOCK):
            if is_other and _was_stopped(out):
                _remove_shards(out)
            if not _goes_on(out, plans, tokenizer):  # another process has filled it since we looked
                raise BlockingIOError
            had_tokenizer = (out / TOKENIZER).exists()
            tokenizer.save(out, overwrite=True)
            try:
                yield out
                _seal(out, plans)
            finally:
                files.clean_up(out)
                if not had_tokenizer and not any((out / plan.record).exists() for plan in plans):
                    (out / TOKENIZER).unlink()
    except BlockingIOError:
        raise DataError(f"{out} is being written by another process: wait for it, or choose another folder.") from None
    finally:
        with suppress(OSError):
            out.rmdir()  # where nothing is in it


def _seal(folder: Path, plans: Sequence[ShardPlan]) -> None:
    names = [TOKENIZER, INFO, *(plan.record for plan in plans)]
    shards = [record[1] for plan in plans if (record := _record(folder, plan)) is not None]
    files.seal(
        folder, {name: files.sha256(folder / name) for name in names} | {shard.file: shard.sha256 for shard in shards}
    )


def _goes_on(out: Path, plans: Sequence[ShardPlan], tokenizer: Tokenizer) -> bool:
    """Whether a folder is new, or holds nothing but shards of this plan and what belongs to them."""
    if not out.is_dir():
        return not out.exists()
    paths = list(out.iterdir())
    if any(path.is_symlink() for path in paths):  # what is written there would go elsewhere
        return False
    names = {path.name for path in paths} - {path.name for path in files.leftovers(out)} - {LOCK}
    records = {plan: _record(out, plan) for plan in plans if plan.record in names}
    if any(record is not None and record[0] != plan for plan, record in records.items()):
        return False
    if not any(records.values()):  # it is new, or its writer did not come far
        return not names or (names == {TOKENIZER} and _is_of(out / TOKENIZER, {fingerprint(tokenizer)}))
    return names <= {TOKENIZER, INFO, files.MANIFEST, *(name for plan in plans for name in (plan.file, plan.record))}


def _was_stopped(out: Path) -> bool:
    """Whether a folder holds nothing but what an encoding has left that was stopped, whichever it was."""
    if not out.is_dir() or (out / files.MANIFEST).exists():
        return False
    paths = list(out.iterdir())
    if any(path.is_symlink() for path in paths):
        return False
    records = _records_in(out)
    tokenizers = {plan.tokenizer for plan, _ in records}
    ours = {plan.record for plan, _ in records} | {path.name for path in files.leftovers(out)} | {LOCK}
    ours |= {plan.file for plan, shard in records if _is_whole(out / plan.file, shard, DTYPES[plan.dtype])}
    ours |= {name for name in (TOKENIZER, INFO) if _is_of(out / name, tokenizers)}
    return bool(records) and {path.name for path in paths} <= ours


def _is_of(path: Path, tokenizers: Set[str]) -> bool:
    """Whether a file is a tokenizer with one of these fingerprints, or says that tokens were made by one."""
    try:
        if path.name == TOKENIZER:
            return files.sha256(path) in tokenizers
        return from_mapping(TokenInfo, strict_json.read(path)).tokenizer in tokenizers
    except (CheckpointError, ConfigError, OSError):
        return False


def _remove_shards(out: Path) -> None:
    """Remove what `_was_stopped` recognizes, which it still does where this is stopped."""
    plans = [plan for plan, _ in _records_in(out)]
    for name in (*(plan.file for plan in plans), INFO, TOKENIZER, *(plan.record for plan in plans)):
        (out / name).unlink(missing_ok=True)


def _records_in(out: Path) -> list[tuple[ShardPlan, Shard]]:
    return [record for path in out.glob("shard*.json") if (record := _read_record(path)) is not None]


def _record(folder: Path, plan: ShardPlan) -> tuple[ShardPlan, Shard] | None:
    """What the record of a shard says; None where there is none that can be read."""
    return _read_record(folder / plan.record)


def _read_record(path: Path) -> tuple[ShardPlan, Shard] | None:
    """The same of any file: the plan of the shard whose record it is."""
    try:
        content = strict_json.read(files.file_in(path.parent, path.name))
        shard = {name: content.pop(name) for name in ("count", "sha256")}
        plan = from_mapping(ShardPlan, content)
        is_its_own = SHARD_NAME.fullmatch(plan.file) and plan.record == path.name and plan.dtype in DTYPES
        return (plan, from_mapping(Shard, {"file": plan.file} | shard)) if is_its_own else None
    except (CheckpointError, ConfigError, KeyError, OSError):
        return None


# ---- a shard


@lru_cache(maxsize=1)
def _tokenizer_in(folder: Path, digest: str) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    if fingerprint(tokenizer) != digest:
        raise DataError(f"{folder / TOKENIZER} has changed while its shards were written.")
    return tokenizer


def _shard_of_worker(folder: Path, base: Path, plan: ShardPlan) -> Iterator[int | Shard]:
    yield from write_shard(folder, base, _tokenizer_in(folder, plan.tokenizer), plan)


def write_shard(folder: Path, base: Path, tokenizer: Tokenizer, plan: ShardPlan) -> Iterator[int | Shard]:
    """Write the ids of a shard and its record, unless they are there; numbers of bytes as they are read.

    The names of its sources are those in the folder `base`.
    """
    path, dtype = folder / plan.file, DTYPES[plan.dtype]
    record = _record(folder, plan)
    if record is not None and record[0] == plan and _is_whole(path, record[1], dtype):
        yield sum(source.stop - source.start for source in plan.sources)
        yield record[1]
        return
    digest, count = hashlib.sha256(), 0
    with files.new_file(path, overwrite=True) as new:
        with new.open("wb", buffering=1 << 20) as file:
            for source in plan.sources:
                span = FileSpan(base / source.path, source.start, source.stop, plan.field)
                reader, n_told = SpanReader(span, BLOCK_BYTES), 0
                for ids in _ids_of(reader, tokenizer, plan.special):
                    data = ids.astype(dtype).tobytes()
                    file.write(data)
                    digest.update(data)
                    count += len(ids)
                    if reader.n_read > n_told:
                        yield reader.n_read - n_told
                        n_told = reader.n_read
                _check_unchanged(span.path, source)
        shard = Shard(file=plan.file, count=count, sha256=digest.hexdigest())
        content = asdict(plan) | {"count": shard.count, "sha256": shard.sha256}
        files.write_file(folder / plan.record, f"{json.dumps(content, indent=1)}\n".encode(), overwrite=True)
    yield shard


def _is_whole(path: Path, shard: Shard, dtype: np.dtype[Any]) -> bool:
    """Whether a file is what its record says."""
    has_size = path.is_file() and path.stat().st_size == shard.count * dtype.itemsize
    return has_size and files.sha256(path) == shard.sha256


def _ids_of(reader: SpanReader, tokenizer: Tokenizer, special: AllowedSpecial) -> Iterator[NDArray[np.int32]]:
    """The ids of all texts of a span; each document ends with the token for that."""
    end = np.array([tokenizer.eos_id] if reader.has_documents else [], np.int32)
    for text in reader.texts():
        yield from tokenizer.encode_arrays(text, allowed_special=special)
        yield end


def _check_unchanged(path: Path, source: SourceSpan) -> None:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns):
        raise DataError(f"{source.path} changed while it was read: it had {source.size:,} bytes.")

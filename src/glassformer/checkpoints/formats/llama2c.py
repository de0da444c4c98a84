"""llama2.c's model.bin: seven int32 sizes, then all weights as float32, each kind stacked over the layers.

Karpathy, github.com/karpathy/llama2.c, `memory_map_weights` of run.c and `version1_export` of export.py. Its rotary
pairs are neighbours. In files without a version a negative vocabulary size says that the head is not tied, and tables
of cosines and sines stand in between for old readers. Version 1 has a header of 256 bytes:

    "24ka"  version i32  sizes 7 × i32  tied u8
"""

import math
import mmap
import struct
from pathlib import Path

import torch
from torch import Tensor

from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.tokenizer_files import read_neighbour
from glassformer.errors import CheckpointCorrupt
from glassformer.models.llama import LlamaConfig

HEADER = struct.Struct("<7i")
MAGIC, VERSIONED, VERSIONED_BYTES = b"24ka", struct.Struct("<4si7iB"), 256
FileOrder = list[tuple[str, tuple[int, ...]]]
MOST = 1 << 24  # of each size; what four letters spell is larger


def read(source: Source) -> tuple[Contents, dict[str, Tensor]]:
    """The contents and our parameters; the tokenizer lies beside the file."""
    config, weights = read_weights(source.path)
    tokenizer, reason = read_neighbour(source.path, config.vocab_size)
    return Contents(config=config, tokenizer=tokenizer, no_tokenizer=reason), weights


def sniff(source: Source) -> bool:
    """Whether it begins as such files with a version do, or with seven sizes, the sixth of which may be negative."""
    if source.head.startswith(MAGIC):
        return True
    if source.content != "unknown" or len(source.head) < HEADER.size:
        return False
    sizes = list(HEADER.unpack(source.head[: HEADER.size]))
    sizes[5] = abs(sizes[5])
    return all(0 < size < MOST for size in sizes)


FORMAT = Format(name="llama2.c", files=".bin of llama2.c", sniff=sniff, read=read)


def read_weights(path: Path) -> tuple[LlamaConfig, dict[str, Tensor]]:
    """The configuration and our parameters, mapped from the file, after all sizes have been compared with it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(VERSIONED_BYTES)
        start = VERSIONED_BYTES if header.startswith(MAGIC) else HEADER.size
        if len(header) < start:
            raise CheckpointCorrupt(f"{size} bytes are too few for a llama2.c model.")
        if header.startswith(MAGIC):
            _, version, *sizes, tied = VERSIONED.unpack_from(header)
            if version != 1:
                raise CheckpointCorrupt(
                    f"it is a llama2.c model of version {version}; those of version 1, and those without one, are read."
                    + (" Version 2 is quantized." if version == 2 else "")
                )
            config = _config(*sizes, tied_head=tied == 1)
            layout = _layout_of_version_1(config)
        else:
            sizes = list(HEADER.unpack_from(header))
            tied_head, sizes[5] = sizes[5] > 0, abs(sizes[5])
            config = _config(*sizes, tied_head=tied_head)
            layout = _layout(config)
        needed = start + 4 * sum(math.prod(shape) for _, shape in layout)
        if needed != size:
            raise CheckpointCorrupt(f"a llama2.c model of the sizes in this header has {needed:,} bytes, not {size:,}.")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    weights: dict[str, Tensor] = {}
    for name, shape in layout:
        stacked = torch.frombuffer(data, dtype=torch.float32, count=math.prod(shape), offset=start).view(shape)
        start += stacked.nbytes
        if "{}" in name:
            weights |= {name.format(layer): weight for layer, weight in enumerate(stacked)}
        elif name:
            weights[name] = stacked
    return config, weights


def _config(
    dim: int,
    hidden_dim: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    vocab_size: int,
    seq_len: int,
    *,
    tied_head: bool,
) -> LlamaConfig:
    if n_kv_heads == 0:
        raise CheckpointCorrupt("A llama2.c model with 0 key-value heads is impossible.")
    return LlamaConfig(
        vocab_size=vocab_size,
        context_length=seq_len,
        d_model=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_ff=hidden_dim,
        rope_style="interleaved",
        tied_head=tied_head,
    )


def _layout(config: LlamaConfig) -> FileOrder:
    """Names and shapes in the order of a file without a version; the rotary tables have no name."""
    n, c, f, d = config.n_layers, config.d_model, config.d_ff, config.d_head
    q, kv, table = config.n_heads * d, config.n_kv_heads * d, (config.context_length, d // 2)
    layout: FileOrder = [
        ("token_embedding.weight", (config.vocab_size, c)),
        ("blocks.{}.attn_norm.weight", (n, c)),
        ("blocks.{}.attn.q_proj.weight", (n, q, c)),
        ("blocks.{}.attn.k_proj.weight", (n, kv, c)),
        ("blocks.{}.attn.v_proj.weight", (n, kv, c)),
        ("blocks.{}.attn.o_proj.weight", (n, c, q)),
        ("blocks.{}.mlp_norm.weight", (n, c)),
        ("blocks.{}.mlp.gate_proj.weight", (n, f, c)),
        ("blocks.{}.mlp.down_proj.weight", (n, c, f)),
        ("blocks.{}.mlp.up_proj.weight", (n, f, c)),
        ("final_norm.weight", (c,)),
        ("", table),
        ("", table),
    ]
    return layout if config.tied_head else [*layout, ("lm_head.weight", (config.vocab_size, c))]


def _layout_of_version_1(config: LlamaConfig) -> FileOrder:
    """The same without the tables, the norms first."""
    named = [row for row in _layout(config) if row[0]]
    return sorted(named, key=lambda row: "norm" not in row[0])

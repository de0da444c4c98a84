"""Rows of a table of tensors: how parameters of ours stand in published files, each read in both directions.

    same("final_norm.weight", "model.norm.weight")          under another name
    transposed(…), joined(…), half_from_interleaved(…)      in another layout, several of ours in one of theirs
    modules({"blocks.{i}.attn_norm": "h.{i}.ln_1"})         of several modules the weight and the bias

Names hold indices in braces, `layers.{i}.experts.{e}`; the table (`table.py`) says which field of the configuration
counts each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """How parameters of ours stand in a published file: several of ours may be one tensor of theirs.

    `read` and `write` turn one tensor of theirs into ours and back. Neither may look at numbers where it could look at
    shapes, since shapes are compared first, on tensors without memory. `absent` makes what stands for a tensor that a
    file may lack, of those that are in it.
    """

    theirs: str
    ours: tuple[str, ...]
    read: Callable[[Tensor], Sequence[Tensor]]
    write: Callable[[Sequence[Tensor]], Tensor]
    absent: Callable[[Mapping[str, Tensor]], Tensor] | None = None


def same(ours: str, theirs: str) -> Rename:
    """The same tensor under another name."""
    return Rename(theirs=theirs, ours=(ours,), read=lambda tensor: [tensor], write=lambda tensors: tensors[0])


def modules(names: Mapping[str, str], parts: Sequence[str] = ("weight", "bias")) -> list[Rename]:
    """The parts of whole modules, whose names are ours: theirs."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for ours, theirs in names.items() for part in parts]


def joined(ours: Sequence[str], theirs: str, rows: Sequence[int] = ()) -> Rename:
    """Several of our vectors or matrices, one below the other, in one of theirs; `rows` of each, if not all alike.

    Fused queries, keys and values with fewer key-value heads are of unequal parts, gate and up of equal ones.
    """
    return Rename(
        theirs=theirs,
        ours=tuple(ours),
        read=lambda tensor: _split(tensor, len(ours), rows),
        write=lambda tensors: torch.cat(list(tensors)),
    )


def transposed(ours: Sequence[str], theirs: str, rows: Sequence[int] = ()) -> Rename:
    """The same, stored as (d_in, d_out): GPT-2's Conv1D."""
    return Rename(
        theirs=theirs,
        ours=tuple(ours),
        read=lambda tensor: _split(tensor.mT, len(ours), rows),
        write=lambda tensors: torch.cat(list(tensors)).mT,
    )


def _split(tensor: Tensor, n_parts: int, rows: Sequence[int]) -> Sequence[Tensor]:
    return torch.split(tensor, list(rows)) if rows else tensor.chunk(n_parts)


def by_head(ours: Sequence[str], theirs: str, rows: Sequence[int]) -> Rename:
    """Several of our matrices whose heads take turns in one of theirs; `rows` of each in a head."""

    def heads(tensor: Tensor, n: int) -> Tensor:
        return tensor.reshape(-1, n, *tensor.shape[1:])

    return Rename(
        theirs=theirs,
        ours=tuple(ours),
        read=lambda tensor: [part.flatten(0, 1) for part in torch.split(heads(tensor, sum(rows)), list(rows), dim=1)],
        write=lambda tensors: torch.cat(list(map(heads, tensors, rows)), dim=1).flatten(0, 1),
    )


def reshaped(ours: str, theirs: str, our_shape: Sequence[int], their_shape: Sequence[int]) -> Rename:
    """The same numbers in another shape."""
    return Rename(
        theirs=theirs,
        ours=(ours,),
        read=lambda tensor: [tensor.reshape(tuple(our_shape))],
        write=lambda tensors: tensors[0].reshape(tuple(their_shape)),
    )


def zeros(theirs: str, shape: tuple[int, ...]) -> Rename:
    """A tensor of theirs that our model has no need of, because all its numbers are zero."""

    def read(tensor: Tensor) -> Sequence[Tensor]:
        if tensor.any():
            raise ConfigError(f"{theirs} must be zero, since the configuration has no place for it.")
        return []

    return Rename(theirs=theirs, ours=(), read=read, write=lambda tensors: torch.zeros(shape))


def half_from_interleaved(ours: str, theirs: str, d_head: int) -> Rename:
    """Rows of a projection of ours whose rotary pairs are neighbours; theirs are d_head / 2 apart. See `nn/rope.py`."""

    def read(tensor: Tensor) -> Sequence[Tensor]:
        return [tensor.reshape(-1, 2, d_head // 2, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)]

    def write(tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0].reshape(-1, d_head // 2, 2, *tensors[0].shape[1:]).transpose(1, 2).flatten(0, 2)

    return Rename(theirs=theirs, ours=(ours,), read=read, write=write)

"""Our parameters under the names of a published format, and back; a tensor too many or too few is an error."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import CheckpointMismatch
from glassformer.models import spec_of
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, same
from glassformer.models.spec import ModelSpec

OF_TENSORFLOW = re.compile(r"\bLayerNorm\.(gamma|beta)$")  # as the first BERTs were published
PRESENT = {"gamma": "weight", "beta": "bias"}


def to_theirs(weights: Mapping[str, Tensor], config: Any, *, native: bool = False) -> dict[str, Tensor]:
    """Hugging Face's tensors from our parameters, or (`native`) those of a folder that we alone read."""
    return {theirs: rule.write([weights[name] for name in ours]) for theirs, ours, rule in _rules(config, native)}


def to_ours(state: Mapping[str, Tensor], config: Any, *, native: bool = False) -> "OurTensors":
    """Our parameters in Hugging Face's tensors, or with `native` in those of a folder that we alone read.

    Names and shapes are compared at once, numbers are read when they are asked for.
    """
    return OurTensors(state, checked(state, config, native=native))


def of_other_tasks(state: Mapping[str, Tensor], config: Any) -> dict[str, str]:
    """The tensors that no part of our model has a use for, such as the head of another task: full names: in `state`."""
    published = spec_of(config).published
    if published is None:
        return {}
    used = {theirs for theirs, _, _ in published.renames(config)}
    return {
        name: in_file
        for name, in_file in sorted(_full_names(state, published).items())
        if name not in used and any(re.fullmatch(pattern, name) for pattern in published.elsewhere)
    }


class OurTensors(Mapping[str, Tensor]):
    """Our parameters, each read from its tensor when it is asked for, and often a view of that.

    The largest come first: while a tensor and its copy are both in memory, there is the less beside them.
    """

    def __init__(self, state: Mapping[str, Tensor], held: Mapping[str, tuple[list[str], Rename]]) -> None:
        self._state = state
        self._parts = {
            name: (theirs, part, rule) for theirs, (ours, rule) in held.items() for part, name in enumerate(ours)
        }

    def __getitem__(self, name: str) -> Tensor:
        theirs, part, rule = self._parts[name]
        return rule.read(_tensor(self._state, theirs, rule))[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def checked(state: Mapping[str, Tensor], config: Any, *, native: bool = False) -> dict[str, tuple[list[str], Rename]]:
    """For each tensor that is read, under its name in `state`, the names of ours that it holds, and how; largest first.

    Names and shapes are compared before anything is copied or built, so a configuration that promises more than the
    file has costs no memory.
    """
    spec = spec_of(config)
    full_names = _full_names(state, spec.published)
    ties = _ties(config, native)
    for name, other in ties.items():
        if name in full_names and other not in full_names:  # kept under the head's name alone
            full_names[other] = full_names.pop(name)
    rules: dict[str, tuple[list[str], Rename]] = {}
    for theirs, ours, rule in _rules(config, native):
        if theirs not in full_names and rule.absent is None:
            raise CheckpointMismatch(f"The tensor {theirs} is missing.{_nearest(theirs, full_names)}")
        rules[theirs] = (ours, rule)
    for name in full_names.keys() - rules.keys():
        _check_unread(name, full_names, state, spec, rules, ties)
    full_names = {name: name for name in rules} | full_names  # what a file lacks has the name that it would have
    shapes = dict(spec.outline(config).named_parameters())
    n_bytes = {
        name: _checked_size(name, _tensor(state, full_names[name], rule), [shapes[one] for one in ours], rule)
        for name, (ours, rule) in rules.items()
    }
    return {full_names[name]: rules[name] for name in sorted(rules, key=lambda name: -n_bytes[name])}


def _tensor(state: Mapping[str, Tensor], name: str, rule: Rename) -> Tensor:
    """The tensor of a file, or what stands for it there."""
    return state[name] if rule.absent is None or name in state else rule.absent(state)


def _checked_size(name: str, theirs: Tensor, ours: list[Tensor], rule: Rename) -> int:
    """The bytes of a tensor; raises unless it holds weights, and these parameters without memory have its shape."""
    alike = False
    with suppress(RuntimeError, IndexError):  # of a shape that cannot be cut so
        alike = [part.shape for part in rule.read(theirs)] == [one.shape for one in ours]
    if not alike or theirs.numel() != sum(one.numel() for one in ours):
        wanted = rule.write(ours)  # only here, since torch imports for seconds before it joins what has no memory
        if theirs.shape != wanted.shape:
            raise CheckpointMismatch(
                f"{name} is {tuple(theirs.shape)}, but the configuration asks for {tuple(wanted.shape)}."
            )
    if not theirs.is_floating_point():
        raise CheckpointMismatch(f"{name} holds {theirs.dtype}; weights must be floating point numbers.")
    return theirs.nbytes


def _rules(config: Any, native: bool) -> Iterable[tuple[str, list[str], Rename]]:
    """Their name, our names, and the rule between them, for every tensor; without a table the names are ours."""
    spec = spec_of(config)
    if spec.published is not None:
        return spec.published.renames(config, native=native)
    return [(name, [name], same(name, name)) for name, _ in spec.outline(config).named_parameters()]


def _full_names(state: Mapping[str, Tensor], published: Published | None) -> dict[str, str]:
    """The full name of each tensor, and that in `state`: files of the bare trunk leave the prefix out."""
    if published is None:
        return {name: name for name in state}
    names: dict[str, str] = {}
    for name in state:
        present = OF_TENSORFLOW.sub(lambda match: f"LayerNorm.{PRESENT[match[1]]}", name)
        if present in names:
            raise CheckpointMismatch(
                f"{name[:200]!r} and {names[present][:200]!r} are one tensor, which is there twice."
            )
        names[present] = name
    if any(name.startswith(published.base_prefix) for name in names):
        return names
    return {
        name if name in published.tied else published.base_prefix + name: in_file for name, in_file in names.items()
    }


def _ties(config: Any, native: bool) -> dict[str, str]:
    """The names under which a file may have a tied tensor, and for each the one by which it is read."""
    published = spec_of(config).published
    if published is None:
        return {}
    expected = {row.theirs for row in published.rows(config, native=native)}
    ties: dict[str, str] = {}
    for name in sorted(published.tied.keys() - expected):
        other = published.tied[name]
        while other not in expected and other in published.tied:  # which of its names the file must have, the rules say
            other = published.tied[other]
        ties[name] = other
    return ties


def _check_unread(
    name: str,
    full_names: Mapping[str, str],
    state: Mapping[str, Tensor],
    spec: ModelSpec,
    expected: Collection[str],
    ties: Mapping[str, str],
) -> None:
    """Raise unless the tensor holds no weights, or repeats the one that it is tied to."""
    published = spec.published
    if published is not None and any(
        re.fullmatch(pattern, name) for pattern in (*published.ignored, *published.elsewhere)
    ):
        return
    if ties.get(name) not in full_names:
        raise CheckpointMismatch(
            f"The tensor {name[:200]!r} has no place in a {spec.name} of this configuration.{_nearest(name, expected)}"
        )
    other = ties[name]
    if not torch.equal(state[full_names[name]].float(), state[full_names[other]].float()):
        raise CheckpointMismatch(f"{name} differs from {other}, but the configuration ties them (tie_word_embeddings).")


def _nearest(name: str, candidates: Iterable[str]) -> str:
    some = [candidate for candidate, _ in zip(candidates, range(1000), strict=False) if len(candidate) <= 200]
    near = difflib.get_close_matches(name[:200], some, n=1)
    return f" The nearest name is {near[0]!r}." if near else ""

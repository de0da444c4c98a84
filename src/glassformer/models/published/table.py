"""A published architecture: its table of settings and its table of tensors, both read in both directions."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glassformer.config import from_mapping
from glassformer.errors import ConfigError, ExportError
from glassformer.models.published.fields import Row, Settings, WriteOnly
from glassformer.models.published.tensors import Rename

INDEX = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How an architecture stands in Hugging Face's folders.

    `name` is what messages call it there. `model_types` are the types of config.json that are read as this one, of
    which the first is written where no row says another; none, where such a folder is read as another architecture.
    `fields` cover every field of `config`. `tensors` are the names for a configuration, and `indices` the fields that
    count the indices in them; `own_tensors` are those of folders that we alone read, where they are others. `ignored`
    are patterns of names in published files that hold no weights (masks, tables), `elsewhere` of weights that only
    other tasks use, which go along in a copy, and `said_by` has for some of these the settings that say that they are
    there; `base_prefix` is what files of the bare trunk lack; `tied` maps a name
    under which a file may repeat a tied tensor, or has it alone, to the name that it has otherwise. `general` maps
    names of settings that `transformers` takes from every family to the family's own.
    """

    config: type[Any]
    name: str
    model_types: tuple[str, ...]
    fields: tuple[Row, ...]
    tensors: Callable[[Any], Sequence[Rename]]
    own_tensors: Callable[[Any], Sequence[Rename]] | None = None
    indices: Mapping[str, str] = field(default_factory=lambda: {"i": "n_layers"})
    ignored: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    said_by: Mapping[str, Settings] = field(default_factory=dict)
    base_prefix: str = ""
    tied: Mapping[str, str] = field(default_factory=dict)
    general: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> frozenset[str]:
        """The settings of a config.json that the table reads or writes."""
        return frozenset((*self.general, *(name for row in self.fields for name in row.their_names)))

    @property
    def architecture(self) -> str:
        """The only class of `transformers` that is read; empty where a row decides between several, or refuses them."""
        rows = [row for row in self.fields if isinstance(row, WriteOnly) and row.theirs == "architectures"]
        return str(rows[0].value[0]) if rows else ""

    def from_huggingface(self, theirs: Settings) -> Any:
        """Our configuration of a config.json; raises `ConfigError` for what no model of ours does."""
        ours: dict[str, Any] = {}
        theirs = self._by_own_names(theirs)
        for row in self.fields:
            try:
                ours |= row.read(theirs)
            except ConfigError as error:
                raise ConfigError(f"config.json: {error}") from None
        return from_mapping(self.config, ours)

    def _by_own_names(self, theirs: Settings) -> Settings:
        """A config.json whose general names are the family's own; raises `ConfigError` where two of them disagree."""
        own = dict(theirs)
        for general, name in self.general.items():
            if general in theirs and own.setdefault(name, theirs[general]) != theirs[general]:
                raise ConfigError(
                    f"config.json: {name} and {general} are one setting, and cannot be {own[name]!r} and "
                    f"{theirs[general]!r}."
                )
        return own

    def to_huggingface(self, ours: Any) -> dict[str, Any]:
        """The config.json that `transformers` builds the same model from; raises `ExportError` where none does."""
        theirs: dict[str, Any] = {"architectures": [], "model_type": next(iter(self.model_types), "")}
        for row in self.fields:
            try:
                theirs |= row.write(ours)
            except ExportError as error:
                raise ExportError(f"Hugging Face's {self.name} {error}") from None
        return theirs

    def rows(self, config: Any, *, native: bool = False) -> Sequence[Rename]:
        """The table of tensors for a configuration, its indices not yet counted."""
        rows = self.own_tensors if native and self.own_tensors is not None else self.tensors
        return rows(config)

    def renames(self, config: Any, *, native: bool = False) -> Iterator[tuple[str, list[str], Rename]]:
        """For every tensor of theirs its name, the names of ours that it holds, and how.

        With `native` they are those of a folder that we alone read.
        """
        for row in self.rows(config, native=native):
            letters = list(dict.fromkeys(INDEX.findall(row.theirs)))
            counts = [getattr(config, self.indices[letter]) for letter in letters]
            for numbers in itertools.product(*map(range, counts)):
                index = dict(zip(letters, numbers, strict=True))
                yield row.theirs.format(**index), [name.format(**index) for name in row.ours], row

"""Rows of a table of settings: how fields of a configuration stand in a config.json, each read in both directions.

    Field("n_embd", "d_model", default=768)          a setting of theirs is a field of ours
    TheirConstant("scale_attn_weights", True)        a setting of theirs that has one value in all models of ours
    OurConstant("norm_placement", "post")            a field of ours that has one value in all models of theirs
    ArchitectureClass("head", {…})                   what stands on the trunk, by the class of `transformers`
    FieldGroup(theirs=(…), ours=(…), read=…, …)      several that follow from each other only together
    WriteOnly("architectures", ["GPT2LMHeadModel"])  a setting that is written for other programs, and never read

A default is the value that `transformers` takes where config.json leaves the setting out. Errors begin with the setting
at fault; `table.py` says whose it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

from glassformer.errors import ConfigError, ExportError

Settings = Mapping[str, Any]  # of a config.json


class Row(Protocol):
    """Settings of theirs and fields of ours, and how the ones follow from the others."""

    @property
    def their_names(self) -> tuple[str, ...]:
        """The settings of theirs that it reads or writes."""

    @property
    def our_names(self) -> tuple[str, ...]:
        """The fields of ours that it gives a value."""

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """Fields of ours; raises `ConfigError` for what no model of ours does."""

    def write(self, ours: Any) -> Settings:
        """Settings of theirs for a configuration of ours; raises `ExportError` for what they cannot say."""


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of theirs is one field of ours.

    `values` are the values of theirs that have one of ours; of several for the same one, the first is written.
    `to_ours` and `to_theirs` convert other values. `null` is our value for a null of theirs. `aliases` are written with
    the same value. With `must_agree`, an alias with another value is refused when it is read; without, aliases are not
    read.
    """

    theirs: str
    ours: str
    _: KW_ONLY
    default: Any
    null: Any = None
    values: Mapping[Any, Any] | None = None
    to_ours: Callable[[Any], Any] | None = None
    to_theirs: Callable[[Any], Any] | None = None
    aliases: tuple[str, ...] = ()
    must_agree: bool = False

    @property
    def their_names(self) -> tuple[str, ...]:
        """The setting, and those that are written with it."""
        return (self.theirs, *self.aliases)

    @property
    def our_names(self) -> tuple[str, ...]:
        """The field."""
        return (self.ours,)

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """The field's value; raises `ConfigError` where `values` has none for theirs, or where settings disagree."""
        value = theirs.get(self.theirs, self.default)
        for name in self.aliases if self.must_agree else ():
            other = theirs.get(name, self.default)
            if other != value:
                raise ConfigError(f"{self.theirs} and {name} must be equal, not {value!r} and {other!r}.")
        if value is None and self.null is not None:
            return {self.ours: self.null}
        if self.values is not None:
            alike = [ours for name, ours in self.values.items() if type(name) is type(value) and name == value]
            if not alike:
                raise ConfigError(f"{self.theirs} {value!r} is not one of {_listed(self.values)}.")
            value = alike[0]
        elif self.to_ours is not None:
            value = self.to_ours(value)
        return {self.ours: value}

    def write(self, ours: Any) -> Settings:
        """The setting, and those beside it; raises `ExportError` where `values` has none for ours."""
        value = getattr(ours, self.ours)
        if self.values is not None:
            alike = [theirs for theirs, name in self.values.items() if name == value]
            if not alike:
                raise ExportError(_inexpressible(self.ours, value, tuple(self.values.values())))
            value = alike[0]
        elif self.to_theirs is not None:
            value = self.to_theirs(value)
        return dict.fromkeys(self.their_names, value)


@dataclass(frozen=True, slots=True)
class WriteOnly:
    """A setting that other programs need, and that says nothing about our model."""

    theirs: str
    value: Any

    @property
    def their_names(self) -> tuple[str, ...]:
        """The setting."""
        return (self.theirs,)

    @property
    def our_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def write(self, ours: Any) -> Settings:
        """The setting."""
        return {self.theirs: self.value}


class TheirConstant(WriteOnly):
    """A setting of theirs that no field of ours has: it must have this value, or be left out."""

    __slots__ = ()

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """Nothing; raises `ConfigError` where the setting has another value."""
        value = theirs.get(self.theirs, self.value)
        if type(value) is not type(self.value) or value != self.value:
            raise ConfigError(f"{self.theirs} = {value!r} is not supported; it must be {self.value!r}.")
        return {}


@dataclass(frozen=True, slots=True)
class OurConstant:
    """A field of ours that no setting of theirs has, since all of their models have this value.

    Those of `converted` are no obstacle, since the table of tensors makes the same model of them.
    """

    ours: str
    value: Any
    _: KW_ONLY
    converted: tuple[Any, ...] = ()

    @property
    def their_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def our_names(self) -> tuple[str, ...]:
        """The field."""
        return (self.ours,)

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """The field's only value."""
        return {self.ours: self.value}

    def write(self, ours: Any) -> Settings:
        """Nothing; raises `ExportError` where the field has a value that they cannot say."""
        value = getattr(ours, self.ours)
        if value not in (self.value, *self.converted):
            raise ExportError(_inexpressible(self.ours, value, (self.value, *self.converted)))
        return {}


@dataclass(frozen=True, slots=True)
class ArchitectureClass:
    """`architectures`: the class of `transformers` says what stands on the trunk, which is a field of ours.

    `classes` has for each class its model type and the field's value. A file that names none has the first class of its
    model type; the first class with a value is written for it.
    """

    ours: str
    classes: Mapping[str, tuple[str, Any]]

    @property
    def their_names(self) -> tuple[str, ...]:
        """`architectures`, and the model type that goes with it."""
        return ("architectures", "model_type")

    @property
    def our_names(self) -> tuple[str, ...]:
        """The field."""
        return (self.ours,)

    def read(self, theirs: Settings) -> Mapping[str, Any]:
        """The field's value; raises `ConfigError` for another class."""
        of_type = [name for name, (model_type, _) in self.classes.items() if model_type == theirs.get("model_type")]
        architectures = theirs.get("architectures") or [*of_type, *self.classes][:1]
        name = architectures[0] if isinstance(architectures, list) else architectures
        if not isinstance(name, str) or name not in self.classes:
            raise ConfigError(f"architectures {architectures!r} is none of {_listed(self.classes)}.")
        return {self.ours: self.classes[name][1]}

    def write(self, ours: Any) -> Settings:
        """The class, and its model type."""
        value = getattr(ours, self.ours)
        for name, (model_type, field) in self.classes.items():
            if field == value:
                return {"architectures": [name], "model_type": model_type}
        raise ExportError(_inexpressible(self.ours, value, tuple(field for _, field in self.classes.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldGroup:
    """Several settings of theirs and fields of ours that follow from each other only together."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    read: Callable[[Settings], Mapping[str, Any]]
    write: Callable[[Any], Settings]

    @property
    def their_names(self) -> tuple[str, ...]:
        """The settings."""
        return self.theirs

    @property
    def our_names(self) -> tuple[str, ...]:
        """The fields."""
        return self.ours


def _inexpressible(name: str, value: Any, values: tuple[Any, ...]) -> str:
    only = " or ".join(repr(one) for one in dict.fromkeys(values))
    return f"cannot express {name} = {value!r}; it always has {only}."


def _listed(names: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, names))


ACTIVATIONS = {  # as several architectures name them: ours
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}

"""Kinds of flags that several verbs have, and the refusal of those that would do nothing."""

from typing import Annotated

from cyclopts import Parameter

from glassformer.errors import ConfigError

Flag = Annotated[bool, Parameter(negative="")]  # it has no --no-… beside it


def no_effect(where: str, **flags: object) -> None:
    """Raise where one of these flags was set, which would be ignored there."""
    for name, value in flags.items():
        if value not in (None, False, 0, "", ()):
            raise ConfigError(f"has no effect {where}: leave it out.", setting=name)


def unless(value: object, usual: object) -> object:
    """A flag's value for `no_effect`: None where it is the usual one, which nobody needs to have given."""
    return None if value == usual else value

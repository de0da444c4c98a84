"""Kinds of flags that several verbs have."""

from typing import Annotated

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative="")]  # it has no --no-… beside it

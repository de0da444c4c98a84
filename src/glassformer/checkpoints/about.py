"""What a model does: a sentence in two languages, and an example of what goes in and what comes out.

A folder has it in `glassformer.json`, under "about"; where it says nothing, the model's kind does (`kinds/`). The page
opens with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassformer.config import from_mapping
from glassformer.errors import CheckpointCorrupt

LONGEST = 300  # characters of each


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a model does, as a sentence without its full stop, in English and in Chinese."""

    en: str
    zh: str
    input: str = ""  # an example
    output: str = ""


def read_about(value: Any) -> About | None:
    """What a folder says; None where it says nothing."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(
        isinstance(text, str) and len(text) <= LONGEST for text in value.values()
    ):
        raise CheckpointCorrupt(f"about must have texts of at most {LONGEST} characters.")
    return from_mapping(About, value, "about.")

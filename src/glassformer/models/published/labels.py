"""The names of a classifier's classes in Hugging Face's folders, and how many of them a text may have."""

from collections.abc import Mapping
from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.published.fields import Field, FieldGroup, Settings


def read_labels(theirs: Settings) -> dict[str, Any]:
    """The names of the classes in their order, if they have any, or how many classes there are."""
    id2label = theirs.get("id2label") or {}
    if isinstance(id2label, Mapping):
        named = {str(number): label for number, label in id2label.items()}
        numbers = [str(number) for number in range(len(named))]
        if set(named) == set(numbers):
            labels = [named[number] for number in numbers]
            n_classes = len(labels) or theirs.get("num_labels", 2)
            return {"n_classes": n_classes, "labels": [] if labels == numbered(len(labels)) else labels}
    raise ConfigError("id2label must map the numbers of the classes, from 0 on, to their names.")


def write_labels(ours: Any) -> dict[str, Any]:
    """The numbers of the classes to their names, and back."""
    labels = ours.labels or numbered(ours.n_classes)
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def numbered(n_classes: int) -> list[str]:
    """The names that `transformers` gives to classes without one."""
    return [f"LABEL_{number}" for number in range(n_classes)]


def write_labels_of_texts(ours: Any) -> dict[str, Any]:
    """The same, where the encoder has a head for classes, or says something of them all the same."""
    return write_labels(ours) if ours.head == "classes" or ours.labels or ours.n_classes != 2 else {}


LABELS = FieldGroup(
    theirs=("id2label", "label2id", "num_labels"),
    ours=("n_classes", "labels"),
    read=read_labels,
    write=write_labels,
)
LABELS_OF_TEXTS = FieldGroup(
    theirs=LABELS.theirs,
    ours=LABELS.ours,
    read=read_labels,
    write=write_labels_of_texts,
)
PROBLEM_TYPE = Field(
    "problem_type",
    "problem_type",
    default=None,
    values={
        None: "single-label",
        "single_label_classification": "single-label",
        "multi_label_classification": "multi-label",
        "regression": "regression",
    },
)

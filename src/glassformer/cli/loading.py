"""The model that a command names, and the options of every verb that loads one."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from glassformer.cli.output import progress_bar, remark
from glassformer.errors import ConfigError, GenerationError

if TYPE_CHECKING:
    from glassformer.api import Model
    from glassformer.models.spec import KindName

FromPickle = Annotated[
    bool,
    Parameter(
        negative="",
        help="Allow a file that torch pickled. Only its tensors are read, and its size is checked first.",
    ),
]

FLAGS = (
    "from_pickle",
    "context_length",
    "revision",
    "device",
    "dtype",
    "quantize",
)  # of `load`, which are not a format's options
ContextLength = Annotated[
    int | None,
    Parameter(
        help="How many tokens the model reads at once, where its files say less than it can; learned positions have "
        "no others.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Opening:
    """How a model's files are opened: the options of every verb that reads them."""

    from_pickle: FromPickle = False
    option: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="NAME=VALUE: what the file's format must be told, as no tensor tells it (fairseq: n_heads=8); can be "
            "given several times.",
        ),
    ] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The same, by name."""
        pairs = [text.partition("=") for text in self.option]
        for text, (name, equals, _) in zip(self.option, pairs, strict=True):
            if not (name and equals):
                raise ConfigError(f"--option {text}: it takes NAME=VALUE.")
        names = [name for name, _, _ in pairs]
        for name in names:
            if name in (*FLAGS, "source", "progress") or names.count(name) > 1:
                raise ConfigError(f"--option {name}: it is given twice, or a flag of its own.")
        return {name: value for name, _, value in pairs}


@Parameter(name="*")
@dataclass(frozen=True)
class Running(Opening):
    """The same, and where and how precisely the model runs."""

    device: Annotated[
        str, Parameter(help="Where the model runs: cpu, cuda, cuda:N, mps, or auto for the fastest here.")
    ] = "cpu"
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Parameter(help="The precision it runs in; half precision takes half the memory, and rounds more."),
    ] = "float32"
    quantize: Annotated[
        Literal["int8", "int4", "keep"] | None,
        Parameter(
            help="Run with weights of 8 or 4 bits, or keep those of a GGUF file as they are: less memory, and faster "
            "where that is the limit.",
        ),
    ] = None

    @property
    def where(self) -> dict[str, Any]:
        """The same, by the names that `load` has for it."""
        return {"device": self.device, "dtype": self.dtype, "quantize": self.quantize}


OPENING, RUNNING = Opening(), Running()


def load(source: str, *kinds: "KindName", opening: Opening = OPENING, context_length: int | None = None) -> "Model":
    """Load the model, refuse it unless it is of one of these kinds (any, without them), and pass on its note."""
    from glassformer.kinds import kind_of

    where = opening.where if isinstance(opening, Running) else {}
    model = opened(source, opening, context_length=context_length, **where)
    if kinds:
        try:
            model.require(*kinds)
        except GenerationError as error:
            verb = kind_of(model).verb_for(model)
            raise GenerationError(error.message, command=f"It is for glassformer {verb}.") from None
    if model.note:
        remark(f"{source}: {model.note}.")
    return model


def opened(source: str, opening: Opening, **where: Any) -> "Model":
    """The model of these files, or of this name on the Hub, whose commit is said."""
    from glassformer import api, hub

    of_hub = hub.parse(source) is not None and not os.path.exists(source)
    with progress_bar(f"fetching {source}", None) if of_hub else nullcontext() as update:
        model = api.load(source, from_pickle=opening.from_pickle, progress=update, **where, **opening.options)
    if of_hub:
        remark(f"{source} is {model.origin}.")
    return model

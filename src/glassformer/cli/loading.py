"""The model that a command names, and the options of every verb that loads one."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from glassformer.cli.output import remark
from glassformer.errors import GenerationError

if TYPE_CHECKING:
    from glassformer.api import Model
    from glassformer.models.spec import Kind

FromPickle = Annotated[
    bool,
    Parameter(
        negative="",
        help="Allow a file that torch pickled. Only its tensors are read, and its size is checked first.",
    ),
]
Device = Annotated[str, Parameter(help="Where the model runs: cpu, cuda, cuda:N, mps, or auto for the fastest here.")]
DType = Annotated[
    Literal["float32", "bfloat16", "float16"],
    Parameter(help="The precision it runs in; half precision takes half the memory, and rounds more."),
]

MADE_FOR: "dict[Kind, str]" = {  # the verb that runs a model of this kind
    "language-model": "generate",
    "encoder-decoder": "translate",
    "encoder": "neighbours",
    "image-classifier": "classify",
    "speech-recognizer": "transcribe",
    "word-vectors": "neighbours",
}


def load(
    source: str, *kinds: "Kind", from_pickle: bool = False, device: str = "cpu", dtype: str = "float32"
) -> "Model":
    """Load the model, refuse it unless it is of one of these kinds (any, without them), and pass on its note."""
    from glassformer import api

    model = api.load(source, from_pickle=from_pickle, device=device, dtype=dtype)
    if kinds:
        try:
            model.require(*kinds)
        except GenerationError as error:
            raise GenerationError(error.message, command=f"It is for glassformer {MADE_FOR[model.kind]}.") from None
    if model.note:
        remark(f"{source}: {model.note}.")
    return model

"""How tokens are chosen: the flags of every verb that continues texts."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Choosing:
    """The settings that were given; the others are as the model's files say, or as usual."""

    temperature: Annotated[
        float | None,
        Parameter(
            help="0 takes the most likely token; higher is bolder. This and the next four are as the model's "
            "generation_config.json says, where it does, and else 0.8, with --top-p 0.95; an answer in a chat is 0 "
            "where neither the file nor one of the next three says how to choose."
        ),
    ] = None
    top_k: Annotated[int | None, Parameter(help="Choose among the k most likely tokens; 0 among all.")] = None
    top_p: Annotated[
        float | None, Parameter(help="Choose among the most likely tokens that hold this share of the probability.")
    ] = None
    min_p: Annotated[
        float | None,
        Parameter(help="Choose among tokens at least this many times as likely as the most likely one."),
    ] = None
    repetition_penalty: Annotated[
        float | None, Parameter(help="Above 1, tokens that have come already become less likely.")
    ] = None
    no_repeat_ngram_size: Annotated[
        int | None, Parameter(help="So many tokens do not come in the same order twice; 0 lets them.")
    ] = None
    min_length: Annotated[
        int | None, Parameter(help="The least tokens that a text has before it may end, its prompt counted.")
    ] = None
    min_new_tokens: Annotated[int | None, Parameter(help="The same without the prompt; goes before --min-length.")] = (
        None
    )
    seed: Annotated[int, Parameter(help="The same seed gives the same text.")] = 0

    def settings(self) -> dict[str, Any]:
        """Those of `Sampling` and `OF_CALLS` that were given; raises where they cannot be, which needs no model."""
        from glassformer.inference.constraints import OF_CALLS, Constraints
        from glassformer.inference.logits import Sampling

        settings = {name: value for name, value in asdict(self).items() if value is not None}
        rules = {name: settings[name] for name in settings if name in OF_CALLS}
        Constraints(**rules)
        Sampling(**{name: settings[name] for name in settings if name not in rules})
        return settings


CHOOSING = Choosing()

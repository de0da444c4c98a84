"""A format of checkpoints from outside the package, in one file: sizes and weights of a GPT-2 as one JSON object."""

import torch
from torch import Tensor

from glassformer import strict_json
from glassformer.checkpoints import formats
from glassformer.checkpoints.formats.format import Contents, Format, Option, Source
from glassformer.config import from_mapping
from glassformer.models.gpt2 import GPT2Config
from glassformer.tokenizers.char import CharTokenizer

MAX_BYTES = 64 << 20


def sniff(source: Source) -> bool:
    return source.content == "json" and b'"toy"' in source.head


def read(source: Source, *, n_heads: int) -> tuple[Contents, dict[str, Tensor]]:
    toy = strict_json.read(source.path, MAX_BYTES)
    config = from_mapping(GPT2Config, toy["toy"] | {"n_heads": n_heads})
    weights = {name: torch.tensor(values) for name, values in toy["weights"].items()}
    return Contents(config=config, tokenizer=CharTokenizer(toy["letters"])), weights


HEADS = Option(name="n_heads", type=int, meaning="heads of a layer")
formats.register(Format(name="toy", files=".json of the toy", sniff=sniff, read=read, options=(HEADS,)))

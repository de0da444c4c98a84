"""minGPT's weights as JSON: {"config": {…}, "transformer.wte.weight": {"shape", "dtype", "data" in base64}, …}.

The models of github.com/karpathy/minGPT as github.com/bbycroft/llm-viz publishes them. Their names are Hugging Face's;
their matrices are stored as torch's Linear does, where Hugging Face has Conv1D's.
"""

import base64
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glassformer import strict_json
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.names import to_ours
from glassformer.checkpoints.tokenizer_files import read_neighbour
from glassformer.config import from_mapping
from glassformer.errors import CheckpointCorrupt
from glassformer.models.gpt2 import GPT2Config
from glassformer.tokenizers.char import CharTokenizer

MAX_BYTES = 64 << 20
LETTERS = CharTokenizer("ABC")
CONV1D = re.compile(r".*\.(c_attn|c_proj|c_fc)\.weight")


def read(source: Source) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters. A model of three tokens is the one that sorts letters."""
    content = strict_json.read(source.path, MAX_BYTES)
    fields = content.pop("config", None)
    if not isinstance(fields, dict):
        folder = "" if "model_type" not in content else " Of a Hugging Face model, name the folder."
        raise CheckpointCorrupt(f"there is no config, so this is no minGPT model.{folder}")
    config = gpt2_config(fields, activation="gelu_tanh", tied_head=False)
    state = {name: _tensor(tensor, f"tensor {name[:200]!r}") for name, tensor in content.items()}
    of_letters = config.vocab_size == LETTERS.vocab_size
    tokenizer, reason = (LETTERS, "") if of_letters else read_neighbour(source.path, config.vocab_size)
    return Contents(config=config, tokenizer=tokenizer, no_tokenizer=reason), to_ours(to_huggingface(state), config)


def sniff(source: Source) -> bool:
    """Whether it is JSON that begins with the sizes or with a tensor of minGPT's."""
    return source.content == "json" and re.search(rb'"(config"|transformer\.)', source.head) is not None


FORMAT = Format(name="minGPT", files=".json of minGPT", sniff=sniff, read=read)


def gpt2_config(theirs: Mapping[str, Any], *, activation: str, tied_head: bool) -> GPT2Config:
    """Our configuration from the fields that minGPT and nanoGPT share."""
    settings = {
        "vocab_size": theirs.get("vocab_size"),
        "context_length": theirs.get("block_size"),
        "d_model": theirs.get("n_embd"),
        "n_layers": theirs.get("n_layer"),
        "n_heads": theirs.get("n_head"),
        "activation": activation,
        "dropout": theirs.get("resid_pdrop", theirs.get("dropout", 0.0)),
        "tied_head": tied_head,
    }
    return from_mapping(GPT2Config, settings)


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with Conv1D's matrices, (d_in, d_out)."""
    return {
        name: tensor.mT if CONV1D.fullmatch(name) and tensor.dim() == 2 else tensor for name, tensor in state.items()
    }


def _tensor(fields: Any, where: str) -> Tensor:
    if not isinstance(fields, dict) or set(fields) != {"shape", "dtype", "data"}:
        raise CheckpointCorrupt(f"{where} must have shape, dtype and data, and nothing else.")
    shape, data = fields["shape"], fields["data"]
    if fields["dtype"] != "torch.float32" or not isinstance(data, str):
        raise CheckpointCorrupt(f"{where} must hold torch.float32 in base64.")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**31 for n in shape) or len(shape) > 8:
        raise CheckpointCorrupt(f"{where}: the shape must be a list of at most 8 positive whole numbers.")
    try:
        raw = base64.b64decode(data, validate=True)
    except ValueError:
        raise CheckpointCorrupt(f"{where}: the data is not base64.") from None
    if len(raw) != 4 * math.prod(shape):
        raise CheckpointCorrupt(f"{where} has {len(raw):,} bytes; its shape needs {4 * math.prod(shape):,}.")
    return torch.frombuffer(bytearray(raw), dtype=torch.float32).view(shape)

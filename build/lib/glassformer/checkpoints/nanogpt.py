"""nanoGPT's ckpt.pt: a zip that torch pickled, with "model" (a state dict) and "model_args".

Karpathy, github.com/karpathy/nanoGPT. How a pickle is opened is in `pickles.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glassformer.checkpoints import pickles
from glassformer.checkpoints.mingpt import gpt2_config, to_huggingface
from glassformer.checkpoints.names import to_ours
from glassformer.errors import CheckpointCorrupt
from glassformer.models.gpt2 import GPT2Config


def read(content: Any, path: Path) -> tuple[GPT2Config, dict[str, Tensor]]:
    """The configuration and our parameters, from what was pickled in the file."""
    state, args = (content.get("model"), content.get("model_args")) if isinstance(content, dict) else (None, None)
    if not isinstance(state, Mapping) or not isinstance(args, Mapping):
        raise CheckpointCorrupt(
            'there is no "model" with "model_args", as nanoGPT has them, nor "dims" with "model_state_dict" of Whisper.'
        )
    state = {str(name).removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    pickles.check_tensors(state, path)
    config = gpt2_config(args, activation="gelu", tied_head=True)
    if not args.get("bias", True):
        state |= _zero_biases(state)
    return config, to_ours(to_huggingface(state), config)


def _zero_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The biases that a model trained with bias=False leaves out."""
    weights = {name: tensor for name, tensor in state.items() if ".ln_" in name or ".c_" in name}
    return {
        name.removesuffix("weight") + "bias": tensor.new_zeros(tensor.shape[:1]) for name, tensor in weights.items()
    }

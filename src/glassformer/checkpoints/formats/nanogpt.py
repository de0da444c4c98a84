"""nanoGPT's ckpt.pt: a zip that torch pickled, with "model" (a state dict) and "model_args".

Karpathy, github.com/karpathy/nanoGPT. How a pickle is opened is in `pickles.py`.
"""

from collections.abc import Mapping

from torch import Tensor

from glassformer.checkpoints import pickles
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.formats.mingpt import gpt2_config, to_huggingface
from glassformer.checkpoints.names import to_ours
from glassformer.checkpoints.tokenizer_files import read_neighbour
from glassformer.errors import CheckpointCorrupt


def sniff(source: Source) -> bool:
    """Whether nanoGPT wrote it."""
    return source.is_pickle and isinstance(source.pickled, dict) and {"model", "model_args"} <= source.pickled.keys()


def read(source: Source) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters; the tokenizer lies beside the file."""
    state, args = source.pickled["model"], source.pickled["model_args"]
    if not isinstance(state, Mapping) or not isinstance(args, Mapping):
        raise CheckpointCorrupt('"model" and "model_args" must be tables, as nanoGPT has them.')
    state = {str(name).removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    pickles.check_tensors(state, source.path)
    config = gpt2_config(args, activation="gelu", tied_head=True)
    if not args.get("bias", True):
        state |= _zero_biases(state)
    tokenizer, reason = read_neighbour(source.path, config.vocab_size)
    return Contents(config=config, tokenizer=tokenizer, no_tokenizer=reason), to_ours(to_huggingface(state), config)


FORMAT = Format(name="nanoGPT", files=".pt of nanoGPT", sniff=sniff, read=read)


def _zero_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The biases that a model trained with bias=False leaves out."""
    weights = {name: tensor for name, tensor in state.items() if ".ln_" in name or ".c_" in name}
    return {
        name.removesuffix("weight") + "bias": tensor.new_zeros(tensor.shape[:1]) for name, tensor in weights.items()
    }

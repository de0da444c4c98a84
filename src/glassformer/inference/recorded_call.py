"""What a model computes from end to end as one call, which can be recorded as one pass; the module is not touched.

call = call_of(module)
logits = call(module, source, tokens)          of an encoder-decoder both halves, where `forward` is the second one
record(module, source, tokens, call=call)      (`tracing/recorder.py`)
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.features.log_mel import cut, log_mel_of_frames
from glassformer.models import spec_of
from glassformer.models.spec import ENCODER_DECODERS
from glassformer.nn.kv_cache import full

ModelCall = Callable[..., Tensor]  # of a module and its inputs


def call_of(module: Any) -> ModelCall:
    """The call of a whole model of ours: of an encoder-decoder `both_halves`, else the module's own."""
    return both_halves if spec_of(module.config).kind in ENCODER_DECODERS else nn.Module.__call__


def both_halves(module: Any, source: Tensor, tokens: Tensor, source_valid: Tensor | None = None) -> Tensor:
    """The logits (B, T, V) after each of the target's tokens (B, T); `source_valid` is False at padding."""
    padding = () if source_valid is None else (source_valid,)
    logits: Tensor = module(tokens, module.begin(source, full(tokens.shape[-1]), *padding))
    return logits


def from_sound(module: Any, waveform: Float[Tensor, " N"], tokens: Int[Tensor, "1 T"]) -> Tensor:
    """The logits (1, T, V) of a Whisper after each token; all frames of the sound are worked on at once, to be seen."""
    frames = torch.cat(list(cut([waveform])))
    mel = log_mel_of_frames([frames], module.config.n_mels)
    logits = both_halves(module, mel[None], tokens)
    return logits

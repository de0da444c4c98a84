"""More than a module's own `forward` as one call, which can be recorded as one pass; the module is not touched.

whole = around(OnePass, module)     whole(source, tokens) encodes and decodes; module still does the half
"""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.features.log_mel import cut, log_mel_of_frames
from glassformer.models import spec_of
from glassformer.models.spec import TWO_HALVES
from glassformer.nn.kv_cache import full


class OnePass(nn.Module):
    """Around an encoder-decoder: both halves, one after the other."""

    def forward(self, source: Tensor, tokens: Tensor, source_valid: Tensor | None = None) -> Tensor:
        """The logits (B, T, V) after each of the target's tokens (B, T); `source_valid` is False at padding."""
        this: Any = self
        padding = () if source_valid is None else (source_valid,)
        logits: Tensor = super().forward(tokens, this.begin(source, full(tokens.shape[-1]), *padding))
        return logits


class FromSound(nn.Module):
    """Around both halves of a Whisper: from the waveform on."""

    def forward(self, waveform: Float[Tensor, " N"], tokens: Int[Tensor, "1 T"]) -> Tensor:
        """The logits (1, T, V) after each token; all frames of the sound are worked on at once, to be seen together."""
        this: Any = self
        frames = torch.cat(list(cut([waveform])))
        mel = log_mel_of_frames([frames], this.config.n_mels)
        logits: Tensor = super().forward(mel[None], tokens)
        return logits


def whole(module: nn.Module) -> nn.Module:
    """The module as one call: of an encoder-decoder both halves."""
    this: Any = module
    return around(OnePass, module) if spec_of(this.config).kind in TWO_HALVES else module


def around(outer: type[nn.Module], module: nn.Module) -> nn.Module:
    """The same module, sharing all it has, called through `outer.forward`; its parts keep their paths, it its name."""
    if isinstance(module, outer):
        return module
    changed = copy.copy(module)
    changed.__class__ = type(type(module).__name__, (outer, type(module)), {})
    return changed

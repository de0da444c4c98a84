"""SmolLM3: in every fourth layer queries and keys do not turn with their positions.

Such a layer knows of order only what the others have written into the stream (NoPE; Kazemnejad et al. 2023,
arXiv:2305.19466; with rotary layers in between, Yang et al. 2025, arXiv:2501.18795).
"""

from dataclasses import dataclass
from typing import ClassVar

from glassformer.errors import ConfigError
from glassformer.models.decoder import Decoder, DecoderConfig, initialize
from glassformer.models.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SmolLM3Config(DecoderConfig):
    """Sizes and choices of a SmolLM3; the defaults are those of the published model, with 3 billion parameters."""

    architecture: ClassVar[str] = "smollm3"

    vocab_size: int = 128256
    context_length: int = 65536
    d_model: int = 2048
    n_layers: int = 36
    n_heads: int = 16
    n_kv_heads: int = 4
    norm_eps: float = 1e-6
    rope_theta: float = 5_000_000.0
    tied_head: bool = True
    rotary_layers: tuple[bool, ...] = (True, True, True, False)  # whether each layer in turn rotates

    def __post_init__(self) -> None:
        DecoderConfig.__post_init__(self)
        if not self.rotary_layers or not all(isinstance(rotates, bool) for rotates in self.rotary_layers):
            raise ConfigError(f"rotary_layers must be a list of true and false, not {self.rotary_layers!r}.")

    @property
    def rotated(self) -> tuple[bool, ...]:
        """Whether a layer turns queries and keys by their positions, for each layer."""
        return tuple(self.rotary_layers[i % len(self.rotary_layers)] for i in range(self.n_layers))


class SmolLM3(Decoder):
    """Tokens to the logits of the token after each."""


PRESETS = {"smollm3-3b": SmolLM3Config()}

SPEC = ModelSpec(config=SmolLM3Config, module=SmolLM3, initialize=initialize, presets=PRESETS)

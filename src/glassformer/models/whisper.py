"""Whisper: an encoder that hears thirty seconds of sound, and a decoder that writes down what was said.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision" (arXiv:2212.04356). Both halves are
pre-norm with GELU; two convolutions make one position of every 20 ms. Next to read: `features/log_mel.py` for what
goes in, `inference/transcribe.py` for what is made of what comes out.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.errors import ConfigError, GenerationError
from glassformer.models.spec import ModelSpec, check_fraction, check_heads, check_sizes
from glassformer.nn import functional as F
from glassformer.nn import init
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock
from glassformer.nn.convolution import Conv1d
from glassformer.nn.dropout import Dropout
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import MLP
from glassformer.nn.kv_cache import Policy
from glassformer.nn.linear import Linear
from glassformer.nn.mask import Everything, Mask
from glassformer.nn.memory import DecoderState
from glassformer.nn.norm import LayerNorm
from glassformer.nn.position import sinusoidal

Heads = tuple[tuple[int, int], ...]  # (block, head) of the decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperConfig:
    """Sizes of a Whisper; the defaults are those of the smallest published one, for English alone."""

    architecture: ClassVar[str] = "whisper"

    vocab_size: int = 51864
    context_length: int = 448  # tokens of the decoder
    audio_context_length: int = 1500  # positions of the encoder, two frames of sound each
    n_mels: int = 80
    d_model: int = 384
    n_encoder_layers: int = 4
    n_decoder_layers: int = 4
    n_heads: int = 6
    d_ff: int = 0  # 0: four times d_model
    dropout: float = 0.0  # on embeddings, attention weights and sublayer outputs, while training
    alignment_heads: Heads = ()  # whose weights follow the speech; empty: all in the upper half of the decoder

    def __post_init__(self) -> None:
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        check_sizes(self, "vocab_size", "context_length", "audio_context_length", "n_mels", "d_model")
        check_sizes(self, "n_encoder_layers", "n_decoder_layers", "n_heads", "d_ff")
        check_fraction(self, "dropout")
        check_heads(self)
        if self.d_model % 2 or self.d_model < 4:
            raise ConfigError(f"d_model must be even and at least 4, for pairs of sine and cosine, not {self.d_model}.")
        for block, head in self.alignment_heads:
            if not (0 <= block < self.n_decoder_layers and 0 <= head < self.n_heads):
                raise ConfigError(f"alignment_heads: the decoder has no head {head} in a block {block}.")

    @property
    def d_head(self) -> int:
        """Features of a head."""
        return self.d_model // self.n_heads


class Whisper(nn.Module):
    """Frames of sound and the tokens so far to the logits of the token after each."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def begin(self, source: Float[Tensor, "B M frames"], policy: Policy) -> DecoderState:
        """Listen to log-mel frames, 100 a second; no token has been read yet."""
        memory = self.encoder(source)
        return DecoderState(memory, self.config.n_decoder_layers, policy)

    def forward(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token; the state takes the tokens in. `valid` is False at padding."""
        logits: Tensor = self.decoder(tokens, state, valid)
        return logits

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        return self.decoder.last_vectors(tokens, state, valid)

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        return self.decoder.unembed(x)


@torch.no_grad()
def initialize(model: Whisper, generator: torch.Generator | None) -> None:
    """Blocks as in GPT-2, convolutions as linear layers, the encoder's positions at their sines and cosines."""
    encoder, config = model.encoder, model.config
    for part in (encoder.conv1, encoder.conv2, encoder.final_norm):
        init.initialize(part, generator)
    encoder.position_embedding.copy_(position_table(config))
    init.init_like_gpt2(encoder.blocks, generator, n_layers=config.n_encoder_layers)
    init.init_like_gpt2(model.decoder, generator, n_layers=config.n_decoder_layers)


def position_table(config: WhisperConfig) -> Float[Tensor, "S C"]:
    """Where the encoder's positions stand, which Whisper never learned."""
    return sinusoidal(torch.arange(config.audio_context_length), config.d_model, "tensor2tensor")


class Encoder(nn.Module):
    """Log-mel frames to the memory, one position for every two frames."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = Conv1d(config.n_mels, config.d_model, width=3, padding=1)
        self.conv2 = Conv1d(config.d_model, config.d_model, width=3, stride=2, padding=1)
        # A parameter, since published files have it, rounded to float16.
        self.position_embedding = nn.Parameter(position_table(config), requires_grad=False)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(encoder_block(config) for _ in range(config.n_encoder_layers))
        self.final_norm = LayerNorm(config.d_model)

    def forward(self, mel: Float[Tensor, "B M frames"]) -> Float[Tensor, "B S C"]:
        """The memory; sound of more frames than the model has positions raises `GenerationError`."""
        x = F.gelu(self.conv1(mel.mT))
        x = F.gelu(self.conv2(x))
        n_positions = x.shape[1]
        if n_positions > len(self.position_embedding):
            raise GenerationError(
                f"{mel.shape[-1]} frames of sound are too many: this model hears {2 * len(self.position_embedding)} at "
                "once. Cut the recording into windows."
            )
        x = self.dropout(x + self.position_embedding[:n_positions])
        mask = Mask.over(Everything(), n_positions, x.device)
        for block in self.blocks:
            x = block(x, mask)
        memory: Tensor = self.final_norm(x)
        return memory


class Decoder(nn.Module):
    """The tokens so far, and the memory of the sound, to the logits of the token after each."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = Embedding(config.context_length, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(decoder_block(config) for _ in range(config.n_decoder_layers))
        self.final_norm = LayerNorm(config.d_model)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        self.lm_head.weight = self.token_embedding.weight

    def forward(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token; the state takes the tokens in."""
        return self.unembed(self.last_vectors(tokens, state, valid))

    def last_vectors(
        self, tokens: Int[Tensor, "B T"], state: DecoderState, valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the head reads of each token, of which `unembed` makes logits."""
        step = state.step(tokens, valid)
        memory_mask = state.memory_mask(tokens.shape[-1])
        x: Tensor = self.token_embedding(tokens) + self.position_embedding(step.places)
        x = self.dropout(x)
        for block, (mask, cache), memory in zip(self.blocks, step.layers, state.memories, strict=True):
            x = block(x, mask, memory, memory_mask, cache=cache)
        x = self.final_norm(x)
        return x

    def unembed(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """The logits of the token after each."""
        logits: Tensor = self.lm_head(x)
        return logits


def attention(config: WhisperConfig) -> Attention:
    """Whisper's attention has no bias on its keys."""
    return Attention(config.d_model, config.n_heads, k_bias=False, dropout=config.dropout)


def encoder_block(config: WhisperConfig) -> Block:
    """One of the equal blocks of the encoder."""
    return Block(
        attn_norm=LayerNorm(config.d_model),
        attn=attention(config),
        mlp_norm=LayerNorm(config.d_model),
        mlp=MLP(config.d_model, config.d_ff, "gelu"),
        norm_placement="pre",
        dropout=config.dropout,
    )


def decoder_block(config: WhisperConfig) -> CrossBlock:
    """One of the equal blocks of the decoder."""
    return CrossBlock(
        attn_norm=LayerNorm(config.d_model),
        attn=attention(config),
        cross_norm=LayerNorm(config.d_model),
        cross_attn=attention(config),
        mlp_norm=LayerNorm(config.d_model),
        mlp=MLP(config.d_model, config.d_ff, "gelu"),
        norm_placement="pre",
        dropout=config.dropout,
    )


ENGLISH, MULTILINGUAL = WhisperConfig(), WhisperConfig(vocab_size=51865)


def sized(
    base: WhisperConfig, d_model: int, n_layers: int, n_heads: int, heads: Heads, **changes: int
) -> WhisperConfig:
    """A Whisper with as many blocks in the encoder as in the decoder, if `changes` do not say otherwise."""
    sizes = {"d_model": d_model, "n_encoder_layers": n_layers, "n_decoder_layers": n_layers, "n_heads": n_heads}
    return replace(base, d_ff=0, alignment_heads=heads, **{**sizes, **changes})


# fmt: off
PRESETS = {  # the alignment heads are those that OpenAI published with its code
    "whisper-tiny.en": sized(
        ENGLISH, 384, 4, 6, ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))),
    "whisper-tiny": sized(
        MULTILINGUAL, 384, 4, 6, ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5))),
    "whisper-base.en": sized(
        ENGLISH, 512, 6, 8, ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7))),
    "whisper-base": sized(
        MULTILINGUAL, 512, 6, 8, ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))),
    "whisper-small.en": sized(
        ENGLISH, 768, 12, 12,
        ((6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10), (10, 0), (10, 1),
         (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4))),
    "whisper-small": sized(
        MULTILINGUAL, 768, 12, 12,
        ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5))),
    "whisper-medium.en": sized(
        ENGLISH, 1024, 24, 16,
        ((11, 4), (14, 1), (14, 12), (14, 14), (15, 4), (16, 0), (16, 4), (16, 9), (17, 12), (17, 14), (18, 7),
         (18, 10), (18, 15), (20, 0), (20, 3), (20, 9), (20, 14), (21, 12))),
    "whisper-medium": sized(
        MULTILINGUAL, 1024, 24, 16, ((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4))),
    "whisper-large-v1": sized(
        MULTILINGUAL, 1280, 32, 20,
        ((9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15))),
    "whisper-large-v2": sized(
        MULTILINGUAL, 1280, 32, 20,
        ((10, 12), (13, 17), (16, 11), (16, 12), (16, 13), (17, 15), (17, 16), (18, 4), (18, 11), (18, 19), (19, 11),
         (21, 2), (21, 3), (22, 3), (22, 9), (22, 12), (23, 5), (23, 7), (23, 13), (25, 5), (26, 1), (26, 12),
         (27, 15))),
    "whisper-large-v3": sized(
        MULTILINGUAL, 1280, 32, 20,
        ((7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6)),
        vocab_size=51866, n_mels=128),
    "whisper-large-v3-turbo": sized(
        MULTILINGUAL, 1280, 32, 20, ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
        vocab_size=51866, n_mels=128, n_decoder_layers=4),
}
# fmt: on


SPEC = ModelSpec(
    config=WhisperConfig,
    module=Whisper,
    initialize=initialize,
    presets=PRESETS,
    kind="speech-recognizer",
)

"""A decoder as the tables that `kernels/decode_step.py` reads: where its parameters lie, and what its layers do.

It may stand beside an encoder: then it looks at the memory, whose keys and values the module itself computes.

Nothing is copied. What the tables cannot say ends in `NotCovered`: a class that is not exactly one of those known here,
since a class that derives from it may compute something else.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.kernels import decode_step as kernel
from glassformer.kernels.quantized import Q4_0, Q4_1, Q8_0
from glassformer.models.bart import Bart
from glassformer.models.decoder import Decoder
from glassformer.models.gemma import Gemma, rounded
from glassformer.models.gpt2 import GPT2
from glassformer.models.granite import Granite
from glassformer.models.t5 import T5
from glassformer.models.transformer import Transformer, TransformerConfig
from glassformer.models.whisper import Whisper
from glassformer.nn import functional as F
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block, CrossBlock, ParallelBlock, SandwichBlock
from glassformer.nn.embedding import Embedding
from glassformer.nn.feedforward import MLP, GeGLU, SwiGLU
from glassformer.nn.linear import Linear, ScaledLinear
from glassformer.nn.norm import JointRMSNorm, LayerNorm, RMSNorm, UnitOffsetRMSNorm, WideRMSNorm
from glassformer.nn.position import sinusoidal
from glassformer.nn.position_bias import RelativePositionBias
from glassformer.nn.quantized import QuantizedEmbedding, QuantizedLinear
from glassformer.nn.quantized_matrix import GROUP, TILE, QuantizedMatrix
from glassformer.nn.rope import RoPE
from glassformer.torch_internals import is_compiled

NORMS: dict[type[nn.Module], int] = {
    LayerNorm: kernel.LAYER_NORM,
    RMSNorm: kernel.RMS_NORM,
    WideRMSNorm: kernel.RMS_NORM,  # in float32 they are the same
    JointRMSNorm: kernel.RMS_NORM,
    UnitOffsetRMSNorm: kernel.UNIT_OFFSET_RMS_NORM,
}
ACTIVATIONS: dict[Callable[[Tensor], Tensor], int] = {
    F.relu: kernel.RELU,
    F.silu: kernel.SILU,
    F.gelu: kernel.GELU,
    F.gelu_tanh: kernel.GELU_TANH,
}
LEVELS = {"q8_0": Q8_0, "q4_0": Q4_0, "q4_1": Q4_1}
GATES: dict[type[nn.Module], int] = {SwiGLU: kernel.SILU, GeGLU: kernel.GELU_TANH}


class NotCovered(Exception):
    """A part of a module that the tables cannot say; the module itself runs."""


class DecodeTables:
    """The tables of a `Decoder`, `GPT2`, `Whisper`, `Bart`, `T5` or `Transformer`; raises `NotCovered` for others."""

    def __init__(self, module: nn.Module) -> None:
        if any(is_compiled(part) or "forward" in vars(part) for part in module.modules()):
            raise NotCovered("a part is compiled, or its forward is one of its own")
        self.matrices: list[list[int]] = []
        self.norms: list[list[int]] = []
        self.layers: list[list[int]] = []
        self.numbers: list[list[float]] = []  # of the layers
        self.model_numbers = [1.0, 1.0, 0.0, 1.0]
        self.ropes: list[RoPE] = []
        self.place_table, self.n_places = 0, math.inf
        self.embedding_norm = -1
        self.position_bias: RelativePositionBias | None = None
        self.has_memory = type(module) in (Whisper, Bart, T5, Transformer)
        self.is_quantized = False
        self.quantized_tokens: QuantizedEmbedding | None = None  # whose rows are dequantized before each step
        rope_of_layer = self._read_model(module)
        whole: Any = module
        decoder: Any = whole.decoder if self.has_memory else whole
        model: Any = decoder if type(module) is Whisper else whole  # which has the embedding and the head
        self.d_model: int = whole.config.d_model
        for block, rope in zip(decoder.blocks, rope_of_layer, strict=True):
            self._read_block(block, rope)
        hidden = {self.matrices[layer[kernel.DOWN]][kernel.COLUMNS] for layer in self.layers}
        heads = {tuple(layer[kernel.N_HEADS : kernel.D_HEAD + 1]) for layer in self.layers}
        if len(hidden) != 1 or len(heads) != 1:
            raise NotCovered("layers of different sizes")
        (self.d_ff,) = hidden
        self.final_norm = -1 if type(module) is Bart else self._norm(decoder.final_norm)
        self.head = self._matrix(model.lm_head)
        if type(model.lm_head) is ScaledLinear:
            self.model_numbers[kernel.LOGIT_SCALE] *= model.lm_head.scaling
        if type(model.lm_head) is QuantizedLinear:
            self.model_numbers[kernel.LOGIT_SCALE] *= model.lm_head.divisor
        self.n_tokens = self.matrices[self.head][kernel.ROWS]
        self.token_table = self._table(model.token_embedding, self.n_tokens)
        for matrix in self.matrices[: self.head]:
            if matrix[kernel.LEVELS] >= 0 and matrix[kernel.ROWS] % TILE:
                raise NotCovered("a quantized matrix whose rows make no whole tiles")

    def _read_model(self, module: Any) -> list[int]:
        """What a family has of its own; the number of each layer's angles, -1 where it has none."""
        cls: Any = type(module)
        config: Any = getattr(module, "config", None)
        if cls in (GPT2, Whisper, Bart):
            embedding = module.position_embedding if cls is GPT2 else module.decoder.position_embedding
            self.place_table = self._table(embedding, config.context_length)
            self.n_places = config.context_length
        if cls is Transformer:
            self.places = sinusoids(config)
            self.place_table, self.n_places = self.places.data_ptr(), config.context_length
        if cls is Bart:
            self.embedding_norm = self._norm(module.decoder.embedding_norm)
        if cls is T5:
            self.position_bias = module.decoder.position_bias
            self._address(module.decoder.position_bias.weight)  # whose numbers are float32's
            self.model_numbers[kernel.LOGIT_SCALE] = math.sqrt(config.d_model) if config.tied_head else 1.0
        if cls in (Bart, Transformer) and config.scaled_embedding:
            self.model_numbers[kernel.EMBEDDING_SCALE] = math.sqrt(config.d_model)
        if cls is GPT2 or self.has_memory:
            return [-1] * len(module.blocks if cls is GPT2 else module.decoder.blocks)
        read = cls.forward, getattr(cls, "last_vectors", None)
        if not isinstance(module, Decoder) or read != (Decoder.forward, Decoder.last_vectors):
            raise NotCovered(f"a {cls.__name__}")
        if cls.embed is Granite.embed:
            self.model_numbers[kernel.EMBEDDING_SCALE] = config.embedding_multiplier
        elif cls.embed is Gemma.embed:
            self.model_numbers[kernel.EMBEDDING_SCALE] = rounded(math.sqrt(config.d_model), torch.float32)
        elif cls.embed is not Decoder.embed:
            raise NotCovered("vectors of its own")
        if cls.unembed is Gemma.unembed:
            self.model_numbers[kernel.LOGIT_CAP] = config.logit_softcap
        elif cls.unembed is not Decoder.unembed:
            raise NotCovered("logits of its own")
        self.ropes = [] if module.rope is None else [module.rope]
        if self.ropes and self.ropes[0].scaling is not None:
            self.model_numbers[kernel.AMPLITUDE] = self.ropes[0].scaling.amplitude
        if isinstance(module, Gemma) and cls.rotations is Gemma.rotations:
            if module.local_rope == module.rope:
                return [0] * config.n_layers
            self.ropes.append(module.local_rope)  # which no scaling changes
            return [int(layer in config.local) for layer in range(config.n_layers)]
        if cls.rotations is not Decoder.rotations:
            raise NotCovered("rotations of its own")
        return [0 if rotated and self.ropes else -1 for rotated in module.rotated]

    def _read_block(self, block: Any, rope: int) -> None:
        attn, mlp, multiplier, none = block.attn, block.mlp, 1.0, -1
        if type(attn) is not Attention or (type(block) is CrossBlock) != self.has_memory:
            raise NotCovered(f"a {type(attn).__name__} in a {type(block).__name__}")
        first, second = self._norm(block.attn_norm), self._norm(block.mlp_norm)
        if type(block) is SandwichBlock:
            norms = [first, self._norm(block.attn_post_norm), none, second, self._norm(block.mlp_post_norm), none]
        elif type(block) is ParallelBlock or (type(block) in (Block, CrossBlock) and block.norm_placement == "pre"):
            norms = [first, none, none, second, none, none]
        elif type(block) is Block and block.norm_placement == "res-post":
            norms = [none, first, none, none, second, none]
        elif type(block) in (Block, CrossBlock):
            norms = [none, none, first, none, none, second]
        else:
            raise NotCovered(f"a {type(block).__name__}")
        if isinstance(block, Block):
            multiplier = block.residual_multiplier
        products = [self._matrix(part) for part in (attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj)]
        query_norm, key_norm = (none if norm is None else self._norm(norm) for norm in (attn.q_norm, attn.k_norm))
        if type(attn.q_norm) is not type(attn.k_norm):
            raise NotCovered("queries and keys that are normalised each in its way")
        if type(mlp) is MLP:
            products += [none, self._matrix(mlp.up_proj)]
            activation = ACTIVATIONS.get(mlp.activation)
        else:
            activation = GATES.get(type(mlp))
            if activation is None:
                raise NotCovered(f"a {type(mlp).__name__}")
            products += [self._matrix(mlp.gate_proj), self._matrix(mlp.up_proj)]
        if activation is None:
            raise NotCovered("an activation of its own")
        products.append(self._matrix(mlp.down_proj))
        is_parallel, is_joint = type(block) is ParallelBlock, type(attn.q_norm) is JointRMSNorm
        sizes = [attn.n_heads, attn.n_kv_heads, attn.d_head]
        self.layers.append(
            [*products, *norms, query_norm, key_norm, *sizes, activation, is_parallel, is_joint, rope, 0]
            + (self._cross(block, sizes) if self.has_memory else [none] * 5)
        )
        scale, cross_scale = scale_of(attn), scale_of(block.cross_attn) if self.has_memory else 0.0
        self.numbers.append([scale, attn.softcap or 0.0, multiplier, cross_scale])

    def _cross(self, block: CrossBlock, sizes: list[int]) -> list[int]:
        """The products and norms of attention to the memory, whose keys and values the module itself computes."""
        attn, norm, none = block.cross_attn, self._norm(block.cross_norm), -1
        if type(attn) is not Attention or [attn.n_heads, attn.n_kv_heads, attn.d_head] != sizes:
            raise NotCovered("attention to the memory of another kind or size")
        if any(part is not None for part in (attn.q_norm, attn.softcap, block.attn.softcap)):
            raise NotCovered("queries of the memory that are normalised, or scores that are capped")
        norms = [norm, none, none] if block.norm_placement == "pre" else [none, none, norm]
        return [self._matrix(attn.q_proj), self._matrix(attn.o_proj), *norms]

    def _matrix(self, linear: Any) -> int:
        if type(linear) not in (Linear, ScaledLinear, QuantizedLinear):
            raise NotCovered(f"a {type(linear).__name__}")
        bias = 0 if linear.bias is None else self._address(linear.bias)
        if type(linear) is QuantizedLinear:
            place, *levels = self._quantized(linear.weight)
        else:
            place, levels = self._address(linear.weight), [-1, 0, 0]
        self.matrices.append([place, bias, *linear.weight.shape, *levels])
        return len(self.matrices) - 1

    def _quantized(self, matrix: QuantizedMatrix) -> list[int]:
        """Where the levels of a quantized matrix lie, their kind, and where their scales and offsets do."""
        if matrix.levels.device.type != "cpu" or matrix.shape[1] % GROUP:
            raise NotCovered("a quantized matrix that lies elsewhere, or whose columns make no whole groups")
        self.is_quantized = True
        offset = 0 if matrix.offset is None else matrix.offset.data_ptr()
        return [matrix.levels.data_ptr(), LEVELS[matrix.kind], matrix.scale.data_ptr(), offset]

    def _norm(self, norm: Any) -> int:
        """The number of a norm; -1 where there is none."""
        if type(norm) is nn.Identity:
            return -1
        kind = NORMS.get(type(norm))
        if kind is None:
            raise NotCovered(f"a {type(norm).__name__}")
        weight: Tensor = norm.offset if kind == kernel.UNIT_OFFSET_RMS_NORM else norm.weight
        bias = self._address(norm.bias) if kind == kernel.LAYER_NORM else 0
        epsilon = round(math.ldexp(norm.eps, 60))
        self.norms.append([kind, self._address(weight), bias, weight.numel(), epsilon])
        return len(self.norms) - 1

    def _table(self, embedding: Any, n_rows: int) -> int:
        """Where the vectors lie, of which so many may be asked for."""
        if type(embedding) is QuantizedEmbedding:
            self.quantized_tokens = embedding
        elif type(embedding) is not Embedding:
            raise NotCovered(f"a {type(embedding).__name__}")
        if embedding.weight.shape[0] < n_rows:
            raise NotCovered("a table that lacks vectors")
        return 0 if self.quantized_tokens is embedding else self._address(embedding.weight)

    def _address(self, parameter: Tensor) -> int:
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu" or not parameter.is_contiguous():
            raise NotCovered("numbers that are no float32, or lie elsewhere or out of order")
        return parameter.data_ptr()


def scale_of(attn: Attention) -> float:
    """What the scores are multiplied by."""
    return 1 / math.sqrt(attn.d_head) if attn.scale is None else attn.scale


@cache
def sinusoids(config: TransformerConfig) -> Tensor:
    """The vectors of all places, the same whenever they are asked for."""
    places = torch.arange(config.context_length) + config.first_position
    return sinusoidal(places, config.d_model, config.position_layout)

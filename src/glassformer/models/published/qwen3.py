"""Qwen3 in Hugging Face's folders."""

from glassformer.models.published.decoder import ATTENTION_BIAS, LIKE_LLAMA, QWEN, decoder_tensors, fields, without
from glassformer.models.published.fields import OurConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.windows import WINDOWS_BY_LAYER
from glassformer.models.qwen3 import Qwen3Config

PUBLISHED = Published(
    config=Qwen3Config,
    name="Qwen3",
    model_types=("qwen3",),
    fields=(
        WriteOnly("architectures", ["Qwen3ForCausalLM"]),
        *fields(**QWEN, head_dim=128),
        ATTENTION_BIAS,
        WINDOWS_BY_LAYER,
        OurConstant("qk_norm", True),
        *without("mlp_bias", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

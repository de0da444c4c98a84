"""Qwen2 and Qwen2.5 in Hugging Face's folders."""

from glassformer.models.published.decoder import LIKE_LLAMA, QWEN, decoder_tensors, fields, without
from glassformer.models.published.fields import OurConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.windows import WINDOWS_BY_LAYER
from glassformer.models.qwen2 import Qwen2Config

PUBLISHED = Published(
    config=Qwen2Config,
    name="Qwen2",
    model_types=("qwen2",),
    fields=(
        WriteOnly("architectures", ["Qwen2ForCausalLM"]),
        *fields(**QWEN),
        WINDOWS_BY_LAYER,
        OurConstant("qkv_bias", True),
        *without("o_bias", "mlp_bias", "qk_norm", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

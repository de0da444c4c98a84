"""Llama in Hugging Face's folders."""

from glassformer.models.llama import LlamaConfig
from glassformer.models.published.decoder import LIKE_LLAMA, NO_BIASES, decoder_tensors, fields, without
from glassformer.models.published.fields import WriteOnly
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=LlamaConfig,
    name="Llama",
    model_types=("llama",),
    fields=(
        WriteOnly("architectures", ["LlamaForCausalLM"]),
        *fields(),
        *NO_BIASES,
        *without("qkv_bias", "qk_norm", "sliding_windows", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

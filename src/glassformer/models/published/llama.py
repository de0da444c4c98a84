"""Llama in Hugging Face's folders."""

from glassformer.models.llama import LlamaConfig
from glassformer.models.published.decoder import ATTENTION_BIAS, LIKE_LLAMA, MLP_BIAS, decoder_tensors, fields, without
from glassformer.models.published.fields import WriteOnly
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=LlamaConfig,
    name="Llama",
    model_types=("llama",),
    fields=(
        WriteOnly("architectures", ["LlamaForCausalLM"]),
        *fields(),
        ATTENTION_BIAS,
        MLP_BIAS,
        *without("qk_norm", "sliding_windows", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

"""Granite in Hugging Face's folders."""

from glassformer.models.granite import CONSTANTS, GraniteConfig
from glassformer.models.published.decoder import ATTENTION_BIAS, LIKE_LLAMA, MLP_BIAS, decoder_tensors, fields, without
from glassformer.models.published.fields import Field, WriteOnly
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=GraniteConfig,
    name="Granite",
    model_types=("granite",),
    fields=(
        WriteOnly("architectures", ["GraniteForCausalLM"]),
        *fields(),
        ATTENTION_BIAS,
        MLP_BIAS,
        *(Field(name, name, default=1.0) for name in CONSTANTS),
        *without("qk_norm", "sliding_windows", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

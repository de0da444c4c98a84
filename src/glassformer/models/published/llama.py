"""Llama in Hugging Face's folders."""

from glassformer.models.llama import LlamaConfig
from glassformer.models.published.decoder import FIELDS, IGNORED, INDICES, TIED, decoder_tensors
from glassformer.models.published.fields import Implied, Written
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=LlamaConfig,
    name="Llama",
    model_types=("llama",),
    fields=(
        Written("architectures", ["LlamaForCausalLM"]),
        *FIELDS,
        Implied("qkv_bias", False),
        Implied("qk_norm", False),
        Implied("sliding_windows", ()),
        Implied("experts", None),
    ),
    tensors=decoder_tensors,
    indices=INDICES,
    ignored=IGNORED,
    base_prefix="model.",
    tied=TIED,
)

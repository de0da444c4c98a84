"""Llama in Hugging Face's folders."""

from glassformer.models.llama import LlamaConfig
from glassformer.models.published.decoder import FIELDS, IGNORED, INDICES, TIED, decoder_tensors
from glassformer.models.published.fields import OurConstant, WriteOnly
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=LlamaConfig,
    name="Llama",
    model_types=("llama",),
    fields=(
        WriteOnly("architectures", ["LlamaForCausalLM"]),
        *FIELDS,
        OurConstant("qkv_bias", False),
        OurConstant("qk_norm", False),
        OurConstant("sliding_windows", ()),
        OurConstant("experts", None),
    ),
    tensors=decoder_tensors,
    indices=INDICES,
    ignored=IGNORED,
    base_prefix="model.",
    tied=TIED,
)

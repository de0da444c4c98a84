"""Mistral in Hugging Face's folders."""

from glassformer.models.mistral import MistralConfig
from glassformer.models.published.decoder import LIKE_LLAMA, decoder_tensors, fields, without
from glassformer.models.published.fields import WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.windows import window_of_all

PUBLISHED = Published(
    config=MistralConfig,
    name="Mistral",
    model_types=("mistral",),
    fields=(
        WriteOnly("architectures", ["MistralForCausalLM"]),
        *fields(max_position_embeddings=131072, num_key_value_heads=8, intermediate_size=14336),
        window_of_all(default=4096),
        *without("qkv_bias", "o_bias", "mlp_bias", "qk_norm", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

"""OLMo 2 in Hugging Face's folders, where norms are called by the sublayers that they follow."""

from functools import partial

from glassformer.models.olmo2 import Olmo2Config
from glassformer.models.published.decoder import ATTENTION_BIAS, LIKE_LLAMA, decoder_tensors, fields, norms, without
from glassformer.models.published.fields import OurConstant, WriteOnly
from glassformer.models.published.table import Published

PUBLISHED = Published(
    config=Olmo2Config,
    name="OLMo2",
    model_types=("olmo2",),
    fields=(
        WriteOnly("architectures", ["Olmo2ForCausalLM"]),
        *fields(vocab_size=50304, rms_norm_eps=1e-5),
        ATTENTION_BIAS,
        OurConstant("qk_norm", True),
        *without("mlp_bias", "sliding_windows", "experts"),
    ),
    tensors=partial(decoder_tensors, norm_rows=norms("post_attention_layernorm", "post_feedforward_layernorm")),
    **LIKE_LLAMA,
)

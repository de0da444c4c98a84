"""Gemma 2 in Hugging Face's folders."""

from glassformer.models.gemma2 import Gemma2Config
from glassformer.models.published.decoder import LIKE_LLAMA
from glassformer.models.published.fields import OurConstant, TheirConstant, WriteOnly
from glassformer.models.published.gemma import cap, gemma_fields, tensors
from glassformer.models.published.table import Published
from glassformer.models.published.windows import windows_by_turns

PUBLISHED = Published(
    config=Gemma2Config,
    name="Gemma2",
    model_types=("gemma2",),
    fields=(
        WriteOnly("architectures", ["Gemma2ForCausalLM"]),
        *gemma_fields(
            cap("attn_logit_softcapping", "score_softcap", 50.0),
            cap("final_logit_softcapping", "logit_softcap", 30.0),
            windows_by_turns(26, 2, named=False),
            TheirConstant("use_bidirectional_attention", None),
            OurConstant("rope_theta_local", 0.0),
            OurConstant("qk_norm", False),
        ),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)

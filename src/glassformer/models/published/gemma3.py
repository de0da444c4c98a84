"""Gemma 3's models of text in Hugging Face's folders; those that see images too have another model type."""

from collections.abc import Mapping
from typing import Any

from glassformer.errors import ConfigError, ExportError
from glassformer.models.gemma3 import Gemma3Config
from glassformer.models.published.decoder import LIKE_LLAMA
from glassformer.models.published.fields import FieldGroup, OurConstant, Settings, TheirConstant, WriteOnly
from glassformer.models.published.gemma import cap, gemma_fields, tensors
from glassformer.models.published.rope import partial_factor, read_rope, rope_of_all, write_rope
from glassformer.models.published.table import Published
from glassformer.models.published.windows import windows_by_turns

THETA, LOCAL_THETA, LENGTH = 1_000_000.0, 10_000.0, 131072
ROPE = rope_of_all(THETA, LENGTH)


def read_ropes(theirs: Settings) -> dict[str, Any]:
    """Two kinds of angles: by type of layer in version 5 of `transformers`, under names of their own in version 4."""
    by_type = theirs.get("rope_parameters") or {}
    if not isinstance(by_type, Mapping):
        raise ConfigError(f"the rotary settings must be an object, not {by_type!r}.")
    full, local = (by_type.get(f"{name}_attention") or {} for name in ("full", "sliding"))
    scaling = theirs.get("rope_scaling") or {}
    if not all(isinstance(one, Mapping) for one in (full, local, scaling)):
        raise ConfigError("the rotary settings of each type of layer must be an object.")
    of_full = {**theirs, "rope_scaling": {**full, **scaling}, "rope_parameters": None}
    of_local = {"rope_scaling": local, "rope_theta": theirs.get("rope_local_base_freq", LOCAL_THETA)}
    if any(partial_factor(one) != 1 for one in (of_full, of_local)):
        raise ConfigError("partial_rotary_factor is not supported; it must be 1.0.")
    ours, ours_local = (read_rope(one, THETA, LENGTH) for one in (of_full, of_local))
    if ours_local["rope_scaling"] is not None:
        raise ConfigError("the rotary settings of sliding_attention are scaled, which is not supported.")
    return ours | {"rope_theta_local": ours_local["rope_theta"]}


def write_ropes(ours: Gemma3Config) -> dict[str, Any]:
    """Both as version 4 names them, which version 5 reads too."""
    if not ours.rope_theta_local and ours.rope_scaling is not None:
        raise ExportError("cannot express rope_theta_local = 0.0 with a rope_scaling, which is of the others alone.")
    return write_rope(ours) | {"rope_local_base_freq": ours.rope_theta_local or ours.rope_theta}


PUBLISHED = Published(
    config=Gemma3Config,
    name="Gemma3",
    model_types=("gemma3_text",),
    fields=(
        WriteOnly("architectures", ["Gemma3ForCausalLM"]),
        *gemma_fields(
            TheirConstant("attn_logit_softcapping", None),
            cap("final_logit_softcapping", "logit_softcap", None),
            windows_by_turns(26, 6, named=True),
            TheirConstant("use_bidirectional_attention", False),
            FieldGroup(
                theirs=("rope_local_base_freq", *ROPE.their_names),
                ours=("rope_theta_local", *ROPE.our_names),
                read=read_ropes,
                write=write_ropes,
            ),
            OurConstant("score_softcap", 0.0),
            OurConstant("qk_norm", True),
            vocab_size=262208,
            max_position_embeddings=LENGTH,
        ),
    ),
    tensors=tensors,
    **LIKE_LLAMA,
)

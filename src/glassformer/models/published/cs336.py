"""The course's model in Hugging Face's folders: a Llama, unless it is an ablation, which only we read."""

from glassformer.models.cs336 import CS336Config
from glassformer.models.published.decoder import IGNORED, TIED, attention, fields, gated, norms, trunk
from glassformer.models.published.fields import OurConstant, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename


def tensors(config: CS336Config) -> list[Rename]:
    """Those of a Llama; an ablation lacks some."""
    turned = config.position == "rope" and config.rope_style == "interleaved"
    names = ("gate", "up", "down") if config.ffn == "swiglu" else ("up", "down")
    rows = [*trunk(config), *attention(config, turned=turned), *gated(*names)]
    return rows if config.norm_placement == "none" else [*rows, *norms()]


PUBLISHED = Published(
    config=CS336Config,
    name="Llama",
    model_types=(),  # such a folder is read as a Llama, which `llama.py` does
    fields=(
        WriteOnly("architectures", ["LlamaForCausalLM"]),
        WriteOnly("model_type", "llama"),
        *(row for row in fields() if "d_rotary" not in row.our_names),
        TheirConstant("attention_bias", False),
        TheirConstant("mlp_bias", False),
        OurConstant("norm_placement", "pre"),
        OurConstant("ffn", "swiglu"),
        OurConstant("position", "rope"),
    ),
    tensors=tensors,
    ignored=IGNORED,
    base_prefix="model.",
    tied=TIED,
)

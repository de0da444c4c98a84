"""SmolLM3 in Hugging Face's folders."""

from typing import Any

from glassformer.errors import ConfigError
from glassformer.models.published import windows
from glassformer.models.published.decoder import ATTENTION_BIAS, LIKE_LLAMA, MLP_BIAS, decoder_tensors, fields, without
from glassformer.models.published.fields import FieldGroup, Settings, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.smollm3 import SmolLM3Config


def read_layers(theirs: Settings) -> dict[str, Any]:
    """Which layers rotate, listed or counted; windows are for the others, unless `layer_types` says for which."""
    n_layers, every = windows.read_n_layers(theirs, 36), theirs.get("no_rope_layer_interval", 4)
    listed = theirs.get("no_rope_layers")  # in spite of its name 1 for a layer that rotates
    if listed is None:
        if type(every) is not int or every < 1:
            raise ConfigError(f"no_rope_layer_interval must be a whole number from 1 on, not {every!r}.")
        listed = [(i + 1) % every != 0 for i in range(n_layers)]
    if not isinstance(listed, list) or len(listed) < n_layers or not all(each in (0, 1) for each in listed):
        raise ConfigError(f"no_rope_layers must be 0 or 1 for each of the {n_layers} layers.")
    rotated = [bool(each) for each in listed[:n_layers]]
    has_windows = theirs.get("use_sliding_window", False)
    sizes = windows.by_type(theirs, windows.read_size(theirs, None), [has_windows and not each for each in rotated])
    return {"rotary_layers": windows.shortest_run(rotated), **windows.cycle_of(sizes)}


def write_layers(ours: SmolLM3Config) -> dict[str, Any]:
    """The same, listed."""
    written = windows.write_layers(ours)
    del written["max_window_layers"]
    return {"no_rope_layers": [int(rotates) for rotates in ours.rotated], **written}


PUBLISHED = Published(
    config=SmolLM3Config,
    name="SmolLM3",
    model_types=("smollm3",),
    fields=(
        WriteOnly("architectures", ["SmolLM3ForCausalLM"]),
        *fields(
            vocab_size=128256,
            max_position_embeddings=32768,
            hidden_size=2048,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=4,
            rope_theta=2_000_000.0,
            tie_word_embeddings=True,
        ),
        ATTENTION_BIAS,
        MLP_BIAS,
        FieldGroup(
            theirs=("no_rope_layers", "no_rope_layer_interval", "use_sliding_window", "sliding_window", "layer_types"),
            ours=("rotary_layers", "sliding_windows"),
            read=read_layers,
            write=write_layers,
        ),
        *without("qk_norm", "experts"),
    ),
    tensors=decoder_tensors,
    **LIKE_LLAMA,
)

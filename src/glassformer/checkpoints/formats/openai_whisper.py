"""OpenAI's Whisper files, tiny.en.pt and the like: a zip that torch pickled, with "dims" and "model_state_dict".

github.com/openai/whisper, `whisper/model.py`. `pickles.py` opens the file; its float16 weights are widened. A file does
not say which heads follow the speech, and OpenAI publishes them with its code: a model of published sizes has those.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from glassformer.checkpoints import pickles
from glassformer.checkpoints.formats.format import Contents, Format, Source
from glassformer.checkpoints.names import to_ours
from glassformer.checkpoints.processor_files import implied_processor
from glassformer.checkpoints.tokenizer_files import first_readable
from glassformer.config import from_mapping
from glassformer.errors import CheckpointCorrupt, ConfigError
from glassformer.models.whisper import PRESETS, Heads, WhisperConfig

SIZES = {
    "n_vocab": "vocab_size",
    "n_text_ctx": "context_length",
    "n_audio_ctx": "audio_context_length",
    "n_mels": "n_mels",
    "n_audio_state": "d_model",
    "n_audio_layer": "n_encoder_layers",
    "n_text_layer": "n_decoder_layers",
    "n_audio_head": "n_heads",
}
HUGGINGFACE = (  # their parts of a name, and Hugging Face's, tried in this order
    ("decoder.ln.", "decoder.layer_norm."),
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("token_embedding.", "embed_tokens."),
    ("positional_embedding", "embed_positions.weight"),
    (".blocks.", ".layers."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    (".mlp_ln.", ".final_layer_norm."),
    (".cross_attn.", ".encoder_attn."),
    (".cross_attn_ln.", ".encoder_attn_layer_norm."),
    (".attn.", ".self_attn."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
)


def sniff(source: Source) -> bool:
    """Whether it holds what OpenAI's code saves."""
    return (
        source.is_pickle and isinstance(source.pickled, dict) and {"dims", "model_state_dict"} <= source.pickled.keys()
    )


def read(source: Source) -> tuple[Contents, Mapping[str, Tensor]]:
    """The contents and our parameters; ranks beside the file make the tokenizer, whose special tokens they lack."""
    sizes, state = source.pickled["dims"], source.pickled["model_state_dict"]
    if not isinstance(sizes, Mapping) or not isinstance(state, Mapping):
        raise CheckpointCorrupt('"dims" and "model_state_dict" must be tables, as OpenAI\'s Whisper has them.')
    for audio, text in (("n_audio_state", "n_text_state"), ("n_audio_head", "n_text_head")):
        if sizes.get(audio) != sizes.get(text):
            raise ConfigError(f"dims: {text} must be {audio}, {sizes.get(audio)!r}, not {sizes.get(text)!r}.")
    state = {_huggingface_name(str(name)): tensor for name, tensor in state.items()}
    pickles.check_tensors(state, source.path)
    config = from_mapping(WhisperConfig, {ours: sizes.get(theirs) for theirs, ours in SIZES.items()})
    config = replace(config, alignment_heads=published_heads(config, source.path.stem))
    ranks = "multilingual.tiktoken" if config.vocab_size > 51864 else "gpt2.tiktoken"
    tokenizer, reason = first_readable([source.path.with_name(ranks)])
    contents = Contents(config=config, tokenizer=tokenizer, no_tokenizer=reason, processor=implied_processor(config))
    return contents, to_ours(state, config)


FORMAT = Format(name="OpenAI's Whisper", files=".pt of OpenAI's Whisper", sniff=sniff, read=read)


def published_heads(config: WhisperConfig, name: str) -> Heads:
    """The alignment heads of the published model with these sizes, or none.

    large-v1 and large-v2 have the same sizes and other heads: there the file's name has to tell, and where it does not,
    words are timed by all heads in the upper half of the decoder, as for a model of unknown sizes.
    """
    of_these_sizes = {
        preset: published.alignment_heads
        for preset, published in PRESETS.items()
        if replace(published, alignment_heads=()) == config
    }
    if len(of_these_sizes) == 1:
        (heads,) = of_these_sizes.values()
        return heads
    return of_these_sizes.get(f"whisper-{name}", ())


def _huggingface_name(name: str) -> str:
    for theirs, huggingface in HUGGINGFACE:
        name = name.replace(theirs, huggingface)
    return f"model.{name}"

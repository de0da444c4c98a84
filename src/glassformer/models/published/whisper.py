"""Whisper in Hugging Face's folders, which have BART's names."""

from typing import Any

from glassformer.models.published.fields import Field, FieldGroup, Settings, TheirConstant, WriteOnly
from glassformer.models.published.table import Published
from glassformer.models.published.tensors import Rename, modules, same
from glassformer.models.published.transformer import GENERAL, layers
from glassformer.models.whisper import PRESETS, WhisperConfig


def read_heads(theirs: Settings) -> dict[str, Any]:
    """The heads that follow the speech, where its generation_config.json names them."""
    return {"alignment_heads": theirs.get("alignment_heads") or []}


def write_heads(ours: WhisperConfig) -> dict[str, Any]:
    """The heads, if any are known."""
    return {"alignment_heads": [list(head) for head in ours.alignment_heads]} if ours.alignment_heads else {}


def special_tokens(ours: WhisperConfig) -> dict[str, Any]:
    """The tokens that end a text and begin one in the published vocabularies, which their size tells."""
    if ours.vocab_size not in {preset.vocab_size for preset in PRESETS.values()}:
        return {"pad_token_id": None, "decoder_start_token_id": 0}
    end_of_text = 50256 if ours.vocab_size == 51864 else 50257  # of English alone, or of many languages
    return {"pad_token_id": end_of_text, "decoder_start_token_id": end_of_text + 1}


FIELDS = (
    WriteOnly("architectures", ["WhisperForConditionalGeneration"]),
    WriteOnly("is_encoder_decoder", True),
    Field("vocab_size", "vocab_size", default=51865),
    Field("max_target_positions", "context_length", default=448),
    Field("max_source_positions", "audio_context_length", default=1500),
    Field("num_mel_bins", "n_mels", default=80),
    Field("d_model", "d_model", default=384),
    Field("encoder_layers", "n_encoder_layers", default=4),
    Field("decoder_layers", "n_decoder_layers", default=4),
    Field("encoder_attention_heads", "n_heads", default=6, aliases=("decoder_attention_heads",), must_agree=True),
    Field("encoder_ffn_dim", "d_ff", default=1536, aliases=("decoder_ffn_dim",), must_agree=True),
    Field("dropout", "dropout", default=0.0, aliases=("attention_dropout",)),  # of two, since ours are one
    TheirConstant("activation_function", "gelu"),
    TheirConstant("scale_embedding", False),
    TheirConstant("tie_word_embeddings", True),
    FieldGroup(theirs=("alignment_heads",), ours=("alignment_heads",), read=read_heads, write=write_heads),
    FieldGroup(
        theirs=("pad_token_id", "decoder_start_token_id"), ours=(), read=lambda theirs: {}, write=special_tokens
    ),
    WriteOnly("suppress_tokens", None),
    WriteOnly("begin_suppress_tokens", None),
)


def tensors(config: WhisperConfig) -> list[Rename]:
    """The same names for all sizes."""
    return [
        same("decoder.token_embedding.weight", "model.decoder.embed_tokens.weight"),
        same("decoder.position_embedding.weight", "model.decoder.embed_positions.weight"),
        same("encoder.position_embedding", "model.encoder.embed_positions.weight"),
        *modules({f"encoder.{conv}": f"model.encoder.{conv}" for conv in ("conv1", "conv2")}),
        *layers(attention),
        *modules({f"{half}.final_norm": f"model.{half}.layer_norm" for half in ("encoder", "decoder")}),
    ]


def attention(ours: str, theirs: str) -> list[Rename]:
    """Its keys have no bias."""
    projections = {f"{ours}.{a}_proj": f"{theirs}.{b}_proj" for a, b in {"q": "q", "v": "v", "o": "out"}.items()}
    return [*modules(projections), same(f"{ours}.k_proj.weight", f"{theirs}.k_proj.weight")]


PUBLISHED = Published(
    config=WhisperConfig,
    name="Whisper",
    model_types=("whisper",),
    fields=FIELDS,
    tensors=tensors,
    indices={"i": "n_encoder_layers", "j": "n_decoder_layers"},
    base_prefix="model.",
    tied={"proj_out.weight": "model.decoder.embed_tokens.weight"},
    general={**GENERAL, "num_key_value_heads": "encoder_attention_heads"},
)

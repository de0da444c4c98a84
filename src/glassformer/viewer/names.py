"""What our models call their tensors, and the roles that these names give: one table a family, in the order of trial.

A pattern is matched against a whole path. `L` at its beginning stands for a layer, `blocks.3.` or `decoder.blocks.3.`,
and `R` for a layer of a recurrent network, `encoder.layers.1.` or `encoder.layers.1.backwards.`; what its groups found
fills the braces of the role. Chapters and layouts know roles only, so a new model needs rows here and no more.
"""

import re
from functools import lru_cache
from typing import NamedTuple

Names = tuple[tuple[str, str], ...]

LAYER = re.compile(r"(?:(?:(?:encoder|decoder)\.)?blocks|(?:recurrent|encoder|decoder)\.layers)\.(\d+)\.")
L = r"(?:(?:encoder|decoder)\.)?blocks\.\d+\."
R = r"(?:recurrent|encoder|decoder)\.layers\.\d+\.(?:(?:for|back)wards\.)?"
LANGUAGE_MODELS: Names = (
    (r"tokens", "tokens"),
    (r"positions", "positions"),
    (r"token_embedding\.weight", "token_embedding"),
    (r"position_embedding\.weight", "position_embedding"),
    (r"(?:(?:encoder|decoder)\.)?final_norm\.output", "final_norm"),
    (r"L(?P<x>x)", "x"),
    (r"x", "x"),
    (r"token_embedding\.output", "token_embedded"),
    (r"position_embedding\.output", "position_embedded"),
    (r"(?:.*\.)?\w*norm\.(weight|bias)", "norm_{}"),
    (r"(?:.*\.)?\w*norm\.(mean|centred|variance|mean_square|normalised)", "{}"),
    (r"L(?:attn|cross|mlp)_norm\.output", "norm"),
    (r"L(?:cross_)?attn\.(q|k|v|o)_proj\.(weight|bias)", "{}_{}"),
    (r"L(?:cross_)?attn\.(q|k|v|allowed|sees_any|scores|highest|exponentials|total|weights|out)", "{}"),
    (r"Lattn\.(cos|sin)", "{}_read"),
    (r"L(?:cross_)?attn\.output", "attn_out"),
    (r"Lmlp\.(up|down|gate)_proj\.(weight|bias)", "{}_{}"),
    (r"Lmlp\.hidden", "up"),
    (r"Lmlp\.gated", "activated"),
    (r"Lmlp\.(up|gate|opened|inner|below|activated)", "{}"),
    (r"Lmlp\.output", "mlp_out"),
    (r"lm_head\.weight", "lm_head"),
    (r"logits", "logits"),
    (r"(highest|exponentials|total|probs)", "{}"),
)
SOUND: Names = (
    (r"waveform", "waveform"),
    (r"(frames|windowed|spectrum|power)", "{}"),
    (r"encoder\.conv1\.x", "log_mel"),
    (r"mel", "mel"),
    (r"rest", "mirrored"),
    (r"encoder\.conv1\.(weight|bias|padded)", "first_conv_{}"),
    (r"encoder\.conv2\.(weight|bias|padded)", "second_conv_{}"),
    (r"encoder\.conv1\.y", "first_conv"),
    (r"encoder\.conv2\.y", "second_conv"),
    (r"encoder\.below", "conv_below"),
)
HEADS: Names = (  # of an encoder alone
    (r"head\.proj\.(weight|bias)", "head_proj_{}"),
    (r"head\.proj\.output", "head_proj"),
    (r"head\.below", "head_below"),
    (r"head\.norm\.output", "head_norm"),
)
HALVES: Names = (  # what stands at the top of a model's half
    (r"(?:encoder|decoder)\.(token|position|type)_embedding\.weight", "{}_embedding"),
    (r"(?:encoder|decoder)\.(token|position|type)_embedding\.output", "{}_embedded"),
    (r"encoder\.position_embedding", "position_embedding"),
    (r"(?:encoder|decoder)\.(positions|token_types)", "{}"),
    (r"(?:encoder|decoder)\.dropout\.x", "x"),
    (r"encoder\.x", "entering"),
    (r"(?:decoder|head)\.lm_head\.weight", "lm_head"),
    (r"head\.lm_head\.bias", "lm_head_bias"),
)
ENCODERS_AND_DECODERS: Names = (
    (r"source", "source_tokens"),
    (r"source_embedding\.weight", "source_embedding"),
    (r"source_embedding\.output", "source_embedded"),
    (r"L\w+_norm\.x", "summed"),
    (r"L(?:cross_)?attn\._(k|v)", "{}_kept"),
    (r"vectors", "vectors"),
    (r"encoding", "encoding"),
    (r"(angles|wavelengths)", "{}"),
    (r"lm_head\.bias", "lm_head_bias"),
)
RECURRENT: Names = (
    (r"R(x|h)_proj\.(weight|bias)", "from_{}_{}"),
    (r"Rx_proj\.y", "from_x"),
    (r"Rfrom_x", "from_x"),
    (r"Rh_proj\.y", "from_h"),
    (r"R(h|cell|reset|update|candidate|input_gate|forget_gate|output_gate)", "{}"),
    (r"R(?:output\.0|out)", "states"),
    (r"Routput\.1\.\d", "reached"),
    (r"(?:recurrent|encoder|decoder)\.zeros", "initial"),
    (r"fed", "fed"),
)
LUONG: Names = (
    (r"attention\.score\.(h|memory|v)_proj\.weight", "score_{}_weight"),
    (r"attention\.centre\.(h|v)_proj\.weight", "centre_{}_weight"),
    (r"attention\.out_proj\.weight", "attended_weight"),
    (r"attention\.score\.turned", "turned"),
    (r"attention\.score\.(from_h|from_memory|hidden)", "score_{}"),
    (r"attention\.score\.(?:output|scores)", "alignment_scores"),
    (r"attention\.scores", "alignment_masked"),
    (r"attention\.(allowed|near|sees_any|distance|gaussian|highest|exponentials|total|weights)", "alignment_{}"),
    (r"attention\.centre\.(h|v)_proj\.y", "centre_from_{}"),
    (r"attention\.centre\.(hidden|length)", "centre_{}"),
    (r"attention\.centre\.centre", "centre"),
    (r"attention\.(context|joined|attended)", "{}"),
    (r"attention\.out_proj\.y", "attended_sum"),
)
ROTATIONS: Names = (
    (r"(pair|frequency)", "{}"),
    (r"L(?:rotation)\.(cos|sin)", "{}"),
)
IMAGES: Names = (
    (r"grid", "image"),  # the pixels by patches
    (r"images", "image"),
    (r"patches", "patches"),
    (r"patch_embedding\.(weight|bias)", "patch_{}"),
    (r"patch_embedding\.output", "patch_vectors"),
    (r"(class_token|distillation_token)", "{}"),
    (r"(?:distillation_)?head\.(weight|bias)", "head_{}"),
    (r"head\.up_proj\.(weight|bias)", "head_in_{}"),
    (r"head\.(hidden|activated)", "head_{}"),  # of the two layers of a head
    (r"head\.down_proj\.(weight|bias)", "head_{}"),
)
FAMILIES: Names = (
    *HEADS,
    *IMAGES,
    *SOUND,
    *LANGUAGE_MODELS,
    *RECURRENT,
    *LUONG,
    *HALVES,
    *ENCODERS_AND_DECODERS,
    *ROTATIONS,
)  # the first row that fits
PATTERNS = [
    (re.compile(rf"({L})?x"), "x"),  # where the model or a layer itself computes it: rank 0
    *((re.compile(pattern.replace("L", L, 1).replace("R", R, 1)), role) for pattern, role in FAMILIES),
]


class Reading(NamedTuple):
    """What a path may stand for, and in which row of the table that is written."""

    rank: int
    role: str
    given: bool  # to a layer by the one before it, where it is a first version


@lru_cache(maxsize=1 << 14)
def readings_of(path: str) -> tuple[Reading, ...]:
    """All rows that fit, in the order of trial; remembered, since every step of a run has the same paths."""
    found = ((rank, pattern.fullmatch(path), role) for rank, (pattern, role) in enumerate(PATTERNS))
    return tuple(
        Reading(rank, role.format(*match.groups()), "x" in match.groupdict()) for rank, match, role in found if match
    )

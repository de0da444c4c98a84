"""What our models call their tensors, and the roles that these names give: one table a family, in the order of trial.

A pattern is matched against a whole path. `L` at its beginning stands for a layer, `blocks.3.`; what its groups found
fills the braces of the role. Chapters and layouts know roles only, so a new model needs rows here and no more.
"""

import re

Names = tuple[tuple[str, str], ...]

LAYER = re.compile(r"blocks\.(\d+)\.")
LANGUAGE_MODELS: Names = (
    (r"tokens", "tokens"),
    (r"positions", "positions"),
    (r"token_embedding\.weight", "token_embedding"),
    (r"position_embedding\.weight", "position_embedding"),
    (r"final_norm\.output", "final_norm"),
    (r"L(?P<x>x)", "x"),
    (r"x", "x"),
    (r"token_embedding\.output", "token_embedded"),
    (r"position_embedding\.output", "position_embedded"),
    (r"(?:.*\.)?\w*norm\.(weight|bias)", "norm_{}"),
    (r"(?:.*\.)?\w*norm\.(mean|centred|variance|mean_square|normalised)", "{}"),
    (r"L(?:attn|mlp)_norm\.output", "norm"),
    (r"Lattn\.(q|k|v|o)_proj\.(weight|bias)", "{}_{}"),
    (r"Lattn\.(q|k|v|allowed|sees_any|scores|highest|exponentials|total|weights|out|cos|sin)", "{}"),
    (r"Lattn\.output", "attn_out"),
    (r"Lmlp\.(up|down|gate)_proj\.(weight|bias)", "{}_{}"),
    (r"Lmlp\.hidden", "up"),
    (r"Lmlp\.gated", "activated"),
    (r"Lmlp\.(up|gate|inner|activated)", "{}"),
    (r"Lmlp\.output", "mlp_out"),
    (r"lm_head\.weight", "lm_head"),
    (r"logits", "logits"),
    (r"(highest|exponentials|total|probs)", "{}"),
)
FAMILIES: Names = (*LANGUAGE_MODELS,)  # the first row that fits
PATTERNS = [(re.compile(pattern.replace("L", r"blocks\.\d+\.", 1)), role) for pattern, role in FAMILIES]
STREAM = re.compile(r"(blocks\.\d+\.)?x"), "x"  # where the model or a layer itself computes it

"""TransformerLens's names for the tensors of a language model, so that what was written for it finds them here.

Its hook points are those of github.com/TransformerLensOrg/TransformerLens, `HookedTransformer`.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """Our name for what others call differently, and the order in which they have its axes, where it is another.

    It holds only for a trace that has a tensor of the name `beside`.
    """

    path: str
    order: tuple[int, ...] = ()
    beside: str = ""


LENS = {
    "hook_embed": "token_embedding.output",
    "hook_pos_embed": "position_embedding.output",  # once for all sequences where theirs is repeated for each
    "ln_final.hook_scale": "final_norm.normalised.sqrt",
    "ln_final.hook_normalized": "final_norm.normalised",
}
LENS_IN_BLOCK = {
    "hook_resid_pre": "x#1",
    "hook_resid_mid": "x#2",
    "hook_resid_post": "output",
    "hook_attn_out": "attn.output",
    "hook_mlp_out": "mlp.output",
    "ln1.hook_scale": "attn_norm.normalised.sqrt",
    "ln1.hook_normalized": "attn_norm.normalised",
    "ln2.hook_scale": "mlp_norm.normalised.sqrt",
    "ln2.hook_normalized": "mlp_norm.normalised",
    "attn.hook_q": "attn.q#1",
    "attn.hook_k": "attn.k#1",
    "attn.hook_v": "attn.v#1",
    "attn.hook_attn_scores": "attn.scores",
    "attn.hook_pattern": "attn.weights",
    "attn.hook_z": "attn.out#1",
    "mlp.hook_pre": "mlp.hidden",
    "mlp.hook_post": "mlp.activated",
}
LENS_IN_LLAMA_BLOCK = {  # what a rotation and a gate add, or have instead
    "attn.hook_rot_q": "attn.q#2",
    "attn.hook_rot_k": "attn.k#2",
    "mlp.hook_pre": "mlp.gate",
    "mlp.hook_pre_linear": "mlp.up",
    "mlp.hook_post": "mlp.gated",
}
LENS_AFTER_QK_NORM = {  # and the name beside which it holds
    "attn.hook_rot_q": ("attn.q#3", "attn.q_norm.output"),
    "attn.hook_rot_k": ("attn.k#3", "attn.k_norm.output"),
}
LENS_HEADS_THIRD = {f"attn.hook_{name}" for name in ("q", "k", "v", "z", "rot_q", "rot_k")}  # B T H D, ours is B H T D


def transformer_lens_aliases(path: str) -> Iterator[Alias]:
    """What one of TransformerLens's hook points may be here: the first that there is."""
    if path in LENS:
        yield Alias(LENS[path])
    block, number, hook = [*path.split(".", 2), "", ""][:3]
    order = (0, 2, 1, 3) if hook in LENS_HEADS_THIRD else ()
    if block == "blocks" and hook in LENS_AFTER_QK_NORM:
        name, norm = LENS_AFTER_QK_NORM[hook]
        yield Alias(f"blocks.{number}.{name}", order, beside=f"blocks.{number}.{norm}")
    for table in (LENS_IN_BLOCK, LENS_IN_LLAMA_BLOCK):
        if block == "blocks" and hook in table:
            yield Alias(f"blocks.{number}.{table[hook]}", order)

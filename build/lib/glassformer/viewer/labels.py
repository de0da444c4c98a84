"""What roles are called, in both languages."""

import functools

from glassformer.viewer.scene import Text

ROLES: dict[str, tuple[str, str]] = {
    "token_embedding": ("Token embedding", "词元嵌入"),
    "position_embedding": ("Position embedding", "位置嵌入"),
    "norm_weight": ("Scale γ", "缩放 γ"),
    "norm_bias": ("Shift β", "平移 β"),
    "q_weight": ("Query weights", "查询权重"),
    "q_bias": ("Query bias", "查询偏置"),
    "k_weight": ("Key weights", "键权重"),
    "k_bias": ("Key bias", "键偏置"),
    "v_weight": ("Value weights", "值权重"),
    "v_bias": ("Value bias", "值偏置"),
    "o_weight": ("Output weights", "输出权重"),
    "o_bias": ("Output bias", "输出偏置"),
    "up_weight": ("Up weights", "升维权重"),
    "up_bias": ("Up bias", "升维偏置"),
    "gate_weight": ("Gate weights", "门控权重"),
    "down_weight": ("Down weights", "降维权重"),
    "down_bias": ("Down bias", "降维偏置"),
    "lm_head": ("Output matrix", "输出矩阵"),
    "tokens": ("Tokens", "词元"),
    "positions": ("Positions", "位置"),
    "token_embedded": ("Token vectors", "词元向量"),
    "position_embedded": ("Position vectors", "位置向量"),
    "x": ("Residual stream", "残差流"),
    "mean": ("Mean", "均值"),
    "mean_square": ("Mean square", "均方"),
    "centred": ("Centred", "减去均值"),
    "variance": ("Variance", "方差"),
    "normalised": ("Normalised", "归一化"),
    "norm": ("Norm output", "归一化输出"),
    "q": ("Queries", "查询"),
    "k": ("Keys", "键"),
    "v": ("Values", "值"),
    "q_rotated": ("Rotated queries", "旋转后的查询"),
    "k_rotated": ("Rotated keys", "旋转后的键"),
    "k_shared": ("Shared keys", "共享的键"),
    "v_shared": ("Shared values", "共享的值"),
    "allowed": ("Allowed", "允许关注"),
    "sees_any": ("Sees any", "有可关注者"),
    "scores": ("Scores", "得分"),
    "highest": ("Highest", "最大值"),
    "exponentials": ("Exponentials", "指数"),
    "total": ("Total", "总和"),
    "weights": ("Attention weights", "注意力权重"),
    "out": ("Mixed values", "混合的值"),
    "heads": ("Heads side by side", "各头拼接"),
    "attn_out": ("Attention output", "注意力输出"),
    "up": ("Hidden", "隐藏层"),
    "inner": ("Inside of the activation", "激活函数内部"),
    "gate": ("Gate", "门控"),
    "activated": ("Activated", "激活后"),
    "mlp_out": ("MLP output", "MLP 输出"),
    "final_norm": ("Final norm", "最终归一化"),
    "logits": ("Logits", "未归一化得分（logits）"),
    "probs": ("Probabilities", "概率"),
}
GROUPS: dict[str, tuple[str, str]] = {
    "model": ("Model", "模型"),
    "embedding": ("Embedding", "嵌入"),
    "layer": ("Layer {}", "第 {} 层"),
    "attention": ("Self-attention", "自注意力"),
    "head": ("Head {}", "注意力头 {}"),
    "norm": ("Norm", "归一化"),
    "mlp": ("MLP", "MLP"),
    "output": ("Output", "输出"),
}


@functools.lru_cache(4096)
def label(role: str, name: str, is_step: bool) -> Text:
    """A block's: its role's words, or for a step and for what has no known role its own name."""
    known = None if is_step else ROLES.get(role)
    own = name.partition("#")[0].rpartition(".")[2]
    return Text(*known) if known else Text(own, own)


def group_label(role: str, index: int | None, path: str) -> Text:
    """A group's: its role's words, with its number counted from 0, or the last part of its module's path."""
    known = GROUPS.get(role)
    own = path.rpartition(".")[2]
    return Text(known[0].format(index), known[1].format(index)) if known else Text(own, own)

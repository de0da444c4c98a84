"""The equations of a Transformer, each once, as a reader with the paper open would write them.

Only arithmetic, exp, log, sqrt, tanh, erf, sigmoid, matmul, reductions, comparison and indexing appear here. A function
under `@twin` has a fused twin of the same name in `fused.py`, which runs instead under `use("fast")`.
Every function takes any number of leading batch axes; features are the last axis. What float16 cannot hold, such as a
sum of squares, is computed in float32 and rounded once.
Attention is in `attend/`, rotary positions in `rope.py`, masks in `mask.py`.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.twins import twin

FUSED = "glassformer.nn.fused"
HALF = (torch.float16, torch.bfloat16)


@twin(FUSED)
def linear(
    x: Float[Tensor, "*B d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None = None,
) -> Float[Tensor, "*B d_out"]:
    """y = x Wᵀ + b."""
    y = x @ weight.mT
    if bias is not None:
        y = y + bias
    return y


def one_hot(tokens: Int[Tensor, "*B"], vocab_size: int) -> Bool[Tensor, "*B V"]:
    """The row of each token has a single True, at its id.

    >>> one_hot(torch.tensor([2, 0]), vocab_size=3).int()
    tensor([[0, 0, 1],
            [1, 0, 0]], dtype=torch.int32)
    """
    return tokens[..., None] == torch.arange(vocab_size, device=tokens.device)


@twin(FUSED)
def embedding(tokens: Int[Tensor, "*B"], weight: Float[Tensor, "V C"]) -> Float[Tensor, "*B C"]:
    """Row `tokens` of the matrix: what one_hot(tokens) @ weight comes to, without multiplying by zeros."""
    return weight[tokens]


@twin(FUSED)
def softmax(x: Float[Tensor, "*B N"], dim: int = -1) -> Float[Tensor, "*B N"]:
    """softmax(x)ᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m), where m = maxⱼ xⱼ keeps exp from overflowing.

    >>> softmax(torch.tensor([2.0, 2.0, -torch.inf]))
    tensor([0.5000, 0.5000, 0.0000])
    """
    if x.dtype in HALF:
        return softmax(x.float(), dim).to(x.dtype)
    highest = x.amax(dim, keepdim=True)
    exponentials = (x - highest).exp()
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total


@twin(FUSED)
def log_softmax(x: Float[Tensor, "*B N"], dim: int = -1) -> Float[Tensor, "*B N"]:
    """log softmax(x)ᵢ = xᵢ − log Σⱼ exp xⱼ."""
    if x.dtype in HALF:
        return log_softmax(x.float(), dim).to(x.dtype)
    highest = x.amax(dim, keepdim=True)
    shifted = x - highest
    log_total = shifted.exp().sum(dim, keepdim=True).log()
    return shifted - log_total


@twin(FUSED)
def layer_norm(
    x: Float[Tensor, "*B C"], weight: Float[Tensor, " C"], bias: Float[Tensor, " C"], eps: float = 1e-5
) -> Float[Tensor, "*B C"]:
    """(x − mean) / √(variance + ε) · weight + bias, over the features of each position.

    The variance is the biased one. Ba et al. 2016, eq. 4 (arXiv:1607.06450).
    """
    if x.dtype in HALF:
        return layer_norm(x.float(), weight, bias, eps).to(x.dtype)
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdim=True)
    normalised = centred / (variance + eps).sqrt()
    return normalised * weight + bias


@twin(FUSED)
def rms_norm(x: Float[Tensor, "*B C"], weight: Float[Tensor, " C"], eps: float = 1e-5) -> Float[Tensor, "*B C"]:
    """x / √(mean(x²) + ε) · weight. The mean is taken in float32 whatever x is, and the result has x's dtype.

    Zhang & Sennrich 2019, eq. 4 (arXiv:1910.07467).
    """
    wide = x if x.dtype == torch.float64 else x.float()
    mean_square = (wide * wide).mean(-1, keepdim=True)
    normalised = wide / (mean_square + eps).sqrt()
    scaled = normalised.to(x.dtype) * weight
    return scaled.to(x.dtype)


@twin(FUSED)
def relu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """max(x, 0)."""
    return x * (x > 0)


@twin(FUSED)
def gelu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """x · Φ(x), Φ being the normal distribution function. Hendrycks & Gimpel 2016, §2 (arXiv:1606.08415)."""
    below = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x * below


@twin(FUSED)
def gelu_tanh(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The tanh approximation of GELU, which GPT-2 was trained with. Hendrycks & Gimpel 2016, §2 (arXiv:1606.08415)."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + torch.tanh(inner))


@twin(FUSED)
def silu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """x · σ(x). Elfwing et al. 2017, eq. 3 (arXiv:1702.03118)."""
    return x * torch.sigmoid(x)


def glu(gate: Float[Tensor, "*B F"], up: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """σ(gate) ⊙ up. Dauphin et al. 2016, eq. 1 (arXiv:1612.08083)."""
    return torch.sigmoid(gate) * up


def swiglu(gate: Float[Tensor, "*B F"], up: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """SiLU(gate) ⊙ up. Shazeer 2020, eq. 5 with β = 1 (arXiv:2002.05202)."""
    opened = silu(gate)
    return opened * up


def geglu(gate: Float[Tensor, "*B F"], up: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """GELU(gate) ⊙ up, by the tanh approximation. Shazeer 2020, eq. 5 (arXiv:2002.05202)."""
    bent = gelu_tanh(gate)
    return bent * up


def dropout(x: Float[Tensor, "*B"], p: float) -> Float[Tensor, "*B"]:
    """Each number becomes 0 with probability p, the others grow by 1 / (1 − p). Srivastava et al. 2014, §4."""
    keep = torch.rand_like(x) >= p
    return x * keep / (1 - p)


@twin(FUSED)
def cross_entropy(
    logits: Float[Tensor, "*B V"],
    targets: Int[Tensor, "*B"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """The mean, or the sum, of −log p(target) over the targets that are not `ignore_index`, in nats.

    log p = logit − log Σ exp logits, never log(softmax), which loses the small probabilities to 0. With smoothing s,
    the target's distribution is (1 − s) · one_hot + s / V (Szegedy et al. 2015, §7, arXiv:1512.00567).
    """
    if logits.dtype in HALF:
        return cross_entropy(logits.float(), targets, ignore_index, label_smoothing, reduction).to(logits.dtype)
    counted = targets != ignore_index
    log_probs = log_softmax(logits)
    of_target = log_probs.gather(-1, targets.where(counted, 0)[..., None])[..., 0]
    losses = -of_target
    if label_smoothing > 0:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_probs.mean(-1)
    total = losses.where(counted, 0.0).sum()
    return total if reduction == "sum" else total / counted.sum()

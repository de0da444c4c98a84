"""The position-wise feed-forward network, plain and gated."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": F.gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}


class MLP(nn.Module):
    """down(activation(up(x))). Vaswani et al. 2017, eq. 2 (arXiv:1706.03762), with ReLU there."""

    def __init__(self, d_model: int, d_ff: int, activation: str, *, bias: bool = True) -> None:
        super().__init__()
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.down_proj = Linear(d_ff, d_model, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The same network at each position."""
        hidden = self.up_proj(x)
        activated = self.activation(hidden)
        out: Tensor = self.down_proj(activated)
        return out


class SwiGLU(nn.Module):
    """down(SiLU(gate(x)) ⊙ up(x)). Shazeer 2020, eq. 6 (arXiv:2002.05202)."""

    def __init__(self, d_model: int, d_ff: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, d_ff, bias=bias)
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.down_proj = Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The same network at each position."""
        gate = self.gate_proj(x)
        up = self.up_proj(x)
        gated = F.swiglu(gate, up)
        out: Tensor = self.down_proj(gated)
        return out


class GeGLU(nn.Module):
    """down(GELU(gate(x)) ⊙ up(x)). Shazeer 2020, eq. 6 (arXiv:2002.05202)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, d_ff, bias=False)
        self.up_proj = Linear(d_model, d_ff, bias=False)
        self.down_proj = Linear(d_ff, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The same network at each position."""
        gate = self.gate_proj(x)
        up = self.up_proj(x)
        gated = F.geglu(gate, up)
        out: Tensor = self.down_proj(gated)
        return out

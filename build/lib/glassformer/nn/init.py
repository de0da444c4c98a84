"""How weights start."""

import math

from torch import nn


def init_like_gpt2(model: nn.Module, *, n_layers: int, std: float = 0.02) -> None:
    """Every matrix from N(0, std²), biases 0; the two projections of a block that write into the residual stream from
    N(0, std² / 2L), so that the stream's variance does not grow with the number L of layers.

    Radford et al. 2019, §2.3 ("Language models are unsupervised multitask learners"). Norms are left at 1 and 0.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=std / math.sqrt(2 * n_layers))
        elif parameter.dim() == 2:
            nn.init.normal_(parameter, std=std)


def init_like_bert(model: nn.Module, *, std: float = 0.02) -> None:
    """Every matrix from N(0, std²), cut at two deviations; biases 0, norms left at 1 and 0.

    The code of Devlin et al. 2018 (arXiv:1810.04805), and of Dosovitskiy et al. 2020 after it, starts so.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() >= 2:
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)

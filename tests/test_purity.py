"""The layers are written from tensors up: nothing of torch's layers or fused equations appears in nn/ and models/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import glassformer

SOURCE = Path(glassformer.__file__).parent
FAST = {SOURCE / "nn" / "fused.py", SOURCE / "nn" / "attend" / "sdpa.py"}  # the fast twins, which consist of such calls
READABLE = [path for folder in ("nn", "models") for path in sorted((SOURCE / folder).rglob("*.py")) if path not in FAST]

OF_NN = {"Module", "Parameter", "Buffer", "ModuleList", "ModuleDict", "Sequential", "Identity", "init"}  # no equations
ARITHMETIC = {"sigmoid", "tanh", "pad", "unfold"}  # also in torch.nn.functional, yet allowed as arithmetic

# What torch.nn.functional offers, torch and its tensors offer again: torch.relu, x.softmax, x.relu_.
FUNCTIONAL = {
    name
    for name, value in vars(torch.nn.functional).items()
    if callable(value) and name.islower() and not name.startswith("_") and name not in ARITHMETIC
}
RECURRENT = {"rnn_tanh", "rnn_relu", "lstm", "gru", "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell"}
NATIVE = {"native_layer_norm", "native_group_norm", "native_batch_norm", "native_dropout"}
EQUATIONS = FUNCTIONAL | {f"{name}_" for name in FUNCTIONAL} | RECURRENT | NATIVE | {"logsumexp"}
OF_TENSORS = {name for name in EQUATIONS if hasattr(torch.Tensor, name)}
OF_TORCH = {name for name in EQUATIONS if hasattr(torch, name)} | {"ops", "compile", "jit"}


def violations(source: str) -> list[str]:
    """Each use in a file of a layer or an equation that torch has ready-made, as `line: what`."""
    tree = ast.parse(source)
    from_us = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glassformer")
        for alias in node.names
    }
    return [
        f"{node.lineno}: {what}"
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr)
        for what in _of_node(node, from_us)
    ]


def _of_node(node: ast.AST, from_us: set[str]) -> Iterator[str]:
    match node:
        case ast.Import():
            for alias in node.names:
                if alias.name.startswith("torch.") or (alias.name == "torch" and alias.asname):
                    yield f"import {alias.name}"
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "torch":
            for alias in node.names:
                if not allowed(f"{module}.{alias.name}") or (alias.name == "nn" and alias.asname):
                    yield f"from {module} import {alias.name}"
        case ast.Attribute():
            name = dotted(node)
            name = f"torch.{name}" if name.startswith("nn.") else name
            root = name.split(".")[0]
            if root == "torch":
                if not allowed(name):
                    yield name
            elif root not in from_us and node.attr in OF_TENSORS:
                yield f".{node.attr}"
        case ast.Call(func=ast.Name(id="getattr"), args=[ast.Name(id="torch" | "nn"), *_]):
            yield "getattr of a name that this check cannot follow"


def allowed(name: str) -> bool:
    """Whether `torch.…` is a type, a container, an initialisation, or arithmetic."""
    first, *more = name.split(".")[1:]
    if first == "nn":
        return not more or more[0] in OF_NN
    if first == "optim":
        return not more or more[0] == "Optimizer"
    return first not in OF_TORCH and not first.startswith("_")


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text; what is no name at its root begins with a dot."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", READABLE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_readable_layers_use_no_ready_made_layer_or_equation(path: Path) -> None:
    assert violations(path.read_text()) == []


def test_there_are_files_to_check() -> None:
    assert {"functional.py", "attention.py", "gpt2.py", "llama.py", "naive.py", "tiled.py"} <= {
        path.name for path in READABLE
    }


SEEDS = {
    "import torch.nn.functional as G": "import torch.nn.functional",
    "from torch.nn import functional": "from torch.nn import functional",
    "from torch.nn.functional import softmax": "from torch.nn.functional import softmax",
    "from torch.nn import Linear": "from torch.nn import Linear",
    "from torch import softmax": "from torch import softmax",
    "import torch\ny = torch.nn.functional.gelu(x)": "torch.nn.functional",
    "from torch import nn\nlayer = nn.Linear(2, 3)": "torch.nn.Linear",
    "from torch import nn\nlayer = nn.MultiheadAttention(4, 2)": "torch.nn.MultiheadAttention",
    "from torch import nn\nlayer = nn.RMSNorm(4)": "torch.nn.RMSNorm",
    "import torch\ny = torch.softmax(x, -1)": "torch.softmax",
    "import torch\ny = torch.layer_norm(x, (4,))": "torch.layer_norm",
    "import torch\ny = torch.rms_norm(x, (4,))": "torch.rms_norm",
    "import torch\ny = torch.dropout(x, 0.1, True)": "torch.dropout",
    "import torch\ny = torch.embedding(w, i)": "torch.embedding",
    "import torch\ny = torch.relu(x)": "torch.relu",
    "import torch\ny = torch.logsumexp(x, -1)": "torch.logsumexp",
    "import torch\ny = torch._C._nn.gelu(x)": "torch._C",
    "import torch\ny = torch.ops.aten.silu(x)": "torch.ops",
    "import torch as t\ny = t.softmax(x, -1)": "import torch",
    "from torch import nn as layers\nlayer = layers.Linear(2, 3)": "from torch import nn",
    "y = x.softmax(-1)": ".softmax",
    "y = x.log_softmax(-1)": ".log_softmax",
    "y = x.relu()": ".relu",
    "y = x.relu_()": ".relu_",
    "y = (a @ b).softmax(-1)": ".softmax",
    "y = x.mean().logsumexp(-1)": ".logsumexp",
    "import torch\ny = torch.optim.AdamW(p)": "torch.optim.AdamW",
    'import torch\ny = getattr(torch, "soft" + "max")(x)': "getattr",
}


@pytest.mark.parametrize("source", SEEDS, ids=SEEDS.values())
def test_the_check_detects(source: str) -> None:
    assert any(SEEDS[source] in found for found in violations(source))


@pytest.mark.parametrize(
    "source",
    [
        "from torch import Tensor, nn\nclass A(nn.Module): pass",
        "from torch import nn\nw = nn.Parameter(w)\nnn.init.trunc_normal_(w)\nm = nn.ModuleList()\ni = nn.Identity()",
        "import torch\ny = torch.sigmoid(x) + torch.tanh(x) + torch.erf(x) + x.exp().log().sqrt().sum(-1)",
        "from glassformer.nn import functional as F\ny = F.softmax(F.linear(x, w))",
        "import torch\nclass Mine(torch.optim.Optimizer): pass",
        "import torch\ny = torch.autograd.Function\nz = torch.arange(3).masked_fill(m, -torch.inf).clamp(0, 1)",
    ],
)
def test_the_check_lets_arithmetic_and_containers_pass(source: str) -> None:
    assert violations(source) == []

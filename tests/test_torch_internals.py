"""What is used of torch's inside does what is said of it, and nothing else reaches in."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glassformer
from glassformer import torch_internals as internals

SOURCE = Path(glassformer.__file__).parent
STANDARD = {"_asdict", "_getframe", "_replace"}  # of sys and of named tuples, whose documentation has them
aten = torch.ops.aten


class Seen(internals.DispatchMode):
    """Notes the operations that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.append(func)
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operations_of_layers_too() -> None:
    with torch.no_grad(), Seen() as seen:
        nn.Linear(2, 3)(torch.ones(1, 2))
    assert aten.addmm.default in seen.operations


def test_what_runs_undispatched_is_seen_by_no_mode() -> None:
    x = torch.ones(2)
    with Seen() as seen, internals.undispatched():
        copy = x.clone()
    assert seen.operations == []
    assert torch.equal(copy, x)


def test_tensors_of_one_memory_have_one_key() -> None:
    x, y = torch.zeros(4), torch.zeros(4)
    assert internals.storage_key(x[1:].view(3).untyped_storage()) == internals.storage_key(x.untyped_storage())
    assert internals.storage_key(x.untyped_storage()) != internals.storage_key(y.untyped_storage())
    empty = [torch.zeros(0) for _ in range(2)]
    assert len({internals.storage_key(each.untyped_storage()) for each in empty}) == 2


def test_writing_makes_a_new_version_and_reading_none() -> None:
    x = torch.zeros(3)
    before = internals.version(x)
    x.sum()
    assert internals.version(x) == before
    x[1:].add_(1)
    assert internals.version(x) == before + 1


def test_a_declaration_has_names_defaults_and_what_is_written() -> None:
    declared = internals.declaration(aten.add_.Tensor)
    assert (declared.name, declared.overload_name, declared.is_mutable) == ("aten::add_", "Tensor", True)
    assert [argument.name for argument in declared.arguments] == ["self", "other", "alpha"]
    assert [bool(a.alias_info and a.alias_info.is_write) for a in declared.arguments] == [True, False, False]
    assert declared.arguments[2].has_default_value()
    assert declared.arguments[2].default_value == 1


def test_a_composition_is_told_from_a_kernel() -> None:
    assert internals.is_composite(aten.matmul.default)
    assert not internals.is_composite(aten.mm.default)


def test_a_kernel_is_taken_apart_into_steps_of_the_same_result() -> None:
    x = torch.linspace(-2, 2, 8, dtype=torch.float64)
    with Seen() as seen:
        gated = internals.decomposition(aten.glu.default)(x)
    torch.testing.assert_close(gated, nn.functional.glu(x))
    assert aten.glu.default not in seen.operations


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch itself, where it compiles
def test_a_compiled_module_is_told_from_one_as_written() -> None:
    layer = nn.Linear(2, 2)
    assert not internals.is_compiled(layer)
    assert internals.is_compiled(torch.compile(layer))
    in_place = nn.Linear(2, 2)
    in_place.compile()
    assert internals.is_compiled(in_place)
    assert internals.is_compiled(torch.jit.trace(nn.Identity(), torch.ones(1), check_trace=False))


@pytest.mark.parametrize("noted", internals.AT_ONCE)
def test_what_torch_only_notes_is_done_at_once_by_its_twin(noted: Any) -> None:
    x = torch.tensor([1 + 2j, -3j])
    at_once: Tensor = internals.AT_ONCE[noted](x)
    assert not at_once.is_conj()
    assert not at_once.is_neg()
    assert torch.equal(at_once, noted(x).resolve_conj().resolve_neg())
    assert internals.storage_key(at_once.untyped_storage()) != internals.storage_key(x.untyped_storage())


def test_onednn_multiplies_where_nobody_differentiates_watches_or_casts() -> None:
    x, weight, bias = torch.randn(3, 5, 8), torch.randn(4, 8), torch.randn(4)
    assert not internals.takes_onednn(x, weight)  # gradients are on
    with torch.no_grad():
        assert internals.takes_onednn(x, weight)
        for offset in (bias, None):
            expected = nn.functional.linear(x, weight, offset)
            torch.testing.assert_close(internals.onednn_linear(x, weight, offset), expected)
        assert not internals.takes_onednn(x.double(), weight.double())
        assert not internals.takes_onednn(x.to("meta"), weight.to("meta"))
        with Seen():
            assert not internals.takes_onednn(x, weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not internals.takes_onednn(x, weight)


# ---- nothing else reaches in


def private(text: str, own: set[str]) -> Iterator[str]:
    """What of others' private names a file uses: attributes that no file of ours defines, and private modules."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(attr=name) if _is_private(name) and name not in own | STANDARD:
                yield ast.unparse(node)
            case ast.Call(func=ast.Name("getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(str(name)), *_]):
                if _is_private(name) and name not in own:
                    yield ast.unparse(node)
            case ast.Import(names=names) | ast.ImportFrom(module=None, names=names):
                yield from (alias.name for alias in names if any(map(_is_private, alias.name.split("."))))
            case ast.ImportFrom(module=str(module), names=names) if not module.startswith("glassformer"):
                for alias in names:
                    if any(map(_is_private, [*module.split("."), alias.name])):
                        yield f"{module}.{alias.name}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(text: str) -> Iterator[str]:
    """The names that a file gives to functions, classes, variables and attributes."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_no_other_file_uses_what_is_private_to_torch() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}
    own = {name for text in files.values() for name in defined(text)}
    reaching = {file: sorted(set(private(text, own))) for file, text in files.items()}
    inside = reaching.pop("torch_internals.py")
    assert {file: names for file, names in reaching.items() if names} == {}
    assert len(inside) > 8, "the test sees what it is to find"


@pytest.mark.parametrize(
    "line",
    [
        "x = tensor._base",
        "torch._C._get_mkldnn_enabled()",
        "from torch._decomp import decomposition_table",
        "from torch.utils import _pytree",
        "import torch._dynamo",
        'getattr(module, "_orig_mod", None)',
    ],
)
def test_the_check_detects(line: str) -> None:
    assert list(private(line, {"_of_our_own"}))
    assert list(private("self._of_our_own, sys._getframe(1)", {"_of_our_own"})) == []

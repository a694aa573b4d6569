"""What Triton compiles for a GPU, read on a machine without one: no two roundings become one, nothing approximates.

Triton compiles for a GPU that is not there, down to PTX and by ptxas to machine code. `mul.rn` and `add.rn` are what
no later step may contract (PTX manual, 9.7.3: "mul/add with an explicit rounding modifier is treated conservatively").
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton (pip install '.[gpu]')")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"),
]

TYPES = {torch.float32: "*fp32", torch.int8: "*i8", torch.int32: "*i32", torch.int64: "*i64"}
FORBIDDEN = re.compile(r"\b(fma\.|mad\.rn\.f|\w+\.ftz|\w+\.approx|div\.full|(?:mul|add|sub)\.f(?:32|64))")
CAPABILITIES = (80, 90)


class Compiler:
    """Stands in for launches: compiles each kernel for the GPUs, once for each set of constants and types."""

    def __init__(self) -> None:
        self.code: dict[tuple[Any, ...], str] = {}

    def __call__(self, compiled: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        from podlt.exact.triton.jit import OPTIONS

        options = {**OPTIONS, **{key: constants.pop(key) for key in ("num_warps",) if key in constants}}
        names = compiled.arg_names
        kinds = {name: self.kind(value) for name, value in zip(names, arguments, strict=False)}
        signature = {name: kinds.get(name, "constexpr") for name in names}
        fixed = {(names.index(name),): value for name, value in constants.items()}
        for capability in CAPABILITIES:
            key = (compiled.__name__, capability, *signature.values(), *map(str, fixed.values()))
            if key not in self.code:
                source = ASTSource(fn=compiled, signature=signature, constexprs=fixed)
                self.code[key] = compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"]

    @staticmethod
    def kind(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return TYPES[value.dtype]
        return "fp32" if isinstance(value, float) else "i32"


@pytest.fixture(scope="module")
def code() -> dict[tuple[Any, ...], str]:
    """The PTX of every kernel: primitives are called with the compiler in the place of launches."""
    from podlt.exact.constants import ADAPTIVE
    from podlt.exact.geometry import Geometry
    from podlt.exact.triton import attention, convolution, digits, elementwise, normalise, products, reduce, scatter

    compiler, x, square = Compiler(), torch.ones(40, 40), torch.ones(2, 4, 6, 6)
    padded = Geometry((1, 1), (1, 1), (1, 1), 1)
    row, image, line = torch.ones(40), torch.ones(2, 3, 4), torch.ones(3)
    with pytest.MonkeyPatch.context() as patch:
        for module in (convolution, digits, elementwise, normalise, products, reduce, scatter):
            patch.setattr(module, "launch", compiler)
        for function in (*elementwise.FUNCTIONS.values(),):
            function(x)
        for slope in elementwise.SLOPES.values():
            slope(x, x)
        for logarithm in (False, True):
            normalise.softmax(x, 1, logarithm, "softmax")
            normalise.softmax_backward(x, x, 1, logarithm, "softmax")
        normalise.layer_norm(x, row, row, 1e-5, "layer_norm")
        normalise.layer_norm_backward(x, x, row, row, row, "layer_norm")
        normalise.batch_norm(image, line, line, 1e-5, "batch_norm")
        normalise.channel_normalise(image, line, line, None, None)
        for training in (False, True):
            normalise.batch_norm_backward(image, image, line, line, line, training, "batch_norm")
        for causal in (False, True):
            attention.softmax(x[None], causal, "attention")
            attention.softmax_backward(x[None], x[None], causal, "attention")
        reduce.total(x, [0], False)
        for base in (None, x):
            scatter.scatter_rows(base, torch.arange(40), x, 40, "index_put")
        for way in ("int8", "half"):
            for count in (ADAPTIVE, 2, 3):
                with products.using(way):  # type: ignore[arg-type]
                    products.mm(x, x, count, row)
                    convolution.convolve(square, x[None, :3, :36], line, padded, (3, 3), (6, 6), count, "convolution")
            convolution.weight_gradient(square, square, (4, 4, 3, 3), padded, ADAPTIVE)
    return compiler.code


def test_nothing_contracts_approximates_or_flushes(code: dict[tuple[Any, ...], str]) -> None:
    found = {key[:2]: sorted({m[0] for m in FORBIDDEN.finditer(ptx)}) for key, ptx in code.items()}
    assert {key: names for key, names in found.items() if names} == {}
    assert len({key[0] for key in code}) >= 14


def test_products_run_on_tensor_cores(code: dict[tuple[Any, ...], str]) -> None:
    products = [(key, ptx) for key, ptx in code.items() if key[0] in ("product_kernel", "convolution_kernel")]
    used = {re.search(r"(?:wgmma\.mma_async|mma)\.sync\S+", ptx)[0] for _, ptx in products}  # type: ignore[index]
    assert {name.rsplit(".s8.s8", 1)[0] != name or name.rsplit(".bf16.bf16", 1)[0] != name for name in used} == {True}
    assert any("s8" in name for name in used) and any("bf16" in name for name in used)


def test_the_reader_finds_what_it_looks_for() -> None:
    for line in ("fma.rn.f32 %r5, %r1;", "div.full.f32 %r1;", "ex2.approx.ftz.f32 %f2;", "mul.f32 %f1, %f2;"):
        assert FORBIDDEN.search(line)
    for line in ("mul.rn.f32 %r5;", "mad.lo.s32 %r1;", "add.s64 %rd1;", "div.rn.f32 %r1;", "cvt.rn.f32.f64 %f1;"):
        assert not FORBIDDEN.search(line)

"""The CPU's loops return the bits of the compositions that they stand in for, for other calls than the samples."""

from dataclasses import replace

import pytest
import torch

from podlt.bench.operations import CALLS, Operands
from podlt.exact.aten.table import aten_table
from podlt.exact.cpu.backend import backend, table
from podlt.exact.cpu.places import embedding_backward
from podlt.program.operations import writing

COMPOSED = aten_table(replace(backend(2), native={}, losses=None))
SIZES = [Operands(5, 22, (2, 4, 6, 8)), Operands(40, 10, (3, 6, 14, 12))]
X = torch.randn(3, 4, 9, 7)
MORE = [
    ("avg_pool2d.default", (X, [3, 2], [2, 1], [1, 1], True, False, None)),
    ("avg_pool2d.default", (X, [2, 2], [3, 3], [0, 0], True, True, 7)),
    ("avg_pool2d_backward.default", (torch.randn(3, 4, 5, 8), X, [3, 2], [2, 1], [1, 1], True, False, None)),
    ("avg_pool2d_backward.default", (torch.randn(3, 4, 5, 4), X, [2, 2], [2, 2], [1, 1], False, True, 3)),
    ("_adaptive_avg_pool2d.default", (X, [4, 3])),
    ("_adaptive_avg_pool2d_backward.default", (torch.randn(3, 4, 4, 11), X)),
    ("where.self", (torch.rand(4, 1, 7) > 0.5, torch.randn(3, 4, 9, 7), torch.zeros(()))),
    ("where.self", (torch.rand(9, 7) > 0.5, X, torch.full((), float("-inf")))),
    ("where.self", (torch.rand(1, 1, 9, 7) > 0.5, torch.ones(()), -X)),
    ("where.self", (torch.rand(3, 4, 1, 7) > 0.5, X, -X)),
    ("where.self", (X > 0, torch.ones(()), torch.zeros(()))),
    ("maximum.default", (X, torch.randn(7))),
    ("maximum.default", (torch.arange(7), torch.arange(7).flip(0))),
    ("pow.Tensor_Scalar", (X, -3)),
    ("pow.Tensor_Scalar", (X, 0)),
    ("index_add.default", (X, 0, torch.tensor([2, 0, 2, 2]), torch.randn(4, 4, 9, 7))),
    ("index_add.default", (torch.randn(90, 2), -2, torch.tensor([2, 80]), torch.randn(2, 2))),
    ("index_put.default", (X, [torch.tensor([[2, 0], [-1, 2]])], torch.randn(2, 2, 4, 9, 7), True)),
    ("embedding_dense_backward.default", (torch.randn(3, 2, 5), torch.tensor([[1, 40], [3, 1], [0, 3]]), 90, 3, False)),
    ("embedding_dense_backward.default", (torch.randn(6, 5), torch.tensor([1, 2, 1, 0, 0, 1]), 4, -1, False)),
    ("cumsum.default", (X, 2)),
    ("mse_loss.default", (X, X.flip(0), 2)),
    ("mse_loss.default", (X, torch.randn(7), 1)),
    ("mse_loss_backward.default", (torch.tensor(0.7), X, X.flip(0), 2)),
    ("smooth_l1_loss.default", (X, X.flip(0), 1, 0.3)),
    ("huber_loss.default", (X, X.flip(0), 0, 0.3)),
    ("elu_backward.default", (X, 0.7, 1.1, 0.9, True, X.flip(0))),
    ("elu.default", (X, 0.7, 1.1, 0.9)),
    ("softplus.default", (X * 9, 1.7, 3)),
    ("native_group_norm.default", (X, torch.randn(4), None, 3, 4, 63, 2, 1e-5)),
    ("native_layer_norm.default", (X, [9, 7], torch.randn(9, 7), None, 1e-5)),
]


def bits(found):
    """Types, shapes and bytes, every NaN the same."""
    parts = found if isinstance(found, tuple | list) else [found]
    return [
        None
        if t is None
        else (t.dtype, t.shape, torch.where(t.isnan(), torch.nan, t).contiguous().view(torch.int32).tolist())
        if t.dtype == torch.float32
        else (t.dtype, t.shape, t.tolist())
        for t in parts
    ]


def assert_alike(name, arguments):
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    given = [a for a in arguments if a is not options]
    assert bits(table(2)[name](*given, **options)) == bits(COMPOSED[name](*given, **options))


@pytest.mark.parametrize("call", CALLS)
def test_every_timed_call_has_the_bits_of_its_composition(call):
    name, make = CALLS[call]
    torch.manual_seed(3)
    for size in SIZES:
        assert_alike(name, make(size))


@pytest.mark.parametrize(("name", "arguments"), MORE)
def test_a_loop_has_the_bits_of_its_composition(name, arguments):
    assert_alike(name, arguments)


def test_a_row_of_words_that_lies_outside_is_refused():
    with pytest.raises(IndexError, match="below 9, got 9"):
        table(2)["embedding_dense_backward.default"](torch.ones(2, 3), torch.tensor([0, 9]), 9, -1, False)


def test_the_gradient_of_words_is_written_where_the_update_wants_it():
    grad, index, room = torch.randn(3, 4), torch.tensor([1, 7, 1]), torch.full((9, 4), 5.0)
    assert writing("exact/2")["embedding_dense_backward.default"] is embedding_backward
    assert embedding_backward(grad, index, 9, -1, False, out=room) is room
    assert torch.equal(room, embedding_backward(grad, index, 9, -1, False))
    with pytest.raises(ValueError, match="expected memory for 8 rows"):
        embedding_backward(grad, index, 8, -1, False, out=room)

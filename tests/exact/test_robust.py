"""What no sample says: non-finite values, memory that is not contiguous, nothing at all, and a whole model."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_every_operation import sampled
from torch import nn
from torch.nn import functional

from podlt.errors import DivergedError, UnsupportedError
from podlt.exact.conformance import digest
from podlt.exact.cpu.backend import table
from podlt.exact.portable.backend import table as portable_table
from podlt.program import operations
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.layout import update_layout

TABLE = table(2)
on_both_backends = pytest.mark.parametrize("table", [TABLE, portable_table(2)], ids=["cpu", "portable"])
SUMS = """
sum.default sum.dim_IntList mean.default mean.dim var.correction var_mean.correction linalg_vector_norm.default
cumsum.default _softmax.default _log_softmax.default _softmax_backward_data.default _log_softmax_backward_data.default
logsumexp.default nll_loss_forward.default nll_loss2d_forward.default mse_loss.default smooth_l1_loss.default
huber_loss.default binary_cross_entropy_with_logits.default native_layer_norm.default
native_layer_norm_backward.default native_group_norm.default native_group_norm_backward.default
_native_batch_norm_legit_functional.default native_batch_norm_backward.default mm.default bmm.default addmm.default
baddbmm.default mv.default dot.default convolution.default convolution_backward.default
max_pool2d_with_indices_backward.default avg_pool2d.default avg_pool2d_backward.default
_adaptive_avg_pool2d.default _adaptive_avg_pool2d_backward.default scatter_add.default index_add.default
embedding_dense_backward.default
"""
TERM = {"addmm.default": 1, "baddbmm.default": 1}
"""Which argument is summed or multiplied, where it is not the first."""

REDUCTION = {"mse_loss": 2, "smooth_l1_loss": 2, "huber_loss": 2, "nll_loss_forward": 3, "nll_loss2d_forward": 3}
REDUCTION |= {"binary_cross_entropy_with_logits": 4}
"""Where a loss is told whether it is summed at all."""


def spread(item):
    """The same values, in memory with holes and the first dimension last."""
    if isinstance(item, list | tuple):
        return type(item)(spread(part) for part in item)
    if not isinstance(item, torch.Tensor) or item.ndim == 0:
        return item
    turned = item.permute(*range(1, item.ndim), 0)
    holes = torch.zeros((*turned.shape, 2), dtype=item.dtype)
    holes[..., 0] = turned
    found = holes[..., 0].permute(item.ndim - 1, *range(item.ndim - 1))
    assert torch.equal(found, item) or item.isnan().any()
    return found


@on_both_backends
@pytest.mark.parametrize("name", sorted(TABLE))
def test_no_operation_minds_how_its_arguments_lie_in_memory(name, table):
    for _, arguments, options in (call for call in sampled() if call[0] == name):
        want = digest(table[name](*arguments, **options))
        assert digest(table[name](*spread(arguments), **options)) == want


def sums_something(name, arguments):
    """Whether a sample sums or multiplies floats, all of which must be finite."""
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    if any(not t.numel() for t in tensors) or not arguments[TERM.get(name, 0)].is_floating_point():
        return False
    if name == "linalg_vector_norm.default" and arguments[1:] and arguments[1] in (0, math.inf, -math.inf):
        return False  # a number of values, and extremes
    if "batch_norm" in name:
        return arguments[5 if "functional" in name else 7]  # with running statistics nothing is summed
    place = REDUCTION.get(name.split(".")[0])
    return place is None or arguments[place] != 0


@on_both_backends
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", SUMS.split())
def test_a_sum_of_what_is_not_finite_is_refused_by_the_name_of_the_operation(name, value, table):
    place = TERM.get(name, 0)
    calls = [call for call in sampled() if call[0] == name and sums_something(name, call[1])]
    assert calls
    for _, arguments, options in calls:
        bad = torch.full_like(arguments[place], value) if "nll" in name else arguments[place].contiguous().clone()
        bad.view(-1)[0] = value
        with pytest.raises(DivergedError) as found:
            table[name](*arguments[:place], bad, *arguments[place + 1 :], **options)
        operation = str(found.value).split(":")[0]
        assert operation.strip("_") in name, (operation, name)


def test_nothing_gives_nothing():
    empty, target = torch.empty(0, 5), torch.empty(0, dtype=torch.int64)
    assert TABLE["log_sigmoid_forward.default"](empty)[0].shape == (0, 5)
    assert TABLE["smooth_l1_loss.default"](empty, empty, 2).item() == 0.0
    assert math.isnan(TABLE["huber_loss.default"](empty, empty, 1).item())
    assert TABLE["nll_loss_forward.default"](empty, target, None, 2, -100)[0].item() == 0.0
    assert TABLE["nll_loss2d_forward.default"](torch.empty(0, 3, 2, 2), torch.empty(0, 2, 2).long(), None, 0, 0)[
        0
    ].shape == (0, 2, 2)
    assert TABLE["avg_pool2d.default"](torch.empty(0, 2, 4, 4), [2, 2]).shape == (0, 2, 2, 2)
    assert TABLE["topk.default"](empty, 2, 1)[0].shape == (0, 2)


@on_both_backends
def test_a_layer_norm_of_nothing_is_nothing(table):
    none = torch.empty(2, 3, 0)
    out, mean, factor = table["native_layer_norm.default"](none, [0], None, None, 1e-5)
    assert (out.shape, mean.tolist()) == ((2, 3, 0), [[[0.0]] * 3] * 2)  # PyTorch's mean of nothing
    back = table["native_layer_norm_backward.default"]
    assert back(none, none, [0], mean, factor, None, None, [True, False, False])[0].shape == (2, 3, 0)


@on_both_backends
@pytest.mark.parametrize("shape", [(2, 4, 0), (0, 4, 3), (2, 0, 3)])
def test_a_group_norm_of_nothing_is_pytorchs(table, shape):
    none, groups = torch.empty(shape), 2 if shape[1] else 1
    scale, sizes = torch.ones(shape[1]), (*shape, groups)
    ours, theirs = table["native_group_norm.default"], torch.ops.aten.native_group_norm.default
    given = none, scale, scale, *sizes, 1e-5
    for found, wanted in zip(ours(*given), theirs(*given), strict=True):
        assert torch.equal(found.nan_to_num(7.0), wanted.nan_to_num(7.0))
    middle = torch.zeros(shape[0], groups)
    back = table["native_group_norm_backward.default"](none, none, middle, middle, scale, *sizes, [True] * 3)
    assert [x.shape for x in back] == [none.shape, scale.shape, scale.shape]


def test_losses_at_the_edge_of_float32_overflow_to_infinity_and_not_to_something_else():
    big = torch.tensor([3e38, -3e38])
    assert TABLE["smooth_l1_loss.default"](big, -big, 0).tolist() == [math.inf, math.inf]
    assert TABLE["huber_loss.default"](big, torch.zeros(2), 0).tolist() == [float(v) for v in big.abs()]
    logits, labels = torch.tensor([-3e38, 3e38]), torch.tensor([1.0, 0.0])
    assert TABLE["binary_cross_entropy_with_logits.default"](logits, labels, None, None, 0).tolist() == [
        float(v) for v in logits.abs()
    ]
    with pytest.raises(DivergedError, match="smooth_l1_loss"):
        TABLE["smooth_l1_loss.default"](big, -big, 1)


class Many(nn.Module):
    """A model that uses what was long without a definition."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = functional.elu(self.a(x)) + functional.softplus(self.a(x)) * functional.logsigmoid(x).sum(1, keepdim=True)
        h = torch.sort(h, dim=1)[0] * torch.logsumexp(h, 1, keepdim=True)
        h = h + torch.log1p(h.abs()) + torch.expm1(-h.abs()) + h.topk(3, dim=1)[0].sum(1, keepdim=True)
        return self.b(h) + h.max(1, keepdim=True)[0] - h.min(1, keepdim=True)[0]


def huber(model, x, y):
    return functional.huber_loss(model(x), y, reduction="sum", delta=0.5)


FIELDS = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "f32", (3,), None, "label")]


@pytest.mark.slow
def test_a_model_of_all_these_operations_is_captured_and_trains_as_eager_does():
    torch.manual_seed(3)
    model = Many()
    captured = capture(model, huber, FIELDS, "exact/3")
    held = {node.operation.split(".")[0] for node in captured.program.nodes}
    assert {"sort", "topk", "softplus", "softplus_backward", "elu_backward", "huber_loss", "log1p", "expm1"} <= held
    layout = update_layout(captured.program)
    out = layout.views(np.zeros(layout.nbytes, np.uint8))
    state = {f"param:{name}": value.detach() for name, value in model.named_parameters()}
    batch = {"x": torch.randn(6, 4), "y": torch.randn(6, 3)}
    Executor(captured.program).run(state, batch, 0, out)
    loss = huber(model, batch["x"], batch["y"])
    loss.backward()
    torch.testing.assert_close(out["loss"], loss.detach(), rtol=1e-4, atol=1e-4)
    for name, value in model.named_parameters():
        torch.testing.assert_close(out[f"grad:{name}"], value.grad, rtol=2e-3, atol=2e-3)


class Wavy(Many):
    """A model of what got a row and a definition last, in its loss and in its gradient."""

    def forward(self, x):
        h = self.a(x)
        h = h + torch.atan(h) * torch.log2(h.abs() + 0.5) + torch.erfc(h) + torch.round(h * 4) / 4
        h = h + torch.remainder(h, 0.7) + torch.remainder(h, h.abs() + 0.3) * torch.roll(h, 1, 1)
        return self.b(torch.cumprod(h * 0.3 + 1, 1))


def test_the_newest_operations_are_captured_and_their_gradients_are_eager_ones():
    torch.manual_seed(3)
    model = Wavy()
    captured = capture(model, huber, FIELDS, "exact/3")
    held = {node.operation.split(".")[0] for node in captured.program.nodes}
    assert {"atan", "log2", "erfc", "round", "remainder", "cumprod", "roll"} <= held
    layout = update_layout(captured.program)
    out, run = layout.views(np.zeros(layout.nbytes, np.uint8)), Executor(captured.program)
    for _ in range(3):
        state = {f"param:{name}": value.detach() for name, value in model.named_parameters()}
        batch = {"x": torch.randn(6, 4), "y": torch.randn(6, 3)}
        run.run(state, batch, 0, out)
        model.zero_grad()
        huber(model, batch["x"], batch["y"]).backward()
        for name, value in model.named_parameters():
            torch.testing.assert_close(out[f"grad:{name}"], value.grad, rtol=1e-3, atol=1e-4)
            value.data -= 0.005 * out[f"grad:{name}"]


def test_a_model_with_an_operation_that_has_no_definition_is_refused_with_its_place():
    class Worse(Many):
        def forward(self, x):
            return self.b(self.a(x)) + torch.special.i0(x).sum(1, keepdim=True)

    place = f"{Path(__file__).name}:{Worse.forward.__code__.co_firstlineno + 1}"
    for arithmetic in ("exact/2", "stock"):
        with pytest.raises(UnsupportedError, match="i0") as found:
            capture(Worse(), "mse", FIELDS, arithmetic)
        assert place in str(found.value)


def test_a_definition_that_is_missing_is_told_from_an_operation_that_is_not_supported(monkeypatch):
    """No operation lacks a definition today; a table that lost one must say so, and never fall back to PyTorch's."""
    lacking = {name: run for name, run in table(2).items() if name != "topk.default"}
    monkeypatch.setattr("podlt.exact.cpu.backend.table", lambda digits: lacking)
    operations.table.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match=r"topk\.default has no exact definition") as found:
            capture(Many(), huber, FIELDS, "exact/2")
        assert f"{Path(__file__).name}:{Many.forward.__code__.co_firstlineno + 3}" in str(found.value)
    finally:
        operations.table.cache_clear()

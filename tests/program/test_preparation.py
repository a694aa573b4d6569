"""What is taken of a user's module: its modes, what is inside of wrappers, its unused parameters; and no hooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.preparation import copied, state_of

from .against_pytorch import FOUR, assert_as_pytorch


def total(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch["x"]), batch["y"], reduction="sum")


def normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))


# -- hooks -----------------------------------------------------------------------------------------------------------


def test_a_parameter_with_a_hook_is_refused_by_name() -> None:
    model = nn.Linear(4, 3)
    model.weight.register_hook(lambda gradient: gradient * 0)
    with pytest.raises(UnsupportedError, match=r"parameter weight has a hook .*register_hook.*handle\.remove"):
        capture(model, "cross_entropy", FOUR)


def test_a_parameter_with_a_hook_on_its_accumulated_gradient_is_refused_by_name() -> None:
    model = nn.Linear(4, 3)
    model.bias.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(UnsupportedError, match="parameter bias has a hook"):
        capture(model, "cross_entropy", FOUR)


@pytest.mark.parametrize(
    "register",
    [
        lambda part: part.register_full_backward_hook(lambda module, given, out: (given[0] * 0,)),
        lambda part: part.register_full_backward_pre_hook(lambda module, out: (out[0] * 0,)),
    ],
)
def test_a_module_with_a_backward_hook_is_refused_by_name(register: Callable[[nn.Module], object]) -> None:
    model = normed()
    register(model[3])
    with pytest.raises(UnsupportedError, match="module 3 has a backward hook"):
        capture(model, "cross_entropy", FOUR)


def test_a_hook_on_an_activation_is_part_of_the_captured_step() -> None:
    class Halved(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            y.register_hook(lambda gradient: gradient * 0.5)
            return y

    assert_as_pytorch(Halved(4, 3), "cross_entropy", FOUR, total, below=3)


def test_a_forward_hook_is_part_of_the_captured_step() -> None:
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda module, given, out: out * 2)
    assert_as_pytorch(model, "cross_entropy", FOUR, total, below=3)


# -- modes -----------------------------------------------------------------------------------------------------------


def test_a_part_in_eval_mode_of_a_model_in_train_mode_stays_in_it() -> None:
    model = normed()
    model[1].eval()
    model[2].eval()
    model[1].running_mean.fill_(0.3)
    captured = assert_as_pytorch(model, "cross_entropy", FOUR, total, below=3)
    assert "uniform" not in {node.operation for node in captured.program.nodes}
    assert [name for name, _ in captured.program.outputs if name.startswith("buffer:")] == []


def test_a_frozen_batch_norm_keeps_parameters_and_statistics() -> None:
    model = normed()
    model[1].eval().requires_grad_(False)
    model[2].eval()
    captured = assert_as_pytorch(model, "cross_entropy", FOUR, total, below=3)
    assert {"frozen:1.weight", "frozen:1.bias"} <= set(captured.program.inputs)


def test_a_model_in_eval_mode_as_a_whole_is_trained_in_train_mode() -> None:
    program = capture(normed().eval(), "cross_entropy", FOUR).program
    assert "uniform" in {node.operation for node in program.nodes}
    assert "buffer:1.running_mean" in dict(program.outputs)


def test_the_users_model_keeps_its_modes_and_gradients() -> None:
    model = normed().eval()
    capture(model, "cross_entropy", FOUR)
    assert not any(part.training for part in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# -- wrappers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(torch.compile, marks=pytest.mark.slow),
        pytest.param(nn.DataParallel, marks=pytest.mark.slow),
        lambda model: nn.DataParallel(torch.compile(model)),
    ],
)
def test_a_wrapped_model_is_captured_as_the_model_inside(wrap: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    assert capture(wrap(model), "cross_entropy", FOUR).program == capture(model, "cross_entropy", FOUR).program


def test_a_compiled_part_is_run_as_it_is_written() -> None:
    model = nn.Sequential(torch.compile(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 3))
    model[2].compile()
    captured = capture(model, "cross_entropy", FOUR)
    assert set(captured.state) == {f"param:{name}" for name, _ in model.named_parameters()}


# -- parameters ------------------------------------------------------------------------------------------------------


class WithLater(nn.Module):
    """A model with a layer that its loss does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.later = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)


def test_a_parameter_that_the_loss_does_not_use_is_a_frozen_one_with_one_notice() -> None:
    captured = assert_as_pytorch(WithLater(), "cross_entropy", FOUR, total, below=3)
    assert {"frozen:later.weight", "frozen:later.bias"} <= set(captured.state)
    assert len(captured.notices) == 1 and "later.weight, later.bias" in captured.notices[0]
    assert set(state_of(WithLater(), captured.program.inputs)) == set(captured.state)


def test_a_parameter_that_is_used_without_effect_has_a_gradient_of_zero_as_in_pytorch() -> None:
    class Idle(WithLater):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(x) + 0 * self.later(x)[:, :3]

    captured = assert_as_pytorch(Idle(), "cross_entropy", FOUR, total, below=3)
    assert "grad:later.weight" in dict(captured.program.outputs) and captured.notices == ()


def test_a_module_keeps_its_bits_although_captures_share_its_memory() -> None:
    model = normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    captured = capture(model, "cross_entropy", FOUR)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    own = {value.data_ptr() for value in model.state_dict().values()}
    assert own.isdisjoint(value.data_ptr() for value in captured.state.values())


def test_a_copy_that_is_only_looked_at_takes_no_memory_and_keeps_what_is_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].weight.requires_grad_(False)
    found = copied(model, lambda tensor: tensor)
    assert found[0].weight is found[1].weight and found[0].weight is not model[0].weight
    assert found[0].weight.data_ptr() == model[0].weight.data_ptr() and not found[0].weight.requires_grad
    assert copied(model, torch.Tensor.double)[0].weight.dtype == torch.float64

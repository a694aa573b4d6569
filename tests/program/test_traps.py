"""What a trace loses or bakes in without a word: captured rightly, or refused with the place in the user's code.

Source: PROGRAM.md, "Traps, each met".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from podlt.errors import UnsupportedError
from podlt.program.capture import Captured, capture

from .zoo import NUMBERS, Case


class Two(nn.Module):
    """Two layers, to be made worse."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def taken(model: nn.Module) -> Captured:
    return capture(model, "mse", NUMBERS)


def model_of(forward: Callable[[Two, torch.Tensor], torch.Tensor]) -> nn.Module:
    return type("Made", (Two,), {"forward": forward})()


def refused(forward: Callable[[Two, torch.Tensor], torch.Tensor], *words: str) -> None:
    with pytest.raises(UnsupportedError) as found:
        taken(model_of(forward))
    assert all(word in str(found.value) for word in words), str(found.value)


def here(function: Callable[..., object], below: int = 1) -> str:
    """The place of a function's line in this file, as an error names it."""
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno + below}"


def test_dropout_inside_of_a_checkpoint_is_refused_as_it_would_draw_a_second_mask() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.b(checkpoint(lambda v: functional.dropout(self.a(v), 0.5, True), x, use_reentrant=False))

    refused(forward, "second mask")


def test_a_checkpoint_without_draws_is_captured() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.b(checkpoint(lambda v: torch.tanh(self.a(v)), x, use_reentrant=False))

    assert "tanh.default" in {n.operation for n in taken(model_of(forward)).program.nodes}


def test_a_random_number_of_python_or_numpy_is_refused() -> None:
    refused(lambda self, x: self.a(x) * random.random(), "random choice")
    refused(lambda self, x: self.a(x) * torch.from_numpy(np.random.rand(3).astype("f4")), "random constants")


def test_a_random_depth_is_refused() -> None:
    draws = iter([True, False, True, False, True, False])
    refused(lambda self, x: self.b(self.a(x)) if next(draws) else self.a(x), "not the same")


def test_a_counter_in_python_is_refused() -> None:
    count = iter(range(1, 100))
    refused(lambda self, x: self.a(x) * next(count), "counter")


def test_a_loop_over_the_batch_is_refused() -> None:
    refused(lambda self, x: torch.stack([self.a(line) for line in x]), "loop over the batch")


def test_a_constant_that_depends_on_a_lines_place_in_the_batch_is_refused() -> None:
    refused(lambda self, x: self.a(x) * torch.arange(x.shape[0])[:, None], "how the examples are dealt")


def test_a_value_taken_out_of_a_tensor_is_refused_with_its_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) * 2 if self.a(x).sum().item() > 0 else self.a(x)

    refused(forward, ".item()", here(forward))


def test_a_branch_on_a_tensor_is_refused_with_its_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) * 2 if (x > 0).all() else self.a(x)

    refused(forward, "depends on a value", here(forward))


def test_singular_values_are_refused_by_name_and_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(self.a(x).unsqueeze(1)) + self.a(x)

    refused(forward, "_linalg_svd.default", here(forward))


def test_a_choice_of_lines_by_value_is_refused_by_name_and_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] * self.a(x)[torch.nonzero(x[:, 0])[:, 0]].sum(0)

    refused(forward, "nonzero.default", here(forward))


def test_double_precision_is_refused_with_its_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.a(x).double().sin().float()

    refused(forward, "float64", here(forward))


def test_a_random_draw_that_philox_does_not_give_is_refused_by_name_and_place() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + torch.poisson(torch.ones(3))

    refused(forward, "poisson", here(forward))


def test_packed_sequences_are_refused() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(4, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lengths = torch.ones(x.shape[0], dtype=torch.int64)
            return self.layer(nn.utils.rnn.pack_padded_sequence(x[:, None], lengths, batch_first=True))[0].data

    with pytest.raises(UnsupportedError, match=r"test_traps\.py:\d+"):
        taken(Packed())


def test_a_parameter_that_is_changed_in_place_is_refused() -> None:
    def forward(self: Two, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.a.weight.mul_(0.9)
        return self.a(x)

    refused(forward, "in place")


def test_a_loss_that_no_gradient_leads_from_is_refused() -> None:
    refused(lambda self, x: self.a(x).detach(), "no gradient")


def test_a_buffer_comes_out_however_it_was_changed(captured: Callable[[str], Case]) -> None:
    outputs = [name for name, _ in captured("normalised").program.outputs if name.startswith("buffer:")]
    assert outputs == ["buffer:seen", "buffer:mean"]
    running = [name for name, _ in captured("pooled").program.outputs if name.startswith("buffer:")]
    assert running == ["buffer:2.running_mean", "buffer:2.running_var", "buffer:2.num_batches_tracked"]


def test_a_buffer_that_stays_the_same_is_no_output() -> None:
    model = Two()
    model.register_buffer("scale", torch.ones(3))
    assert [n for n, _ in taken(model).program.outputs if n.startswith("buffer:")] == []


def test_a_buffer_that_changes_its_shape_is_refused() -> None:
    class Growing(Two):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept = torch.cat([self.kept, self.kept])
            return self.a(x)

    with pytest.raises(UnsupportedError, match="buffer kept changes"):
        taken(Growing())


def test_a_frozen_parameter_has_no_gradient() -> None:
    model = Two()
    model.a.weight.requires_grad_(False)
    found = taken(model).program
    assert "frozen:a.weight" in found.inputs and "grad:a.weight" not in dict(found.outputs)


def test_attention_holds_no_fused_kernel(captured: Callable[[str], Case]) -> None:
    names = {node.operation for node in captured("gpt-dropout").program.nodes}
    assert not [name for name in names if "flash" in name or "scaled_dot_product" in name]


def test_parameters_of_another_type_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="must be float32"):
        taken(Two().double())


def test_a_term_beside_the_lines_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="must be a sum over examples"):
        capture(Two(), lambda m, x, y: (m(x) - y).square().sum() + m.a.weight.square().sum(), NUMBERS)

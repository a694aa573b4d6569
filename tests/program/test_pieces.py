"""Tasks in pieces: what is added up, by which seeds, and how much memory it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.canonical import to_json
from podlt.errors import InvalidProofError
from podlt.execution.task_executor import TaskExecutor
from podlt.program.capture import Captured, capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import update_layout
from podlt.program.memory import MemoryNeedError, most_examples, peak_bytes
from podlt.program.pieces import PieceSums, piece_bounds, piece_seed
from podlt.program.validate import check_examples, validate

from .zoo import Case

TOKENS = [FieldSpec("x", "i64", (3,), None, "input"), FieldSpec("y", "i64", (3,), None, "label")]
EXAMPLES = 8


@pytest.fixture(scope="module")
def worded() -> Captured:
    """A mean over tokens, of a model with dropout and batch norm."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.BatchNorm1d(3), nn.Dropout(0.25), nn.Linear(4, 5))

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return capture(model, loss, TOKENS, "exact/2", batch())


def batch(start: int = 0, stop: int = EXAMPLES) -> dict[str, torch.Tensor]:
    x, y = torch.arange(3 * EXAMPLES).reshape(EXAMPLES, 3) % 7, torch.arange(3 * EXAMPLES).reshape(EXAMPLES, 3) % 5
    y[0, 1:], y[2] = -100, -100
    return {"x": x[start:stop].clone(), "y": y[start:stop].clone()}


def update(
    program: Program, state: dict[str, torch.Tensor], examples: dict[str, torch.Tensor], seed: int
) -> np.ndarray:
    out = np.zeros(update_layout(program).nbytes, np.uint8)
    TaskExecutor(program, 1, None)(state, examples, seed.to_bytes(8, "big") + bytes(24), out)
    return out


def real_sum(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """The float32 nearest to the sum as fractions, ties to even."""
    found = []
    for terms in zip(*(value.reshape(-1).tolist() for value in values), strict=True):
        total = sum(map(Fraction, terms), Fraction(0))
        nearest = np.float32(float(total))
        near = [np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))]
        near.sort(key=lambda one: (abs(Fraction(float(one)) - total), int(one.view(np.uint32)) & 1))
        found.append(near[0])
    return torch.from_numpy(np.array(found, np.float32)).reshape(values[0].shape)


def test_pieces_share_the_examples_evenly() -> None:
    assert piece_bounds(8, 3) == [(0, 2), (2, 5), (5, 8)]
    assert piece_bounds(8, 0) == piece_bounds(8, 8) == piece_bounds(8, 100) == [(0, 8)]
    assert piece_bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]
    assert [piece_seed(2**64 - 1, i) for i in range(3)] == [2**64 - 1, 2**32 - 1, 2**33 - 1]


def test_the_update_of_a_task_is_that_of_its_pieces_added_exactly_and_rounded_once(worded: Captured) -> None:
    program = replace(worded.program, micro_batch_size=3)
    views = update_layout(program).views
    found = views(update(program, worded.state, batch(), seed=7))
    parts = [
        views(update(worded.program, worded.state, batch(start, stop), piece_seed(7, i)))
        for i, (start, stop) in enumerate([(0, 2), (2, 5), (5, 8)])
    ]
    assert {"loss", "divisor", "buffer:1.running_mean", "buffer:1.num_batches_tracked"} <= set(found)
    for name, value in found.items():
        if value.is_floating_point():
            assert torch.equal(value, real_sum([part[name] for part in parts])), name
        else:
            assert torch.equal(value, parts[0][name]), name
    assert float(found["divisor"]) == float((batch()["y"] != -100).sum())


def test_a_task_of_one_piece_has_the_bits_that_it_has_without_pieces(worded: Captured) -> None:
    program = replace(worded.program, micro_batch_size=EXAMPLES)
    found, whole = (update(one, worded.state, batch(), seed=3) for one in (program, worded.program))
    assert np.array_equal(found, whole)
    assert program.digest != worded.program.digest


def test_pieces_are_no_other_gradient_than_the_whole(captured: Callable[[str], Case]) -> None:
    case = captured("cnn")
    examples = case.batch(7)
    views = update_layout(case.program).views
    whole = views(update(case.program, case.state, examples, 0))
    found = views(update(replace(case.program, micro_batch_size=2), case.state, examples, 0))
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def test_what_cancels_between_pieces_is_not_lost() -> None:
    sums = PieceSums()
    for value in (2.0**25, 1.0, -(2.0**25)):
        sums.add({"grad:w": torch.tensor([value, value])})
    out = {"grad:w": torch.zeros(2)}
    sums.write(out)
    assert out["grad:w"].tolist() == [1.0, 1.0]


def test_pieces_of_any_size_and_order_are_added_as_real_numbers() -> None:
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randn((6, 2000), generator=generator) * 2.0 ** torch.randint(
        -120, 100, (6, 2000), generator=generator
    )
    drawn[5, ::2], drawn[4, ::3] = -drawn[0, ::2], -drawn[1, ::3]  # what is large cancels
    ties = torch.tensor([[1.0, 1.0, -1.0], [2.0**-24, 2.0**-24, -(2.0**-24)], [2.0**-149, -(2.0**-140), -(2.0**-90)]])
    for values in (drawn, ties):
        expected = real_sum(list(values))
        for order in (range(len(values)), reversed(range(len(values)))):
            sums, out = PieceSums(), {"grad:w": torch.zeros(values.shape[1])}
            for i in order:
                sums.add({"grad:w": values[i].clone()})
            sums.write(out)
            assert torch.equal(out["grad:w"], expected)


def test_a_sum_of_pieces_that_is_not_finite_stays_so() -> None:
    sums, out = PieceSums(), {"grad:w": torch.zeros(3)}
    for values in ([float("inf"), float("nan"), 1.0], [1.0, 1.0, 2.0**-60], [float("-inf"), 0.0, 2.0**-60]):
        sums.add({"grad:w": torch.tensor(values)})
    sums.write(out)
    assert out["grad:w"].isfinite().tolist() == [False, False, True]


def test_local_steps_are_executed_in_pieces(worded: Captured) -> None:
    program = replace(worded.program, micro_batch_size=2)
    out = np.zeros(update_layout(program).nbytes, np.uint8)
    TaskExecutor(program, 2, 0.1)(worded.state, batch(), bytes(32), out)
    assert float(update_layout(program).views(out)["divisor"]) == EXAMPLES


def test_a_program_says_how_many_examples_a_piece_has(worded: Captured) -> None:
    program = replace(worded.program, micro_batch_size=3)
    assert Program.from_bytes(program.to_bytes()) == program
    assert "micro_batch_size" not in worded.program.to_document()
    for wrong in (0, -1, True, 1.5, None, 2**31):
        with pytest.raises(InvalidProofError, match="micro_batch_size"):
            Program.from_bytes(to_json(worded.program.to_document() | {"micro_batch_size": wrong}))


def test_memory_is_that_of_a_piece(worded: Captured) -> None:
    program = worded.program
    room = peak_bytes(program, 16, is_summed=True)[0]
    fits = most_examples(program, room)
    assert fits == 16
    with pytest.raises(
        MemoryNeedError, match=r"1024 examples of this model take more than .* set training.micro_batch_size"
    ):
        validate(program, examples=1024, max_bytes=room)
    pieces = replace(program, micro_batch_size=fits)
    validate(pieces, examples=1024, max_bytes=room)
    check_examples(pieces, 1000, room)
    with pytest.raises(MemoryNeedError, match="17 examples"):
        check_examples(replace(program, micro_batch_size=17), 17 * 5, room)

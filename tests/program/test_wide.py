"""Parameters that stay float32 in memory give what they would give if they were float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from podlt.program import wide
from podlt.program.wide import WideMemory, WidenedTensor


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture
def parts_of_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "IN_PARTS", 0)
    monkeypatch.setattr(wide, "PART", 7)


PLACES = torch.tensor([[4, 0], [4, 2]])
USES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a product": lambda w: drawn(3, 5).double() @ w,
    "a product with what is turned": lambda w: drawn(3, 4).double() @ w.t(),
    "a product from the left": lambda w: w @ drawn(4, 3).double(),
    "a product with itself": lambda w: w @ w.t(),
    "a layer with a bias": lambda w: functional.linear(drawn(2, 3, 4).double(), w, w[:, 0]),
    "rows": lambda w: functional.embedding(PLACES, w) * 3,
    "rows by number": lambda w: w.index_select(0, PLACES[0]),
    "columns": lambda w: w[:, 1:3].exp(),
    "every second row": lambda w: w[::2] + w[::2].mean(),
    "twice in one operation": lambda w: torch.cat([w, w.roll(1, 0)]),
    "a view of it": lambda w: w.reshape(2, 10).transpose(0, 1),
}


@pytest.mark.usefixtures("parts_of_seven")
@pytest.mark.parametrize("name", USES)
def test_values_and_gradients_are_those_of_a_wide_parameter(name: str) -> None:
    narrow = drawn(5, 4)
    expected, found = narrow.double().requires_grad_(), WidenedTensor(narrow, WideMemory()).requires_grad_()
    for w in (expected, found):
        USES[name](w).square().sum().backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None and found.grad.dtype == torch.float64
    torch.testing.assert_close(USES[name](found) + 0, USES[name](expected), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-13, atol=1e-13)


def test_what_one_operation_gave_stays_when_the_next_uses_the_same_memory() -> None:
    memory = WideMemory()
    first, second = (WidenedTensor(torch.full((4,), value), memory) for value in (1.0, 2.0))
    copies = [torch.ops.aten.clone.default(first), torch.ops.aten.clone.default(second)]
    assert copies[0].tolist() == [1.0] * 4 and copies[1].tolist() == [2.0] * 4
    same = memory.call("a", lambda x: x, (torch.ones(3),), {}, lambda item: item)
    memory.call("a", lambda x: x, (torch.zeros(3),), {}, lambda item: item)
    assert same.tolist() == [1.0] * 3, "an operation that returns its argument returns a copy of it"


def test_nothing_writes_to_a_parameter() -> None:
    parameter = WidenedTensor(torch.ones(3), WideMemory())
    with pytest.raises(RuntimeError, match="writes to a parameter"):
        parameter.add_(1)
    assert parameter.narrow.tolist() == [1.0] * 3

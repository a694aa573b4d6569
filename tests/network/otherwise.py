"""Starts podlt on a machine that computes one exact operation otherwise: `otherwise.py COMMAND ...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from podlt.cli import main
from podlt.exact import conformance
from podlt.exact.aten.backend import Operation


def compute_otherwise() -> None:
    """Gives the last bit of every silu another value."""
    right = conformance.table

    def wrong(digits: int) -> Mapping[str, Operation]:
        operations = dict(right(digits))

        def silu(x: torch.Tensor, **options: Any) -> Any:
            return torch.nextafter(operations_silu(x, **options), torch.tensor(float("inf")))

        operations_silu = operations["silu.default"]
        operations["silu.default"] = silu
        return operations

    conformance.table = wrong


if __name__ == "__main__":
    compute_otherwise()
    main()

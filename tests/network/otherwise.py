"""Starts podlt on a machine that computes one exact operation otherwise: `otherwise.py COMMAND ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from podlt.cli import main
from podlt.engine.isolated import host
from podlt.engine.isolated.executor import TaskProcess
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
    if sys.argv[1].isdigit():  # the process that executes tasks
        compute_otherwise()
        host.main()
    else:
        TaskProcess.module = Path(__file__).stem
        os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
        main()

"""The process that executes tasks, where the worker's number says what goes wrong: `python -m bombs DESCRIPTOR`."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from podlt.engine.isolated import host
from podlt.execution.worker_runtime import WorkerRuntime


def crash() -> None:
    ctypes.string_at(0)


def swell() -> None:
    kept = []
    while True:
        kept.append(torch.ones(2**22))


def spin() -> None:
    while True:
        pass


BOMBS = {1: crash, 2: swell, 3: spin}
run = WorkerRuntime.run


def exploding(self: WorkerRuntime, holder: int, *rest: Any) -> Any:
    if holder in BOMBS:
        BOMBS[holder]()
    return run(self, holder, *rest)


if __name__ == "__main__":
    WorkerRuntime.run = exploding  # type: ignore[method-assign]
    host.TASK_SECONDS = 2  # type: ignore[misc]
    host.main()

"""Executing a task: the one function that workers, referee and auditors share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from podlt.exact.portable.devices import CPU, torch_device
from podlt.program.descent import local_rule
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.program.machine import MAX_BYTES
from podlt.program.operations import EXACT_ARITHMETIC
from podlt.program.validate import check_examples


class TaskExecutor:
    """A pure function of parameters, examples and randomness, as a program defines it.

    Args:
        program: a validated program.
        local_steps: optimizer steps within a task, at least 1.
        local_lr: their learning rate; None where there is one step.
        memory: the most bytes that a task's tensors may take.
        device: where it computes, as `exact.portable.devices` names it.

    Raises:
        UnsupportedError: its arithmetic has no table on the device.
        UsageError: no such device here.
    """

    def __init__(
        self,
        program: Program,
        local_steps: int,
        local_lr: float | None,
        memory: int = MAX_BYTES,
        device: str = CPU,
    ) -> None:
        self._executor = Executor(
            program, check=lambda examples: check_examples(program, examples, memory), device=device
        )
        self._device = None if device == CPU else torch_device(device)
        self._resident: Mapping[str, torch.Tensor] | None = None
        self._layout, self._exact = update_layout(program), program.arithmetic in EXACT_ARITHMETIC
        self._local_steps = local_steps
        self._rule = local_rule(program.local_optimizer, local_lr) if local_lr is not None else None

    @contextmanager
    def unchanging(self, state: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Many tasks on the same parameters: exact arithmetic cuts them into digits once, a device is given them once.

        The caller promises that nobody writes to `state` within the block, and gives no other.
        """
        if self._device is not None:
            self._resident = {name: value.to(self._device) for name, value in state.items()}
            try:
                yield
            finally:
                self._resident = None
            return
        if not self._exact:
            yield
            return
        from podlt.exact.cpu.digits import DigitCache

        with DigitCache(value for value in state.values() if value.dtype == torch.float32):
            yield

    def __call__(
        self, state: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor], randomness: bytes, out: np.ndarray
    ) -> None:
        """Writes the update of a shard.

        Args:
            state: parameters and buffers by name.
            batch: the shard's fields (see `as_batch`).
            randomness: the task's 32 bytes.
            out: uint8 bytes in the update's layout.
        """
        state = state if self._resident is None else self._resident
        seed, views = int.from_bytes(randomness[:8], "big"), self._layout.views(out)
        if self._local_steps > 1:
            assert self._rule is not None
            self._executor.run_local_steps(state, batch, seed, views, self._local_steps, self._rule)
        else:
            self._executor.run(state, batch, seed, views)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: a task's bits must not depend on how many there are, and small work is done sooner.

    OpenMP's threads wait for more work by spinning, for longer than a small average takes, on cores that the workers
    need.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def as_batch(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A shard as tensors in fresh, aligned memory: stock kernels may round by alignment."""
    return {name: torch.from_numpy(values).clone() for name, values in arrays.items()}

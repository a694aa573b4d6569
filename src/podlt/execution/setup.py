"""What a process is given before it executes tasks; importing this brings no PyTorch along."""

from __future__ import annotations

import msgspec

from podlt.data.field import Field


class ExecutionSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process has to know of a run, besides its program, to execute tasks.

    Attributes:
        run: the run's identity.
        fields: the fields of a line.
        block_lines: the most lines of a block.
        local_steps: optimizer steps within a task, at least 1.
        local_lr: their learning rate; None where there is one step.
        task_lines: the most lines of a task, as far as the run's plan says it; 0 where it depends on how many workers
            there are.
    """

    run: bytes
    fields: list[Field]
    block_lines: int
    local_steps: int
    local_lr: float | None
    task_lines: int = 0

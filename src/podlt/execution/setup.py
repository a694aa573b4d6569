"""What a process is given before it executes tasks, and says of its machine; brings no PyTorch along."""

from __future__ import annotations

import msgspec

from podlt.data.field import Field
from podlt.errors import EngineError


class ExecutionSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process has to know of a run, besides its program, to execute tasks.

    Attributes:
        run: the run's identity.
        fields: the fields of an example.
        batch_size: the most examples of a batch.
        local_steps: optimizer steps within a task, at least 1.
        local_lr: their learning rate; None where there is one step.
        task_examples: the most examples of a task, as far as the run's plan says it; 0 where it depends on how many
            workers there are.
    """

    run: bytes
    fields: list[Field]
    batch_size: int
    local_steps: int
    local_lr: float | None
    task_examples: int = 0


class Conformance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine computes. Empty where the arithmetic is PyTorch's own, which promises nothing between machines.

    Attributes:
        digest: over the golden vectors as it computes them, hex.
        differing: the first that differs, or nothing.
    """

    digest: str = ""
    differing: str = ""

    def require(self, who: str) -> None:
        """Returns only if all is as it must be.

        Raises:
            EngineError: names the first operation that differs.
        """
        if self.differing:
            raise EngineError(
                f"{who} computes {self.differing!r} otherwise than the golden vectors say (its digest is "
                f"{self.digest[:16]}...): it would be taken for a cheater; see `podlt conformance`"
            )

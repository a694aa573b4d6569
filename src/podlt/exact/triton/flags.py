"""How kernels refuse: one number a launch or several, which the host looks at once."""

from __future__ import annotations

import torch

from podlt.exact.constants import NonFiniteError


class Flag:
    """Zero on the device, until a kernel writes that it saw an infinity or a NaN."""

    def __init__(self, device: torch.device) -> None:
        self.raised = torch.zeros(1, dtype=torch.int32, device=device)

    def check(self, operation: str) -> None:
        """Waits for the device.

        Raises:
            NonFiniteError: a kernel wrote so. The message names `operation`.
        """
        if int(self.raised):
            raise NonFiniteError(operation)

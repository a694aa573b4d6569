"""The tensors of a state or an update as views of flat memory (`podlt.program.places` says where each lies)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from podlt.program.ir import Program
from podlt.program.places import Places, state_fields

TORCH_DTYPES = {"f32": torch.float32, "i64": torch.int64, "i32": torch.int32, "u8": torch.uint8, "b1": torch.bool}
_NUMPY_DTYPES: dict[str, Any] = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "u8": np.uint8, "b1": np.bool_}


class Layout(Places):
    """The places of named tensors, and the tensors themselves in a memory."""

    def views(self, memory: np.ndarray) -> dict[str, torch.Tensor]:
        """The tensors inside a memory of `nbytes` (uint8), by name, without a copy."""
        assert memory.nbytes >= self.nbytes
        result = {}
        for name, place in self.items():
            raw = memory[place.offset : place.end]
            result[name] = torch.from_numpy(raw.view(_NUMPY_DTYPES[place.dtype]).reshape(place.shape))
        return result

    def clear_gaps(self, memory: np.ndarray) -> None:
        """Makes what lies between the tensors zero, whoever wrote there before."""
        for gap in self.gaps:
            memory[gap] = 0


def state_layout(program: Program) -> Layout:
    """Parameters, then frozen parameters, then buffers: what a task starts from."""
    return Layout(state_fields(program))


def update_layout(program: Program) -> Layout:
    """What a task gives: "loss", "divisor" if there is one, "grad:…" in the order of the parameters, and the buffers
    that it changes.

    All float32 tensors come first, so that they can be summed as one vector.
    """
    kinds = {name: program.types[value] for name, value in program.outputs}
    order = [
        "loss",
        *(name for name in kinds if name == "divisor"),
        *("grad:" + name.partition(":")[2] for name in program.named("param:")),
    ]
    buffers = [name for name in kinds if name.startswith("buffer:")]
    order += [name for name in buffers if kinds[name].dtype == "f32"]
    order += [name for name in buffers if kinds[name].dtype != "f32"]
    return Layout([(name, kinds[name]) for name in order])

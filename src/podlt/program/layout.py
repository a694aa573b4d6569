"""Where each tensor of a state or an update lies in flat memory.

Every tensor begins at a multiple of 64 bytes: stock kernels may round differently on other alignments, so it is the
same in every process. What lies between tensors is zero, as digests cover it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from podlt.program.ir import ITEM_BYTES, Program, TensorType

ALIGNMENT = 64

TORCH_DTYPES = {"f32": torch.float32, "i64": torch.int64, "i32": torch.int32, "u8": torch.uint8, "b1": torch.bool}
_NUMPY_DTYPES: dict[str, Any] = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "u8": np.uint8, "b1": np.bool_}


class Layout:
    """The places of named tensors.

    Args:
        fields: name and type of each, in order, none of them depending on the number of lines.

    Attributes:
        nbytes: the size of the whole; float_bytes: the size of the leading part that is all float32.
    """

    def __init__(self, fields: Sequence[tuple[str, TensorType]]) -> None:
        self._places: dict[str, tuple[int, str, tuple[int, ...], int]] = {}
        self._gaps: list[slice] = []
        offset = self.float_bytes = 0
        only_floats = True
        for name, kind in fields:
            shape = kind.at(0)
            count = int(np.prod(shape, dtype=np.int64))
            self._places[name] = (offset, kind.dtype, shape, count)
            end = offset + count * ITEM_BYTES[kind.dtype]
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            self._gaps += [slice(end, offset)] if end < offset else []
            only_floats = only_floats and kind.dtype == "f32"
            self.float_bytes = offset if only_floats else self.float_bytes
        self.nbytes = offset

    def views(self, memory: np.ndarray) -> dict[str, torch.Tensor]:
        """The tensors inside a memory of `nbytes` (uint8), by name, without a copy."""
        assert memory.nbytes >= self.nbytes
        result = {}
        for name, (offset, dtype, shape, count) in self._places.items():
            raw = memory[offset : offset + count * ITEM_BYTES[dtype]]
            result[name] = torch.from_numpy(raw.view(_NUMPY_DTYPES[dtype]).reshape(shape))
        return result

    def clear_gaps(self, memory: np.ndarray) -> None:
        """Makes what lies between the tensors zero, whoever wrote there before."""
        for gap in self._gaps:
            memory[gap] = 0

    def section(self, prefix: str) -> tuple[int, int]:
        """Where the tensors whose name begins with `prefix` begin and end, in bytes; they follow each other."""
        places = [place for name, place in self._places.items() if name.startswith(prefix)]
        ends = [offset + -(-count * ITEM_BYTES[dtype] // ALIGNMENT) * ALIGNMENT for offset, dtype, _, count in places]
        return min((place[0] for place in places), default=0), max(ends, default=0)


def state_layout(program: Program) -> Layout:
    """Parameters, then frozen parameters, then buffers: what a task starts from."""
    fields = [item for prefix in ("param:", "frozen:", "buffer:") for item in program.named(prefix).items()]
    return Layout(fields)


def update_layout(program: Program) -> Layout:
    """What a task gives: "loss", "grad:…" in the order of the parameters, and the buffers that it changes.

    All float32 tensors come first, so that they can be summed as one vector.
    """
    kinds = {name: program.types[value] for name, value in program.outputs}
    order = ["loss", *("grad:" + name.partition(":")[2] for name in program.named("param:"))]
    buffers = [name for name in kinds if name.startswith("buffer:")]
    order += [name for name in buffers if kinds[name].dtype == "f32"]
    order += [name for name in buffers if kinds[name].dtype != "f32"]
    return Layout([(name, kinds[name]) for name in order])

"""Where each tensor of a state or an update lies in flat memory: offsets and sizes, without PyTorch or NumPy.

Every tensor begins at a multiple of 64 bytes: stock kernels may round differently on other alignments, so it is the
same in every process. What lies between tensors is zero, as digests cover it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podlt.errors import InvalidProofError
from podlt.program.ir import ITEM_BYTES, Program, TensorType

ALIGNMENT = 64


@dataclass(frozen=True)
class TensorPlace:
    """Where one tensor lies.

    Attributes:
        offset: of its first byte, a multiple of `ALIGNMENT`.
        dtype: one of `podlt.program.ir.DTYPES`.
        shape: its dimensions.
        count: how many elements it has.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]
    count: int

    @property
    def nbytes(self) -> int:
        """The size of its elements together."""
        return self.count * ITEM_BYTES[self.dtype]

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.nbytes


class Places:
    """The places of named tensors, in order.

    Args:
        fields: name and type of each, in order, none of them depending on the number of examples.

    Attributes:
        nbytes: the size of the whole.
        float_bytes: the size of the leading part that is all float32.
        gaps: what lies between the tensors, and after the last.

    Raises:
        InvalidProofError: a type has a dimension below zero.
    """

    def __init__(self, fields: Sequence[tuple[str, TensorType]]) -> None:
        self._places: dict[str, TensorPlace] = {}
        self.gaps: list[slice] = []
        offset = self.float_bytes = 0
        only_floats = True
        for name, kind in fields:
            shape = kind.at(0)
            if min(shape, default=0) < 0:
                raise InvalidProofError(f"program: {name} has a dimension below zero", actual=shape)
            place = TensorPlace(offset, kind.dtype, shape, math.prod(shape))
            self._places[name] = place
            offset = -(-place.end // ALIGNMENT) * ALIGNMENT
            if offset > place.end:
                self.gaps.append(slice(place.end, offset))
            only_floats = only_floats and kind.dtype == "f32"
            self.float_bytes = offset if only_floats else self.float_bytes
        self.nbytes = offset

    def items(self) -> Iterator[tuple[str, TensorPlace]]:
        """Name and place of each tensor, in order."""
        yield from self._places.items()

    def section(self, prefix: str) -> tuple[int, int]:
        """Where the tensors whose name begins with `prefix` begin and end, in bytes; they follow each other."""
        places = [place for name, place in self._places.items() if name.startswith(prefix)]
        ends = [-(-place.end // ALIGNMENT) * ALIGNMENT for place in places]
        return min((place.offset for place in places), default=0), max(ends, default=0)


def state_fields(program: Program) -> list[tuple[str, TensorType]]:
    """Parameters, then frozen parameters, then buffers: what a task starts from."""
    return [item for prefix in ("param:", "frozen:", "buffer:") for item in program.named(prefix).items()]

"""One field of an example: what a set's meta file, a run's setup and a worker's messages say of it. Needs no NumPy."""

from __future__ import annotations

from typing import Literal

import msgspec

ITEM_BYTES = {"u8": 1, "f32": 4, "i64": 8, "i32": 4}
"""How a value may be stored -> its bytes; `podlt.data.dataset.DTYPES` has NumPy's types of the same names."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of every example.

    Attributes:
        name: its key in `Dataset.read`.
        dtype: how it is stored.
        shape: of one line, () for a single number.
        scale: what the stored value is to be multiplied by to give the model's input, or None for nothing.
        role: whether it is what the model is given, or what it must predict.
    """

    name: str
    dtype: Literal["u8", "f32", "i64", "i32"]
    shape: tuple[int, ...]
    role: Literal["input", "label"]
    scale: float | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one example of this field."""
        size = ITEM_BYTES[self.dtype]
        for extent in self.shape:
            size *= extent
        return size

"""New examples as a model takes them, whatever they were read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

EXAMPLE, FILE = "example", "file"
"""What examples are told apart by unless a column is asked for: their numbers from 1, or their files."""


class NewExamples(NamedTuple):
    """Some consecutive examples.

    Attributes:
        arrays: each input's values, [n, *shape], of the examples that can be predicted.
        ids: of all examples: a column of theirs, or their numbers from 1.
        whole: bool, of all examples: which can be predicted; the others lack a value.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    ids: pa.Array
    whole: npt.NDArray[np.bool_]


class Reader(Protocol):
    """A source of new examples.

    Attributes:
        id_name: what examples are told apart by, unless a column is asked for.
        unknown: how many values of each column, or input, are such as the training examples do not have.
    """

    id_name: str
    unknown: dict[Any, int]

    def examples(self) -> Iterator[NewExamples]:
        """All examples in order."""

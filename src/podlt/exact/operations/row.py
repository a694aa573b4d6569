"""What a row says of an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

from podlt.exact.operations.types import Rule, signature

Definition = Callable[..., Any]
Table = Mapping[str, Callable[..., Any]]
"""Operations by the names of their ATen overloads."""

Sample = tuple[Any, ...]
"""The arguments of one call, then a map of its keywords if there are any; what is callable stands for what it makes."""

Samples = Sequence[Sample] | Callable[[Table], Iterable[Sample]]
"""An operation's sample calls, or what makes them: of the results of forward passes, as a table computes them."""


class Family(Enum):
    """What an operation does with its tensors."""

    ELEMENTWISE = auto()  # computes each element from one of each argument
    VIEW = auto()  # its results lie in the memory of its first argument
    STRUCTURE = auto()  # moves values, as torch does it on every device
    PLACE = auto()  # orders values, or reads and writes at given places
    FACTORY = auto()  # makes a tensor from numbers alone
    REDUCTION = auto()  # makes one value of several, by exact sums and by extremes
    PRODUCT = auto()  # sums products; its definition takes `digits`


@dataclass(frozen=True)
class Row:
    """All that is said of one operation.

    Attributes:
        family: what it does with its tensors.
        name: of its ATen overload, as programs name it; without a dot for what is no operation of ATen's.
        definition: the NumPy function with ATen's signature that says which bits it returns.
        samples: the calls by which backends are held to the definition, and of which golden vectors are made.
        types: its results' types, as a `signature` or a rule; None leaves them to PyTorch.
        in_programs: whether programs may hold it; captures take apart what they may not.
    """

    family: Family
    name: str
    definition: Definition
    samples: Samples
    types: str | Rule | None = None
    in_programs: bool = True

    @property
    def rule(self) -> Rule | None:
        """The rule of its results' types, if there is one."""
        return signature(self.types) if isinstance(self.types, str) else self.types

    def defined(self, digits: int) -> Definition:
        """The definition, for products of so many digits."""
        return partial(self.definition, digits=digits) if self.family is Family.PRODUCT else self.definition

    def calls(self, table: Table) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments and keywords of each sample call."""
        for sample in self.samples(table) if callable(self.samples) else self.samples:
            options = sample[-1] if sample and isinstance(sample[-1], dict) else {}
            yield tuple(_made(item) for item in sample if item is not options), options


elementwise, view, structure, place, factory, reduction, product = (partial(Row, family) for family in Family)


def _made(item: Any) -> Any:
    """An argument, with the tensors in it made."""
    if callable(item):
        return item()
    return [_made(part) for part in item] if isinstance(item, list) else item

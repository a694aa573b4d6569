"""Uniform integers from a digest, the same for whoever knows what goes into it: never the machine's own chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from podlt.crypto import digest

T = TypeVar("T")


class Dice:
    """An endless stream of uniform integers: SHA-256 in counter mode, read as big-endian 64-bit words.

    Args:
        parts: what the stream follows from, such as a seed of 32 bytes.
        domain: what it is for.

    Block i of four words is `digest(domain, *parts, i as 8 bytes)`; each word is used once, in order.
    """

    def __init__(self, *parts: bytes, domain: str = "dice/1") -> None:
        self._domain, self._parts = domain, parts
        self._counter = 0
        self._words: list[int] = []

    def below(self, n: int) -> int:
        """A uniform integer in [0, n): words past the last multiple of n are thrown away, so that none is favoured."""
        limit = 2**64 - 2**64 % n
        while True:
            word = self._word()
            if word < limit:
                return word % n

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """A uniform permutation (Fisher and Yates, from the end: Durstenfeld, Algorithm 235, 1964)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result

    def sample(self, n: int, count: int) -> list[int]:
        """The first `count` places of a uniform permutation of 0 .. n-1 (Fisher and Yates, from the front).

        Costs `count`, however large n is: only places that were swapped are remembered.
        """
        moved: dict[int, int] = {}
        drawn = []
        for i in range(count):
            j = i + self.below(n - i)
            drawn.append(moved.get(j, j))
            moved[j] = moved.get(i, i)
        return drawn

    def _word(self) -> int:
        if not self._words:
            block = digest(self._domain, *self._parts, self._counter.to_bytes(8, "big"))
            self._counter += 1
            self._words = [int.from_bytes(block[i : i + 8], "big") for i in (24, 16, 8, 0)]
        return self._words.pop()

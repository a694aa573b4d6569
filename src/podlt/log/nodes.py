"""A Merkle tree with all of its inner nodes, which proves at once that it only grew: 64 bytes an entry."""

from __future__ import annotations

from podlt.log.merkle import EMPTY_ROOT, node_hash

_SIZE = 32


class NodeTree:
    """A growing tree that answers for any of its sizes; `merkle.Tree` is the same, and forgets its nodes.

    `_levels[k]` holds, one after another, the roots of the perfect subtrees of 2^k leaves.
    """

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[bytearray] = []

    def append(self, leaf: bytes) -> None:
        """Adds a leaf, given as its hash (32 bytes)."""
        node, level = leaf, 0
        self.size += 1
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            nodes = self._levels[level]
            nodes += node
            if len(nodes) // _SIZE % 2:
                return
            node, level = node_hash(bytes(nodes[-2 * _SIZE : -_SIZE]), node), level + 1

    def root(self, size: int | None = None) -> bytes:
        """The Merkle tree hash of the first leaves; of all by default.

        Args:
            size: how many, at most `self.size`.
        """
        size = self.size if size is None else size
        assert 0 <= size <= self.size
        return self._root(0, size) if size else EMPTY_ROOT

    def consistency_proof(self, old: int, size: int) -> list[bytes]:
        """The proof that the tree of the first `old` leaves is a prefix of that of `size`. RFC 6962, section 2.1.2."""
        assert 0 <= old <= size <= self.size
        return self._proof(0, size, old, complete=True) if 0 < old < size else []

    def _root(self, start: int, stop: int) -> bytes:
        """The root over leaves `start` to `stop`, where `start` is a multiple of the split below."""
        count = stop - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            place = (start >> level) * _SIZE
            return bytes(self._levels[level][place : place + _SIZE])
        middle = start + _split(count)
        return node_hash(self._root(start, middle), self._root(middle, stop))

    def _proof(self, start: int, stop: int, old: int, *, complete: bool) -> list[bytes]:
        """`merkle._subproof`, over leaves `start` to `stop` of which the first `old` are the older tree's."""
        if old == stop - start:
            return [] if complete else [self._root(start, stop)]
        half = _split(stop - start)
        middle = start + half
        if old <= half:
            return [*self._proof(start, middle, old, complete=complete), self._root(middle, stop)]
        return [*self._proof(middle, stop, old - half, complete=False), self._root(start, middle)]


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)

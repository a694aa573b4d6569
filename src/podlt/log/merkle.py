"""The Merkle tree of RFC 6962, section 2.1: roots, and proofs that an entry is in, and that a log only grew.

A leaf is hashed with the prefix 0x00 and an inner node with 0x01, so that neither can pass for the other. The tree of
n leaves splits at the largest power of two below n. `Tree` keeps only the roots of its perfect subtrees, so
that appending is cheap and a log of any length needs a few hundred bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing Merkle tree, kept as the roots of its perfect subtrees, largest first."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Adds a leaf, given as its hash (32 bytes)."""
        self.size += 1
        remaining = self.size
        while remaining % 2 == 0:
            leaf = node_hash(self._peaks.pop(), leaf)
            remaining //= 2
        self._peaks.append(leaf)

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        result = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            result = node_hash(peak, result)
        return result

    def proof(self, leaves: Sequence[bytes], index: int) -> list[bytes]:
        """The audit path of a leaf that is not in yet, in the tree as it will be with these leaves appended.

        It is that of `inclusion_proof` over all leaves, but needs only the new ones.

        Args:
            leaves: hashes of those that come next, in order.
            index: of one of them in the whole tree.
        """
        assert 0 <= index - self.size < len(leaves), "a leaf that is not among the new ones"
        peaks: list[tuple[bytes, bool]] = [(peak, False) for peak in self._peaks]
        path: list[bytes] = []

        def joined(left: tuple[bytes, bool], right: tuple[bytes, bool]) -> tuple[bytes, bool]:
            if left[1] or right[1]:
                path.append(right[0] if left[1] else left[0])
            return node_hash(left[0], right[0]), left[1] or right[1]

        for number, leaf in enumerate(leaves, self.size):
            node, remaining = (leaf, number == index), number + 1
            while remaining % 2 == 0:
                node = joined(peaks.pop(), node)
                remaining //= 2
            peaks.append(node)
        node = peaks.pop()
        while peaks:
            node = joined(peaks.pop(), node)
        return path

    def copy(self) -> Tree:
        """An independent tree with the same leaves."""
        other = Tree()
        other.size, other._peaks = self.size, list(self._peaks)
        return other


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of leaves, given as their hashes (32 bytes each)."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index`, from the leaf's sibling up. Source: RFC 6962, section 2.1.1."""
    if len(leaves) <= 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*inclusion_proof(leaves[:middle], index), root_of(leaves[middle:])]
    return [*inclusion_proof(leaves[middle:], index - middle), root_of(leaves[:middle])]


def inclusion_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root over leaves (their hashes), and the audit path of each: `inclusion_proof` of all, at once.

    The tree level by level: an odd node out goes up as it is, so that subtrees are those of RFC 6962.
    """
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        level = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(level + below[len(level) * 2 :])
    proofs: list[list[bytes]] = []
    for index in range(len(leaves)):
        path, place = [], index
        for level in levels[:-1]:
            if place ^ 1 < len(level):
                path.append(level[place ^ 1])
            place >>= 1
        proofs.append(path)
    return (levels[-1][0] if leaves else EMPTY_ROOT), proofs


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` stands at `index` of the tree of `size` leaves with that root.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    node, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node % 2 == 1 or node == last:
            value = node_hash(sibling, value)
            while node % 2 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and value == root


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the tree of the first `old_size` leaves is a prefix. Source: RFC 6962, section 2.1.2."""
    if not 0 < old_size < len(leaves):
        return []
    return _subproof(leaves, old_size, complete=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, complete: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if complete else [root_of(leaves)]
    middle = _split(len(leaves))
    if old_size <= middle:
        return [*_subproof(leaves[:middle], old_size, complete=complete), root_of(leaves[middle:])]
    return [*_subproof(leaves[middle:], old_size - middle, complete=False), root_of(leaves[:middle])]


def is_consistent(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the log of `size` leaves only grew out of the log of `old_size` leaves.

    Source: RFC 9162, section 2.1.4.2.
    """
    if old_size == size:
        return not proof and old_root == root
    if not 0 < old_size < size:
        return old_size == 0 and not proof
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old_size - 1, size - 1
    while node % 2 == 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node % 2 == 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node % 2 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == root

"""The tree against the definition of RFC 6962, its published vectors, and every forged proof that hypothesis finds."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from podlt.log.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    root_of,
)

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The test vectors of Certificate Transparency (RFC 6962): the roots over the first 1, 2, ... 8 leaves."""

HASHES = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]


def definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, to the letter, over entries (not hashes)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + definition(leaves[:k]) + definition(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root_of(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Tree().root() == EMPTY_ROOT == definition([])


@given(st.lists(st.binary(max_size=5), max_size=70))
def test_the_growing_tree_has_the_roots_of_the_definition(entries: list[bytes]) -> None:
    tree = Tree()
    for count, entry in enumerate(entries, 1):
        tree.append(leaf_hash(entry))
        assert tree.root() == definition(entries[:count])
    assert tree.size == len(entries)


def test_a_copy_grows_apart() -> None:
    tree = Tree()
    tree.append(HASHES[0])
    other = tree.copy()
    other.append(HASHES[1])
    assert (tree.size, other.size) == (1, 2) and tree.root() != other.root()


def test_every_leaf_of_every_small_tree_is_included_where_it_is_and_nowhere_else() -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(17)]
    for size in range(1, 18):
        root = root_of(leaves[:size])
        for index in range(size):
            proof = inclusion_proof(leaves[:size], index)
            places = [i for i in range(-1, size + 2) if is_included(leaves[index], i, size, proof, root)]
            assert places == [index]
            assert not is_included(leaves[index], index, size, [*proof, bytes(32)], root)
            assert not is_included(leaves[index], index, size, proof[:-1], root) or not proof


def test_every_small_tree_is_consistent_with_its_prefixes_and_with_nothing_else() -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(13)]
    roots = [root_of(leaves[:size]) for size in range(14)]
    for size in range(1, 14):
        for old in range(1, size + 1):
            proof = consistency_proof(leaves[:size], old)
            assert is_consistent(old, roots[old], size, roots[size], proof)
            wrong = [other for other in range(1, size + 1) if other != old]
            assert not any(is_consistent(old, roots[w], size, roots[size], proof) for w in wrong)
            assert not any(is_consistent(w, roots[old], size, roots[size], proof) for w in wrong)
            assert not is_consistent(old, roots[old], size, roots[size - 1], proof)


@given(st.integers(2, 60), st.data())
def test_no_altered_proof_passes(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(size)]
    root = root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size - 1))
    for proof, holds in (
        (inclusion_proof(leaves, index), lambda p: is_included(leaves[index], index, size, p, root)),
        (consistency_proof(leaves, old), lambda p: is_consistent(old, root_of(leaves[:old]), size, root, p)),
    ):
        assert holds(proof)
        place = data.draw(st.integers(0, len(proof) - 1))
        altered = list(proof)
        altered[place] = bytes([altered[place][0] ^ data.draw(st.integers(1, 255))]) + altered[place][1:]
        assert not holds(altered)
        assert not holds(proof[:place])


def test_a_leaf_cannot_pass_for_an_inner_node() -> None:
    inner = HASHES[0] + HASHES[1]
    assert leaf_hash(inner) != root_of(HASHES[:2])

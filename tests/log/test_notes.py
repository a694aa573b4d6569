"""Cosignatures against the texts of C2SP (signed-note, tlog-cosignature), and a tree that proves that it grew."""

from __future__ import annotations

import base64
import hashlib

import hypothesis.strategies as st
import nacl.signing
import pytest
from hypothesis import given

from podlt.crypto import SigningKey, digest
from podlt.errors import InvalidProofError
from podlt.log.merkle import Tree, consistency_proof, is_consistent, root_of
from podlt.log.nodes import NodeTree
from podlt.log.notes import (
    NoteSignature,
    WitnessKey,
    cosign,
    cosignature_line,
    parse_checkpoint,
    parse_cosignatures,
    parse_signatures,
)
from podlt.log.tree_head import Head, origin_of, sign_head

SEED = digest("test-witness/1")
KEY = SigningKey(SEED)
NAME = "witness.example.org/w1"
WITNESS = WitnessKey(NAME, KEY.public)
HEAD = Head(origin_of(bytes(32)), 7, hashlib.sha256(b"root").digest())

OF_C2SP = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501
"""The example of c2sp.org/tlog-cosignature, whose text says that it was signed at 1679315147."""


def by_hand(head: Head, at: int) -> str:
    """A cosignature's line as the specification's text says, by another library and nothing of ours."""
    key = nacl.signing.SigningKey(SEED)
    identity = hashlib.sha256(NAME.encode() + b"\n\x04" + bytes(key.verify_key)).digest()[:4]
    checkpoint = f"{head.origin}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"
    signature = key.sign(f"cosignature/v1\ntime {at}\n{checkpoint}".encode()).signature
    blob = identity + at.to_bytes(8, "big") + signature
    return f"\N{EM DASH} {NAME} {base64.b64encode(blob).decode()}\n"


def test_the_example_of_the_specification_is_read() -> None:
    head, (log, witness) = parse_checkpoint(OF_C2SP)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert log.name == head.origin and len(log.signature) == 64
    assert witness.name == "witness.example.com/w1" and witness.key_id.hex() == "8d66cf3f"
    assert int.from_bytes(witness.signature[:8], "big") == 1679315147
    assert log.line() + witness.line() == OF_C2SP.partition("\n\n")[2]


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**19 - 1), st.binary(min_size=32, max_size=32))
def test_a_cosignature_is_byte_for_byte_what_another_implementation_makes(at: int, size: int, root: bytes) -> None:
    head = Head(HEAD.origin, size, root)
    found = cosign(head, at, NAME, KEY)
    assert found.line() == by_hand(head, at)
    assert WITNESS.cosigned_at(head, found) == at
    assert parse_signatures(found.line()) == [found]


def test_a_verifier_key_is_read_as_it_was_written_and_a_slip_of_the_pen_is_found() -> None:
    text = WITNESS.text()
    assert WitnessKey.of_text(f"{text}\n") == WITNESS
    assert text.startswith(f"{NAME}+{WITNESS.key_id.hex()}+")
    log = base64.b64encode(b"\x01" + KEY.public).decode()
    wrong = [
        text[:-2] + ("A=" if text[-2] != "A" else "B="),
        text.replace("w1", "w2"),
        f"{NAME}+00000000+{log}",
        "",
        "x+y+z",
    ]
    for other in wrong:
        with pytest.raises(InvalidProofError, match="malformed witness key"):
            WitnessKey.of_text(other)


@pytest.mark.parametrize("change", ["head", "time", "signature", "name", "short"])
def test_no_changed_cosignature_holds(change: str) -> None:
    found, head = cosign(HEAD, 5, NAME, KEY), HEAD
    raw = bytearray(found.signature)
    if change == "head":
        head = Head(HEAD.origin, 8, HEAD.root)
    elif change == "time":
        raw[7] ^= 1
    elif change == "signature":
        raw[-1] ^= 1
    elif change == "short":
        raw = raw[:-1]
    name = "another" if change == "name" else found.name
    with pytest.raises(InvalidProofError):
        WITNESS.cosigned_at(head, NoteSignature(name, found.key_id, bytes(raw)))


def test_what_a_run_keeps_is_read_again_and_what_a_crash_cut_off_is_left_out() -> None:
    one, two = cosign(HEAD, 5, NAME, KEY), cosign(HEAD, 6, NAME, KEY)
    raw = f"{cosignature_line(HEAD, one)}\n\nnothing\n{cosignature_line(HEAD, two)}\n7 AAAA".encode() + b"\xff"
    assert parse_cosignatures(raw, HEAD.origin) == [(HEAD, one), (HEAD, two)]
    assert parse_cosignatures(b"", HEAD.origin) == []


@pytest.mark.parametrize(
    "note",
    ["", "\n\n", "a\n1\nb\n\n", sign_head(HEAD, KEY).replace("\n7\n", "\n07\n"), sign_head(HEAD, KEY).rstrip("\n")],
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(InvalidProofError):
        parse_checkpoint(note)


@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 70))
def test_a_tree_with_its_nodes_gives_the_roots_and_proofs_of_the_plain_functions(a: int, b: int, c: int) -> None:
    old, size, whole = sorted((a, b, c))
    leaves = [hashlib.sha256(bytes([i])).digest() for i in range(whole)]
    tree, plain = NodeTree(), Tree()
    for leaf in leaves:
        tree.append(leaf)
        plain.append(leaf)
    assert tree.root() == plain.root() and tree.root(size) == root_of(leaves[:size])
    proof = tree.consistency_proof(old, size)
    assert proof == consistency_proof(leaves[:size], old)
    assert is_consistent(old, tree.root(old), size, tree.root(size), proof)

"""Tree heads against the texts of C2SP (tlog-checkpoint, signed-note), and against what a forger would try."""

from __future__ import annotations

import base64
import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from podlt.crypto import SigningKey, digest, is_signed_raw
from podlt.errors import InvalidProofError
from podlt.log import tree_head
from podlt.log.tree_head import Head, is_origin, open_head, origin_of, sign_head

KEY = SigningKey(digest("test-key/1"))
ORIGIN = origin_of(bytes(32))
HEAD = Head(ORIGIN, 7, hashlib.sha256(b"root").digest())
NOTE = sign_head(HEAD, KEY)


def test_the_note_of_the_specification_verifies_with_its_key() -> None:
    """The example of golang.org/x/mod/sumdb/note, from which C2SP's signed-note was written down."""
    name, key_id, encoded = "PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    key = base64.b64decode(encoded)
    assert key[:1] == tree_head._ED25519
    assert tree_head._key_id(name, key[1:]).hex() == key_id == signature[:4].hex()
    assert is_signed_raw(key[1:], text.encode(), signature[4:])


def test_a_checkpoint_is_three_lines_a_blank_one_and_a_signature() -> None:
    text, signature = NOTE.split("\n\n")
    origin, size, root = text.split("\n")
    assert (origin, size, base64.b64decode(root)) == (ORIGIN, "7", HEAD.root)
    dash, name, blob = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", ORIGIN)
    assert base64.b64decode(blob)[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + KEY.public).digest()[:4]
    assert is_signed_raw(KEY.public, f"{text}\n".encode(), base64.b64decode(blob)[4:])


@given(st.integers(0, 10**19 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_opened(size: int, root: bytes, run: bytes) -> None:
    head = Head(origin_of(run), size, root)
    assert open_head(sign_head(head, KEY), KEY.public, origin_of(run)) == head


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_no_note_with_one_other_character_opens(place: int, character: str) -> None:
    altered = NOTE[:place] + character + NOTE[place + 1 :]
    if altered != NOTE:
        with pytest.raises(InvalidProofError):
            open_head(altered, KEY.public, ORIGIN)


@pytest.mark.parametrize(
    "altered",
    [
        NOTE + "\n",
        NOTE.removesuffix("\n"),
        "\n" + NOTE,
        NOTE.replace("\n7\n", "\n07\n"),
        NOTE.replace("\n7\n", "\n+7\n"),
        NOTE.replace("\n7\n", "\n7\nmore\n"),
        NOTE + NOTE.split("\n\n")[1],
        NOTE.replace("\n", "\r\n"),
        NOTE.replace(ORIGIN, origin_of(bytes([1]) * 32), 1),
        "x" * 5000,
        "",
    ],
)
def test_a_second_way_to_write_a_note_is_refused(altered: str) -> None:
    with pytest.raises(InvalidProofError):
        open_head(altered, KEY.public, ORIGIN)


def test_the_name_of_a_log_is_told_from_a_damaged_one() -> None:
    assert is_origin(ORIGIN)
    for damaged in (ORIGIN[:-1], ORIGIN + "0", ORIGIN.upper(), ORIGIN.replace("run", "ran"), ORIGIN + "\n", "", None):
        assert not is_origin(damaged)


def test_another_key_and_another_log_are_refused() -> None:
    with pytest.raises(InvalidProofError, match="not signed by"):
        open_head(NOTE, SigningKey(digest("other-key/1")).public, ORIGIN)
    with pytest.raises(InvalidProofError, match="another log"):
        open_head(NOTE, KEY.public, origin_of(bytes(31) + b"\x01"))

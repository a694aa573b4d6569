"""What a worker signs when it logs in: good for one run, one server and one connection."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.access.certificate import client_context
from podlt.access.login import Binding, binding, check_login, sign_login
from podlt.crypto import SigningKey, is_signed_raw
from podlt.errors import InvalidProofError, UsageError

WORKER, OTHER = SigningKey(b"w" * 32), SigningKey(b"x" * 32)
SECRET = b"s" * 16
HERE = binding("channel", b"certificate", b"n" * 32)


def test_a_login_holds_where_it_was_signed_for() -> None:
    check_login(sign_login(WORKER, SECRET, 5, HERE), HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        binding("another run", b"certificate", b"n" * 32),
        binding("channel", b"another server", b"n" * 32),
        binding("channel", b"certificate", b"another connection".ljust(32)),
    ],
    ids=["run", "server", "connection"],
)
def test_a_login_is_worth_nothing_elsewhere(elsewhere: Binding) -> None:
    with pytest.raises(InvalidProofError, match="not signed"):
        check_login(sign_login(WORKER, SECRET, 5, HERE), elsewhere)


@pytest.mark.parametrize("changed", [{"key": OTHER.public}, {"secret": b"t" * 16}, {"secret": b""}, {"deposit": 4}])
def test_nothing_of_a_login_can_be_changed(changed: dict[str, object]) -> None:
    login = msgspec.structs.replace(sign_login(WORKER, SECRET, 5, HERE), **changed)
    with pytest.raises(InvalidProofError, match="not signed"):
        check_login(login, HERE)


@given(st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_never_the_servers_words_alone(nonce: bytes) -> None:
    """A server that chooses for a nonce what is a digest elsewhere gets no signature of it."""
    login = sign_login(WORKER, SECRET, 5, binding("channel", b"certificate", nonce))
    assert not is_signed_raw(WORKER.public, nonce, login.signature)


@pytest.mark.parametrize("certificate", [b"", b"nonsense", bytes(500)])
def test_a_certificate_that_is_none_is_an_error_of_usage(certificate: bytes) -> None:
    with pytest.raises(UsageError, match="certificate is malformed"):
        client_context(certificate)

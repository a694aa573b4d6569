"""What a worker signs when it logs in, and what the server asks about it."""

from __future__ import annotations

import base64
import json
import ssl
from typing import Any

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, UsageError
from podlt.network.access.certificate import client_context
from podlt.network.access.invitation import Invitation, channel_of
from podlt.network.nats import authorization as auth
from podlt.network.nats import login

MANAGER, WORKER, SERVER = (SigningKey(letter * 32) for letter in (b"m", b"w", b"s"))
INVITATION = Invitation(servers=["tls://a:1"], manager=MANAGER.public, certificate=b"", secret=b"s" * 16)
CHANNEL = INVITATION.channel
NONCE = "1hJr0IxqA-iSKN0"


def shown(nonce: str = NONCE) -> tuple[str, str]:
    options = login.worker_options(INVITATION, WORKER)
    return options["token"], options["signature_cb"](nonce).decode()


def test_who_signs_the_servers_nonce_is_known_by_its_key_and_invitation() -> None:
    token, signature = shown()
    found = login.check_login(token, signature, NONCE, CHANNEL, b"")
    assert found is not None
    assert (found.key, found.invitation) == (WORKER.public, INVITATION.name)


@pytest.mark.parametrize(
    ("nonce", "certificate"), [("another", b""), ("", b""), (NONCE, b"another server's certificate")]
)
def test_a_signature_for_another_connection_or_server_is_worth_nothing(nonce: str, certificate: bytes) -> None:
    token, signature = shown()
    with pytest.raises(InvalidProofError, match="not signed"):
        login.check_login(token, signature, nonce, CHANNEL, certificate)


def test_a_login_for_another_run_is_left_to_its_manager() -> None:
    token, signature = shown()
    assert login.check_login(token, signature, NONCE, channel_of(bytes(32)), b"") is None


def test_nobody_can_name_anothers_key() -> None:
    _, signature = shown()
    stolen = login.worker_options(INVITATION, SigningKey(b"x" * 32))["token"]
    with pytest.raises(InvalidProofError):
        login.check_login(stolen, signature, NONCE, CHANNEL, b"")


def test_what_is_signed_is_never_the_servers_words_alone() -> None:
    """A server that chooses for a nonce what is a digest elsewhere gets no signature of it."""
    chosen = "x" * 32
    _, signature = shown(chosen)
    raw = base64.urlsafe_b64decode(signature + "==")
    from podlt.crypto import is_signed_raw

    assert not is_signed_raw(WORKER.public, chosen.encode(), raw)


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_other_pass_is_refused_without_a_crash(token: str, signature: str) -> None:
    with pytest.raises(InvalidProofError):
        login.check_login(token, signature, NONCE, CHANNEL, b"")


def test_a_pass_of_any_length_costs_nothing() -> None:
    with pytest.raises(InvalidProofError, match="too long"):
        login.check_login("A" * 10_000_000, "", NONCE, CHANNEL, b"")


@given(st.binary(min_size=32, max_size=32), st.sampled_from([login.PREFIX_ACCOUNT, login.PREFIX_USER]))
def test_keys_are_written_as_nats_writes_them(seed: bytes, prefix: int) -> None:
    key = SigningKey(seed)
    theirs = nkeys.from_seed(bytearray(nkeys.encode_seed(seed, prefix))).public_key.decode()
    assert login.nkey(prefix, key.public) == theirs
    assert login.from_nkey(prefix, theirs) == key.public


@given(st.text(max_size=80))
def test_other_text_is_no_key_of_nats(text: str) -> None:
    with pytest.raises(InvalidProofError):
        login.from_nkey(login.PREFIX_SERVER, text)


def test_the_keys_that_a_manager_uses_in_nats_are_not_its_own() -> None:
    derived = {of(MANAGER).public for of in (login.system_key, login.link_key, login.issuer_key)}
    assert len(derived) == 3 and MANAGER.public not in derived


def test_a_certificate_that_is_none_is_an_error_of_usage() -> None:
    with pytest.raises(UsageError, match="certificate"):
        client_context(b"\x30\x03abc")
    assert login.tls_options(b"")["tls"].verify_mode == ssl.CERT_REQUIRED


# -- the server's question -------------------------------------------------------------------------------------------


def question(signer: SigningKey = SERVER, **changed: Any) -> bytes:
    server = login.nkey(login.PREFIX_SERVER, SERVER.public)
    body = {
        "server_id": {"id": server, "name": "x"},
        "user_nkey": "U1",
        "client_info": {"id": 7, "host": "10.0.0.1", "nonce": NONCE},
        "connect_opts": {"auth_token": "t", "sig": "s", "lang": "any"},
        **changed,
    }
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {"iss": server, "nats": body}]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = base64.urlsafe_b64encode(signer.sign_raw(text.encode())).decode().rstrip("=")
    return f"{text}.{signature}".encode()


def test_a_question_says_who_knocks() -> None:
    found = auth.read_request(question())
    assert (found.user, found.connection, found.nonce, found.token, found.signature) == ("U1", 7, NONCE, "t", "s")


def test_a_question_that_the_server_did_not_sign_is_refused() -> None:
    with pytest.raises(InvalidProofError, match="not signed"):
        auth.read_request(question(SigningKey(b"x" * 32)))
    with pytest.raises(InvalidProofError, match="another"):
        auth.read_request(question(server_id={"id": login.nkey(login.PREFIX_SERVER, WORKER.public)}))


@given(st.one_of(st.binary(max_size=300), st.integers(0, 400).map(lambda at: question()[:at])))
def test_a_malformed_question_is_refused_without_a_crash(data: bytes) -> None:
    with pytest.raises(InvalidProofError):
        auth.read_request(data)


def test_a_question_of_any_length_costs_nothing() -> None:
    with pytest.raises(InvalidProofError, match="too long"):
        auth.read_request(b"." * 10_000_000)


def test_a_worker_has_its_own_subjects_and_a_refused_one_none_to_speak_on() -> None:
    name = WORKER.public.hex()
    own = auth.worker_permissions(CHANNEL, WORKER.public)
    assert own.publish == [f"podlt.{CHANNEL}.up.{name}.>"]
    assert own.subscribe == [f"podlt.{CHANNEL}.down.{name}.>", f"podlt.{CHANNEL}.all.>"]
    manager = auth.manager_permissions(CHANNEL)
    assert manager.publish == [f"podlt.{CHANNEL}.down.>", f"podlt.{CHANNEL}.all.>"]
    assert manager.subscribe == [f"podlt.{CHANNEL}.up.>"]
    assert len({one.name for one in (own, manager, auth.worker_permissions("0" * 16, WORKER.public))}) == 3
    refused = auth.refused_permissions(CHANNEL, WORKER.public, 9)
    assert (refused.publish, refused.subscribe, refused.until) == ([], [f"podlt.{CHANNEL}.down.{name}.>"], 9)

"""Invitations: one line, whole and unchanged, or none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.access import invitation as inv
from podlt.access.first_invitation import GOOD_DAYS, first_invitation
from podlt.access.registry import Registry
from podlt.crypto import SigningKey
from podlt.errors import UsageError

MANAGER = SigningKey(b"m" * 32)

INVITATIONS = st.builds(
    inv.Invitation,
    servers=st.lists(
        st.sampled_from(["https://a.example:4222", "https://b.example:443", "https://[::1]:7"]), min_size=1, max_size=8
    ),
    manager=st.just(MANAGER.public),
    certificate=st.binary(min_size=1, max_size=600),
    secret=st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
    uses=st.integers(0, 2**40),
    expires=st.integers(0, 2**50),
    deposit=st.integers(0, 2**40),
)


@given(INVITATIONS)
def test_a_line_says_what_was_written(invitation: inv.Invitation) -> None:
    signed = inv.sign(invitation, MANAGER)
    line = inv.write(signed)
    assert line.isascii() and line.isprintable() and " " not in line
    assert inv.read(f"  {line[:40]}\n {line[40:]}\n") == signed


@given(INVITATIONS, st.data())
def test_a_changed_or_shortened_line_is_refused(invitation: inv.Invitation, data: st.DataObject) -> None:
    line = inv.write(inv.sign(invitation, MANAGER))
    at = data.draw(st.integers(len(inv.PREFIX), len(line) - 2))  # some bits of the last character mean nothing
    letter = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda c: c != line[at]))
    for changed in (line[:at] + letter + line[at + 1 :], line[:at]):
        with pytest.raises(UsageError):
            inv.read(changed)


def test_an_invitation_cannot_be_signed_by_another_than_the_manager_that_it_names() -> None:
    invitation = inv.Invitation(servers=["https://a:1"], manager=MANAGER.public, certificate=b"c")
    with pytest.raises(UsageError, match="not signed by the manager"):
        inv.read(inv.write(inv.sign(invitation, SigningKey(b"x" * 32))))


@pytest.mark.parametrize(
    "url",
    [
        "wss://a:1",
        "https://a",
        "https://:1",
        "https://user:password@a:1",
        "https://a:99999",
        "http://a:1",
        "https://a\n:1",
    ],
)
def test_a_server_without_tls_host_or_port_is_refused(url: str) -> None:
    invitation = inv.Invitation(servers=[url], manager=MANAGER.public, certificate=b"c")
    with pytest.raises(UsageError):
        inv.read(inv.write(inv.sign(invitation, MANAGER)))


@given(st.text(max_size=200))
def test_other_text_is_no_invitation(text: str) -> None:
    for candidate in (text, inv.PREFIX + text):
        with pytest.raises(UsageError):
            inv.read(candidate)


def test_a_line_of_any_length_costs_nothing() -> None:
    with pytest.raises(UsageError, match="limit 8192"):
        inv.read(inv.PREFIX + "A" * 10_000_000)


def test_the_name_of_an_invitation_does_not_tell_its_secret() -> None:
    invitation = inv.Invitation(servers=["https://a:1"], manager=MANAGER.public, certificate=b"c", secret=b"s" * 16)
    assert invitation.name and (b"s" * 16).hex() not in invitation.name
    assert msgspec.structs.replace(invitation, secret=b"").name == ""


def test_each_manager_has_a_channel_of_its_own() -> None:
    invitation = inv.Invitation(servers=["https://a:1"], manager=MANAGER.public, certificate=b"c")
    assert invitation.channel == inv.channel_of(MANAGER.public) != inv.channel_of(bytes(32))


def test_the_first_invitation_expires_and_is_made_anew_then(tmp_path: Path) -> None:
    registry, urls, now = Registry(tmp_path), ["https://127.0.0.1:4222"], [10**12]

    def first() -> str:
        return first_invitation(registry, MANAGER, urls, b"certificate", 5, lambda: now[0])

    line = first()
    assert inv.read(line).expires == now[0] + GOOD_DAYS * 86_400_000
    now[0] += 1000
    assert first() == line, "the same while it is good"
    now[0] += GOOD_DAYS * 86_400_000
    assert first() != line and inv.read(first()).expires > now[0]
    assert registry.admit(bytes(32), inv.read(line).name, now[0]).reason  # type: ignore[union-attr]

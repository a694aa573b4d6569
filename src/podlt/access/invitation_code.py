"""A short code for an invitation: `HOST:PORT/` and 43 characters, which a terminal shows in one line.

The code names the server, has the invitation's secret, and says by 128 bits which manager and which certificate that
server must show. The rest of the invitation is no secret, and is fetched from the server (`ADDRESS_PATH`) before
anything is sent to it. Whoever stands between can hand out another address, and would have to find a key and a
certificate with the same 128 bits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from podlt.access import invitation as inv
from podlt.addresses import bracketed
from podlt.crypto import digest
from podlt.errors import UsageError

ADDRESS_PATH = "/address"
"""Of the manager's server: the run's address, a signed invitation without a secret."""

MARK_BYTES = 16
_DOMAIN = "invitation-code/1"
_FORM = re.compile(r"(?:https://)?(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]@]{1,253}):(\d{1,5})/([A-Za-z0-9_-]*)")


@dataclass(frozen=True)
class InvitationCode:
    """What a code says.

    Attributes:
        host: of the server.
        port: of it.
        mark: of manager and certificate: see `mark_of`.
        secret: the invitation's; empty for an address.
    """

    host: str
    port: int
    mark: bytes
    secret: bytes

    @property
    def server(self) -> str:
        """The URL of the server."""
        return f"https://{bracketed(self.host)}:{self.port}"


def mark_of(manager: bytes, certificate: bytes) -> bytes:
    """The 16 bytes by which a code knows a run again.

    Args:
        manager: its public key.
        certificate: of its server, in DER.
    """
    return digest(_DOMAIN, manager, hashlib.sha256(certificate).digest())[:MARK_BYTES]


def write(invitation: inv.Invitation) -> str:
    """The code of an invitation, with the first of its servers."""
    place = urlsplit(invitation.servers[0]).netloc
    body = mark_of(invitation.manager, invitation.certificate) + invitation.secret
    return f"{place}/{base64.urlsafe_b64encode(body).decode('ascii').rstrip('=')}"


def is_code(text: str) -> bool:
    """Whether a text has the form of a code, which no file's name has that a shell completes."""
    return _FORM.fullmatch("".join(text.split())) is not None


def read(text: str) -> InvitationCode:
    """What a code says.

    Raises:
        UsageError: it is none, or is not whole.
    """
    found = _FORM.fullmatch("".join(text.split()))
    if found is None:
        raise UsageError("malformed invitation code: expected HOST:PORT/CODE")
    host, port, body = found[1].strip("[]"), int(found[2]), found[3]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) not in (MARK_BYTES, MARK_BYTES + inv.SECRET_BYTES):
        raise UsageError(
            f"invitation code of {len(body)} characters after {found[1]}:{port}/ (expected 43, or 22 for an address): "
            "not copied completely"
        )
    code = InvitationCode(host, port, raw[:MARK_BYTES], raw[MARK_BYTES:])
    inv.check_url(code.server)
    return code


def completed(code: InvitationCode, address: inv.Invitation) -> inv.Invitation:
    """The invitation that a code stands for. The server that the code names comes first: it answered.

    Args:
        code: as the worker's owner got it.
        address: as the server gave it, with its signature checked (`invitation.read`).

    Raises:
        UsageError: the address is another run's, or another server's, than the code is for.
    """
    if mark_of(address.manager, address.certificate) != code.mark:
        raise UsageError(
            f"{code.server}: this server is not the one that the invitation code is for: the code has a mistake, the "
            "run has ended and another has its port, or somebody answers in its place. Nothing was sent to it; ask for "
            "the code again"
        )
    others = [url for url in address.servers if url != code.server]
    return msgspec.structs.replace(address, servers=[code.server, *others][:8], secret=code.secret)

"""The invitation that a run's manager prints when it begins: a line, in a file of the run too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from podlt.access import invitation as inv
from podlt.access import invitation_code
from podlt.access.invitation_code import InvitationCode
from podlt.access.registry import Registry
from podlt.crypto import SigningKey
from podlt.errors import StorageError, UsageError
from podlt.store.files import read_whole, write_whole
from podlt.store.run_names import INVITATION

MAX_INVITATION = 64 * 1024
LONGEST_NAME = 1024

GOOD_DAYS = 7
"""How long the first invitation is good: who was admitted by it stays; others are invited by `podlt workers invite`."""

_DAY = 86_400_000


def wall_milliseconds() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 10**6


def first_invitation(
    registry: Registry,
    key: SigningKey,
    urls: Sequence[str],
    certificate: bytes,
    uses: int,
    clock: Callable[[], int] = wall_milliseconds,
) -> str:
    """Says where workers find the run, and invites them; the same line again when it goes on in the same place.

    It expires after `GOOD_DAYS`: a line that was forgotten in a mail lets nobody in for ever.

    Args:
        key: the manager's.
        urls: of its servers.
        certificate: theirs, in DER.
        uses: for how many workers it is; of no meaning for an open run, which has an address only.
        clock: milliseconds since 1970.

    Raises:
        UsageError: a URL that no worker would take.
        StorageError: a file cannot be written.
    """
    registry.set_place(urls, certificate)
    path, deposit = registry.run / INVITATION, registry.state.deposit
    with suppress(StorageError, UsageError, ValueError):
        line = read_whole(path, MAX_INVITATION).decode("ascii").strip()
        known = inv.read(line)
        same = (known.manager, known.servers, known.certificate) == (key.public, list(urls), certificate)
        is_good = not known.expires or known.expires > clock()
        if same and is_good and (not known.secret) == (deposit is not None) and known.deposit == (deposit or 0):
            return line
    now = clock()
    issued = registry.invite(key, uses=uses, expires=now + GOOD_DAYS * _DAY, now=now, address=deposit is not None)
    line = inv.write(issued)
    write_whole(path, line.encode("ascii") + b"\n", mode=0o600)
    return line


def read_invitation(text: str) -> inv.Invitation:
    """An invitation from its line, or from a file with it.

    Raises:
        UsageError: it is none, is a code, or was changed on its way.
        StorageError: the file cannot be read.
    """
    found = read_given(text)
    if isinstance(found, InvitationCode):
        raise UsageError("expected a whole invitation, not a code")
    return found


def read_given(text: str) -> inv.Invitation | InvitationCode:
    """What a worker was sent: an invitation's line, its code, or a file with either. Raises: as `read_invitation`."""
    if not text.strip().startswith(inv.PREFIX) and not invitation_code.is_code(text):
        path = Path(text)
        if len(text) > LONGEST_NAME or not _is_file(path):
            raise UsageError(
                f"{text[:80]}: no such file is here; expected an invitation: its code (HOST:PORT/...), its line "
                f"({inv.PREFIX}...), or a file with one of them"
            )
        text = read_whole(path, MAX_INVITATION).decode("ascii", errors="replace")
    return invitation_code.read(text) if invitation_code.is_code(text) else inv.read(text.strip())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no system has such a name: it is an invitation that was not copied well
        return False

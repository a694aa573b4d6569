"""Fetches the run's address that an invitation code leaves out, from the server that the code names."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from http.client import HTTPException

from podlt.access import invitation as inv
from podlt.access import invitation_code
from podlt.access.invitation_code import ADDRESS_PATH, InvitationCode
from podlt.errors import EngineError, UsageError

ANSWER_SECONDS = 15.0
"""How long one attempt may take."""

TRY_SECONDS = 120.0
"""How long a server is tried that cannot be reached: as long as a worker that was never let in tries it."""

AGAIN_SECONDS, LOOK_SECONDS = 2.0, 0.2


def invitation_of(
    code: InvitationCode,
    stopping: Callable[[], bool] = lambda: False,
    waiting: Callable[[str], object] = lambda why: None,
) -> inv.Invitation | None:
    """The invitation that a code stands for; None if it is time to stop meanwhile.

    Nothing of the code is sent: what the server shows is compared with it here.

    Args:
        code: what the worker's owner got.
        stopping: whether its owner wants to stop.
        waiting: told once, when the first attempt fails: why, and for how long it is tried again.

    Raises:
        UsageError: another server answers than the code is for.
        EngineError: no server answers.
    """
    end = time.monotonic() + TRY_SECONDS
    is_first = True
    while not stopping():
        try:
            return invitation_code.completed(code, inv.read(_ask(code)))
        except (OSError, HTTPException) as error:  # ssl.SSLError is an OSError
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            fault = f"the manager cannot be reached at {code.server}: {why}; is it running, and its port open?"
            if time.monotonic() > end:
                raise EngineError(fault) from None
            if is_first:
                waiting(
                    f"{code.server}: {why} (is the manager running, and its port open? tried for {TRY_SECONDS:.0f} s)"
                )
                is_first = False
        _wait(AGAIN_SECONDS, stopping)
    return None


def _ask(code: InvitationCode) -> str:
    """The address as a server gives it.

    Raises:
        OSError: it does not answer, or speaks no TLS 1.3.
        HTTPException: what it says is no HTTP.
        UsageError: it is no manager's server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # whose server it is, its answer says, and the code checks
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    client = http.client.HTTPSConnection(code.host, code.port, timeout=ANSWER_SECONDS, context=context)
    try:
        client.request("GET", ADDRESS_PATH)
        answer = client.getresponse()
        body = answer.read(inv.LONGEST + 1)
        if answer.status >= 500:
            raise HTTPException(f"it answers {answer.status}")
        if answer.status != 200 or not body.startswith(inv.PREFIX.encode()):
            raise UsageError(f"{code.server}: the server that answers there is no manager's; is the code right?")
        return body.decode("ascii", errors="replace")
    finally:
        client.close()


def _wait(seconds: float, stopping: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopping():
        time.sleep(LOOK_SECONDS)

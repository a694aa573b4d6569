"""How workers that are refused learn why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from podlt.network import messages as m
from podlt.network.access.policy import Refusal

MOST_CONNECTIONS = 3
"""Of one key at once: a connection that was lost may be there for a while besides the one that replaces it."""

MOST_STRANGERS = 64
"""How many strangers may wait at once for the reason of their refusal."""

REFUSAL_SECONDS = 4
LONGEST_STAY = 30
"""Seconds that a worker which may come back waits connected."""

TELL_AT = (0.1, 1.5)
"""When a refused worker is sent the reason, in seconds after it was connected: it needs a moment to subscribe."""


class Refusals:
    """Tells refused workers why.

    Args:
        send: sends a record to the worker of a key; what it raises is as good as lost.
    """

    def __init__(self, send: Callable[[bytes, bytes], Coroutine[Any, Any, None]]) -> None:
        self._send = send
        self._strangers = 0
        self._waiting: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, key: bytes, refused: Refusal, *, known: bool) -> int | None:
        """Lets a worker wait; returns for how many seconds, or None if there is no room for it.

        A worker that may come back waits inside, so that it need not ask every few seconds. Strangers, of whom there
        may be any number, go.
        """
        waits = refused.seconds is not None and known
        if (not waits and self._strangers >= MOST_STRANGERS) or self._waiting[key] >= MOST_CONNECTIONS:
            return None
        stay = min(refused.seconds or 0, LONGEST_STAY) if waits else REFUSAL_SECONDS
        self._strangers += not waits
        self._waiting[key] += 1
        task = asyncio.get_running_loop().create_task(self._tell(key, refused, stay, stranger=not waits))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        return stay

    async def _tell(self, key: bytes, refused: Refusal, stay: int, *, stranger: bool) -> None:
        """Tells why, once the worker has had time to subscribe; `stay`: seconds that it may listen."""
        said = m.record(
            m.JoinRefused(reason=refused.reason)
            if refused.seconds is None
            else m.Dismissed(reason=refused.reason, seconds=refused.seconds)
        )
        try:
            then = 0.0
            for at in TELL_AT:
                await asyncio.sleep(at - then)
                then = at
                await self._send(key, said)
            await asyncio.sleep(stay - then)
        finally:
            self._strangers -= stranger
            self._waiting[key] -= 1
            self._waiting += Counter()  # drops those at zero

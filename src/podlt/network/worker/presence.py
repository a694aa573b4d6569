"""How a worker says that it is there, and asks what there is to do."""

from __future__ import annotations

from collections.abc import Mapping

from podlt.network import messages as m
from podlt.network.worker.effects import Perform, SendMessage
from podlt.network.worker.identity import NEVER, Identity
from podlt.network.worker.replies import Replies

HELLO_SECONDS = 1.0
"""Least seconds between two hellos, where each of many identities has a reason to send one."""


class Presence:
    """Hellos and heartbeats of the identities of one process.

    Args:
        perform: takes effects.
        heartbeat: seconds between two heartbeats.
    """

    def __init__(self, perform: Perform, heartbeat: float) -> None:
        self._perform, self._heartbeat = perform, heartbeat
        self._greeted = self._beat = NEVER

    def is_due(self, now: float) -> bool:
        """Whether the next heartbeat is; counts as sent then."""
        if now - self._beat < self._heartbeat:
            return False
        self._beat = now
        return True

    def hello(self, identities: Mapping[bytes, Identity], now: float, *, seldom: bool = False) -> None:
        """Asks what there is to do, once for all identities; `seldom`: not where that was done just now."""
        if seldom and now - self._greeted < HELLO_SECONDS:
            return
        self._greeted = now
        for public in list(identities)[:1]:
            self._perform(SendMessage(public, m.record(m.Hello(version=m.VERSION))))

    def beat(self, identities: Mapping[bytes, Identity], replies: Replies) -> None:
        """Says which tasks each identity has."""
        for public in identities:
            deal_id, in_hand = replies.in_hand(public)
            self._perform(SendMessage(public, m.record(m.Heartbeat(deal_id=deal_id, in_hand=in_hand))))

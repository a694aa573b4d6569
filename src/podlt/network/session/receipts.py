"""What workers are told of their pay: each round what moved, and afterwards what they have missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from podlt.engine.interface import DurableEntries
from podlt.errors import PodltError
from podlt.network import messages as m
from podlt.network.link import ManagerLink
from podlt.network.session.past import ReceiptHistory

SHARE = 5
"""Answers take at most this part of the manager's time, whoever asks for them."""


class ReceiptSender:
    """Receipts of one run.

    Args:
        run: its directory; link: to the workers; pause: seconds between two answers to one worker;
        clock: seconds, monotonic.

    Attributes:
        logged: how many entries the log has, as far as workers were told.
    """

    def __init__(self, run: Path, link: ManagerLink, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._link, self._pause, self._past, self._clock = link, pause, ReceiptHistory(run), clock
        self._numbers: dict[bytes, int] = {}
        self._told: dict[bytes, float] = {}
        self._rests_until = 0.0
        self.logged = 0

    def admitted(self, key: bytes, number: int) -> None:
        """A worker is `number`, and stays it in the log whatever becomes of it."""
        self._numbers[key] = number

    def publish(self, receipt: DurableEntries) -> None:
        """Tells all workers what is in the log now, and what of it moved credits.

        What fits into no message is asked for by those whom it concerns, as is what was lost on its way.
        """
        moved = [m.Receipt(one.index, one.entry, one.proof) for one in receipt.moved]
        said = m.record(m.Receipts(first=receipt.first, head=receipt.head, receipts=moved))
        self.logged = receipt.size
        if len(said) <= m.MAX_MESSAGE:
            self._link.publish(said)

    def remind(self, key: bytes, behind: m.GetReceipts) -> None:
        """Tells a worker what it has missed, a page at a time.

        Who asks more often than it can read, or when others have just asked for much, is not answered, and asks again.
        """
        number, now = self._numbers.get(key), self._clock()
        if number is None or now < self._rests_until or now - self._told.get(key, -1e9) < self._pause:
            return
        self._told[key] = now
        try:
            missed = self._past.missed(number, behind.first)
        except PodltError:
            return  # no fault of the worker's; who writes the log says what is wrong with it
        finally:
            self._rests_until = now + SHARE * (self._clock() - now)
        if missed is not None:
            self._link.send(key, m.record(missed))

    def close(self) -> None:
        """Lets the log go."""
        self._past.close()

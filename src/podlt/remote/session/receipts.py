"""Receipts for workers: each round what moved their credits, and afterwards what they have missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from podlt.engine.interface import DurableEntries
from podlt.errors import PodltError
from podlt.remote.session.outbox import Outbox
from podlt.wire import messages as m

SHARE = 5
"""Answers take at most this part of the manager's time, whoever asks for them."""


class PastReceipts(Protocol):
    """What was in the log before."""

    def missed(self, worker: int, first: int) -> m.MissedReceipts | None:
        """What moved a worker's credits from entry `first` on, as far as one answer goes; None if there is nothing."""

    def close(self) -> None:
        """Lets the log go."""


class ReceiptSender:
    """Receipts of one run.

    Args:
        history: of its log.
        outbox: takes what is to be sent.
        pause: seconds between two answers to one worker.
        stopwatch: seconds, for measuring what looking takes.

    Attributes:
        logged: how many entries of the log workers have heard of.
    """

    def __init__(self, history: PastReceipts, outbox: Outbox, pause: float, stopwatch: Callable[[], float]) -> None:
        self._history, self._outbox, self._pause, self._stopwatch = history, outbox, pause, stopwatch
        self._numbers: dict[bytes, int] = {}
        self._asked: dict[bytes, int] = {}
        self._answered: dict[bytes, float] = {}
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
            self._outbox.announce(said)  # also to those who left, or were evicted: it is their evidence

    def ask(self, key: bytes, behind: m.GetReceipts) -> None:
        """Takes note of what a worker has missed; `step` answers, a page at a time."""
        if key in self._numbers:
            self._asked[key] = behind.first

    def step(self, now: float) -> None:
        """Answers who has waited longest, unless others have just asked for much, or it can hardly have read the last.

        Args:
            now: seconds, monotonic.
        """
        if now < self._rests_until or not self._asked:
            return
        key = next((key for key in self._asked if now - self._answered.get(key, -1e9) >= self._pause), None)
        if key is None:
            return
        first = self._asked.pop(key)
        self._answered[key], started = now, self._stopwatch()
        try:
            missed = self._history.missed(self._numbers[key], first)
        except PodltError:
            return  # no fault of the worker's; who writes the log says what is wrong with it
        finally:
            self._rests_until = now + SHARE * (self._stopwatch() - started)
        if missed is not None:
            self._outbox.send(key, m.record(missed))

    def close(self) -> None:
        """Lets the log go."""
        self._history.close()

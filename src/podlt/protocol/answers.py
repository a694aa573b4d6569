"""The manager's books of a round before its reveal: who holds which task, who answered it, and who still must."""

from __future__ import annotations

from podlt.errors import PeerError
from podlt.protocol.draw import Roles
from podlt.protocol.messages import Committed, Opened
from podlt.protocol.round import Copy
from podlt.protocol.shares import worker_of


class RoundAnswers:
    """The tasks of one round, by the seat that each was dealt to, and what was answered to them.

    Args:
        roles: who was dealt which task.

    Attributes:
        uncommitted: seats to whose task nobody is committed yet.
        unlogged: commitments that are not written yet.
        unopened: commitments that are not opened yet.
        opened: what opens a commitment.
    """

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.uncommitted = set(roles.seats)
        self.unlogged: set[Copy] = set()
        self.unopened: set[Copy] = set()
        self.opened: dict[Copy, Opened] = {}
        self._committed: dict[Copy, Committed] = {}
        self._holders = {seat: {worker_of(seat)} for seat in roles.seats}
        self._held: dict[int, set[int]] = {}
        for seat in roles.seats:
            self._held.setdefault(worker_of(seat), set()).add(seat)
        self._closed = False

    def is_due(self, message: Committed) -> bool:
        """Whether a commitment is still taken: not once somebody else's stands, and answers are opened."""
        holds = message.holder in self._holders.get(message.seat, ())
        known = (message.seat, message.holder) in self._committed
        return holds and (known or not self._closed or message.seat in self.uncommitted)

    def holds(self, seat: int, holder: int) -> bool:
        """Whether a worker holds the task of a seat."""
        return holder in self._holders.get(seat, ())

    def known(self, message: Committed) -> bool:
        """Whether the same commitment came before.

        Raises:
            PeerError: another one came before.
        """
        first = self._committed.get((message.seat, message.holder))
        if first is not None and first != message:
            raise PeerError(message.holder, "commitment", f"a second commitment to task {message.seat}")
        return first is not None

    def commit(self, message: Committed) -> None:
        """Takes a commitment that holds."""
        copy = message.seat, message.holder
        self._committed[copy] = message
        self.uncommitted.discard(message.seat)
        self.unlogged.add(copy)
        self.unopened.add(copy)

    def take_unlogged(self) -> list[Committed]:
        """The commitments that came since the last call, ascending: they are to be logged, and then opened.

        From here on others are taken only for tasks to which nobody is committed.
        """
        fresh, self.unlogged = sorted(self.unlogged), set()
        self._closed = True
        return [self._committed[copy] for copy in fresh]

    def commitment_of(self, seat: int, holder: int) -> Committed | None:
        """The commitment of that worker to a seat's task, if it made one."""
        return self._committed.get((seat, holder))

    def is_logged(self, message: Opened) -> bool:
        """Whether a commitment to what is opened was taken, and handed over to be logged."""
        copy = message.seat, message.holder
        return copy in self._committed and copy not in self.unlogged

    def open(self, message: Opened) -> None:
        """Takes an opening that fits its commitment."""
        copy = message.seat, message.holder
        self.opened[copy] = message
        self.unopened.discard(copy)

    def release(self, worker: int) -> list[int]:
        """Forgets what a worker answered; returns the seats, ascending, whose tasks nobody holds now."""
        lost = []
        for seat in sorted(self._held.pop(worker, ())):
            copy = seat, worker
            self._committed.pop(copy, None)
            self.opened.pop(copy, None)
            self.unopened.discard(copy)
            self.unlogged.discard(copy)
            holders = self._holders[seat]
            holders.discard(worker)
            if not any((seat, holder) in self._committed for holder in holders):
                self.uncommitted.add(seat)
            if not holders:
                lost.append(seat)
        return lost

    def hold(self, worker: int, seat: int) -> None:
        """Gives a task to another worker."""
        self._holders[seat].add(worker)
        self._held.setdefault(worker, set()).add(seat)

    def is_late(self, seat: int) -> bool:
        """Whether the task of a seat has one holder, and no answer."""
        return seat in self.uncommitted and len(self._holders[seat]) == 1

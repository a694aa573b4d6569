"""The manager's books of a round before its reveal: who was dealt which task, who answered it, and who still must."""

from __future__ import annotations

from podlt.errors import PeerError
from podlt.protocol.draw import Roles
from podlt.protocol.messages import Committed, Opened


class RoundAnswers:
    """The tasks of one round, by the seat that each was dealt to, and what was answered to them.

    Args:
        roles: who was dealt which task; a settlement's lose the seats of those who leave it.

    Attributes:
        uncommitted: seats to whose task nobody is committed yet.
        unopened: seats whose commitment is not opened yet.
        opened: seat -> what opens the commitment.
    """

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.uncommitted = set(roles.seats)
        self.unopened = set(roles.seats)
        self.opened: dict[int, Opened] = {}
        self._committed: dict[int, Committed] = {}
        self._unlogged: set[int] = set()
        self._held = {worker: {worker} for worker in roles.seats}

    def known(self, message: Committed) -> bool:
        """Whether the same commitment came before.

        Raises:
            PeerError: another one came before.
        """
        first = self._committed.get(message.seat)
        if first is not None and first != message:
            raise PeerError(message.holder, "commitment", f"a second commitment to task {message.seat}")
        return first is not None

    def commit(self, message: Committed) -> None:
        """Takes a commitment that holds."""
        self._committed[message.seat] = message
        self.uncommitted.discard(message.seat)
        self._unlogged.add(message.seat)

    def take_unlogged(self) -> list[Committed]:
        """The commitments that came since the last call, ascending by seat: they are to be logged."""
        fresh, self._unlogged = sorted(self._unlogged), set()
        return [self._committed[seat] for seat in fresh]

    def commitment_of(self, seat: int, holder: int) -> Committed | None:
        """The commitment of that worker to a seat's task, if it made one."""
        found = self._committed.get(seat)
        return found if found is not None and found.holder == holder else None

    def open(self, message: Opened) -> None:
        """Takes an opening that fits its commitment."""
        self.opened[message.seat] = message
        self.unopened.discard(message.seat)

    def release(self, worker: int) -> list[int]:
        """Forgets what a worker answered; returns the seats of its tasks, ascending, which nobody holds now."""
        seats = sorted(self._held.pop(worker, ()))
        for seat in seats:
            self._forget(seat)
            self.uncommitted.add(seat)
            self.unopened.add(seat)
        return seats

    def hold(self, worker: int, seat: int) -> None:
        """Gives a task that nobody holds to another worker."""
        self._held.setdefault(worker, set()).add(seat)

    def remove(self, seat: int) -> None:
        """Takes a task out of the round: in a settlement everybody who is left has the same one already."""
        self._forget(seat)
        self.roles.seats.pop(seat, None)

    def _forget(self, seat: int) -> None:
        self._committed.pop(seat, None)
        self.opened.pop(seat, None)
        for waiting in (self.uncommitted, self.unopened, self._unlogged):
            waiting.discard(seat)

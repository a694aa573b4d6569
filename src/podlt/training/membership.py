"""Who works in a run: those who come are admitted, those who are gone are let go, between rounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from podlt.engine.interface import Engine, Lost, Member
from podlt.errors import PeerError
from podlt.protocol.manager import Manager
from podlt.protocol.plan import SMALLEST_ARRAY
from podlt.training import events as ev

RETURN_SECONDS = 20.0
"""How long a run that goes on waits for workers that were in it before, and do not come back."""

_STEP = 0.5

EVICTED = "evicted from this run: a result was not what its task gives"


class Membership:
    """The workers of a run, as the log and the engine know them.

    Args:
        manager: proposes what the log says of them; engine: where they are; listener: is told who comes and goes;
        held: the credits that the run's owner holds as a key's deposit; clock: seconds, monotonic.
    """

    def __init__(
        self,
        manager: Manager,
        engine: Engine,
        listener: ev.Listener,
        *,
        held: Callable[[bytes], int] = lambda key: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager, self._engine, self._listener, self._clock = manager, engine, listener, clock
        self._held = held
        self._present: set[int] = set()

    def begin(self, wanted: int) -> None:
        """Starts the engine, and returns when so many workers are in the run, or nobody else can come.

        Workers that were in the run before are waited for as well; those that do not come back in time withdraw.

        Raises:
            EngineError: it cannot be started.
        """
        state = self._manager.state
        expected = set(state.active())
        self._admit(self._engine.members(state.run))
        deadline, waited = self._clock() + RETURN_SECONDS, False
        while self._engine.elastic:
            back = expected <= self._present or (self._clock() > deadline and self._enough(self._present))
            if back and len(self._present) >= wanted:
                break
            waited = True
            self._listener(ev.Waiting(workers=len(self._present), wanted=max(wanted, len(expected))))
            self._admit(self._engine.arrivals(_STEP))
            self._release(self._engine.departures())
        if waited:
            self._listener(ev.Gathered(workers=len(self._present)))
        for number in sorted(expected - self._present):
            self._release([Lost(number, "did not come back when the run went on")])

    def update(self) -> None:
        """Between two rounds: takes who has come, and lets go who has left."""
        self._part()
        self._release(self._engine.departures())
        self._give_back()
        self._admit(self._engine.arrivals(0.0))

    def await_more(self) -> bool:
        """Waits until there are enough workers for a round; returns whether there are, or ever will be."""
        waited = False
        while not self._enough(self._manager.state.active()):
            if not self._engine.elastic:
                return False
            waited = True
            self._listener(ev.Waiting(workers=len(self._manager.state.active()), wanted=self._fewest()))
            self._admit(self._engine.arrivals(_STEP))
            self._release(self._engine.departures())
        if waited:  # the next sign of life is a whole round away
            self._listener(ev.Gathered(workers=len(self._manager.state.active())))
        return True

    def _enough(self, workers: list[int] | set[int]) -> bool:
        return len(workers) >= self._fewest()

    def _fewest(self) -> int:
        begin = self._manager.state.begin
        assert begin is not None
        return max(SMALLEST_ARRAY, begin.spares + 1)

    def _admit(self, members: list[Member]) -> None:
        state = self._manager.state
        for member in members:
            number = next((n for n, worker in state.workers.items() if worker.key == member.key), None)
            status = state.workers[number].status if number is not None else "new"
            if status == "evicted":
                self._engine.refused(member, EVICTED)
                continue
            if number is None or status == "withdrawn":
                try:
                    new = self._new_deposit(member.key, number)
                    number = self._manager.join(member.key, lambda m=member: m.signature, new)  # type: ignore[misc]
                except PeerError as error:
                    self._engine.refused(member, str(error))
                    continue
                if self._engine.elastic:
                    self._listener(
                        ev.Joined(
                            worker=number, key=member.key.hex(), again=status != "new", workers=len(state.active())
                        )
                    )
            self._engine.admitted(member, number)
            self._present.add(number)

    def _new_deposit(self, key: bytes, number: int | None) -> int:
        """What the owner holds for a key and the log does not say yet. A run that began without deposits has none."""
        if not self._manager.state.takes_deposits:
            return 0
        logged = self._manager.state.ledger.accounts[number].deposit if number is not None else 0
        return max(0, self._held(key) - logged)

    def _give_back(self) -> None:
        """Has the log say what the owner paid back to workers that left."""
        state = self._manager.state
        left = [n for n, worker in state.workers.items() if worker.status == "withdrawn"]
        self._manager.give_back(
            [n for n in left if state.ledger.accounts[n].deposit and not self._held(state.workers[n].key)]
        )

    def _part(self) -> None:
        """Tells the engine whom the last round evicted, or let go for what it sent."""
        for number in sorted(self._present):
            worker = self._manager.state.workers[number]
            if worker.status == "active":
                continue
            self._present.discard(number)
            if worker.status == "evicted":
                self._engine.refused(Member(worker.key, b""), EVICTED)
            else:
                self._engine.released(number, "withdrawn: its last answer was of no use")

    def _release(self, lost: list[Lost]) -> None:
        for one in lost:
            self._present.discard(one.worker)
            if self._manager.state.workers[one.worker].status == "active":
                self._manager.lost(one.worker, one.reason)
                self._listener(ev.Withdrawn(worker=one.worker, round=self._manager.state.round, reason=one.reason))

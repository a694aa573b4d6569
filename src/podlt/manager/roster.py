"""Who works in a run: those who come are admitted, those who are gone are let go, between rounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from podlt.engine.interface import Engine, Lost, Member
from podlt.errors import PeerError
from podlt.manager import events as ev
from podlt.protocol.families.membership import AWAY
from podlt.protocol.joining import OUTDATED
from podlt.protocol.manager import Manager
from podlt.protocol.messages import JoinTerms, TreeSize

RETURN_SECONDS = 20.0
"""How long a run that is resumed waits for workers that were in it before, and do not come back."""

OFFER_SECONDS = 60.0
"""How long a number is reserved for a worker that was offered terms."""

_STEP = 0.5

EVICTED = "evicted from this run: a result was not what its task gives"
SUSPENDED = (
    "suspended: a result was not what its task gives; start again to test this machine's arithmetic and come back. "
    "A second time is the last"
)


class Membership:
    """The workers of a run, as the log and the engine know them.

    Args:
        manager: proposes what the log says of them.
        engine: where they are.
        listener: hears who comes and goes.
        head: gives the last tree head; it is over at least so many entries, which are written if need be.
        held: the credits that the run's owner holds as a key's deposit.
        operator: who runs a key's worker, by its invitation; "" for nobody else.
        ending: whether the run is to end, so that nobody needs to be waited for.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        manager: Manager,
        engine: Engine,
        listener: ev.Listener,
        *,
        head: Callable[[int], TreeSize],
        held: Callable[[bytes], int] = lambda key: 0,
        operator: Callable[[bytes], str] = lambda key: "",
        ending: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager, self._engine, self._listener, self._clock = manager, engine, listener, clock
        self._head, self._held, self._operator, self._ending = head, held, operator, ending
        self._offered: dict[bytes, tuple[JoinTerms, float]] = {}
        self._reserved: set[int] = set()
        self._present: set[int] = set()

    def begin(self, wanted: int) -> None:
        """Starts the engine, and returns when so many workers are in the run, or nobody else can come.

        Workers that were in the run before are waited for as well; those that do not come back in time withdraw.

        Raises:
            EngineError: it cannot be started.
        """
        state = self._manager.state
        expected = set(state.active())
        assert state.begin is not None
        self._admit(self._engine.members(state.begin, self._head(0)))
        deadline, waited = self._clock() + RETURN_SECONDS, False
        while self._engine.elastic:
            ending = self._ending()
            late = self._clock() > deadline and (ending or self._enough(self._present))
            if (late or expected <= self._present) and (ending or len(self._present) >= wanted):
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

    def let_go(self, number: int, reason: str) -> None:
        """A worker is withdrawn; it may come back, later each time."""
        self._release([Lost(number, reason)])
        self._engine.released(number, reason)

    def await_more(self) -> bool:
        """Waits until there are enough workers for a round; returns whether there are, or ever will be."""
        waited = False
        while not self._enough(self._manager.state.active()) and not self._ending():
            if not self._engine.elastic:
                return False
            waited = True
            self._listener(ev.Waiting(workers=self._manager.state.active_count, wanted=self._fewest()))
            self._admit(self._engine.arrivals(_STEP))
            self._release(self._engine.departures())
        if waited:  # the next event is a whole round away
            self._listener(ev.Gathered(workers=self._manager.state.active_count))
        return True

    def _enough(self, workers: list[int] | set[int]) -> bool:
        return len(workers) >= self._fewest()

    def _fewest(self) -> int:
        return self._manager.state.options.min_workers

    def _admit(self, members: list[Member]) -> None:
        """Offers terms to who asks to be admitted, and admits who signed them."""
        for member in members:
            number = self._manager.state.roster.number(member.key)
            status = self._manager.state.workers[number].status if number is not None else "new"
            try:
                if status == "evicted":
                    self._engine.refused(member, EVICTED)
                    continue
                if status == "suspended" and not self._engine.elastic:
                    continue  # nobody asks for it: a run that is resumed goes on as if it had not stopped
                if number is None or status in AWAY:
                    number = self._join(member, again=number is not None)
            except PeerError as error:
                self._engine.refused(member, str(error))
                continue
            if number is not None:
                self._engine.admitted(member, number)
                self._present.add(number)
        self._forget_offers()

    def _join(self, member: Member, *, again: bool) -> int | None:
        """Admits a member that signed the terms that it was offered; offers terms to any other."""
        offered = self._offered.get(member.key)
        if self._engine.elastic and (member.terms is None or offered is None or offered[0] != member.terms):
            self._offer(member)
            return None
        assert member.terms is not None and member.signatures is not None
        try:
            number = self._manager.join(member.key, member.terms, member.signatures)
        except PeerError as error:
            if error.reason != OUTDATED or not self._engine.elastic:
                raise
            self._offer(member)
            return None
        self._withdraw_offer(member.key)
        if self._engine.elastic:
            workers = self._manager.state.active_count
            self._listener(ev.Joined(worker=number, key=member.key.hex(), again=again, workers=workers))
        return number

    def _offer(self, member: Member) -> None:
        state = self._manager.state
        number = state.roster.number(member.key)
        joined = state.workers[number].joined if number is not None else -1
        self._withdraw_offer(member.key)
        deposit = self._new_deposit(member.key, number)
        head, operator = self._head(joined + 1), self._operator(member.key)
        terms = self._manager.join_terms(member.key, deposit, head, self._reserved, operator)
        self._offered[member.key] = terms, self._clock()
        self._reserved.add(terms.worker)
        self._engine.offer(member, terms)

    def _withdraw_offer(self, key: bytes) -> None:
        """What a key was offered is good no more."""
        offered = self._offered.pop(key, None)
        if offered is not None:
            self._reserved.discard(offered[0].worker)

    def _forget_offers(self) -> None:
        """Numbers that were offered to who never answered are free again.

        Answers that came during a round, however long it took, were taken before.
        """
        since = self._clock() - OFFER_SECONDS
        for key in [key for key, (_, at) in self._offered.items() if at <= since]:
            self._withdraw_offer(key)

    def _new_deposit(self, key: bytes, number: int | None) -> int:
        """What the owner holds for a key and the log does not say yet."""
        logged = self._manager.state.ledger.accounts[number].deposit if number is not None else 0
        return max(0, self._held(key) - logged)

    def _give_back(self) -> None:
        """Has the log say what the owner paid back to workers that left."""
        state = self._manager.state
        left = [n for n, worker in state.workers.items() if worker.status in AWAY]
        self._manager.return_deposits(
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
                self._engine.refused(Member(worker.key), EVICTED)
            elif worker.status == "suspended":
                self._engine.refused(Member(worker.key), SUSPENDED)
            else:
                self._engine.released(number, "withdrawn: its last answer was of no use")

    def _release(self, lost: list[Lost]) -> None:
        for one in lost:
            self._present.discard(one.worker)
            if self._manager.state.workers[one.worker].status == "active":
                self._manager.withdraw(one.worker, one.reason)
                self._listener(ev.Withdrawn(worker=one.worker, round=self._manager.state.round, reason=one.reason))

"""Who is awaited before a run begins or goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from podlt.engine.interface import Member
from podlt.manager import events as ev
from podlt.manager.roster import EVICTED, OFFER_SECONDS, RETURN_SECONDS, SUSPENDED, Membership
from podlt.protocol.messages import JoinSignatures, JoinTerms, TreeSize

NOTHING = TreeSize(0, bytes(32))


class World:
    """An engine, a manager and a clock: each key of `coming` arrives in a step of its own, a second later.

    Who is offered terms signs them at once, and is there with its signature in the next step.
    """

    elastic = True

    def __init__(self, known: list[bytes], coming: list[bytes]) -> None:
        self.now, self.coming, self.told = 0.0, list(coming), list[ev.Event]()
        self.lost_workers: list[int] = []
        self.signed: list[Member] = []
        self.joined: list[JoinTerms] = []
        self.turned_away: list[tuple[bytes, str]] = []
        workers = {n: SimpleNamespace(key=key, status="active", joined=0) for n, key in enumerate(known)}
        self.state = SimpleNamespace(
            run=b"",
            round=0,
            workers=workers,
            active=self._active,
            begin=SimpleNamespace(),
            options=SimpleNamespace(min_workers=3),
            roster=SimpleNamespace(number=self._number),
            active_count=0,
            ledger=SimpleNamespace(accounts={n: SimpleNamespace(deposit=0) for n in workers}),
        )

    @property
    def members_of_run(self) -> Membership:
        here = cast(Any, self)
        return Membership(
            here, here, self.told.append, head=lambda over: NOTHING, operator=bytes.decode, clock=lambda: self.now
        )

    def begin(self, wanted: int) -> None:
        self.members_of_run.begin(wanted)

    def _number(self, key: bytes) -> int | None:
        return next((n for n, worker in self.state.workers.items() if worker.key == key), None)

    def _active(self) -> list[int]:
        return [n for n, worker in self.state.workers.items() if worker.status == "active"]

    def members(self, begin: Any, seen: TreeSize) -> list[Member]:
        if self.elastic:
            return []
        terms, signatures = JoinTerms(0, 0, 0, bytes(32)), JoinSignatures(bytes(64), bytes(64))
        return [Member(w.key, terms, signatures) for w in self.state.workers.values()]

    def arrivals(self, seconds: float) -> list[Member]:
        self.now += 1.0
        assert self.now < 1000, "nobody comes any more"
        if self.signed:
            return [self.signed.pop(0)]
        return [Member(self.coming.pop(0))] if self.coming else []

    def offer(self, member: Member, terms: JoinTerms) -> None:
        self.signed.append(Member(member.key, terms, JoinSignatures(bytes(64), bytes(64))))

    def join_terms(self, key: bytes, deposit: int, seen: TreeSize, reserved: Any, operator: str) -> JoinTerms:
        taken, known = {*self.state.workers, *reserved}, self._number(key)
        number = known if known is not None else next(n for n in range(100) if n not in taken)
        return JoinTerms(number, deposit, seen.size, seen.root, operator)

    def departures(self) -> list[Any]:
        return []

    def admitted(self, member: Member, number: int) -> None:
        pass

    def join(self, key: bytes, terms: JoinTerms, signature: bytes) -> int:
        self.state.workers[terms.worker] = SimpleNamespace(key=key, status="active", joined=0)
        self.joined.append(terms)
        return terms.worker

    def return_deposits(self, workers: list[int]) -> None:
        pass

    def refused(self, member: Member, reason: str) -> None:
        self.turned_away.append((member.key, reason))

    def withdraw(self, number: int, reason: str) -> None:
        self.lost_workers.append(number)
        self.state.workers[number].status = "withdrawn"

    @property
    def waits(self) -> list[tuple[int, int]]:
        """What was said of who is awaited, each once."""
        said = [(event.workers, event.wanted) for event in self.told if isinstance(event, ev.Waiting)]
        return list(dict.fromkeys(said))


KNOWN = [b"a", b"b", b"c"]


def test_a_run_that_goes_on_waits_for_as_many_workers_as_are_asked_for() -> None:
    world = World(KNOWN, [*KNOWN, b"d", b"e", b"f"])
    world.begin(5)
    assert world._active() == [0, 1, 2, 3, 4] and world.coming == [b"f"] and not world.turned_away
    assert world.waits == [(n, 5) for n in range(5)]
    assert world.told[-1] == ev.Gathered(workers=5)


@pytest.mark.parametrize("wanted", [0, 3])
def test_a_run_that_goes_on_waits_for_those_who_were_in_it(wanted: int) -> None:
    world = World(KNOWN, [b"x", *KNOWN, b"y"])
    world.begin(wanted)
    assert world.coming == [b"y"] and not world.lost_workers


def test_who_does_not_come_back_in_time_withdraws_once_enough_others_are_there() -> None:
    world = World(KNOWN, [b"a", b"x", b"y", b"z"])
    world.begin(4)
    assert world.now > RETURN_SECONDS and world.lost_workers == [1, 2] and len(world._active()) == 4


def test_a_new_run_waits_for_nobody_else_than_those_asked_for() -> None:
    world = World([], [*KNOWN, b"d"])
    world.begin(3)
    assert world.coming == [b"d"] and world.waits == [(0, 3), (1, 3), (2, 3)]


def test_nothing_is_said_of_a_wait_where_nobody_had_to_wait() -> None:
    world = World([], [])
    world.begin(0)
    assert world.told == []


def test_terms_that_are_signed_during_a_long_round_are_good_after_it() -> None:
    world = World(KNOWN, [b"d"])
    members = world.members_of_run
    members.update()
    world.now += 10 * OFFER_SECONDS
    members.update()
    assert [terms.worker for terms in world.joined] == [3]


def test_a_number_is_kept_for_who_was_offered_it_for_a_while_and_nobody_joins_on_other_terms() -> None:
    world = World(KNOWN, [b"d", b"e"])
    members = world.members_of_run
    members.update()
    (first,), world.signed = world.signed, []
    members.update()
    assert [member.terms.worker for member in world.signed if member.terms] == [4]
    forged = Member(b"d", JoinTerms(7, 0, 0, bytes(32)), JoinSignatures(bytes(64), bytes(64)))
    world.signed = [forged]
    members.update()
    assert not world.joined and world.signed == [first]  # it is offered the same again
    members.update()
    assert [terms.worker for terms in world.joined] == [3]
    assert world.joined[0].operator == "d", "whom its invitation names"


def convicting(world: World, status: str) -> Membership:
    """The members of a run that was begun, after a round that convicted the second of them."""
    members = world.members_of_run
    members.begin(0)
    world.state.workers[1].status = status
    members.update()
    return members


def test_who_was_convicted_is_told_what_follows_from_it_once() -> None:
    for status, said in (("suspended", SUSPENDED), ("evicted", EVICTED)):
        world = World(KNOWN, list(KNOWN))
        members = convicting(world, status)
        members.update()
        assert world.turned_away == [(b"b", said)] and not world.joined and world._active() == [0, 2]


def test_a_suspended_worker_comes_back_if_it_asks_and_an_evicted_one_does_not() -> None:
    for status, back in (("suspended", [1]), ("evicted", [])):
        world = World(KNOWN, list(KNOWN))
        members = convicting(world, status)
        world.coming = [b"b"]
        members.update()
        members.update()
        assert [terms.worker for terms in world.joined] == back and (1 in world._active()) == bool(back)


def test_suspended_workers_of_this_machine_stay_out_when_the_run_is_resumed_and_withdrawn_ones_do_not() -> None:
    world = World(KNOWN, [])
    world.elastic = False
    world.state.workers[0].status, world.state.workers[1].status = "withdrawn", "suspended"
    world.begin(0)
    assert world._active() == [0, 2] and [terms.worker for terms in world.joined] == [0] and not world.turned_away

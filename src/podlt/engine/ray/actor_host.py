"""What hosts some workers of a cluster: an actor, or the one that took over from it, and the calls to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from podlt.engine.local import frames
from podlt.engine.ray.actors import Actor, label_of, shares


class PendingCall(msgspec.Struct):
    """A call that was not answered yet.

    Attributes:
        method: of `RayHost`.
        refs: what it gives.
        round: that it is about.
        tasks: of a `work`.
        workers: of a `set_up`.
        since: when it became the first of its actor's calls (seconds).
    """

    method: str
    refs: list[Any]
    round: int = -1
    tasks: list[frames.DealtTask] = []
    workers: list[frames.Hosted] = []
    since: float = 0.0


class RoundInputs(msgspec.Struct, frozen=True):
    """What the tasks of a round start from, in the object store.

    Attributes:
        round: its number.
        refs: of the parameters' bytes, and of the packed examples.
        examples: how many.
    """

    round: int = -1
    refs: list[Any] = []
    examples: int = 0


class ActorHost:
    """What hosts some workers. Calls are made in order, and answered in order.

    Args:
        number: its place among the hosts.
        workers: those that it hosts.
        actor: that is there now.
        label: what the dashboard shows.

    Attributes:
        deals: of this round, to be sent again to whoever takes over.
        calls: not answered yet, in their order.
        begun: the round whose inputs the actor has.
        ready: whether it hosted workers already.
        deaths: how many actors were lost here in this round.
        attempt: how many there were in all.
    """

    def __init__(self, number: int, workers: Sequence[frames.Hosted], actor: Actor, label: str) -> None:
        self.number, self.workers, self.actor, self.label = number, list(workers), actor, label
        self.deals: list[frames.Deal] = []
        self.calls: deque[PendingCall] = deque()
        self.begun = -1
        self.ready = False
        self.deaths = 0
        self.attempt = 1

    def begin_round(self) -> None:
        """Forgets the round before."""
        self.deals, self.deaths = [], 0

    def drop(self, seats: set[int]) -> None:
        """Forgets tasks that others have now: whoever takes over must not execute them."""
        left = ([dealt for dealt in deal.tasks if dealt.seat not in seats] for deal in self.deals)
        self.deals = [
            msgspec.structs.replace(deal, tasks=tasks) for deal, tasks in zip(self.deals, left, strict=True) if tasks
        ]

    def renew(self, actor: Actor) -> list[frames.Deal]:
        """Another actor takes over: calls to the one before are forgotten; returns the deals that were its own."""
        self.attempt += 1
        self.actor = actor
        self.calls.clear()
        self.begun, self.ready = -1, False
        deals, self.deals = self.deals, []
        return deals

    # -- calls -------------------------------------------------------------------------------------------------------

    def welcome(self, setup: frames.HostSetup, now: float) -> None:
        """What an actor is asked first: whether there was room for it, and to host the workers."""
        self._call(PendingCall("hello", self.actor.call("hello", name=f"{self.label}: hello")), now)
        self.host(setup, self.workers, now)

    def host(self, setup: frames.HostSetup, workers: Sequence[frames.Hosted], now: float) -> None:
        """Has the actor host workers."""
        raw = frames.pack(msgspec.structs.replace(setup, workers=list(workers)))
        refs = self.actor.call("set_up", raw, name=f"{self.label}: set up")
        self._call(PendingCall("set_up", refs, workers=list(workers)), now)

    def give(self, deal: frames.Deal, inputs: RoundInputs, now: float) -> None:
        """Sends a deal, after the round's inputs, and remembers it."""
        at = f"{self.label}: round {inputs.round}"
        if self.begun != inputs.round:
            self.begun = inputs.round
            refs = self.actor.call("begin", inputs.round, *inputs.refs, inputs.examples, name=at)
            self._call(PendingCall("begin", refs, inputs.round), now)
        self.deals.append(deal)
        name = f"{at}, {len(deal.tasks)} tasks from {deal.tasks[0].seat}"
        refs = self.actor.call("work", frames.pack(deal), name=name, returns=2)
        self._call(PendingCall("work", refs, inputs.round, list(deal.tasks)), now)

    def ask_to_open(self, round: int, now: float) -> None:
        """Asks for what the commitments of a round hid, if there are any."""
        if self.deals:
            refs = self.actor.call("open", round, name=f"{self.label}: round {round}, open")
            self._call(PendingCall("open", refs, round), now)

    def answered(self, now: float) -> None:
        """The first call was answered: the actor is at the next one."""
        self.calls.popleft()
        if self.calls:
            self.calls[0].since = now

    def _call(self, call: PendingCall, now: float) -> None:
        self.calls.append(call)
        if len(self.calls) == 1:
            call.since = now


def host_all(actors: Sequence[Actor], workers: Sequence[frames.Hosted]) -> list[ActorHost]:
    """Hosts for all workers: each actor has as many as any other, give or take one, in the order of their numbers."""
    found = []
    for number, (actor, share) in enumerate(zip(actors, shares(len(workers), len(actors)), strict=True)):
        found.append(ActorHost(number, [workers[n] for n in share], actor, label_of(share)))
    return found

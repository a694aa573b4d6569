"""Actors as the manager sees them: made where the cluster has room, called in order, each answer waited for in turn."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec
import ray
from ray.exceptions import RayError

from podlt.engine.local import frames
from podlt.engine.ray.host import RayHost
from podlt.errors import EngineError

logger = logging.getLogger(__name__)


class Fault(Exception):
    """An actor is of no use any more; says why."""


class Died(Fault):
    """It, or its node, is gone."""


class ActorOptions(msgspec.Struct, frozen=True):
    """On what terms actors are made.

    Attributes:
        resources: what each takes of its node besides one core, by Ray's names; namespace: keeps the names of two runs
            apart.
    """

    resources: Mapping[str, float]
    namespace: str

    def words(self) -> str:
        """What an actor takes, for people."""
        return ", ".join(f"{name} {amount:g}" for name, amount in {"CPU": 1.0, **self.resources}.items())


class Actor:
    """One `RayHost`, somewhere in the cluster.

    Args:
        terms: what it takes; label: what the dashboard shows; attempt: which one of this label it is, from 1.
    """

    def __init__(self, terms: ActorOptions, label: str, attempt: int) -> None:
        # Ray must not make it anew by itself: an actor that knows nothing would take calls that are for another.
        self._handle: Any = (
            ray.remote(RayHost)
            .options(
                num_cpus=1,
                resources=dict(terms.resources) or None,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
                name=label if attempt == 1 else f"{label} ({attempt})",
                namespace=terms.namespace,
            )
            .remote(label)
        )

    def call(self, method: str, *args: Any, name: str, returns: int = 1) -> list[Any]:
        """Calls a method; what it gives comes by the references. The dashboard shows the call by its name."""
        refs = getattr(self._handle, method).options(name=name, num_returns=returns).remote(*args)
        return refs if isinstance(refs, list) else [refs]

    def kill(self) -> None:
        """Ends it at once, wherever it is."""
        ray.kill(self._handle, no_restart=True)


class PendingCall(msgspec.Struct):
    """A call that was not answered yet.

    Attributes:
        method: of `RayHost`; refs: what it gives; round: that it is about; pieces: the tasks of a `work`;
        workers: of a `set_up`; since: when it became the first of its actor's calls (seconds).
    """

    method: str
    refs: list[Any]
    round: int = -1
    pieces: list[frames.DealtTask] = []
    workers: list[frames.Hosted] = []
    since: float = 0.0


class ActorSlot:
    """The place of one actor: whose workers it hosts, what they were dealt this round, and who sits there now.

    Attributes:
        deals: of this round, to be sent again to whoever takes over; calls: not answered yet, in their order;
        begun: the round whose inputs the actor has; ready: whether it hosted workers already; deaths: how many actors
        were lost here in this round; attempt: how many there were in all.
    """

    def __init__(self, number: int, workers: list[frames.Hosted], actor: Actor, label: str) -> None:
        self.number, self.workers, self.actor, self.label = number, workers, actor, label
        self.deals: list[frames.Deal] = []
        self.calls: deque[PendingCall] = deque()
        self.begun = -1
        self.ready = False
        self.deaths = 0
        self.attempt = 1

    def drop(self, origins: set[int]) -> None:
        """Forgets tasks that others have now: whoever takes over must not execute them."""
        left = ([p for p in deal.tasks if p.seat not in origins] for deal in self.deals)
        self.deals = [
            msgspec.structs.replace(deal, tasks=tasks) for deal, tasks in zip(self.deals, left, strict=True) if tasks
        ]

    def renew(self, terms: ActorOptions) -> None:
        """Another actor takes the place; calls to the one before are forgotten."""
        self.attempt += 1
        self.actor = Actor(terms, self.label, self.attempt)
        self.calls.clear()
        self.begun, self.ready = -1, False


def label_of(numbers: Sequence[int]) -> str:
    """What the dashboard calls the actor of these workers."""
    if not numbers:
        return "podlt"
    ends = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
    return f"podlt worker {ends}"


def shares(count: int, actors: int) -> list[range]:
    """The numbers 0 to count - 1 in so many runs of equal length, give or take one."""
    ends = [i * count // actors for i in range(actors + 1)]
    return [range(a, b) for a, b in pairwise(ends)]


def waited_for(refs: Sequence[Any], seconds: float) -> set[Any]:
    """Those of the references whose values (or failures) are here, after one has come or so many seconds are over."""
    ready, _ = ray.wait(list(refs), num_returns=1, timeout=seconds)
    if ready and len(refs) > 1:
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    return set(ready)


def fetched(refs: Sequence[Any], seconds: float) -> list[Any]:
    """The values of references that are here.

    Raises:
        Died: its actor or node is gone; Fault: the call failed.
    """
    try:
        return list(ray.get(list(refs), timeout=seconds))
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # A failure within the actor ends with what was raised; that of an actor begins with what happened to it.
        said = lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0] if lines else ""
        kind = Died if isinstance(error, ray.exceptions.RayActorError) else Fault
        raise kind(f"{type(error).__name__}: {said}"[:1000]) from None


def shared(value: Any) -> Any:
    """Puts an array into the object store, for all.

    Raises:
        EngineError: it has no room.
    """
    try:
        return ray.put(value)
    except RayError as error:
        raise EngineError(
            f"Ray's object store does not take {value.nbytes / 2**20:.0f} MiB: {type(error).__name__}"
        ) from None


def room(resources: Mapping[str, float]) -> int:
    """How many actors the living nodes can hold; at least one if they could were nobody else there.

    Args:
        resources: what each takes besides a core.

    Raises:
        EngineError: no node ever holds one.
    """
    wanted, cluster = {"CPU": 1.0, **resources}, cast(Any, ray)

    def holds(have: Mapping[str, float]) -> int:
        return min(int(have.get(name, 0.0) / amount + 1e-6) for name, amount in wanted.items())

    total = sum(holds(node["Resources"]) for node in cluster.nodes() if node["Alive"])
    if not total:
        raise EngineError(
            f"no node of the Ray cluster has what a worker's actor takes ({ActorOptions(resources, '').words()})"
        )
    return max(1, min(total, holds(cluster.available_resources())))

"""Actors as the manager sees them: made where the cluster has room, called in order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec
import ray
from ray.exceptions import RayError

from podlt.engine.ray.host import RayHost
from podlt.errors import EngineError

logger = logging.getLogger(__name__)


class Fault(Exception):
    """An actor is of no use any more; says why."""


class Died(Fault):
    """It, or its node, is gone."""


class ActorOptions(msgspec.Struct, frozen=True):
    """How actors are made.

    Attributes:
        resources: what each takes of its node besides one core, by Ray's names.
        namespace: holds the names of two runs apart.
    """

    resources: Mapping[str, float]
    namespace: str

    def description(self) -> str:
        """What an actor takes, for people."""
        return ", ".join(f"{name} {amount:g}" for name, amount in {"CPU": 1.0, **self.resources}.items())


class Actor:
    """One `RayHost`, somewhere in the cluster.

    Args:
        handle: Ray's, of the actor.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def start(cls, options: ActorOptions, label: str, attempt: int) -> Actor:
        """Has Ray make an actor as soon as a node has room for it.

        Args:
            options: what it takes.
            label: what the dashboard shows.
            attempt: which one of this label it is, from 1.
        """
        # Ray must not make it anew by itself: an actor that knows nothing would take calls that are for another.
        remote = ray.remote(RayHost).options(
            num_cpus=1,
            resources=dict(options.resources) or None,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            name=label if attempt == 1 else f"{label} ({attempt})",
            namespace=options.namespace,
        )
        return cls(remote.remote(label))

    def call(self, method: str, *args: Any, name: str, returns: int = 1) -> list[Any]:
        """Calls a method; what it gives comes by the references. The dashboard shows the call by its name."""
        refs = getattr(self._handle, method).options(name=name, num_returns=returns).remote(*args)
        return refs if isinstance(refs, list) else [refs]

    def kill(self) -> None:
        """Ends it at once, wherever it is."""
        ray.kill(self._handle, no_restart=True)


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
        Died: its actor or node is gone.
        Fault: the call failed.
    """
    try:
        return list(ray.get(list(refs), timeout=seconds))
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # A failure within the actor ends with what was raised; that of an actor begins with what happened to it.
        cause = lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0] if lines else ""
        kind = Died if isinstance(error, ray.exceptions.RayActorError) else Fault
        raise kind(f"{type(error).__name__}: {cause}"[:1000]) from None


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
            f"no node of the Ray cluster has what a worker's actor takes ({ActorOptions(resources, '').description()})"
        )
    return max(1, min(total, holds(cluster.available_resources())))

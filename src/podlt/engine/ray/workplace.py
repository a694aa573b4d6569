"""The workplace `ray`: a cluster of one's own, or this machine as a cluster of one."""

from __future__ import annotations

import importlib
import logging
import os
import re
import secrets
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType

from podlt.engine.interface import Engine, Job
from podlt.engine.timeouts import LEAST_TIMEOUT
from podlt.errors import EngineError, UsageError
from podlt.extras import needed_by
from podlt.program.operations import EXACT_ARITHMETIC

TRUST = (
    "Ray executes whatever anybody in its cluster sends it, and this run's keys are known to all of its machines: "
    "use it with machines whose people you trust, never with strangers (for those there is podlt manager)"
)
"""What whoever uses this engine has to know."""


KNOCK_SECONDS = 10.0


class TrustWarning(UserWarning):
    """Says whom an engine trusts."""


class RayCluster:
    """The workplace `ray`. A Ray that the program has started or joined already is used as it is.

    Args:
        address: of the cluster, as HOST:PORT; by default what RAY_ADDRESS says, or else this machine alone.
        resources: what every actor takes of its node besides one core, by Ray's names: so actors land where those are.
        processes: how many actors, 0 for as many as the cluster has room for now.
        cheats: worker number (as text) -> what it does.
        silence_timeout: the least seconds after which an actor that says nothing is taken for hung.

    Raises:
        UsageError: the address or a resource is none.
    """

    name = "ray"
    keeps_keys = True

    def __init__(
        self,
        address: str = "",
        resources: Mapping[str, float] | None = None,
        processes: int = 0,
        cheats: Mapping[str, str] | None = None,
        *,
        silence_timeout: float = LEAST_TIMEOUT,
    ) -> None:
        if address and not re.fullmatch(r"auto|[^/@\s]+:\d{1,5}", address):
            raise UsageError(f"{address}: expected HOST:PORT; the manager has to run on a machine of the cluster")
        for name, amount in (resources or {}).items():
            if not name or name in ("CPU", "GPU", "memory") or not 0 < amount < 2**40 or (amount > 1 and amount % 1):
                raise UsageError(
                    f"resource {name}={amount:g}: expected a name that nodes were given (ray start --resources), and "
                    "a whole number or a fraction of one"
                )
        warnings.warn(TRUST, TrustWarning, stacklevel=2)
        self._address, self._resources = address, dict(resources or {})
        self._processes, self._cheats, self._silence_timeout = processes, cheats or {}, silence_timeout

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Joins the cluster, or starts one here, and has actors find their places while the manager captures.

        Raises:
            UsageError: Ray is not installed.
            EngineError: there is no such cluster, or no node has what actors take.
        """
        ray = _ray()
        started = not ray.is_initialized()
        try:
            if started:
                _begin(ray, self._address)
            from podlt.engine.ray.actors import Actor, ActorOptions, label_of, room, shares
            from podlt.engine.ray.engine import RayEngine

            options = ActorOptions(self._resources, f"podlt-{secrets.token_hex(8)}")
            free = room(self._resources)  # also where `processes` says how many: nobody waits for what no node has
            count = min(self._processes or free, workers)
            actors = [Actor.start(options, label_of(share), 1) for share in shares(workers, count)]
            nodes = sum(node["Alive"] for node in ray.nodes())

            def make(job: Job) -> Engine:
                if job.program.arithmetic not in EXACT_ARITHMETIC and nodes > 1:
                    raise UsageError(
                        'arithmetic = "stock" gives other bits on other machines: a cluster needs arithmetic = "exact"'
                    )
                return RayEngine.for_job(job, self._cheats, options, actors, silence_timeout=self._silence_timeout)

            try:
                yield make
            finally:
                for actor in actors:
                    actor.kill()
        finally:
            if started:
                ray.shutdown()


def parse_resource(text: str) -> tuple[str, float]:
    """Name and amount of NAME=AMOUNT.

    Raises:
        UsageError: it is none.
    """
    name, _, amount = text.partition("=")
    with suppress(ValueError):
        return name, float(amount)
    raise UsageError(f"{text!r}: expected NAME=AMOUNT, such as training=1")


def _ray() -> ModuleType:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise needed_by('the engine "ray"', error) from None


def _begin(ray: ModuleType, address: str) -> None:
    if ":" in address:
        _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for reports to others
    # Ray would hide accelerators from actors that take none, and warns that it will not do so one day.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # whatever Ray fails with, a slow start too, it says by classes of no use to anybody
        where = address or "this machine"
        lines = str(error).strip().splitlines()
        raise EngineError(f"no Ray cluster at {where}: {lines[0] if lines else type(error).__name__}") from None


def _knock(address: str) -> None:
    """Ray tries a wrong address for a quarter of an hour; this says at once that nobody listens there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster at {address}: {error}") from None

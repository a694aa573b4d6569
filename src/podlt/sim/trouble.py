"""When processes of a simulated network are cut off and die, and the manager with them: as its faults say."""

from __future__ import annotations

import random
from collections.abc import Callable

from podlt.sim.faults import NetworkFaults
from podlt.sim.host import SimulatedHost
from podlt.sim.packets import PacketSimulator


class Trouble:
    """Strikes again and again until all faults end.

    Args:
        packets: has the time, and the connections.
        faults: what goes wrong.
        dice: chance.
    """

    def __init__(self, packets: PacketSimulator, faults: NetworkFaults, dice: random.Random) -> None:
        self._packets, self._faults, self._dice = packets, faults, dice

    def of_host(self, host: SimulatedHost) -> None:
        """Cuts off and kills a process."""
        for rate, longest, strike in (
            (self._faults.partition, self._faults.partition_seconds, self._cut),
            (self._faults.crash, self._faults.crash_seconds, self._crash),
        ):
            if rate:
                self._again(rate, lambda strike=strike, longest=longest: strike(host, longest))  # type: ignore[misc]

    def of_manager(self) -> None:
        """Kills the manager, once."""
        if self._faults.manager_crash:
            self._again(self._faults.manager_crash, self._kill, repeat=False)

    def _again(self, rate: float, strike: Callable[[], None], *, repeat: bool = True) -> None:
        def due() -> None:
            if self._packets.schedule.now < self._faults.until:
                strike()
                if repeat:
                    self._again(rate, strike)

        self._packets.schedule.after(self._dice.expovariate(rate), due)

    def _kill(self) -> None:
        self._packets.killed = True

    def _cut(self, host: SimulatedHost, longest: float) -> None:
        if host.connection is not None and host.session is not None:
            self._packets.cut(host.connection, self._dice.random() * longest)

    def _crash(self, host: SimulatedHost, longest: float) -> None:
        if host.connection is not None and host.session is not None:
            host.crash(self._dice.random() * longest)

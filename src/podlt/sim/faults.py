"""What goes wrong in a simulated network, as one struct of options, and worlds of it drawn from a seed."""

from __future__ import annotations

import random

import msgspec


class NetworkFaults(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to messages, connections and machines. Rates are a simulated second, times in simulated seconds.

    Attributes:
        loss: share of messages that are lost.
        duplication: share that come twice.
        delay: the longest time that a message takes.
        reordering: share of messages that come before others that were sent earlier, or after later ones.
        partition: how often a process is cut off from the manager.
        partition_seconds: for how long at most.
        crash: how often a process dies, and comes back without memory.
        crash_seconds: after how long at most.
        manager_crash: how often the manager dies, and is resumed from its log.
        manager_seconds: after how long at most.
        compute: how long a task takes.
        machines: for how many times as long as `compute` each process works at its share of a batch where all are
            equal, and in proportion at more and fewer examples; where there are none, a task takes `compute`.
        withheld: how many processes, the first ones, withhold each answer until so many seconds after the last task.
        withheld_seconds: how many.
        slow: share of processes that take twenty times as long.
        failure: share of tasks that a process cannot execute.
        liars: how many processes send what no honest one would.
        until: when all this ends, so that the run can be completed.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.01
    reordering: float = 0.0
    partition: float = 0.0
    partition_seconds: float = 20.0
    crash: float = 0.0
    crash_seconds: float = 20.0
    manager_crash: float = 0.0
    manager_seconds: float = 20.0
    compute: float = 0.1
    machines: tuple[float, ...] = ()
    withheld: int = 0
    withheld_seconds: float = 0.9
    slow: float = 0.0
    failure: float = 0.0
    liars: int = 0
    until: float = 600.0

    @classmethod
    def drawn(cls, dice: random.Random, *, lies: bool = True) -> NetworkFaults:
        """A world, as bad as chance has it: most kinds of faults are there, some are not, so that each is met alone.

        Args:
            dice: chance.
            lies: whether processes may lie.
        """

        def share(most: float) -> float:
            return dice.random() * most if dice.random() < 0.6 else 0.0

        return cls(
            loss=share(0.2),
            duplication=share(0.2),
            delay=dice.choice([0.001, 0.02, 0.3]),
            reordering=share(0.5),
            partition=share(0.01),
            crash=share(0.01),
            manager_crash=share(0.01),
            compute=dice.choice([0.01, 0.1, 2.0]),
            slow=share(0.3),
            failure=share(0.01),
            liars=dice.choice([0, 0, 1]) if lies else 0,
            until=dice.choice([60.0, 600.0]),
            withheld=dice.choice([0, 0, 1]),
            withheld_seconds=dice.choice([0.9, 3.0, 40.0]),
        )

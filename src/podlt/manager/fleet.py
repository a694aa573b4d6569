"""Keeps unequal machines from holding each other up: has levels logged, and lets go who costs more than it brings."""

from __future__ import annotations

from collections.abc import Callable

from podlt.engine.interface import Engine
from podlt.manager import events as ev
from podlt.manager.pace import CutLimits, PaceJudge
from podlt.protocol.manager import Manager

TOO_SLOW = "too slow: the others would do more without it; it may come back in a while"


MOST_BYTES = 2**29
"""Of the updates and examples of its tasks of a round, that a worker is asked to keep."""


class FleetKeeper:
    """Decides between rounds, by what they took.

    Args:
        manager: proposes levels.
        engine: measures.
        let_go: withdraws a worker, which may come back later.
        listener: hears of levels.
        least_examples: that a task can have.
        task_bytes: that a worker keeps of a task until the round's end.
        is_equal: whether all shares stay equal, and nobody is let go.
    """

    def __init__(
        self,
        manager: Manager,
        engine: Engine,
        let_go: Callable[[int, str], None],
        listener: ev.Listener,
        *,
        least_examples: int = 1,
        task_bytes: int = 1,
        is_equal: bool = False,
    ) -> None:
        self._manager, self._engine, self._let_go, self._listener = manager, engine, let_go, listener
        self._least_examples, self._most_tasks = least_examples, max(1, MOST_BYTES // task_bytes)
        self._is_equal = is_equal or manager.state.options.votes
        self._judge = PaceJudge()

    def measured(self, seconds: float, levels: dict[int, int]) -> None:
        """A round took so long; its workers had these levels."""
        if not self._is_equal:
            self._judge.round(self._engine.paces(), seconds, levels)

    def levels(self) -> dict[int, int]:
        """The levels of the workers that are there."""
        state = self._manager.state
        return {worker: state.workers[worker].level for worker in state.active()}

    def decide(self) -> None:
        """Between two rounds: changes levels where that pays, or lets go who costs too much."""
        state = self._manager.state
        if self._is_equal or state.pending_levels or state.begin is None or state.trained:
            return
        tail = state.begin.examples % state.begin.batch_size or state.begin.examples
        limits = CutLimits(tail, self._least_examples, self._most_tasks)
        for worker in self._judge.costly(limits):
            if state.is_active(worker) and state.active_count > max(2, state.options.min_workers):
                self._judge.released(worker)
                self._let_go(worker, TOO_SLOW)
        if state.may_share:
            active = set(state.active())
            better = {w: lv for w, lv in self._judge.better(limits).items() if w in active}
            if better and state.roster.is_usual(better):
                self._manager.share(better)
                self._listener(ev.SharesChanged(round=state.round, levels={str(w): lv for w, lv in better.items()}))

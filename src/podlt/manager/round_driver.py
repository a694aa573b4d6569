"""One round, driven: deal, collect commitments, open, compare, and hand over what is to be applied.

Between the sans-IO `protocol.Manager` and an engine: carries messages both ways, and executes what the referee must.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch

from podlt import crypto
from podlt.engine.interface import Engine, Event, Lost, Restarted
from podlt.engine.local import frames
from podlt.errors import DivergedError, PeerError, PodltError, UsageError
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.manager import events as ev
from podlt.manager.blocks import Block
from podlt.manager.weights import Average, Weights
from podlt.protocol.entries import Verdict
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Assignment, Committed, Opened
from podlt.units import MOST_SECONDS

M = TypeVar("M", Committed, Opened)


THREADS = 2


class RoundTimings(msgspec.Struct):
    """What a round took, and (known only where cheats are simulated) what was faked."""

    compute: float = 0.0
    proof: float = 0.0
    faked: list[int] = []


class RoundDriver:
    """Drives rounds over an engine.

    Args:
        manager: the rules' side.
        engine: where the workers are.
        referee: executes what no comparison can decide.
        weights: average the updates.
        listener: hears of withdrawals and replaced processes.
    """

    def __init__(
        self, manager: Manager, engine: Engine, referee: TaskExecutor, weights: Weights, listener: ev.Listener
    ) -> None:
        self._manager, self._engine, self._referee = manager, engine, referee
        self._weights, self._listener = weights, listener
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="podlt-check")
        self.figures = RoundTimings()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            frames.Results: self._executed,
            frames.HostOpenings: lambda event: self._each(event.opened, self._opened),
            frames.ExecutionFailed: self._failed,
            Lost: lambda event: self._lose(event.worker, event.reason),
            Restarted: self._restarted,
        }

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def collect(self, block: Block, assignments: Sequence[Assignment]) -> None:
        """Has the tasks executed; returns when every commitment is in and opened, and nobody writes updates any more.

        Raises:
            TooFewWorkersError: a task is left that nobody may take.
            EngineError: processes die again and again.
        """
        self.figures = RoundTimings()
        self._block = block
        self._tasks = {a.seat: a for a in assignments}
        self._engine.deal(block.buffer, block.plan.lines, block.bounds, assignments)
        while not (self._manager.all_opened and self._engine.idle()):
            while not self._manager.all_committed:
                self._pump()
            self._manager.commit()
            self._engine.open(self._manager.state.round)
            while self._manager.all_committed and not (self._manager.all_opened and self._engine.idle()):
                self._pump()

    def settle(self) -> list[Verdict]:
        """Reveals and judges a round from which nothing is to be applied."""
        self._manager.reveal()
        return self._manager.judge({d.fragment: self._own_digest(d.fragment) for d in self._manager.disputes()})

    def judge(self) -> tuple[list[Verdict], Average]:
        """Reveals and judges the round; averages what stands.

        Raises:
            DivergedError: the update is not finite, and the manager's own executions agree.
        """
        started = time.perf_counter()
        self._manager.reveal()
        updates = self._updates(range(len(self._block.fragments)))
        average = self._weights.average(updates, self._block.plan.lines)
        for fragment in self._suspects(updates, average):
            self._manager.suspect(fragment)
        own: dict[int, np.ndarray] = {}
        digests: dict[int, bytes] = {}
        for dispute in self._manager.disputes():
            update = self._execute(dispute.fragment)
            digests[dispute.fragment] = crypto.blob_digest(update.data)
            if digests[dispute.fragment] not in self._results(dispute.fragment).values():
                own[dispute.fragment] = update  # nobody uploaded it
        verdicts = self._manager.judge(digests)
        if digests or any(v.evicted for v in verdicts):
            chosen = self._manager.uploads()
            final = [own[f] if f in own else self._slot(seat) for f, seat in enumerate(chosen)]
            average = self._weights.average(final, self._block.plan.lines)
        if not average.finite:
            raise DivergedError(
                f"round {self._manager.state.round}: the loss or a gradient is not finite, in the manager's own "
                "execution as well: lower the learning rate, or look at the lines of this block"
            )
        self.figures.proof += time.perf_counter() - started
        return verdicts, average

    def _suspects(self, updates: Sequence[np.ndarray], average: Average) -> list[int]:
        """The fragments that the manager must execute itself, so that nobody stops a run by what is not finite.

        Wherever results differ, all of them must be finite, or two that agree on a NaN would outvote an honest third.
        Where finite updates add up to something infinite, every fragment is suspect.
        """
        found = []
        for fragment, results in enumerate(map(self._results, range(len(updates)))):
            if len(set(results.values())) > 1:
                seats = [o for o, task in self._tasks.items() if task.fragment == fragment]
                finite = all(self._is_finite(self._slot(seat)) for seat in seats)
            else:
                finite = average.finite or self._is_finite(updates[fragment])
            if not finite:
                found.append(fragment)
        return found if found or average.finite else list(range(len(updates)))

    def _is_finite(self, update: np.ndarray) -> bool:
        floats = torch.from_numpy(update[: self._weights.update_layout.float_bytes].view(np.float32))
        return bool(torch.isfinite(floats).all())

    def _results(self, fragment: int) -> dict[int, bytes]:
        """Who answered for a fragment of the round, and what."""
        return self._manager.state.revealed.fragment_results(fragment)

    def _updates(self, fragments: Sequence[int] | range) -> list[np.ndarray]:
        """For each fragment the update of its first seat: what is applied unless a verdict says otherwise."""
        first: dict[int, int] = {}
        for seat, task in sorted(self._tasks.items()):
            first.setdefault(task.fragment, seat)
        return [self._slot(first[fragment]) for fragment in fragments]

    def _slot(self, seat: int | None) -> np.ndarray:
        assert seat is not None
        return self._engine.slot(seat)

    def _pump(self) -> None:
        """Takes what has come, and deals again what a failure left."""
        for event in self._engine.events():
            self._handlers[type(event)](event)

    def _executed(self, results: frames.Results) -> None:
        self.figures.compute += _seconds(results.compute_seconds)
        self.figures.proof += _seconds(results.proof_seconds)
        self.figures.faked += results.faked
        self._each(results.committed, self._manager.committed)

    def _restarted(self, event: Restarted) -> None:
        self._listener(ev.Replaced(process=event.process, status=event.status, workers=event.workers))

    def _each(self, messages: Sequence[M], handle: Callable[[M], None]) -> None:
        """Handles messages, hashing and checking signatures on two threads; who breaks the protocol is lost."""
        started = time.perf_counter()
        current = [message for message in messages if self._is_current(message)]
        halves = [self._threads.submit(_faults, current[i::THREADS], handle) for i in range(THREADS)]
        broken = [fault for buffer in halves for fault in buffer.result()]
        self.figures.proof += time.perf_counter() - started
        for fault in broken:
            self._lose(fault.worker, f"{fault.reason}: {fault}")

    def _is_current(self, message: Committed | Opened) -> bool:
        task = self._tasks.get(message.seat)
        return task is not None and task.holder == message.holder

    def _opened(self, message: Opened) -> None:
        self._manager.opened(message, self._engine.digest(message.seat))

    def _failed(self, event: frames.ExecutionFailed) -> None:
        """A worker could not execute its task: it is the task's fault if the manager cannot either."""
        task = self._tasks.get(event.seat)
        if task is None or task.holder != event.holder:
            return
        try:
            self._execute(task.fragment)
        except DivergedError as error:
            raise DivergedError(f"round {event.round}: {error}: lower the learning rate") from None
        except (PodltError, RuntimeError, IndexError, ValueError) as error:
            start, stop = self._block.bounds[task.fragment]
            raise UsageError(
                f"round {event.round}: the training step fails on {stop - start} lines of epoch "
                f"{self._block.plan.epoch}: {error}"
            ) from None
        self._lose(event.holder, f"failed: {event.message[:1000]}")

    def _lose(self, worker: int, reason: str) -> None:
        if self._manager.state.workers[worker].status != "active":
            return
        # The listener first: nobody may be left who takes its task, and then the round ends here.
        self._listener(ev.Withdrawn(worker=worker, round=self._manager.state.round, reason=reason))
        again = self._manager.withdraw(worker, reason)
        self._tasks.update({a.seat: a for a in again})
        self.figures.faked = [seat for seat in self.figures.faked if self._tasks[seat] not in again]
        if again:
            self._engine.deal(self._block.buffer, self._block.plan.lines, self._block.bounds, again, again=True)

    def _own_digest(self, fragment: int) -> bytes:
        return crypto.blob_digest(self._execute(fragment).data)

    def _execute(self, fragment: int) -> np.ndarray:
        start, stop = self._block.bounds[fragment]
        arrays = self._engine.block(self._block.buffer, self._block.plan.lines)
        batch = as_batch({name: values[start:stop] for name, values in arrays.items()})
        out = np.zeros(self._weights.update_layout.nbytes, np.uint8)
        with one_thread():
            self._referee(self._weights.views, batch, self._manager.state.task(fragment).randomness, out)
        return out


def _seconds(said: float) -> float:
    """What a process says that it took, if that can be: a lie must not stop the run, nor spoil its figures."""
    return said if 0.0 <= said <= MOST_SECONDS else 0.0


def _faults(messages: Sequence[M], handle: Callable[[M], None]) -> list[PeerError]:
    """Handles messages one after another; returns what was wrong with some of them."""
    faults = []
    for message in messages:
        try:
            handle(message)
        except PeerError as error:
            faults.append(error)
    return faults

"""What happens in a run while it is trained: data for programs, and lines for people where people should know.

A listener gets every event, on the thread that trains. `handle` calls what it has for an event's type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from podlt.events import Connected as Connected
from podlt.events import Event as Event
from podlt.events import HeldUp as HeldUp
from podlt.events import Invited as Invited
from podlt.events import Published as Published
from podlt.events import Witnessed as Witnessed
from podlt.events import WitnessFailed as WitnessFailed
from podlt.events import WorkerFigures as WorkerFigures
from podlt.events import WorkersSeen as WorkersSeen
from podlt.words import counted


class Preparing(Event, frozen=True, tag="preparing"):
    """Something long goes on before the first round.

    Attributes:
        what: for people.
        done: how much of it.
        total: of how much; 0 where that is unknown.
    """

    what: str
    done: int = 0
    total: int = 0


class Notice(Event, frozen=True, tag="notice"):
    """Something that whoever trains should know before it is too late.

    Attributes:
        what: for people.
    """

    level = logging.WARNING
    what: str

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [self.what]


class ProofPlanned(Event, frozen=True, tag="proof-planned"):
    """What the proof of the run costs and finds, worked out before it starts (`podlt plan`).

    Attributes:
        text: for people.
    """

    text: str

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [self.text]


class Started(Event, frozen=True, tag="started"):
    """The first (or next) round begins.

    Attributes:
        run: the run's identity, hexadecimal.
        path: its directory.
        workers: how many are there.
        processes: in how many processes.
        parameters: how many numbers are trained.
        examples: of the training set.
        epochs: in all.
        rounds: in all, if nobody leaves.
        resumed: whether the run had begun before.
    """

    run: str
    path: str
    workers: int
    processes: int
    parameters: int
    examples: int
    epochs: int
    rounds: int
    resumed: bool

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [
            f"{'resuming' if self.resumed else 'training'}: {counted(self.examples, 'example')}, "
            f"{counted(self.epochs, 'epoch')}, {counted(self.parameters, 'parameter')}, "
            f"{counted(self.workers, 'worker')} in {counted(self.processes, 'process', 'processes')} -> {self.path}"
        ]


class RoundDone(Event, frozen=True, tag="round"):
    """A round was applied and paid.

    Attributes:
        round: its number, from 0.
        rounds: how many there will be with the workers that are left.
        epoch: from 0.
        loss: the mean over its examples.
        examples: how many it trained on.
        seconds: that it took.
        workers: how many are left.
        checked: how many shards were compared.
    """

    round: int
    rounds: int
    epoch: int
    loss: float
    examples: int
    seconds: float
    workers: int
    checked: int


class Convicted(Event, frozen=True, tag="convicted"):
    """A worker gave another result than its task's, and is out.

    Attributes:
        worker: its number.
        round: in which it was caught.
        outcome: "vote" if two others agreed, "referee" if the manager executed the task.
        reason: as in the log's verdict.
        forfeited: the credits that it lost.
        status: "evicted", or "suspended": it may come back once.
    """

    level = logging.WARNING
    worker: int
    round: int
    outcome: str
    reason: str
    forfeited: int
    status: str

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        how = {"vote": "two others agree on another result", "referee": "the manager's own execution differs"}
        return [
            f"round {self.round}: worker {self.worker} {self.status} ({how.get(self.outcome, self.outcome)}); "
            f"it forfeits {self.forfeited:,} credits"
        ]


class Clipped(Event, frozen=True, tag="clipped"):
    """Updates far larger than the others of their round were scaled down.

    Attributes:
        round: in which.
        shards: whose.
    """

    round: int
    shards: list[int]


class Withdrawn(Event, frozen=True, tag="withdrawn"):
    """A worker is gone without fraud; its task was dealt again.

    Attributes:
        worker: its number.
        round: in which.
        reason: for people; some of it may be the worker's own text.
    """

    level = logging.WARNING
    worker: int
    round: int
    reason: str

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [f"round {self.round}: worker {self.worker} withdrew: {self.reason}"]


class Waiting(Event, frozen=True, tag="waiting"):
    """There are too few workers yet; comes twice a second.

    Attributes:
        workers: how many are there.
        wanted: how many it takes.
    """

    workers: int
    wanted: int


class Gathered(Event, frozen=True, tag="gathered"):
    """There are enough workers, after some had to be waited for.

    Attributes:
        workers: how many are there.
    """

    workers: int


class Joined(Event, frozen=True, tag="joined"):
    """A worker of another machine joined, or came back.

    Attributes:
        worker: its number.
        key: its public key, hexadecimal.
        again: whether it had withdrawn before.
        workers: how many are there now.
    """

    worker: int
    key: str
    again: bool
    workers: int

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        verb = "came back" if self.again else "joined"
        return [f"worker {self.worker} {verb} ({self.key[:16]}); workers now: {self.workers}"]


class Replaced(Event, frozen=True, tag="replaced"):
    """A worker process died and was started again.

    Attributes:
        process: its number.
        status: with which it ended; negative for a signal.
        workers: numbers of those that it hosts.
    """

    level = logging.WARNING
    process: int
    status: int
    workers: list[int]

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [
            f"process {self.process} ended ({self.status}) and was started again with "
            f"{counted(len(self.workers), 'worker')}"
        ]


class Measured(Event, frozen=True, tag="measured"):
    """Figures at the end of an epoch.

    Attributes:
        epoch: from 0.
        metrics: by name: of the test part, and "val_..." of the validation part; empty without either.
    """

    epoch: int
    metrics: dict[str, float]

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line, if there are figures."""
        return [f"epoch {self.epoch + 1}: {metrics_text(self.metrics)}"] if self.metrics else []


class Evaluated(Event, frozen=True, tag="evaluated"):
    """Figures between epochs (`evaluation.every_rounds`), which no entry of the log has.

    Attributes:
        round: the round after which they were taken, from 0.
        epoch: that goes on, from 0.
        metrics: as in `Measured`.
    """

    round: int
    epoch: int
    metrics: dict[str, float]

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line, if there are figures."""
        return [f"round {self.round}: {metrics_text(self.metrics)}"] if self.metrics else []


class Unmeasured(Event, frozen=True, tag="unmeasured"):
    """Figures are missing at the end of an epoch, or between epochs; the run goes on without them.

    Attributes:
        epoch: from 0.
        reason: why, and which figures.
    """

    level = logging.WARNING
    epoch: int
    reason: str

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [f"epoch {self.epoch + 1}: {self.reason}"]


class SharesChanged(Event, frozen=True, tag="shares"):
    """Workers get other shares, from the round after the next on.

    Attributes:
        round: the next one.
        levels: worker -> about how many times as fast as usual it is, as a power of two.
    """

    round: int
    levels: dict[str, int]

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        shares = [f"worker {worker}: {'1/' if lv < 0 else ''}{2 ** abs(lv)}" for worker, lv in self.levels.items()]
        return [f"round {self.round}: dealt by measured speed, in times of the usual share: {', '.join(shares)}"]


class Finished(Event, frozen=True, tag="finished"):
    """The run is complete.

    Attributes:
        rounds: how many there were.
        seconds: since this process began or resumed it.
        ended: why training ended early; "" if it did not.
    """

    rounds: int
    seconds: float
    ended: str = ""

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line, if there is something to say."""
        return [f"training ended early: {self.ended}"] if self.ended else []


Listener = Callable[[Event], None]

Handlers = Mapping[type[Event], Callable[[Any], None]]
"""What a listener does, by the type of an event."""


def handle(handlers: Handlers, event: Event) -> None:
    """Calls what there is for an event's type; nothing if there is nothing."""
    handler = handlers.get(type(event))
    if handler is not None:
        handler(event)


def ignore(event: Event) -> None:
    """Listens to nothing."""


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Figures for people: accuracy first, as a share in percent, the loss last, then those of the validation part."""

    def place(name: str) -> tuple[bool, bool, bool, str]:
        plain = name.removeprefix("val_")
        return name != plain, plain != "accuracy", plain == "loss", name

    shares = ("accuracy", "val_accuracy")
    return ", ".join(
        f"{n} {metrics[n]:.2%}" if n in shares else f"{n} {metrics[n]:.4f}" for n in sorted(metrics, key=place)
    )

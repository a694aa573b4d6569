"""What a run tells while it goes on. A command renders it; a script may print it as JSON lines."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something happened."""


class Preparing(Event, frozen=True, tag="preparing"):
    """Something long goes on before the first round; `total` is 0 when it is not known."""

    what: str
    done: int = 0
    total: int = 0


class Started(Event, frozen=True, tag="started"):
    """The first (or next) round begins."""

    run: str
    path: str
    workers: int
    processes: int
    parameters: int
    lines: int
    epochs: int
    rounds: int
    resumed: bool


class RoundDone(Event, frozen=True, tag="round"):
    """A round was applied and paid; `rounds` is how many there will be with the workers that are left."""

    round: int
    rounds: int
    epoch: int
    loss: float
    lines: int
    seconds: float
    workers: int
    checked: int


class Evicted(Event, frozen=True, tag="evicted"):
    """A worker gave another result than the accepted one, and is out; it forfeits what was pending."""

    worker: int
    round: int
    outcome: str
    forfeited: int


class Withdrawn(Event, frozen=True, tag="withdrawn"):
    """A worker is gone without fraud; its task was dealt again."""

    worker: int
    round: int
    reason: str


class Waiting(Event, frozen=True, tag="waiting"):
    """Not enough workers are there yet."""

    workers: int
    wanted: int


class Gathered(Event, frozen=True, tag="gathered"):
    """Enough workers are there, after some had to be awaited."""

    workers: int


class Joined(Event, frozen=True, tag="joined"):
    """A worker of another machine joined (or came back); `workers` are there now."""

    worker: int
    key: str
    again: bool
    workers: int


class Invited(Event, frozen=True, tag="invited"):
    """Workers may join now, with this line.

    Attributes:
        invitation: what `podlt worker` takes.
        server: the first address by which workers connect.
        path: the run's directory.
    """

    invitation: str
    server: str
    path: str


class Connected(Event, frozen=True, tag="connected"):
    """How many workers are connected to the servers, and bytes from and to them since the manager started."""

    workers: int
    received: int
    sent: int


class Published(Event, frozen=True, tag="published"):
    """How the parameters of a round went out: `size` bytes as "whole", "delta" or "same", `sent` bytes of them once.

    By "messages", from the manager by "https", or through an object "store"; `seconds`: to find what changed.
    """

    size: int
    sent: int
    form: str
    way: str
    seconds: float


class Replaced(Event, frozen=True, tag="replaced"):
    """A worker process had died and was started again."""

    process: int
    status: int
    workers: list[int]


class Measured(Event, frozen=True, tag="measured"):
    """Figures on the test set at the end of an epoch."""

    epoch: int
    metrics: dict[str, float]


class Unmeasured(Event, frozen=True, tag="unmeasured"):
    """Figures on the test set could not be had at the end of an epoch; the run goes on without them.

    Attributes:
        epoch: from 0.
        reason: why, and which figures.
    """

    epoch: int
    reason: str


class Finished(Event, frozen=True, tag="finished"):
    """The run is complete."""

    rounds: int
    seconds: float


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listens to nothing."""

"""What happens in a worker process: an example for its owner, the same as JSON for scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from podlt.events import Event
from podlt.words import counted


class WorkerEvent(Event, frozen=True):
    """Something happened in a worker process. As text, it is a line for people."""

    @property
    def lines_for_people(self) -> list[str]:
        """As text, a line each; nothing in a line is to be taken for the end of one."""
        return [str(self)]


class StepStarted(WorkerEvent, frozen=True, tag="preparing"):
    """A step begins that may take a while."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} ..."


class KeyMade(WorkerEvent, frozen=True, tag="key_made"):
    """This worker has a new identity."""

    file: str
    public_key: str

    def __str__(self) -> str:
        return (
            f"made a new key, {self.file}: it identifies you, and only with it can you claim what you earn. Back up "
            f"what this prints: podlt key backup --key {self.file}"
        )


class Connecting(WorkerEvent, frozen=True, tag="invited"):
    """A connection is about to be made.

    Attributes:
        servers: URLs, each tried in turn.
        manager: the public key of the run's manager, hexadecimal.
        public_keys: those of this worker, hexadecimal.
    """

    servers: list[str]
    manager: str
    public_keys: list[str]

    def __str__(self) -> str:
        mine = f"worker {self.public_keys[0][:16]}"
        mine += f" and {len(self.public_keys) - 1} more" if len(self.public_keys) > 1 else ""
        return f"{mine}: connecting to {' or '.join(self.servers)}"


class LinkUp(WorkerEvent, frozen=True, tag="connected"):
    """There is a connection, for the first time or again."""

    again: bool

    def __str__(self) -> str:
        return "connected again" if self.again else "connected; waiting for the manager to describe the run"


class LinkDown(WorkerEvent, frozen=True, tag="disconnected"):
    """There is no connection (any more); it is retried."""

    level = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"no connection{': ' + self.reason if self.reason else ''}; retrying"


class Learned(WorkerEvent, frozen=True, tag="learned"):
    """What there is to do.

    Attributes:
        run: the run's identity, hexadecimal.
        state: size of parameters and the optimiser's state, in bytes.
        batch_size: the most examples of a task.
        arithmetic: the program's.
    """

    run: str
    state: int
    batch_size: int
    arithmetic: str

    def __str__(self) -> str:
        size = f"{self.state / 2**20:,.1f} MiB" if self.state >= 2**20 else f"{self.state / 2**10:,.1f} KiB"
        return (
            f"run {self.run[:16]}: train a model of {size} (with the optimiser's state), on at most "
            f"{self.batch_size:,} examples at a time, in {self.arithmetic} arithmetic"
        )


class RunTerms(WorkerEvent, frozen=True, tag="terms"):
    """The terms of the run, before anything is signed.

    Attributes:
        run: the run's identity, hexadecimal.
        manager: its public key, hexadecimal.
        preset: of the rules.
        reward: credits an example.
        examples: of the training set.
        epochs: how many.
        rounds: how many at most.
        escrow: how many younger credits of its own vest one, and how many rounds after it left all of them do.
        first_fault: what a first conviction does: "suspend" or "evict".
        entries: how many the run's log has.
    """

    run: str
    manager: str
    preset: str
    reward: int
    examples: int
    epochs: int
    rounds: int
    escrow: int
    first_fault: str
    entries: int

    @property
    def lines_for_people(self) -> list[str]:
        """As text."""
        return [
            f"terms of run {self.run[:16]}: {counted(self.reward, 'credit')} an example that you "
            f"compute; {counted(self.epochs, 'epoch')} of {self.examples:,} examples, "
            f"{self.rounds:,} rounds at most (preset {self.preset}); "
            f"its log has {self.entries:,} entries so far",
            f"what you earn for a task is pending until you did {self.escrow:,} more, {self.escrow:,} rounds after you "
            "left, or at the run's end; whoever is convicted of another result than the task's loses what is pending "
            f"and its deposit, and {'the second time' if self.first_fault == 'suspend' else 'at once'} its place",
            "joining shows your public key and all that you earn in a log that anybody may read; the manager sees "
            "your address",
        ]

    def __str__(self) -> str:
        return "; ".join(self.lines_for_people)


class Signed(WorkerEvent, frozen=True, tag="signed"):
    """An identity signs the terms on which it joins.

    Attributes:
        worker: its number.
        public_key: hexadecimal.
        deposit: credits that the manager holds for it from then on.
        entries: how many of the log the signed tree head is over.
        operator: who runs it, as the invitation names it; "" for nobody else.
    """

    worker: int
    public_key: str
    deposit: int
    entries: int
    operator: str = ""

    def __str__(self) -> str:
        deposit = f"a deposit of {self.deposit:,} credits" if self.deposit else "no deposit"
        return (
            f"signed to join as worker {self.worker} ({self.public_key[:16]}"
            f"{f', of {self.operator}' if self.operator else ''}), with {deposit}, after the first "
            f"{self.entries:,} entries of the log"
        )


class WorkerJoined(WorkerEvent, frozen=True, tag="joined"):
    """An identity is a worker of the run.

    Attributes:
        worker: its number.
        public_key: hexadecimal.
    """

    worker: int
    public_key: str

    def __str__(self) -> str:
        return f"joined as worker {self.worker} ({self.public_key[:16]})"


class FirstTask(WorkerEvent, frozen=True, tag="first_task"):
    """The first task of this process is done."""

    round: int
    examples: int
    seconds: float

    def __str__(self) -> str:
        return f"did its first task: {self.examples:,} examples of round {self.round} in {self.seconds * 1e3:,.0f} ms"


class Totals(WorkerEvent, frozen=True):
    """What all identities did and earned in this run.

    Attributes:
        tasks: done.
        vested: credits that are its own for good.
        pending: credits in escrow, which a conviction would forfeit.
        forfeited: credits lost.
    """

    tasks: int
    vested: int
    pending: int
    forfeited: int

    @property
    def credits(self) -> str:
        """Credits, for people."""
        line = f"{self.vested:,} credits vested"
        line += f", {self.pending:,} pending" if self.pending else ""
        return line + (f", {self.forfeited:,} forfeited" if self.forfeited else "")


class Progress(Totals, frozen=True, tag="progress"):
    """The state of this process, now and then.

    Attributes:
        doing: for people.
        connected: whether there is a connection.
        until: when it leaves, in seconds since 1970; 0 for never.
    """

    doing: str
    connected: bool
    until: float = 0.0

    def __str__(self) -> str:
        line = f"{self.doing}; {self.tasks:,} tasks done, {self.credits}"
        return line + (f"; leaves at {datetime.fromtimestamp(self.until):%Y-%m-%d %H:%M}" if self.until else "")


class LetGo(WorkerEvent, frozen=True, tag="let_go"):
    """An identity may not work for a while.

    Attributes:
        public_key: hexadecimal.
        seconds: how long.
        reason: the manager's.
    """

    level = logging.WARNING
    public_key: str
    seconds: int
    reason: str

    def __str__(self) -> str:
        return f"worker {self.public_key[:16]} is suspended for {self.seconds} s: {self.reason}; it rejoins by itself"


class Refused(WorkerEvent, frozen=True, tag="refused"):
    """An identity may not work for this run.

    Attributes:
        public_key: hexadecimal.
        reason: the manager's.
    """

    level = logging.WARNING
    public_key: str
    reason: str

    def __str__(self) -> str:
        return f"worker {self.public_key[:16]} was refused: {self.reason}"


class Failed(WorkerEvent, frozen=True, tag="failed"):
    """A task could not be done here; the manager deals it to another worker."""

    level = logging.WARNING
    round: int
    reason: str

    def __str__(self) -> str:
        return f"round {self.round}: a task failed: {self.reason}"


class Warned(WorkerEvent, frozen=True, tag="warning"):
    """A fault that does not stop the work."""

    level = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"warning: {self.reason}"


class Stopped(WorkerEvent, frozen=True, tag="stopped"):
    """The manager stopped the run, and may resume it."""

    level = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return (
            f"the manager stopped the run: {self.reason or 'no reason given'}; waiting for it to resume (Ctrl-C: leave)"
        )


class Leaving(WorkerEvent, frozen=True, tag="leaving"):
    """It leaves once what it has done is in the log, so that it is paid for it.

    Attributes:
        reason: why it leaves.
        seconds: how long it waits for that at most; 0 if all is in the log.
        pending: credits in escrow.
        rounds: how many rounds later they vest.
    """

    reason: str
    seconds: float
    pending: int
    rounds: int

    def __str__(self) -> str:
        line = f"leaving ({self.reason})"
        if self.seconds:
            line += f" once its round is in the log, after {self.seconds:,.0f} s at most (Ctrl-C again: at once)"
        if self.pending:
            line += (
                f"; {self.pending:,} credits are pending: they vest {self.rounds:,} rounds after it left, or at the end"
            )
        return line


class Ended(Totals, frozen=True, tag="ended"):
    """The end.

    Attributes:
        how: "complete", "left" (by itself), "refused" or "declined".
        reason: in words; may be empty.
        seconds: since the worker began.
    """

    how: str
    reason: str
    seconds: float

    def __str__(self) -> str:
        how = {"complete": "the run is complete", "left": "left"}.get(self.how, self.how)
        why = f": {self.reason}" if self.reason else ""
        return f"{how}{why}; {self.tasks:,} tasks done in {_span(self.seconds)}, {self.credits}"


WorkerListener = Callable[[WorkerEvent], object]


def ignore(event: WorkerEvent) -> None:
    """A listener for nothing."""


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""What events of a run and of a worker have in common: data for programs, lines for people, a level for the log."""

from __future__ import annotations

import logging
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something happened.

    Attributes:
        level: how much it deserves attention, as in `logging`.
    """

    level: ClassVar[int] = logging.INFO

    @property
    def name(self) -> str:
        """Its kind, as JSON and the log call it."""
        return str(self.__struct_config__.tag)

    @property
    def lines_for_people(self) -> list[str]:
        """It as text, in lines; none if a progress bar or a figure shows it."""
        return []


class Published(Event, frozen=True, tag="published"):
    """How the parameters of a round went out.

    Attributes:
        size: bytes of the parameters, published once, however many workers fetch them.
        way: "message", "https" from the manager, or an object "store".
    """

    size: int
    way: str


class WorkerFigures(msgspec.Struct, frozen=True):
    """What the manager sees of one worker.

    Attributes:
        worker: its number.
        key: its public key in hexadecimal.
        tasks: how many it did since it came.
        seconds: that a task takes it of late, from dealing to the whole update.
        lines_per_second: over all of them.
        late: how often it was let go because it took too long.
        received: bytes from it.
        sent: bytes to it alone.
        silent: seconds since anything came from it.
    """

    worker: int
    key: str
    tasks: int
    seconds: float
    lines_per_second: float
    late: int
    received: int
    sent: int
    silent: float


class WorkersSeen(Event, frozen=True, tag="workers"):
    """What the manager sees of the workers that are there; now and then.

    Attributes:
        workers: of each.
    """

    workers: list[WorkerFigures]


class HeldUp(Event, frozen=True, tag="held_up"):
    """A round waits for one worker alone.

    Attributes:
        worker: its number.
        round: that waits.
        seconds: how long its task has taken until now.
        others: how long the slowest of the others took.
    """

    level = logging.WARNING
    worker: int
    round: int
    seconds: float
    others: float

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [
            f"worker {self.worker} holds up round {self.round}: no answer after {self.seconds:.1f} s "
            f"(the others took {self.others:.1f} s at most)"
        ]


COMMAND_COLUMNS = 78


class Invited(Event, frozen=True, tag="invited"):
    """Workers may join now.

    Attributes:
        invitation: what `podlt worker` takes.
        server: the first address by which workers connect.
        path: the run's directory.
        file: the name of the invitation's file in it.
    """

    invitation: str
    server: str
    path: str
    file: str

    @property
    def host(self) -> str:
        """By which workers reach the server."""
        return urlsplit(self.server).hostname or self.server

    @property
    def port(self) -> int:
        """Where the server listens."""
        return urlsplit(self.server).port or 443

    @property
    def lines_for_people(self) -> list[str]:
        """The command to send to whoever shall work: lines that a shell joins, so that any terminal copies it whole."""
        command = f"podlt worker {self.invitation}"
        width = COMMAND_COLUMNS - 1
        lines = [command[start : start + width] for start in range(0, len(command), width)]
        whole = [*(f"{line}\\" for line in lines[:-1]), lines[-1]]
        return [
            "workers join with this command:",
            "",
            *whole,
            "",
            f"or with the file {self.path}/{self.file}",
            f"open TCP port {self.port} for inbound connections: workers connect to",
            f"{self.host} there, and the port stays the run's",
            "",
        ]


class Connected(Event, frozen=True, tag="connected"):
    """How many workers are connected, and what went over the servers since the manager started.

    Attributes:
        workers: how many are connected.
        received: bytes from workers.
        sent: bytes to workers.
    """

    workers: int
    received: int
    sent: int


NetworkEvent = Published | WorkersSeen | HeldUp
"""What an engine over a network tells of."""

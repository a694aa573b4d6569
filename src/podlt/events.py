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
        examples_per_second: over all of them.
        late: how many of its tasks were late, and dealt to somebody else as well, or again.
        unopened: how many of its commitments it did not open in time.
        wrong: how many of its messages or uploads were malformed, or not what it was committed to.
        received: bytes from it.
        sent: bytes to it alone.
        silent: seconds since anything came from it.
    """

    worker: int
    key: str
    tasks: int
    seconds: float
    examples_per_second: float
    late: int
    unopened: int
    wrong: int
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


COMMAND_COLUMNS = 79
"""The longest line of a command: a terminal of 80 columns shows it as one."""


class Invited(Event, frozen=True, tag="invited"):
    """Workers may join now.

    Attributes:
        invitation: what `podlt worker` takes.
        server: the first address by which workers connect.
        path: the run's directory.
        file: the name of the invitation's file in it.
        operator: whose all workers are that come by it; "" where the run is open: there each key is its own.
        invitation_code: the same, short: the rest of it is asked from the server.
    """

    invitation: str
    server: str
    path: str
    file: str
    operator: str = ""
    invitation_code: str = ""

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
        command = f"podlt worker {self.invitation_code or self.invitation}"
        width = COMMAND_COLUMNS if len(command) <= COMMAND_COLUMNS else COMMAND_COLUMNS - 1
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
            *self._about_operators,
            "",
        ]

    @property
    def _about_operators(self) -> list[str]:
        if not self.operator:
            return []
        return [
            f"who comes by it counts as one operator, {self.operator}. Work is compared",
            "between operators where there are several: give each owner of machines an",
            f"invitation of its own: podlt workers invite {self.path} --operator NAME",
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


class Witnessed(Event, frozen=True, tag="witnessed"):
    """A witness cosigns the run's heads: its first cosignature, or the first after some failed.

    Attributes:
        witness: its name.
        entries: how many it has seen.
    """

    witness: str
    entries: int

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [f"witness {self.witness} cosigned the log's first {self.entries:,} entries"]


class WitnessFailed(Event, frozen=True, tag="witness-failed"):
    """A witness did not cosign; it is asked again.

    Attributes:
        witness: its name.
        reason: why.
        conflict: whether it saw another log of this run, and is not asked again.
    """

    level = logging.WARNING
    witness: str
    reason: str
    conflict: bool = False

    @property
    def lines_for_people(self) -> list[str]:
        """It as a line."""
        return [f"witness {self.witness} does not cosign: {self.reason}"]

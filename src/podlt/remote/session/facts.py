"""What a session of the manager is told once: the run that it serves, what is large, and how long to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from podlt.crypto import SigningKey
from podlt.data.field import Field
from podlt.errors import EngineError
from podlt.network.blobs.server import BlobServer
from podlt.wire import messages as m

SILENCE_TIMEOUT = 15.0
"""Seconds of silence after which a worker counts as gone."""


LATE_SECONDS = 1.0
"""Seconds that a task has, however fast the others are, before it is dealt to somebody else as well."""


class ServedRun(NamedTuple):
    """A run, as its workers see it.

    Attributes:
        key: the manager's.
        program: its bytes.
        fields: of each example.
        arithmetic: the digest that a worker's own must be, in hexadecimal digits (see `worker.preflight`).
        state_bytes: size of the parameters.
        update_bytes: size of an update.
        batch_size: the most examples of a batch.
    """

    key: SigningKey
    program: bytes
    fields: list[Field]
    arithmetic: str
    state_bytes: int
    update_bytes: int
    batch_size: int


class LargeBlobs(NamedTuple):
    """What is large, and where it is then: the one place where that is decided.

    Attributes:
        server: of large blobs; without it there may be none.
        above: more bytes than these are large.
    """

    server: BlobServer | None = None
    above: int = m.INLINE

    def carries(self, size: int) -> bool:
        """Whether a blob of so many bytes goes outside the messages.

        Raises:
            EngineError: it does not fit into one, and there is no server.
        """
        if self.server is None and size > m.INLINE:
            raise EngineError(f"{size} bytes do not fit into a message, and this link has no HTTP server")
        return self.server is not None and size > self.above


class Timing(NamedTuple):
    """How long to wait.

    Attributes:
        silence: seconds without a message after which a worker is gone.
        heartbeat: seconds between two heartbeats of a worker; what is missing for as long is asked for again.
        late: seconds that every task has before it is dealt to somebody else as well.
        late_times: and so many times what half of the round's tasks took.
    """

    silence: float = SILENCE_TIMEOUT
    heartbeat: float = m.HEARTBEAT_SECONDS
    late: float = LATE_SECONDS
    late_times: float = 3.0

    @classmethod
    def of(cls, silence: float | None, heartbeat: float, late: float | None) -> Timing:
        """What an operator says, and the rest in proportion: who lets machines be away for longer waits longer for
        answers, too. Before a task is dealt to somebody else as well it has a fifteenth of the silence timeout, and a
        second at least; who starts again within twice as long keeps its place."""
        silence = silence or SILENCE_TIMEOUT
        return cls(silence, heartbeat, late or max(LATE_SECONDS, silence / 15))

    @property
    def absence(self) -> float:
        """Seconds without a connection after which a worker is gone: a fifth of the silence timeout, 3 s by default."""
        return self.silence / 5


class Chance(NamedTuple):
    """What a session takes from outside, beside messages and `now`.

    Attributes:
        token: so many random bytes.
        wall: milliseconds since 1970.
        stopwatch: seconds, for measuring what the session's own work takes.
    """

    token: Callable[[int], bytes]
    wall: Callable[[], int]
    stopwatch: Callable[[], float]


ONLY_MESSAGES, DEFAULT_TIMING = LargeBlobs(), Timing()
"""Unless given."""

"""Links: what engine and worker need of a messaging system. At most once, in any order; who sent a message is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from podlt.network.background import Background
from podlt.network.http import RouteTable
from podlt.wire.messages import Raw


class WebHost(NamedTuple):
    """Where the port of a link answers HTTP.

    Attributes:
        routes: which path is answered by whom.
        urls: of the server.
        fingerprint: SHA-256 of its certificate.
    """

    routes: RouteTable
    urls: list[str]
    fingerprint: bytes


Received = tuple[bytes | None, Raw]
"""For which identity a message is (None: for all), and the message; an empty one: a link was made anew."""


class ManagerLink(Protocol):
    """The manager's end. What sends may be called on any thread, and never waits."""

    @property
    def connected(self) -> bool:
        """Whether anything can arrive at present."""

    @property
    def room(self) -> int:
        """How many bytes may be sent now, so that not too much waits to go; what is sent beyond it may be lost."""

    def room_for(self, key: bytes) -> int:
        """How many of them may be sent to one worker: who does not read keeps nobody else waiting."""

    def send(self, key: bytes, message: bytes) -> None:
        """To the worker of this public key."""

    def publish(self, message: bytes) -> None:
        """To all who are subscribed, once a process."""

    def announce(self, message: bytes) -> None:
        """To everybody, once a process."""

    def subscribe(self, key: bytes, is_member: bool) -> None:
        """What is published goes to the worker of this key too, or not any more, whichever connection it has."""

    def receive(self, seconds: float) -> Sequence[tuple[bytes, Raw]]:
        """What has come (sender's public key, message), waiting for so many seconds at most; possibly nothing."""

    def allow(self, backlog: int, absence: float) -> None:
        """A worker may have so many bytes waiting to be received, and no connection for so many seconds."""

    def drop(self, key: bytes) -> None:
        """Takes nothing more from a worker."""

    def close(self) -> None:
        """After what was sent is on its way."""


class HostedLink(ManagerLink, Protocol):
    """The same, on a server that answers HTTP as well."""

    @property
    def web(self) -> WebHost | None:
        """Where it does, if it does."""


class WorkerLink(Protocol):
    """A worker process's end, for several identities. `send` never waits; all is called on the link's own thread.

    Attributes:
        background: that thread.
    """

    background: Background

    @property
    def connected(self) -> bool:
        """Whether anything can arrive at present."""

    def check(self) -> None:
        """To be called now and then.

        Raises:
            EngineError: the link was refused, or is lost for good; says why.
        """

    def send(self, key: bytes, message: bytes) -> None:
        """To the manager, as the identity of this public key."""

    def listen(self, take: Callable[[Sequence[Received]], object] | None) -> None:
        """From now on, what comes is given to `take` on the link's thread, all that came together at once."""

    def pause(self, seconds: float) -> None:
        """Takes nothing for so long: the manager is slowed down."""

    def drop(self, key: bytes) -> None:
        """An identity has nothing to do here any more."""

    def close(self) -> None:
        """After what was sent is on its way; on another thread."""

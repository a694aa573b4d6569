"""Links: what engine and worker need of a messaging system. At most once, in any order; who sent a message is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from podlt.network.http import RouteTable


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

    def receive(self, seconds: float) -> Sequence[tuple[bytes, bytes]]:
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
    """A worker process's end, for several identities. `send` may be called on any thread, and never waits."""

    @property
    def connected(self) -> bool:
        """Whether anything can arrive at present."""

    def send(self, key: bytes, message: bytes) -> None:
        """To the manager, as the identity of this public key."""

    def receive(self, seconds: float) -> Sequence[tuple[bytes | None, bytes]]:
        """What has come (for which identity; None if for all, message); an empty message: a link was made anew.

        Raises:
            EngineError: the link was refused, or is lost for good; says why.
        """

    def drop(self, key: bytes) -> None:
        """An identity has nothing to do here any more."""

    def close(self) -> None:
        """After what was sent is on its way."""

"""Connections of which nobody knows yet whose they are: few at once, for a short time, and none at another's cost."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

from podlt.network.token_bucket import TokenBucket

LOGIN_SECONDS = 10.0
"""How long a connection may take to show who it is."""

HANDSHAKES_PER_SECOND, HANDSHAKES_AT_ONCE = 50.0, 400.0
"""How many may begin TLS from one network."""

LOGINS_PER_SECOND, LOGINS_AT_ONCE = 500.0, 4096.0
"""How many logins of one network are looked at: each costs the server a signature to check."""

LONGEST_WAIT = 2.0
"""Seconds that one waits for its turn; longer queues are refused."""

REPORT_SECONDS = 30.0
FEW = 20
"""So many closed connections are no news."""


def network_of(address: str) -> str:
    """What counts as one: an address, or of IPv6, where each machine has very many, the first 64 bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{ipaddress.ip_address(int(found) >> 64 << 64)}/64"
    return str(found)


class Stranger:
    """A connection.

    Attributes:
        network: where it comes from.
        deadline: by when it must have shown who it is, in seconds.
        end: closes it.
    """

    __slots__ = ("deadline", "end", "network", "pool")

    def __init__(self, network: str, deadline: float, end: Callable[[], None]) -> None:
        self.network, self.deadline, self.end = network, deadline, end
        self.pool: StrangerPool | None = None


class StrangerPool:
    """So many strangers at most. One more takes the place of the oldest of the network that has the most.

    Args:
        most: how many.
        closed: called with the network of each that was closed.
    """

    def __init__(self, most: int, closed: Callable[[str], None]) -> None:
        self._most, self._closed, self._count = most, closed, 0
        self._by_network: dict[str, dict[Stranger, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, one: Stranger) -> None:
        """Takes a stranger, from the pool where it was."""
        if one.pool is not None:
            one.pool.remove(one)
        one.pool = self
        self._by_network.setdefault(one.network, {})[one] = None
        self._count += 1
        if self._count > self._most:
            most = max(self._by_network.values(), key=lambda own: len(own))
            self._close(next(iter(most)))

    def remove(self, one: Stranger) -> None:
        """It is no stranger any more, or gone."""
        if one.pool is not self:
            return
        one.pool = None
        own = self._by_network[one.network]
        del own[one]
        self._count -= 1
        if not own:
            del self._by_network[one.network]

    def expire(self, now: float) -> None:
        """Closes those that took too long."""
        for own in list(self._by_network.values()):
            for one in list(own):
                if one.deadline > now:
                    break  # the others came later
                self._close(one)

    def clear(self) -> None:
        """Closes all; nobody is told."""
        for own in list(self._by_network.values()):
            for one in list(own):
                self.remove(one)
                one.end()

    def _close(self, one: Stranger) -> None:
        self.remove(one)
        self._closed(one.network)
        one.end()


class TurnQueue:
    """When a network may do again what costs the server more than the client.

    Args:
        per_second: how often.
        at_once: how often after it was quiet.
    """

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._buckets: dict[str, TokenBucket] = {}

    def wait(self, network: str, now: float) -> float | None:
        """In how many seconds the next one may; None if too many wait already."""
        if network not in self._buckets:
            self._buckets[network] = TokenBucket(self._per_second, self._at_once)
        bucket = self._buckets[network]
        seconds = bucket.take(0, now)
        return None if seconds > LONGEST_WAIT else bucket.take(1, now)

    def forget(self, now: float) -> None:
        """Forgets networks that were quiet for long."""
        full = self._at_once - 1
        for network, bucket in list(self._buckets.items()):
            if bucket.take(full, now) <= 0:
                del self._buckets[network]
            else:
                bucket.refill(full)


class ClosedReport:
    """Says which networks' connections were closed, in one line now and then.

    Args:
        tell: takes the line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._closed, self._next = tell, Counter[str](), 0.0

    def count(self, network: str) -> None:
        """One more was closed."""
        if len(self._closed) < 10_000 or network in self._closed:
            self._closed[network] += 1

    def report(self, now: float) -> None:
        """Tells, if there is news and it is time."""
        if now < self._next or (total := self._closed.total()) < FEW:
            return
        most = ", ".join(f"{network} ({count:,})" for network, count in self._closed.most_common(3))
        self._tell(
            f"closed {total:,} connections that did not log in, from {len(self._closed):,} networks; most from {most}"
        )
        self._closed.clear()
        self._next = now + REPORT_SECONDS

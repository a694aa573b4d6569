"""Starts podlt on a link whose messages come twice, after those sent later, or not at all: `unruly.py COMMAND ...`.

What arrives over the real connection is treated so before podlt sees it. At its end the process says how often.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from podlt.cli import main
from podlt.network.client.link import ClientLink
from podlt.network.server.manager_link import ServerLink

TWICE, LATE, LOST = 0.05, 0.05, 0.03
SECONDS = 0.05

Message = tuple[Any, bytes]


class Unruly:
    """What happens to messages: `counts` says how often."""

    def __init__(self) -> None:
        self._dice, self.counts = random.Random(3), Counter[str]()

    def treat(self, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """What podlt sees now, and what it sees later."""
        now, later = list[Message](), list[Message]()
        for message in messages:
            twice, late, lost = (self._dice.random() < chance for chance in (TWICE, LATE, LOST))
            if not message[1]:  # that a link was made anew is no message
                now.append(message)
                continue
            self.counts.update(twice=twice, late=late, lost=lost)
            if not lost:
                now += [message] * (twice + (not late))
                later += [message] * late
        return now, later


def be_unruly() -> Callable[[], None]:
    """Lets what comes to either end of a link come so."""
    unruly, waiting = Unruly(), list[tuple[float, Message]]()
    receive, came = ServerLink.receive, ClientLink.came

    def received(self: ServerLink, seconds: float) -> Sequence[Message]:
        found, now = receive(self, seconds), time.monotonic()
        due = [message for at, message in waiting if at <= now]
        waiting[:] = [one for one in waiting if one[0] > now]
        seen, later = unruly.treat(found)
        waiting.extend((now + SECONDS, message) for message in later)
        return due + seen

    def come(self: ClientLink, messages: Sequence[Message]) -> None:
        seen, later = unruly.treat([(key, bytes(message)) for key, message in messages])
        if seen:
            came(self, seen)
        for message in later if self._loop is not None else ():
            self._loop.call_later(SECONDS, came, self, [message])

    ServerLink.receive, ClientLink.came = received, come  # type: ignore[method-assign]
    said = "unruly: {twice} twice, {late} late, {lost} lost"
    return lambda: print(said.format(**unruly.counts), file=sys.stderr, flush=True)


if __name__ == "__main__":
    say = be_unruly()
    try:
        main()  # ends the process by itself: what was registered before it is not called
    finally:
        say()

"""Starts podlt on a link whose messages come twice, after those sent later, or not at all: `unruly.py COMMAND ...`.

What arrives over the real connection is treated so before podlt sees it. At its end the process says how often.
"""

from __future__ import annotations

import atexit
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
        self._late: list[tuple[float, Message]] = []

    def arrive(self, messages: Sequence[Message]) -> list[Message]:
        """What podlt sees now."""
        now, seen = time.monotonic(), list[Message]()
        while self._late and self._late[0][0] <= now:
            seen.append(self._late.pop(0)[1])
        for message in messages:
            twice, late, lost = (self._dice.random() < chance for chance in (TWICE, LATE, LOST))
            if not message[1]:  # that a link was made anew is no message
                seen.append(message)
                continue
            self.counts.update(twice=twice, late=late, lost=lost)
            if not lost:
                seen += [message] * (twice + (not late))
                self._late += [(now + SECONDS, message)] * late
        return seen


def be_unruly() -> None:
    """Lets both ends' `receive` do so."""
    unruly = Unruly()

    def wrapped(honest: Callable[[Any, float], Sequence[Message]]) -> Callable[[Any, float], Sequence[Message]]:
        return lambda self, seconds: unruly.arrive(honest(self, seconds))

    for link in (ClientLink, ServerLink):
        link.receive = wrapped(link.receive)  # type: ignore[attr-defined]
    said = "unruly: {twice} twice, {late} late, {lost} lost"
    atexit.register(lambda: print(said.format(**unruly.counts), file=sys.stderr, flush=True))


if __name__ == "__main__":
    be_unruly()
    main()

"""Starts podlt on a link whose messages come twice, after those sent later, or not at all: `unruly.py COMMAND ...`.

What arrives over the real NATS connection is treated so before podlt sees it. At its end the process says how often.
"""

from __future__ import annotations

import atexit
import random
import sys
import threading
from collections import Counter
from typing import Any

from podlt.cli import main
from podlt.network.nats.loop import Loop

TWICE, LATE, LOST = 0.05, 0.05, 0.03
SECONDS = 0.05


def be_unruly() -> None:
    """Lets `Loop.arrive` do so."""
    dice, counts, honest = random.Random(3), Counter[str](), Loop.arrive

    def arrive(self: Loop, sender: Any, message: bytes) -> bool:
        if not message:  # that a link was made anew is no message
            return honest(self, sender, message)
        twice, late, lost = (dice.random() < chance for chance in (TWICE, LATE, LOST))
        counts.update(twice=twice, late=late, lost=lost)
        if lost:
            return True
        if twice:
            honest(self, sender, message)
        if late:
            threading.Timer(SECONDS, honest, (self, sender, message)).start()
            return True
        return honest(self, sender, message)

    Loop.arrive = arrive  # type: ignore[method-assign]
    said = "unruly: {twice} twice, {late} late, {lost} lost"
    atexit.register(lambda: print(said.format(**counts), file=sys.stderr, flush=True))


if __name__ == "__main__":
    be_unruly()
    main()

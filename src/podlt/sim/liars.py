"""What processes send that no honest one would: the sessions of everybody else must not suffer by it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from podlt.sim.faults import NetworkFaults
from podlt.sim.host import Bend
from podlt.sim.packets import EventQueue
from podlt.wire import messages as m
from podlt.worker.effects import SendMessage

SHARE = 0.2
"""Of its messages, how many a liar bends."""

REPEATS = 50


def liar(dice: random.Random, schedule: EventQueue, faults: NetworkFaults) -> Bend:
    """Bends messages until all faults end.

    Args:
        dice: chance.
        schedule: has the time.
        faults: say until when.
    """
    ways: list[Callable[[SendMessage, random.Random], Iterable[SendMessage]]] = [
        _nothing,
        _changed,
        _cut_short,
        _repeated,
        _of_another_seat,
        _greedy,
    ]

    def bend(send: SendMessage) -> Iterable[SendMessage]:
        if schedule.now >= faults.until or dice.random() >= SHARE:
            return [send]
        return dice.choice(ways)(send, dice)

    return bend


def _nothing(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    return []


def _changed(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    message = bytearray(send.message)
    message[dice.randrange(len(message))] ^= 1 << dice.randrange(8)
    return [SendMessage(send.key, bytes(message))]


def _cut_short(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    return [SendMessage(send.key, send.message[: dice.randrange(1, len(send.message) + 1)])]


def _repeated(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    return [send] * REPEATS


def _of_another_seat(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    failed = m.TaskFailed(deal_id=dice.randbytes(8), seat=dice.randrange(10), reason="it says so")
    return [SendMessage(send.key, m.record(failed)), SendMessage(send.key, dice.randbytes(100)), send]


def _greedy(send: SendMessage, dice: random.Random) -> Iterable[SendMessage]:
    wanted = m.GetParameters(digest=dice.randbytes(32))
    asked = [m.record(wanted), m.record(m.Hello(version=m.VERSION)), m.record(m.GetReceipts(first=dice.randrange(100)))]
    return [*(SendMessage(send.key, message) for message in asked * REPEATS), send]

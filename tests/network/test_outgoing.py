"""Flow control of what the manager sends: a request costs no memory, and a worker gets what it needs, not more."""

from __future__ import annotations

from typing import Any

from podlt.network.blobs.allowance import TIMES, Allowance
from podlt.remote.session.outbox import Drop, Outbox, Send
from podlt.remote.session.outgoing import NEWCOMERS_BURST, Outgoing
from podlt.remote.session.peers import Peer

MESSAGE = bytes(500_000)
NEED = 10 * len(MESSAGE)


class Link(Outbox):
    """Takes as many bytes as it has room for, in all and for each worker."""

    def __init__(self, room: int = 2**40) -> None:
        self.room, self.stuck = room, set[bytes]()
        self.sent: list[tuple[bytes | None, bytes]] = []
        super().__init__(self)

    def room_for(self, key: bytes) -> int:
        return 0 if key in self.stuck else self.room

    def send(self, key: bytes | None, message: bytes) -> None:
        self.room = max(0, self.room - len(message))
        self.sent.append((key, message))

    def bytes_to(self, key: bytes) -> int:
        return sum(len(message) for to, message in self.sent if to == key)


def peer(name: int, number: int | None = None, need: int = NEED) -> Peer:
    made = Peer(name.to_bytes(32, "big"), 0.0, Allowance(need))
    made.number = number
    return made


def test_a_flood_of_requests_is_sent_a_few_times_what_the_worker_needs() -> None:
    link, flooder = Link(), peer(1, 1)
    out = Outgoing(link)

    def flood(now: float) -> int:
        return sum(
            out.reply(flooder, MESSAGE, now) + out.repeat(flooder, "task", lambda: MESSAGE, len(MESSAGE), now)
            for _ in range(100)
        )

    flood(0.0)
    assert TIMES * NEED <= link.bytes_to(flooder.key) <= TIMES * NEED + 2 * len(MESSAGE)
    flooder.allowance.renew(NEED)
    flood(0.0)
    assert link.bytes_to(flooder.key) <= (TIMES + 1) * NEED + 3 * len(MESSAGE)
    assert flood(1e6) > 0, "it may ask again in the end"


def test_to_join_and_leave_again_and_again_gives_no_allowance() -> None:
    allowance = Allowance(NEED)
    allowance.spend(int(TIMES * NEED) + 1, 0.0)
    for need in (100 * NEED, NEED) * 10:
        allowance.change(need)
    assert not allowance.has_any(0.0)


def test_nothing_is_made_before_there_is_room_for_it() -> None:
    link, made = Link(room=0), list[int]()
    out, one = Outgoing(link), peer(1, 1)
    for number in range(10):
        out.post(None, number, lambda number=number: made.append(number) or MESSAGE)  # type: ignore[misc]
    assert not link.sent and not made and not out.reply(one, b"x", 0.0)
    link.room = 3 * len(MESSAGE)
    out.step()
    assert made == [0, 1, 2] and len(link.sent) == 3
    out.clear()
    out.post(one.key, "task", lambda: MESSAGE)
    out.forget(one.key)
    link.room = 2**40
    out.step()
    assert len(link.sent) == 3


def test_all_newcomers_together_share_one_allowance_and_members_do_not() -> None:
    link = Link()
    out, count = Outgoing(link), 4 * NEWCOMERS_BURST // NEED
    for number in range(count):
        newcomer = peer(number)
        while out.reply(newcomer, MESSAGE, 0.0):
            pass
    assert sum(len(message) for _, message in link.sent) <= NEWCOMERS_BURST + 2 * len(MESSAGE)
    stranger, member = peer(count), peer(count + 1, 1)
    assert not out.reply(stranger, b"x", 0.0) and out.reply(member, b"x", 0.0)


def test_a_worker_that_does_not_read_keeps_nobody_else_waiting() -> None:
    link, stuck, other = Link(), peer(1, 1), peer(2, 2)
    out = Outgoing(link)
    link.stuck.add(stuck.key)
    for worker in (stuck, other):
        out.post(worker.key, "task", lambda: b"task")
        out.post(worker.key, "task", lambda: b"the same waits once")
    assert link.sent == [(other.key, b"task"), (other.key, b"the same waits once")]
    assert not out.reply(stuck, b"x", 0.0)
    link.stuck.clear()
    out.step()
    assert link.sent[2:] == [(stuck.key, b"task")]


def test_what_waits_to_be_taken_counts_against_the_room() -> None:
    class Full:
        room = 10

        def room_for(self, key: bytes) -> int:
            return 4

    outbox = Outbox(Full())
    outbox.send(b"a", b"1234")
    assert not outbox.has_room(b"a") and outbox.has_room(b"b") and outbox.has_room()
    outbox.send(None, b"123456")
    assert not outbox.has_room() and not outbox.has_room(b"b")
    outbox.drop(b"a")
    expected: list[Any] = [Send(b"a", b"1234"), Send(None, b"123456"), Drop(b"a")]
    assert outbox.take() == expected
    assert outbox.take() == [] and outbox.has_room(b"a")

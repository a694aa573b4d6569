"""Flow control of what the manager sends: a request costs no memory, and a worker gets what it needs, not more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import InvalidProofError
from podlt.network.blobs.chunks import CHUNK, offsets_of
from podlt.network.session.allowance import TIMES, Allowance
from podlt.network.session.outbox import Drop, Outbox, Send
from podlt.network.session.outgoing import MOST_OWED, NEWCOMERS_BURST, Outgoing
from podlt.network.session.peers import Peer

NEED = 10 * CHUNK
DIGEST = bytes(32)
BLOB = np.zeros(2 * MOST_OWED * CHUNK, np.uint8)


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


def outgoing(link: Any) -> Outgoing:
    return Outgoing(link, lambda peer, digest: BLOB)


def ranges(*chunks: int) -> list[tuple[int, int]]:
    return [(chunk * CHUNK, CHUNK) for chunk in chunks]


def peer(name: int, number: int | None = None, need: int = NEED) -> Peer:
    made = Peer(name.to_bytes(32, "big"), 0.0, Allowance(need))
    made.number = number
    return made


@given(st.lists(st.integers(0, 3), max_size=64))
def test_ranges_that_are_asked_for_again_and_again_count_once(chunks: list[int]) -> None:
    size = 3 * CHUNK + 5
    wanted = [(chunk * CHUNK, min(CHUNK, size - chunk * CHUNK)) for chunk in chunks]
    assert sorted(offsets_of(size, wanted)) == sorted({offset for offset, _ in wanted})


@pytest.mark.parametrize("wanted", [(1, CHUNK), (0, 1), (0, CHUNK + 1), (CHUNK, CHUNK), (2 * CHUNK, 1), (0, 0)])
def test_a_range_that_is_no_chunk_is_malformed(wanted: tuple[int, int]) -> None:
    with pytest.raises(InvalidProofError, match="invalid range"):
        offsets_of(2 * CHUNK - 1, [wanted])


def test_a_flood_of_requests_is_sent_a_few_times_what_the_worker_needs() -> None:
    link = Link()
    out, flooder = outgoing(link), peer(1, 1)
    for _ in range(1000):
        out.owe(flooder, DIGEST, ranges(*range(10)))
        out.step(0.0)
    assert TIMES * NEED <= link.bytes_to(flooder.key) <= TIMES * NEED + 2 * CHUNK
    flooder.allowance.renew(NEED)
    for _ in range(1000):
        out.owe(flooder, DIGEST, ranges(*range(10)))
        out.step(0.0)
    assert link.bytes_to(flooder.key) <= (TIMES + 1) * NEED + 2 * CHUNK
    out.step(1e6)
    assert link.bytes_to(flooder.key) > (TIMES + 1) * NEED, "what is owed is sent in the end"


def test_to_join_and_leave_again_and_again_gives_no_allowance() -> None:
    allowance = Allowance(NEED)
    allowance.spend(int(TIMES * NEED) + 1, 0.0)
    for need in (100 * NEED, NEED) * 10:
        allowance.change(need)
    assert not allowance.has_any(0.0)


def test_nothing_is_made_before_there_is_room_for_it_and_what_is_owed_is_bounded() -> None:
    link, made = Link(room=0), list[int]()
    out, one = outgoing(link), peer(1, 1)
    for number in range(10):
        out.post(None, number, lambda number=number: made.append(number) or bytes(CHUNK))  # type: ignore[misc]
    news = [out.owe(one, DIGEST, ranges(chunk)) for chunk in range(2 * MOST_OWED)]
    assert sum(news) == MOST_OWED and not out.reply(one, b"x", 0.0)
    out.step(0.0)
    assert not link.sent and not made
    link.room = 3 * CHUNK
    out.step(0.0)
    assert made == [0, 1, 2] and len(link.sent) == 3
    out.clear()
    link.room = 2 * CHUNK
    out.step(0.0)
    assert [key for key, _ in link.sent[3:]] == [one.key] * 2
    out.forget(one.key)
    link.room = 2**40
    out.step(0.0)
    assert len(link.sent) == 5


def test_members_take_turns_and_newcomers_come_after_them() -> None:
    link = Link(room=6 * CHUNK)
    out, greedy, modest, newcomer = outgoing(link), peer(1, 1), peer(2, 2), peer(3)
    out.owe(newcomer, DIGEST, ranges(0, 1, 2))
    out.owe(greedy, DIGEST, ranges(*range(60)))
    out.owe(modest, DIGEST, ranges(0, 1))
    out.step(0.0)
    assert [key for key, _ in link.sent] == [greedy.key, modest.key, greedy.key, modest.key, greedy.key, greedy.key]


def test_all_newcomers_together_share_one_allowance_and_members_do_not() -> None:
    link = Link()
    out, count = outgoing(link), 4 * NEWCOMERS_BURST // NEED
    for number in range(count):
        out.owe(peer(number), DIGEST, ranges(*range(10)))
        out.step(0.0)
    assert sum(len(message) for _, message in link.sent) <= NEWCOMERS_BURST + 2 * CHUNK
    stranger, member = peer(count), peer(count + 1, 1)
    assert not out.reply(stranger, b"x", 0.0) and out.reply(member, b"x", 0.0)


def test_what_nobody_may_have_any_more_is_not_sent() -> None:
    link, gone = Link(), peer(1, 1)
    found: list[np.ndarray | None] = [BLOB]
    out = Outgoing(link, lambda peer, digest: found[0])
    out.post(None, "parameters", lambda: None)
    assert out.owe(gone, DIGEST, ranges(0, 1))
    found[0] = None
    assert not out.owe(gone, DIGEST, ranges(2))
    out.step(0.0)
    assert not link.sent


def test_a_worker_that_does_not_read_keeps_nobody_else_waiting() -> None:
    link, stuck, other = Link(), peer(1, 1), peer(2, 2)
    out = outgoing(link)
    link.stuck.add(stuck.key)
    for worker in (stuck, other):
        out.post(worker.key, "task", lambda: b"task")
        out.owe(worker, DIGEST, ranges(0))
    out.step(0.0)
    assert [key for key, _ in link.sent] == [other.key] * 2
    assert not out.reply(stuck, b"x", 0.0)
    link.stuck.clear()
    out.step(0.0)
    assert [key for key, _ in link.sent[2:]] == [stuck.key] * 2


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
    assert outbox.take() == [Send(b"a", b"1234"), Send(None, b"123456"), Drop(b"a")]
    assert outbox.take() == [] and outbox.has_room(b"a")


def test_arrays_are_cut_as_they_are_asked_for() -> None:
    from podlt.network.blobs.chunks import HEADER, chunk_at

    data = np.arange(CHUNK + 7, dtype=np.uint64).view(np.uint8)
    for offset in offsets_of(len(data), [(0, CHUNK), (CHUNK, CHUNK)]):
        assert chunk_at(DIGEST, data, offset, before=b"x")[1 + HEADER.size :] == data[offset:][:CHUNK].tobytes()

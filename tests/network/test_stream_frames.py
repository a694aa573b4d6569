"""Frames of a WebSocket: any division of the stream into pieces gives the same messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from podlt.network.frames import BINARY, CONTINUATION, PING, STAGING, FrameStream, accept_key, head, unmasked


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Sequence[bytes | memoryview]) -> None:
        assert all(parts), "nothing to encrypt"
        self.written += b"".join(parts)

    def close(self) -> None:
        self.closed = True


class End:
    """One end of a stream."""

    def __init__(self, *, client: bool = False, longest: int = 2**20) -> None:
        self.came: list[bytes] = []
        self.wire = Wire()
        self.stream = FrameStream(self, bytearray(STAGING), client=client, longest=longest)
        self.stream._transport = self.wire  # type: ignore[assignment]

    def messages_came(self, payloads: list[bytes | bytearray]) -> None:
        self.came += map(bytes, payloads)

    def stream_ended(self, reason: str) -> None:
        pass


MESSAGES = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 65_535, b"e" * 65_536, b"f" * 700_000, b"g"]


@pytest.mark.parametrize("seed", range(6))
def test_messages_come_as_they_were_sent_in_whatever_pieces_the_stream_arrives(seed: int) -> None:
    dice, sender, receiver = random.Random(seed), End(client=True), End()
    for message in MESSAGES:
        sender.stream.send(b"", message)
    sender.stream.flush()
    stream = sender.wire.written
    longest = 1 + (7, 100, 5000, 70_000, 300_000, 2_000_000)[seed]
    if seed == 0:
        stream = stream[:2000]
    while stream:
        count = dice.randrange(1, longest)
        receiver.stream.feed(stream[:count])
        stream = stream[count:]
    assert receiver.came == (MESSAGES[:4] if seed == 0 else MESSAGES)
    assert sender.stream.queued == 0


def test_fragments_and_masks_are_put_together_and_pings_between_them_answered() -> None:
    end, mask = End(), b"\x01\x02\x03\x04"

    def frame(first: int, data: bytes) -> bytes:
        return bytes((first, 0x80 | len(data))) + mask + unmasked(data, mask)

    end.stream.feed(frame(BINARY, b"one ") + frame(0x80 | PING, b"there?") + frame(CONTINUATION, b"and "))
    end.stream.feed(frame(0x80 | CONTINUATION, b"two") + frame(0x80 | BINARY, b"three"))
    assert end.came == [b"one and two", b"three"]
    end.stream.flush()
    assert end.wire.written == b"\x8a\x06there?"


def test_shards_may_not_be_longer_together_than_a_message() -> None:
    end = End(longest=1000)
    part = head(BINARY, 600, masked=True) + bytes(600)
    end.stream.feed(bytes((part[0] & 0x7F,)) + part[1:])
    end.stream.feed(bytes((0x80,)) + part[1:])
    assert end.wire.closed and not end.came


def test_what_waits_is_written_in_slices_as_the_stream_takes_them() -> None:
    end, sent = End(), list[int]()
    end.stream.pause_writing()
    end.stream.send(b"no", bytes(1_000_000), lambda: sent.append(1))
    end.stream.flush()
    assert (end.wire.written, sent) == (b"", []) and end.stream.queued > 1_000_000
    end.stream.resume_writing()
    assert end.stream.queued == 0 and sent == [1]


def test_a_client_is_answered_as_the_standard_has_it() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert asyncio.BufferedProtocol in FrameStream.__mro__

"""Frames between the manager and its worker processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.engine.local import frames
from podlt.errors import EngineError, InvalidProofError
from podlt.execution.setup import ExecutionSetup
from podlt.protocol.messages import Committed, TreeSize

NOTHING = TreeSize(0, bytes(32))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    first, second = socket.socketpair()
    with first, second:
        second.settimeout(30)
        yield first, second


def results(seat: int, commitment: bytes, signature: bytes) -> frames.Results:
    """An answer with one commitment."""
    committed = [Committed(seat, seat, commitment, signature)]
    return frames.Results(round=3, committed=committed, done=[seat], faked=[], proof_seconds=0.5, compute_seconds=0.25)


@given(st.integers(0, 2**20 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_a_message_arrives_as_it_was_sent(seat: int, commitment: bytes, signature: bytes) -> None:
    first, second = socket.socketpair()
    with first, second:
        for message in (results(seat, commitment, signature), frames.Stop()):
            frames.send(first, message)
            assert frames.receive(second) == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_or_are_its_one_encoding(body: bytes) -> None:
    first, second = socket.socketpair()
    with first, second:
        first.sendall(len(body).to_bytes(4, "big") + body)
        try:
            message = frames.receive(second)
        except InvalidProofError:
            return
        assert message is not None
        frames.send(second, message)
        assert first.recv(1000)[4:] == body


def test_a_frame_is_refused_by_its_length_before_it_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    first, second = pair
    first.sendall((frames.MAX_FRAME + 1).to_bytes(4, "big") + b"x")
    with pytest.raises(InvalidProofError, match="longer than"):
        frames.receive(second)
    assert second.recv(10) == b"x"


def test_a_message_too_long_for_the_other_side_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    first, second = pair
    failed = frames.ExecutionFailed(round=0, seat=0, holder=0, message="x" * (frames.MAX_FRAME + 1))
    with pytest.raises(EngineError, match=r"failed message of \d+ bytes is longer"):
        frames.send(first, failed)
    first.close()
    assert frames.receive(second) is None


def test_half_a_frame_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    first, second = pair
    first.sendall((100).to_bytes(4, "big") + b"x" * 50)
    first.close()
    assert frames.receive(second) is None


def test_descriptors_follow_a_setup(pair: tuple[socket.socket, socket.socket]) -> None:
    first, second = pair
    setup = frames.HostSetup(
        execution=ExecutionSetup(b"", [], 1, 1, None), program=b"{}", seen=NOTHING, workers=[], slots=1
    )
    ends = [os.pipe() for _ in range(frames.REGIONS)]
    frames.send_setup(first, setup, [reading for reading, _ in ends])
    assert frames.receive(second) == setup
    for descriptor, (reading, writing) in zip(frames.receive_descriptors(second), ends, strict=True):
        os.write(writing, b"hello")
        assert os.read(descriptor, 10) == b"hello"
        for open_one in (descriptor, reading, writing):
            os.close(open_one)


def test_descriptors_that_never_come_mean_that_the_manager_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    first, second = pair
    first.close()
    with pytest.raises(ConnectionResetError):
        frames.receive_descriptors(second)

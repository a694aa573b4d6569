"""A witness cosigns what only grew, remembers it, and keeps the proof where a manager shows two logs."""

from __future__ import annotations

import threading
from http import HTTPStatus

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from witnessed_logs import Log, manager_key

from podlt.crypto import SigningKey, digest
from podlt.errors import InvalidProofError
from podlt.log.notes import parse_checkpoint, parse_signatures
from podlt.log.tree_head import Head, sign_head
from podlt.witness.request import SIZE_TYPE, AddCheckpoint
from podlt.witness.state import WitnessState
from podlt.witness.witness import Reply, Witness

NOW = 1_800_000_000


def asked(witness: Witness, log: Log, old: int, size: int, note: str = "", now: int = NOW) -> Reply:
    """A witness' answer to a head of a log."""
    proof = log.tree.consistency_proof(old, size) if old <= size else []
    return witness.add_checkpoint(AddCheckpoint(old, proof, note or log.notes[size]).body(), now)


@pytest.fixture
def known(witness: Witness, log: Log) -> Witness:
    assert witness.add_run(log.bodies[0], NOW).status == HTTPStatus.OK
    return witness


def test_every_head_of_a_log_that_grows_is_cosigned_with_the_time(known: Witness, log: Log) -> None:
    old = 0
    for at, size in enumerate(log.sizes):
        reply = asked(known, log, old, size, now=NOW + at)
        assert reply.status == HTTPStatus.OK
        (signature,) = parse_signatures(reply.body)
        head, _ = parse_checkpoint(log.notes[size])
        assert known.public.cosigned_at(head, signature) == NOW + at
        old = size


def test_the_same_head_is_cosigned_again(known: Witness, log: Log) -> None:
    size = log.sizes[0]
    assert asked(known, log, 0, size).status == HTTPStatus.OK
    assert asked(known, log, size, size, now=NOW + 9).status == HTTPStatus.OK


def test_a_log_that_it_does_not_know_is_404_until_it_introduces_itself(witness: Witness, log: Log) -> None:
    assert asked(witness, log, 0, log.sizes[0]).status == HTTPStatus.NOT_FOUND
    reply = witness.add_run(log.bodies[0], NOW)
    assert reply.body.strip() == parse_checkpoint(log.notes[log.sizes[0]])[0].origin
    assert asked(witness, log, 0, log.sizes[0]).status == HTTPStatus.OK
    assert witness.add_run(log.bodies[0], NOW).status == HTTPStatus.OK  # what it saw stays
    assert asked(witness, log, 0, log.sizes[1]).status == HTTPStatus.CONFLICT


@pytest.mark.parametrize("body", [b"", b"nonsense", b"x" * 70_000])
def test_what_is_no_first_entry_introduces_nobody(witness: Witness, log: Log, body: bytes) -> None:
    assert witness.add_run(body, NOW).status == HTTPStatus.BAD_REQUEST
    assert witness.add_run(log.bodies[1], NOW).status == HTTPStatus.BAD_REQUEST


def test_the_witness_may_be_closed_and_it_does_not_remember_without_end(state: WitnessState, log: Log) -> None:
    key = SigningKey(digest("test-witness/2"))
    closed = Witness("w", key, state, most=5, open=False)
    assert closed.add_run(log.bodies[0], NOW).status == HTTPStatus.FORBIDDEN
    full = Witness("w", key, state, most=0, open=True)
    assert full.add_run(log.bodies[0], NOW).status == HTTPStatus.INSUFFICIENT_STORAGE


def test_another_old_size_than_it_saw_is_409_with_the_size(known: Witness, log: Log) -> None:
    first, second = log.sizes[:2]
    assert asked(known, log, 0, second).status == HTTPStatus.OK
    for old in (0, first):
        reply = asked(known, log, old, second)
        assert (reply.status, reply.body, reply.kind) == (HTTPStatus.CONFLICT, f"{second}\n", SIZE_TYPE)


def test_a_smaller_head_than_the_old_size_is_400(known: Witness, log: Log) -> None:
    assert asked(known, log, log.sizes[1], log.sizes[0]).status == HTTPStatus.BAD_REQUEST


def test_a_head_that_another_key_signed_is_403_and_its_signatures_beside_the_logs_are_ignored(
    known: Witness, log: Log
) -> None:
    size = log.sizes[0]
    head, _ = parse_checkpoint(log.notes[size])
    other = sign_head(head, SigningKey(digest("test-other/1")))
    assert asked(known, log, 0, size, other).status == HTTPStatus.FORBIDDEN
    both = log.notes[size] + other.partition("\n\n")[2]
    assert asked(known, log, 0, size, both).status == HTTPStatus.OK


def test_two_logs_of_one_run_are_told_apart_and_the_proof_is_kept(
    known: Witness, log: Log, state: WitnessState
) -> None:
    """The manager's own key signs a second history."""
    first, second = log.sizes[:2]
    origin = parse_checkpoint(log.notes[first])[0].origin
    assert asked(known, log, 0, first).status == HTTPStatus.OK
    forks = [sign_head(Head(origin, size, digest("other/1")), manager_key(1)) for size in (first, second)]
    assert asked(known, log, first, first, forks[0]).status == HTTPStatus.CONFLICT
    assert asked(known, log, first, second, forks[1]).status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [conflict.note for conflict in state.conflicts()] == forks
    assert known.seen(origin) == first
    assert asked(known, log, first, second).status == HTTPStatus.OK


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old -1\n\nx",
        b"old 01\n\nx\n1\ny\n\n",
        b"\xff",
        b"old 0\nAAAA\n\nx",
        b"old 0\n" + b"A" * 43 + b"=\n" * 64 + b"\nx",
        b"old 0\n\nno checkpoint\n",
    ],
)
def test_a_malformed_request_is_400(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body, NOW).status == HTTPStatus.BAD_REQUEST


@given(st.integers(0, 10**19 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.text(max_size=50))
def test_a_request_is_read_as_it_was_written(old: int, proof: list[bytes], note: str) -> None:
    request = AddCheckpoint(old, proof, note)
    assert AddCheckpoint.of_body(request.body()) == request


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_no_request_with_another_byte_is_cosigned(known: Witness, log: Log, data: st.DataObject) -> None:
    """And nothing is remembered of it."""
    size = log.sizes[0]
    body = bytearray(AddCheckpoint(0, [], log.notes[size]).body())
    place = data.draw(st.integers(4, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    assert known.add_checkpoint(bytes(body), NOW).status >= HTTPStatus.BAD_REQUEST
    assert known.seen(parse_checkpoint(log.notes[size])[0].origin) == 0


@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_and_no_entry_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidProofError):
        AddCheckpoint.of_body(b"x" + raw)


def test_of_requests_at_once_no_two_are_cosigned_from_one_old_size(known: Witness, log: Log) -> None:
    """The race of the specification: the check and the record are one transaction."""
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda size=size: replies.append(asked(known, log, 0, size))) for size in log.sizes[:6]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.status for reply in replies) == [HTTPStatus.OK] + [HTTPStatus.CONFLICT] * 5


def test_what_was_seen_is_there_after_a_restart(known: Witness, log: Log, state: WitnessState) -> None:
    assert asked(known, log, 0, log.sizes[0]).status == HTTPStatus.OK
    again = Witness("w.example/1", SigningKey(digest("test-witness/2")), WitnessState(state.folder), most=5, open=True)
    assert asked(again, log, 0, log.sizes[0]).status == HTTPStatus.CONFLICT
    assert asked(again, log, log.sizes[0], log.sizes[1]).status == HTTPStatus.OK

"""Old logs stay proofs, runs go on as they began, and what a newer program wrote is called that (SPEC.md, 3.14)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.errors import InvalidProofError
from podlt.log.checkpoint import Head, origin_of, sign_head
from podlt.log.merkle import leaf_hash, root_of
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.protocol.claims import Claim
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.verify import verify_log

from . import second_verifier
from .scripted import NEWEST, Scripted, eventful_run, scripted_world
from .steps_of_a_round import refused

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "log-1.json").read_text())
BODIES = [base64.b64decode(body) for body in VECTOR["entries"]]
RECIPE, PROGRAM = VECTOR["recipe"].encode(), VECTOR["program"].encode()


def log_of(bodies: list[bytes], heads: list[tuple[int, str]]) -> MemoryLog:
    log, start = MemoryLog(), 0
    for size, note in heads:
        log.append(start, bodies[start:size], note)
        start = size
    return log


OLD = log_of(BODIES, [(size, note) for size, note in VECTOR["heads"]])


def test_a_log_of_the_first_version_is_still_a_proof_of_the_same() -> None:
    found = verify_log(OLD, RECIPE, PROGRAM, jobs=1)
    assert found.ok and found.finished, found.failure
    assert found.state.run.hex() == VECTOR["identity"]
    accounts = {str(n): [a.pending, a.vested, a.forfeited] for n, a in found.state.ledger.accounts.items()}
    assert accounts == VECTOR["accounts"] and found.state.ledger.treasury == VECTOR["treasury"]
    second_verifier.verify(BODIES, OLD.heads())
    assert {msgspec.msgpack.decode(body)["kind"] for body in BODIES} == {e.tag_of(k) for k in e.FORMATS[e.Begin]}


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_an_old_log_with_an_entry_changed_is_unsound_as_it_was(number: int) -> None:
    entry = e.decode(BODIES[number])
    log = log_of(BODIES, OLD.heads())
    body = encode(msgspec.structs.replace(entry, at=entry.at + 1))
    log.rows[number] = number, leaf_hash(body), body
    assert not verify_log(log, RECIPE, PROGRAM, jobs=1).ok


def test_every_kind_of_entry_says_its_version_and_keeps_its_place_among_those_of_its_name() -> None:
    for kind in e.KINDS:
        assert e.tag_of(kind) == f"{e.kind_of(kind)}/{e.version_of(kind)}" and e.version_of(kind) >= 1
    for name in {e.kind_of(kind) for kind in e.KINDS}:
        versions = [e.version_of(kind) for kind in e.KINDS if e.kind_of(kind) == name]
        assert versions == list(range(1, len(versions) + 1))
    assert set().union(*e.FORMATS.values()) == set(e.KINDS)
    assert e.FORMATS[e.Begin2] == set(NEWEST)


def resumed_old_run() -> tuple[World, MemoryLog]:
    """The old run, cut where it was stopped, under a manager of today that has its secrets."""
    world, log = scripted_world(Scenario(lines=30, block_lines=6), 6, digest("golden/1", b"\0\3"))
    stop = next(i for i, body in enumerate(BODIES) if isinstance(e.decode(body), e.Close)) + 1
    log.rows, log.notes = OLD.rows[:stop], [head for head in OLD.heads() if head[0] <= stop]
    state = RunState()
    for body in BODIES[:stop]:
        state.apply(e.decode(body))
    world.manager.state = state
    world.manager.take()
    world.tree = type(world.tree)()
    for _, leaf, _ in log.rows:
        world.tree.append(leaf)
    for player in world.players:
        player.worker = None
        player.enter(state.run)
    return world, log


def test_a_run_that_began_as_the_first_version_goes_on_and_ends_in_it() -> None:
    world, log = resumed_old_run()
    players: list[Scripted] = world.players  # type: ignore[assignment]
    world.manager.resume()
    world.admit(players[1])
    while world.step():
        pass
    assert world.state.closed is not None and world.state.closed.outcome == "complete"
    assert verify_log(log, RECIPE, PROGRAM, jobs=1).ok
    assert {type(e.decode(row[2])) for row in log.rows} <= e.FORMATS[e.Begin]
    second_verifier.verify([row[2] for row in log.rows], log.heads())


def test_a_run_of_the_first_version_takes_no_deposit() -> None:
    world, _ = resumed_old_run()
    world.manager.resume()
    gone = next(n for n, w in world.state.workers.items() if w.status == "withdrawn")
    key, signature = world.state.workers[gone].key, bytes(64)
    joined = e.Join2(at=world.state.at, worker=gone, key=key, signature=signature, deposit=1)
    failure = refused(world.state, joined)
    assert failure.step == Claim.PROGRESS and failure.reason == "no join/2 in a run of begin/1"


def test_no_kind_of_an_older_version_is_taken_in_a_run_of_today() -> None:
    world, _ = eventful_run()
    state = RunState()
    state.apply(world.state.begin)  # type: ignore[arg-type]
    for kind, entry in (("join/1", e.Join(at=state.at, worker=0, key=bytes(32), signature=bytes(64))),):
        assert refused(state, entry).reason == f"no {kind} in a run of begin/2"


def as_of_tomorrow(number: int, change: dict[str, Any]) -> MemoryLog:
    """A log with a sound head, of which one entry is what a newer program might write."""
    world, log = eventful_run()
    bodies = [row[2] for row in log.rows[:number]]
    bodies.append(msgspec.msgpack.encode({**msgspec.msgpack.decode(log.rows[number][2]), **change}))
    origin = origin_of(world.state.run)
    root = root_of([leaf_hash(body) for body in bodies])
    return log_of(bodies, [(len(bodies), sign_head(Head(origin, len(bodies), root), world.key))])


WORLD, TODAY = eventful_run()
FIRST_JOIN = next(i for i, row in enumerate(TODAY.rows) if isinstance(e.decode(row[2]), e.Join))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "join/3"}, "written by a newer podlt (join/3; this one knows join/2): upgrade"),
        ({"kind": "join/3", "colour": "blue"}, "written by a newer podlt (join/3; this one knows join/2): upgrade"),
        ({"kind": "audit/1"}, "written by a newer podlt (audit/1; this one knows no audit): upgrade"),
    ],
)
def test_an_entry_of_a_newer_program_is_called_that_and_no_bad_proof(change: dict[str, Any], said: str) -> None:
    log = as_of_tomorrow(FIRST_JOIN, change)
    with pytest.raises(e.NewerFormatError) as caught:
        verify_log(log, WORLD.recipe, WORLD.program, jobs=1)
    assert said in str(caught.value) and f"entry {FIRST_JOIN}:" in str(caught.value)
    assert caught.value.exit_code == 2  # neither sound nor unsound: the reader is to be upgraded


def test_what_is_wrong_before_a_newer_entry_is_still_called_wrong() -> None:
    log = as_of_tomorrow(len(TODAY.rows) - 1, {"kind": "close/2"})
    number, leaf, body = log.rows[FIRST_JOIN]
    log.rows[FIRST_JOIN] = number, leaf, body + b"\0"
    failure = verify_log(log, WORLD.recipe, WORLD.program, jobs=1).failure
    assert failure is not None and failure.entry == FIRST_JOIN


@pytest.mark.parametrize("kind", ["join/2", "join/0", "join/02", "join", "JOIN/9", "join/9999999999", 7, "", "x" * 99])
def test_a_form_that_no_program_would_write_is_a_bad_proof_and_not_a_newer_one(kind: Any) -> None:
    with pytest.raises(InvalidProofError):
        e.decode(msgspec.msgpack.encode({"kind": kind, "colour": "blue"}))

"""The format and its version (SPEC.md, 3.15): a kept log stays the proof that it was, and other formats are named."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted import GUARDED, eventful_run, failing, moods, scripted_world, until, verified

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.errors import InvalidProofError, NotCheckedError
from podlt.log.merkle import leaf_hash, root_of
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.verify import Verification, verify_log
from podlt.verify.documents import Documents

VECTOR = Path(__file__).parents[1] / "vectors" / "log-4.json"
"""A small log in full, with what it comes to: for whoever writes another reader."""

WORLD, TODAY = eventful_run()
FIRST_JOIN = next(i for i, row in enumerate(TODAY.rows) if isinstance(e.decode(row[2]), e.Join))


def small_run() -> tuple[World, MemoryLog]:
    """Six workers, two of them one operator's: one is suspended, one leaves within a round, and one is backed up."""
    scenario = Scenario(examples=40, batch_size=8, deposit=5, tested=True, protocol=GUARDED)
    world, log = scripted_world(scenario, 6, digest("vector/1"), operators={1: "anna", 2: "anna"})
    players = moods(world)
    players[0].mood, players[3].mood = "fake", "slow"
    until(world, lambda: 0 in world.convicted_in)
    players[0].mood, players[1].mood, players[3].mood = "honest", "mute", "late"
    world.step()
    players[1].mood = "honest"
    world.admit(players[1])
    world.admit(players[0])
    while world.step():
        pass
    return world, log


def as_document(world: World, log: MemoryLog) -> str:
    accounts = {str(number): msgspec.structs.asdict(a) for number, a in world.state.ledger.accounts.items()}
    document = {
        "identity": world.state.run.hex(),
        "recipe": world.recipe.decode(),
        "program": world.program.decode(),
        "accounts": accounts,
        "treasury": world.state.ledger.treasury,
        "parameters": world.state.parameters.hex(),
        "heads": log.heads(),
        "entries": [base64.b64encode(body).decode() for _, _, body in log.entries()],
    }
    return json.dumps(document, indent=1) + "\n"


def log_of(bodies: list[bytes], heads: list[tuple[int, str]]) -> MemoryLog:
    log, start = MemoryLog(), 0
    for size, note in heads:
        log.append(start, bodies[start:size], note)
        start = size
    return log


def test_the_same_run_is_written_in_the_same_bytes(golden: Any) -> None:
    golden(VECTOR, as_document(*small_run()))


def kept() -> tuple[dict[str, Any], list[bytes], Documents]:
    vector = json.loads(VECTOR.read_text())
    documents = Documents(vector["recipe"].encode(), vector["program"].encode())
    return vector, [base64.b64decode(body) for body in vector["entries"]], documents


def test_a_log_that_was_kept_is_still_a_proof_of_the_same() -> None:
    vector, bodies, documents = kept()
    found = verify_log(log_of(bodies, vector["heads"]), documents, jobs=1)
    assert not failing(found)
    state = found.state
    assert (state.run.hex(), state.parameters.hex()) == (vector["identity"], vector["parameters"])
    accounts = {str(number): msgspec.structs.asdict(a) for number, a in state.ledger.accounts.items()}
    assert accounts == vector["accounts"] and state.ledger.treasury == vector["treasury"]


def test_a_kept_log_with_an_entry_changed_is_refused() -> None:
    vector, bodies, documents = kept()
    for number, body in enumerate(bodies):
        entry = e.decode(body)
        other = encode(msgspec.structs.replace(entry, at=entry.at + 1))
        log = log_of([*bodies[:number], other, *bodies[number + 1 :]], vector["heads"])
        assert verify_log(log, documents, jobs=1).exit_code == 1


def test_every_kind_of_entry_carries_the_version_of_the_format() -> None:
    assert {e.tag_of(kind) for kind in e.KINDS} == {f"{e.kind_of(kind)}/{e.FORMAT}" for kind in e.KINDS}
    assert len({e.kind_of(kind) for kind in e.KINDS}) == len(e.KINDS)


def rewritten(number: int, change: dict[str, Any]) -> Verification:
    """What is said of a log, up to a sound head, whose last entry is what another program might write."""
    bodies = [row[2] for row in TODAY.rows[:number]]
    bodies.append(msgspec.msgpack.encode({**msgspec.msgpack.decode(TODAY.rows[number][2]), **change}))
    root = root_of([leaf_hash(body) for body in bodies])
    head = sign_head(Head(origin_of(WORLD.state.run), len(bodies), root), WORLD.key)
    return verified(WORLD, log_of(bodies, [(len(bodies), head)]))


NEWER: list[dict[str, Any]] = [{"kind": "begin/5"}, {"kind": "begin/5", "colour": "blue"}, {"kind": "prologue/17"}]


@pytest.mark.parametrize("change", NEWER)
def test_a_log_that_begins_in_a_newer_format_was_not_checked(change: dict[str, Any]) -> None:
    with pytest.raises(NotCheckedError, match=f"{change['kind']}; this one reads format 4") as caught:
        rewritten(0, change)
    assert caught.value.exit_code == 4 and "upgrade" in str(caught.value)


@pytest.mark.parametrize("kind", ["join/5", "audit/5", "join/3", "join/2"])
def test_an_entry_of_another_format_within_a_log_fails(kind: str) -> None:
    found = rewritten(FIRST_JOIN, {"kind": kind})
    assert found.failure is not None and failing(found) == [Claim.FORM]
    assert found.failure.entry == FIRST_JOIN and kind in str(found.failure)


def test_a_log_of_an_older_format_fails_and_says_so() -> None:
    found = rewritten(0, {"kind": "begin/3"})
    assert failing(found) == [Claim.FORM] and found.failure is not None
    assert "older format" in str(found.failure) and "'begin/4'" in str(found.failure)


@pytest.mark.parametrize("kind", ["join/4", "join/0", "join/02", "join", "JOIN/9", "join/9999999999", 7, "", "x" * 99])
def test_a_form_that_no_program_would_write_is_a_bad_proof_and_not_a_newer_one(kind: Any) -> None:
    with pytest.raises(InvalidProofError, match="malformed"):
        e.decode(msgspec.msgpack.encode({"kind": kind, "colour": "blue"}))
    assert failing(rewritten(0, {"kind": kind, "colour": "blue"})) == [Claim.FORM]


def test_what_is_wrong_with_a_signature_is_said_before_what_cannot_be_read() -> None:
    """An entry of another format hides nothing that fails before it."""
    join = e.decode(TODAY.rows[FIRST_JOIN][2])
    bodies = [row[2] for row in TODAY.rows[: FIRST_JOIN + 1]]
    bodies[FIRST_JOIN] = encode(msgspec.structs.replace(join, signature=bytes(64)))  # type: ignore[call-arg]
    bodies.append(msgspec.msgpack.encode({"kind": "join/5"}))
    heads = []
    for size in (FIRST_JOIN + 1, FIRST_JOIN + 2):
        root = root_of([leaf_hash(body) for body in bodies[:size]])
        heads.append((size, sign_head(Head(origin_of(WORLD.state.run), size, root), WORLD.key)))
    found = verified(WORLD, log_of(bodies, heads))
    assert found.failure is not None and (found.failure.entry, found.failure.step) == (FIRST_JOIN, Claim.SIGNATURES)

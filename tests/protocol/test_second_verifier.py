"""Two readers of one specification must agree: ours, and one that was written from docs/SPEC.md alone."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import Claim, claims
from podlt.protocol.claims import Claim
from podlt.sim.adversaries import PLAYERS, player_named
from podlt.sim.players import Gossip, Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log

from . import second_verifier
from .scripted import eventful_run, spoiled
from .test_tampering import ALL_FIELDS, ENTRIES, EVIL, LOG, changed, place_of, signed_with


def agrees(log: MemoryLog) -> bool:
    try:
        second_verifier.verify([row[2] for row in log.rows], log.heads())
    except second_verifier.Unsound:
        return False
    return True


def test_the_second_verifier_shares_no_code_with_the_first() -> None:
    tree = ast.parse(Path(second_verifier.__file__).read_text())
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not any("podlt" in (name or "") for name in names)


def test_both_accept_the_eventful_run() -> None:
    assert agrees(eventful_run()[1])


@pytest.mark.parametrize("kind", sorted(PLAYERS))
def test_both_accept_a_run_of_an_honest_manager_whoever_takes_part(kind: str) -> None:
    def players(gossip: Gossip) -> list[Player]:
        cast = [player_named(kind)[0] if i < 3 else Player for i in range(8)]
        return [make_player(c, i, digest(kind), gossip, 0.2 if i < 3 else None) for i, c in enumerate(cast)]

    log = MemoryLog()
    world = World(Scenario(lines=70, epochs=2, block_lines=20, fragment_lines=3, deposit=7), players, digest(kind), log)
    world.begin()
    world.play()
    assert verify_log(log, world.recipe, world.program, jobs=1).ok
    assert agrees(log)


FORM_AND_DOCUMENTS = {Claim.FORM, Claim.DOCUMENTS}


@pytest.mark.parametrize("path", [p for p in ALL_FIELDS if EVIL[p] not in FORM_AND_DOCUMENTS])
def test_both_come_to_the_same_on_a_field_that_the_manager_changed(path: str) -> None:
    place = place_of(path)
    log = signed_with(place, encode(changed(ENTRIES[place], path)))
    assert agrees(log) == (EVIL[path] is None)


def test_both_accept_every_prefix_that_ends_at_a_head() -> None:
    for size, _ in LOG.heads():
        log = MemoryLog()
        log.rows, log.notes = LOG.rows[:size], [head for head in LOG.heads() if head[0] <= size]
        assert agrees(log)


def test_the_rules_refuse_the_entries_that_the_second_verifier_refuses_when_one_is_left_out() -> None:
    for missing in range(1, len(ENTRIES)):
        kept = ENTRIES[:missing] + ENTRIES[missing + 1 :]
        verifier = second_verifier.Verifier(decoded(ENTRIES[0]), encode(ENTRIES[0]))
        state, ours, theirs = RunState(), True, True
        try:
            for entry in kept:
                state.apply(entry)
        except InvalidProofError:
            ours = False
        try:
            for entry in kept[1:]:
                verifier.take(decoded(entry))
        except second_verifier.Unsound:
            theirs = False
        assert ours == theirs, missing


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_both_come_to_the_same_on_entries_that_are_spoiled_and_misplaced(data: st.DataObject) -> None:
    verifier = second_verifier.Verifier(decoded(ENTRIES[0]), encode(ENTRIES[0]))
    state = RunState()
    state.apply(ENTRIES[0])
    start = data.draw(st.integers(1, len(ENTRIES)))
    for entry in ENTRIES[1:start]:
        state.apply(entry)
        verifier.take(decoded(entry))
    near = st.sampled_from(ENTRIES[max(1, start - 12) : start + 12])
    for _ in range(4):
        entry = spoiled(data, data.draw(near))
        try:
            e.decode(encode(entry))
        except InvalidProofError:
            return
        if not all(claim.holds() for claim in signed_claims(state, entry)):
            return
        if accepts(lambda entry=entry: state.apply(entry), InvalidProofError):
            assert accepts(lambda entry=entry: verifier.take(decoded(entry)), second_verifier.Unsound)
        else:
            assert not accepts(lambda entry=entry: verifier.take(decoded(entry)), second_verifier.Unsound)
            return


def signed_claims(state: RunState, entry: e.Entry) -> list[Claim]:
    try:
        return claims(state, entry)
    except InvalidProofError:
        return []


def accepts(take: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        take()
    except refusal:
        return False
    return True


def decoded(entry: e.AnyEntry) -> dict[str, object]:
    return msgspec.msgpack.decode(encode(entry))

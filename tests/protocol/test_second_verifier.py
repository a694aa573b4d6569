"""Two readers of one specification must agree: ours, and one that was written from docs/SPEC.md alone."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
import second_accounts
import second_draws
import second_rules
import second_verifier
from examples_drawn import ALL, examples
from hypothesis import given
from scripted import CLASSIC, GUARDED, classic_run, eventful_run, spoiled

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import SignatureCheck, signature_checks
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import PLAYERS, player_named
from podlt.sim.players import Gossip, Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

from .test_tampering import ALL_FIELDS, ENTRIES, EVIL, LOG, WORLD, changed, place_of, signed_with

DOCUMENTS = Documents(WORLD.recipe, WORLD.program)


def tables(log: MemoryLog, documents: Documents) -> tuple[dict[str, str], dict[str, str]]:
    """What both verifiers say of each claim of `verify`."""
    ours = {f.claim.name: f.outcome.value for f in verify_log(log, documents, jobs=1).findings[: Claim.MODEL]}
    known = second_verifier.Given()
    known.recipe, known.program = documents.recipe, documents.program
    return ours, second_verifier.verify(log.rows, log.heads(), known)


def agree(log: MemoryLog, documents: Documents) -> bool:
    """Whether both say the same; of what is refused, which claim fails."""
    ours, theirs = tables(log, documents)
    if "fails" in ours.values() or "fails" in theirs.values():
        failing = [{claim for claim, outcome in table.items() if outcome == "fails"} for table in (ours, theirs)]
        return failing[0] == failing[1]
    return ours == theirs


def test_the_second_verifier_shares_no_code_with_the_first() -> None:
    for module in (second_accounts, second_draws, second_rules, second_verifier):
        tree = ast.parse(Path(module.__file__).read_text())
        names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not any("podlt" in (name or "") for name in names)


@pytest.mark.parametrize("run", [eventful_run, classic_run])
def test_both_give_the_same_table_of_a_run_of_each_preset(run: Callable[[], tuple[World, MemoryLog]]) -> None:
    world, log = run()
    ours, theirs = tables(log, Documents(world.recipe, world.program))
    assert ours == theirs and "fails" not in ours.values()


def test_both_say_that_they_did_not_check_what_is_missing() -> None:
    for documents in (Documents(None, None), Documents(DOCUMENTS.recipe, None), Documents(None, DOCUMENTS.program)):
        ours, theirs = tables(LOG, documents)
        assert ours == theirs and ours["DOCUMENTS"] == "not checked"


@pytest.mark.parametrize("kind", sorted(PLAYERS))
@pytest.mark.parametrize("rules", [CLASSIC, GUARDED], ids=["classic", "guarded"])
def test_both_accept_a_run_of_an_honest_manager_whoever_takes_part(kind: str, rules: ProtocolSpec) -> None:
    def players(gossip: Gossip) -> list[Player]:
        cast = [player_named(kind)[0] if i < 3 else Player for i in range(8)]
        return [make_player(c, i, digest(kind), gossip, 0.2 if i < 3 else None) for i, c in enumerate(cast)]

    log = MemoryLog()
    scenario = Scenario(examples=70, batch_size=20, shard_size=3, deposit=7, tested=True, protocol=rules)
    world = World(scenario, players, digest(kind), log)
    world.begin()
    world.play()
    ours, theirs = tables(log, Documents(world.recipe, world.program))
    assert ours == theirs and "fails" not in ours.values()


@pytest.mark.parametrize("path", [p for p in ALL_FIELDS if EVIL[p] is not Claim.FORM])
def test_both_come_to_the_same_on_a_field_that_the_manager_changed(path: str) -> None:
    place = place_of(path)
    assert agree(signed_with(place, encode(changed(ENTRIES[place], path))), DOCUMENTS)


def test_both_accept_every_prefix_that_ends_at_a_head() -> None:
    for size, _ in LOG.heads():
        log = MemoryLog()
        log.rows, log.notes = LOG.rows[:size], [head for head in LOG.heads() if head[0] <= size]
        ours, theirs = tables(log, DOCUMENTS)
        assert ours == theirs and "fails" not in ours.values()


def test_the_rules_refuse_the_entries_that_the_second_verifier_refuses_when_one_is_left_out() -> None:
    for missing in range(1, len(ENTRIES), 1 if ALL else 3):
        kept = ENTRIES[:missing] + ENTRIES[missing + 1 :]
        verifier = second_rules.Verifier(decoded(ENTRIES[0]))
        state, ours, theirs = RunState(), "", ""
        try:
            for entry in kept:
                state.apply(entry)
        except InvalidProofError as error:
            ours = Claim(error.step).name
        try:
            for entry in kept[1:]:
                verifier.take(decoded(entry))
        except second_rules.Unsound as error:
            theirs = error.claim
        assert ours == theirs, missing


@examples(120)
@given(st.data())
def test_both_come_to_the_same_on_entries_that_are_spoiled_and_misplaced(data: st.DataObject) -> None:
    verifier = second_rules.Verifier(decoded(ENTRIES[0]))
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
        if not all(check.holds() for check in checks_of(state, entry)):
            return
        if accepts(lambda entry=entry: state.apply(entry), InvalidProofError):
            assert accepts(lambda entry=entry: verifier.take(decoded(entry)), second_rules.Unsound)
        else:
            assert not accepts(lambda entry=entry: verifier.take(decoded(entry)), second_rules.Unsound)
            return


def checks_of(state: RunState, entry: e.Entry) -> list[SignatureCheck]:
    try:
        return signature_checks(state, entry)
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

"""The checker in the browser and `podlt verify` must say the same of every log: of good ones, and of spoiled ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from examples_drawn import ALL, examples
from hypothesis import given
from scripted import classic_run, eventful_run, spoiled

from podlt.canonical import encode
from podlt.cli.verify import run_facts, unknown
from podlt.crypto import SigningKey, digest
from podlt.errors import InvalidProofError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.rules import RunState
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import PLAYERS, player_named
from podlt.sim.players import Gossip, Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import Verification, verify
from podlt.verify.documents import Documents
from protocol.test_tampering import ALL_FIELDS, ENTRIES, LOG, WORLD, changed, edits, place_of, signed_with

from .conftest import Node, bundle_of

DOCUMENTS = Documents(WORLD.recipe, WORLD.program)
EVERY = 1 if ALL else 5
"""Of the cases that cost most: how many there are for one that is tried."""


def both(node: Node, raw: bytes, folder: Path, **options: Any) -> tuple[dict[str, Any], Verification]:
    """What the browser and `podlt verify` say of a bundle."""
    path = folder / "run.podlt"
    path.write_bytes(raw)
    keys = [key.text() for key in options.get("witnesses", ())]
    asked = {"manager_key": options.get("manager_key"), "head": options.get("trusted_head"), "witnesses": keys}
    theirs = node.ask("verify", bundle=raw, **asked)
    return theirs, verify(path, jobs=1, **options)


def assert_same(found: dict[str, Any], expected: Verification) -> None:
    """Whether both say the same. Where something fails, what was counted on the way may differ, and no more."""
    failed = expected.failure
    assert found["exitCode"] == expected.exit_code
    outcomes = {row["name"]: row["outcome"] for row in found["findings"]}
    assert outcomes == {f.claim.name: f.outcome.value for f in expected.findings}, (found["failure"], failed)
    if failed is not None:
        theirs = found["failure"]
        assert (theirs["claim"], theirs["entry"]) == (failed.step, failed.entry), (theirs, failed)
        own_words = failed.step in (Claim.FORM, Claim.DOCUMENTS, Claim.TERMS) or "RuleOptions" in failed.reason
        if not own_words:
            assert theirs["reason"].startswith(failed.reason), (theirs, failed)
        return
    rows = [(f.claim.title, f.figure, f.why, f.remedy, f.asked) for f in expected.findings]
    assert [(r["title"], r["figure"], r["why"], r["remedy"], r["asked"]) for r in found["findings"]] == rows
    assert found["facts"] == run_facts(expected)
    assert found["unknown"] == unknown(expected)
    assert (found["head"], found["entries"], found["rounds"]) == (
        expected.head, expected.state.index, expected.state.round,
    )  # fmt: skip


@pytest.mark.parametrize(
    "run", [eventful_run, classic_run, lambda: (WORLD, LOG)], ids=["guarded", "classic", "amended"]
)
def test_both_fill_the_same_table_of_a_run_of_each_preset(
    node: Node, tmp_path: Path, run: Callable[[], tuple[World, MemoryLog]]
) -> None:
    world, log = run()
    found, expected = both(node, bundle_of(log, Documents(world.recipe, world.program)), tmp_path)
    assert expected.exit_code == 0
    assert_same(found, expected)


@pytest.mark.parametrize("kind", sorted(PLAYERS)[::EVERY])
@pytest.mark.parametrize("preset", ["classic", "guarded"])
def test_both_accept_a_run_of_an_honest_manager_whoever_takes_part(
    node: Node, tmp_path: Path, kind: str, preset: Any
) -> None:
    def players(gossip: Gossip) -> list[Player]:
        cast = [player_named(kind)[0] if i < 3 else Player for i in range(8)]
        return [make_player(c, i, digest(kind), gossip, 0.2 if i < 3 else None) for i, c in enumerate(cast)]

    log, rules = MemoryLog(), ProtocolSpec(preset=preset)
    scenario = Scenario(examples=70, batch_size=20, shard_size=3, deposit=7, tested=True, protocol=rules)
    world = World(scenario, players, digest(kind), log)
    world.begin()
    world.play()
    assert_same(*both(node, bundle_of(log, Documents(world.recipe, world.program)), tmp_path))


def test_both_say_that_they_did_not_check_what_is_missing(node: Node, tmp_path: Path) -> None:
    for documents in (Documents(None, None), Documents(WORLD.recipe, None), Documents(None, WORLD.program)):
        assert_same(*both(node, bundle_of(LOG, documents), tmp_path))


def test_both_hold_the_run_to_a_key_and_a_head_that_somebody_kept(node: Node, tmp_path: Path) -> None:
    raw, heads = bundle_of(LOG, DOCUMENTS), LOG.heads()
    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    other = SigningKey(digest("other/1"))
    longer = sign_head(Head(origin_of(e.identity(begin)), heads[-1][0] + 1, bytes(32)), WORLD.key)
    another = sign_head(Head(origin_of(e.identity(begin)), heads[1][0], bytes(32)), WORLD.key)
    elsewhere = sign_head(Head(origin_of(bytes(32)), 5, bytes(32)), other)
    for options in (
        {"manager_key": begin.manager},
        {"manager_key": other.public},
        *({"trusted_head": note} for note in (heads[1][1], heads[-1][1], longer, another, elsewhere)),
    ):
        assert_same(*both(node, raw, tmp_path, **options))


def test_both_accept_every_prefix_that_ends_at_a_head(node: Node, tmp_path: Path) -> None:
    for size, _ in LOG.heads()[:: 4 * EVERY]:
        log = MemoryLog()
        log.rows, log.notes = LOG.rows[:size], [head for head in LOG.heads() if head[0] <= size]
        assert_same(*both(node, bundle_of(log, DOCUMENTS), tmp_path))


def test_both_name_the_same_entry_where_the_manager_changed_a_field(node: Node, tmp_path: Path) -> None:
    for path in ALL_FIELDS[::EVERY]:
        place = place_of(path)
        log = signed_with(place, encode(changed(ENTRIES[place], path)))
        assert_same(*both(node, bundle_of(log, DOCUMENTS), tmp_path))


@pytest.mark.parametrize("name", sorted(edits()))
def test_both_name_the_same_entry_where_entries_are_left_out_or_repeated(node: Node, tmp_path: Path, name: str) -> None:
    bodies = [row[2] for row in LOG.rows]
    edits()[name](bodies)
    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    log, tree = MemoryLog(), Tree()
    for body in bodies:
        tree.append(leaf_hash(body))
    log.append(0, bodies, sign_head(Head(origin_of(e.identity(begin)), tree.size, tree.root()), WORLD.key))
    assert_same(*both(node, bundle_of(log, DOCUMENTS), tmp_path))


def test_both_refuse_a_log_whose_heads_are_not_the_managers(node: Node, tmp_path: Path) -> None:
    thief = SigningKey(digest("thief/1"))
    size, note = LOG.heads()[3]
    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    root = Tree()
    for _, leaf, _ in LOG.rows[:size]:
        root.append(leaf)
    head = Head(origin_of(e.identity(begin)), size, root.root())
    blob = note.rpartition(" ")[2]
    for bad in (
        sign_head(head, thief),
        note.replace(blob, blob[:20] + ("A" if blob[20] != "A" else "B") + blob[21:]),
        sign_head(Head(head.origin, size, bytes(32)), WORLD.key),
        sign_head(Head(origin_of(bytes(32)), size, head.root), WORLD.key),
        note.replace("podlt.run/", "podlt.run", 1),
    ):
        log = MemoryLog()
        log.rows, log.notes = LOG.rows, [*LOG.notes[:3], (size, bad), *LOG.notes[4:]]
        found, expected = both(node, bundle_of(log, DOCUMENTS), tmp_path)
        assert expected.exit_code == 1
        assert_same(found, expected)


@pytest.fixture(scope="module")
def known(node: Node) -> Node:
    node.ask("log", entries=[row[2] for row in LOG.rows])
    return node


@examples(3000)
@given(st.data())
def test_the_rules_of_both_refuse_the_same_of_spoiled_and_misplaced_entries(known: Node, data: st.DataObject) -> None:
    start = data.draw(st.integers(1, len(ENTRIES)))
    near = st.sampled_from(ENTRIES[max(1, start - 12) : start + 12])
    entries, state, refused = [], RunState(), None
    for entry in ENTRIES[:start]:
        state.apply(entry)
    for place in range(4):
        entry = spoiled(data, data.draw(near))
        try:
            e.decode(encode(entry))
        except InvalidProofError:
            break
        entries.append(encode(entry))
        try:
            state.apply(entry)
        except InvalidProofError as error:
            refused = {"place": place, "claim": error.step, "reason": error.reason}
            break
    assert known.ask("rules", start=start, entries=entries) == refused


def test_both_have_the_same_claims(node: Node) -> None:
    assert node.ask("titles") == [[claim.name, claim.title] for claim in Claim]

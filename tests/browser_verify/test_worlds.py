"""Runs in which much goes wrong, records of one worker, and witnesses: the browser says what `podlt verify` says."""

from __future__ import annotations

import random
from base64 import b64decode
from pathlib import Path

import pytest
from examples_drawn import ALL
from scripted import moods

from podlt.crypto import SigningKey, digest
from podlt.log.notes import NoteSignature, WitnessKey, cosign, cosignature_line
from podlt.log.tree_head import Head, origin_of
from podlt.protocol import entries as e
from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld
from podlt.sim.players import Gossip, Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify.documents import Documents
from protocol.test_shares import fresh
from protocol.test_tampering import ENTRIES, LOG

from .conftest import Node, NodeError, bundle_of
from .test_agreement import DOCUMENTS, assert_same, both


@pytest.mark.parametrize("seed", range(12 if ALL else 1))
def test_both_follow_workers_of_levels_that_change_leave_and_come_back(node: Node, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    world, log = fresh([8, 2, 3, 4, 12, 16][seed % 6], rounds=26)
    for _ in range(60):
        for player in moods(world):
            player.mood, player.returns = "honest", True
        for player in dice.sample(moods(world), 1 + (len(world.players) > 4)):
            player.mood = dice.choice(["slow", "late", "silent", "mute"])
        active = world.state.active()
        if world.state.may_share and dice.random() < 0.7:
            levels = {n: max(-5, min(5, world.state.workers[n].level + dice.choice([-4, -1, 0, 1]))) for n in active}
            changed = {n: level for n, level in levels.items() if world.state.workers[n].level != level}
            if changed and world.state.roster.is_usual(levels):
                world.manager.share(changed)
        world.readmit()
        if not world.step():
            if world.state.closed is not None and world.state.closed.outcome == "complete":
                break
            world.manager.resume()
    found, expected = both(node, bundle_of(log, Documents(world.recipe, world.program)), tmp_path)
    assert expected.failure is None and expected.counts["shares"]
    assert_same(found, expected)


@pytest.mark.parametrize("seed", range(20 if ALL else 1))
def test_both_follow_a_run_over_a_network_in_which_much_goes_wrong(node: Node, tmp_path: Path, seed: int) -> None:
    world = NetworkedWorld([1, 2, 1, 1, 2, 1], 8, seed)
    world.run()
    assert_same(*both(node, bundle_of(world.memory_log, Documents(world.recipe, world.program)), tmp_path))


def test_both_follow_a_run_of_unequal_machines(node: Node, tmp_path: Path) -> None:
    wrong = NetworkFaults(compute=0.1, machines=(1.0, 1.0, 1.0, 12.0), delay=0.001, until=0.0)
    world = NetworkedWorld([1] * 4, 12, 3, wrong, examples=32)
    world.run()
    found, expected = both(node, bundle_of(world.memory_log, Documents(world.recipe, world.program)), tmp_path)
    assert expected.counts["shares"]
    assert_same(found, expected)


def test_both_call_the_run_of_one_worker_a_record(node: Node, tmp_path: Path) -> None:
    def players(gossip: Gossip) -> list[Player]:
        return [make_player(Player, 0, digest("one/1"), gossip)]

    log = MemoryLog()
    world = World(Scenario(examples=20, batch_size=5), players, digest("one/1"), log)
    world.begin()
    world.play()
    found, expected = both(node, bundle_of(log, Documents(world.recipe, world.program)), tmp_path)
    assert "podlt reproduce" in " ".join(found["unknown"])
    assert_same(found, expected)


ANNA, BEA = SigningKey(digest("anna/1")), SigningKey(digest("bea/1"))
KEYS = {"anna": WitnessKey("anna.example/w", ANNA.public), "bea": WitnessKey("bea.example/w", BEA.public)}


def heads() -> list[Head]:
    begin = ENTRIES[0]
    assert isinstance(begin, e.Begin)
    tree = {size: note.split("\n")[2] for size, note in LOG.heads()}
    return [Head(origin_of(e.identity(begin)), size, b64decode(root)) for size, root in tree.items()]


def seen(head: Head, at: int = 1_764_374_400, name: str = "anna") -> str:
    signature = cosign(head, at, KEYS[name].name, ANNA if name == "anna" else BEA)
    return cosignature_line(head, signature)


def cosignatures() -> dict[str, list[str]]:
    all_heads = heads()
    last, early = all_heads[-1], all_heads[2]
    forged = cosign(last, 7, KEYS["anna"].name, BEA)
    forged = NoteSignature(forged.name, KEYS["anna"].key_id, forged.signature)
    return {
        "none": [],
        "all": [seen(early), seen(last)],
        "both": [seen(last, 2**40), seen(last, 0, "bea")],
        "late": [seen(early)],
        "another root": [seen(last), seen(Head(early.origin, early.size, bytes(32)))],
        "cut": [seen(Head(last.origin, last.size + 1, bytes(32)))],
        "another run": [seen(Head("podlt.run/" + "0" * 64, last.size, last.root))],
        "forged": [cosignature_line(last, forged)],
        "no examples": ["", "x", "1 2 3 4", seen(last)[:-9], seen(last) + "\r", "0" + seen(last)],
    }


@pytest.mark.parametrize("name", cosignatures())
def test_both_say_the_same_of_what_witnesses_saw(node: Node, tmp_path: Path, name: str) -> None:
    raw = bundle_of(LOG, DOCUMENTS, cosignatures="\n".join(cosignatures()[name]).encode() + b"\n")
    for demanded in ([], [KEYS["anna"]], [KEYS["bea"]], [*KEYS.values()]):
        assert_same(*both(node, raw, tmp_path, witnesses=demanded))


def test_a_key_of_a_witness_that_was_copied_with_a_mistake_is_refused(node: Node) -> None:
    text = KEYS["anna"].text()
    for bad in ("", "anna", text[:-1], text.replace("+", "-", 1), text.replace("anna", "bnna")):
        with pytest.raises(NodeError, match="Misuse: malformed witness key"):
            node.ask("verify", bundle=b"", witnesses=[bad])

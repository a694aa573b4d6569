"""Dishonest processes behind the real sessions, over a simulated network: what is to come of each does."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from podlt.cli.app import build
from podlt.errors import UsageError
from podlt.protocol import entries as e
from podlt.sim.network_attacks import NETWORK_ATTACKS
from podlt.sim.network_report import HEAD, network_of, network_section, with_network
from podlt.sim.networked_arena import CheatedWorld, NetworkRow, play_network_arena

WORKERS, ROUNDS = 12, 20

UNHARMFUL = ("harmless", "let go", "shut out")


def row(name: str, seeds: int = 1) -> NetworkRow:
    (found,) = play_network_arena([name], seeds, WORKERS, ROUNDS)
    return found


def reasons(name: str) -> list[str]:
    """Why attackers were withdrawn in one run."""
    world = CheatedWorld(NETWORK_ATTACKS[name], WORKERS, ROUNDS, 0)
    world.run()
    logged = [e.decode(body) for _, _, body in world.memory_log.rows]
    return [entry.reason for entry in logged if isinstance(entry, e.Withdraw)]


ATTACKERS = [name for name in NETWORK_ATTACKS if name not in ("flood", "nobody")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if i % 3 else ()) for i, name in enumerate(ATTACKERS)]
)
def test_each_attack_comes_to_what_is_expected_and_no_honest_worker_suffers(name: str) -> None:
    found = row(name)
    assert found.outcome == found.expected, found
    assert (found.honest_convicted, found.honest_let_go, found.broken) == (0, 0, "")
    if found.expected in UNHARMFUL:
        assert found.applied == found.trials == 0


def test_where_nobody_attacks_nobody_is_let_go() -> None:
    found = row("nobody")
    assert found.is_as_expected and (found.let_go, found.pace) == (0, 1.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-opening", "not opened"),
        ("false-opening", "opening"),
        ("other-upload", "does not match its digest"),
        ("old-commitment", "not opened"),  # its session opens only what it has a receipt for
        ("thief", "not opened"),
        ("false-failure", "failed: it says so"),
        ("larger-flood", "too many useless messages"),
        ("last-moment", "too slow"),
    ],
)
def test_an_attacker_is_let_go_for_what_it_did(name: str, words: str) -> None:
    found = reasons(name)
    assert found and all(words in reason for reason in found), found


def test_who_comes_back_under_a_new_key_is_caught_again_through_the_real_sessions() -> None:
    world = CheatedWorld(NETWORK_ATTACKS["sybil"], WORKERS, ROUNDS, 0)
    world.run()
    keys = [player for player in world.players if player.cheats]
    assert len(keys) > world.count and len(world.convicted_in) > world.count
    assert not world.honest & {world.state.workers[worker].key for worker in world.convicted_in}


def test_the_same_seed_gives_the_same_attack_byte_for_byte() -> None:
    worlds = [CheatedWorld(NETWORK_ATTACKS["comparing"], WORKERS, 6, 3) for _ in range(2)]
    for world in worlds:
        world.run()
    assert worlds[0].head == worlds[1].head


def test_the_section_is_put_into_a_page_and_into_the_place_of_an_older_one() -> None:
    section = network_section([row("two-answers")], "podlt arena --network", "2026-11-29", "podlt 1")
    page = with_network("# The arena\n\ntext\n", section)
    assert page.startswith("# The arena\n\ntext\n\n" + HEAD) and "| `two-answers` |" in page
    assert with_network(page, section) == page and network_of(page) == section


def test_the_command_ends_with_1_if_an_attack_comes_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ["arena", "--network", "--attacks", "other-name", "--seeds", "1", "--rounds", "4", "--json"]
    found = CliRunner().invoke(build(), ask)
    assert found.exit_code == 0 and json.loads(found.stdout)["outcome"] == "harmless"
    harmless = NETWORK_ATTACKS["other-name"]
    monkeypatch.setitem(NETWORK_ATTACKS, "other-name", type(harmless)(name="other-name", what="", expected="caught"))
    assert CliRunner().invoke(build(), ask).exit_code == 1


def test_an_unknown_attack_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="unknown attack"):
        list(play_network_arena(["nothing"]))


@pytest.mark.slow
def test_all_attacks_over_five_seeds_are_as_expected() -> None:
    """Rates are each inside their own 95 % interval or one of the rows by chance: outcomes and honest must all hold."""
    rows = list(play_network_arena([], 5))
    assert [one.attack for one in rows if one.outcome != one.expected or one.broken] == []
    assert sum(one.honest_convicted + one.honest_let_go for one in rows) == 0
    assert sum(not one.is_as_expected for one in rows) <= 2

"""The arena: what attacks come to under the rules, with real training; and the adversaries that know the options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podlt.crypto import digest
from podlt.economics.formulas import likely_count
from podlt.errors import UsageError
from podlt.protocol.messages import Task
from podlt.protocol.plan import Upcoming
from podlt.recipe import ProtocolSpec
from podlt.sim.arena import DEFENCES, ArenaWorld, Score, play_attack
from podlt.sim.arena_gates import Estimate, GateRow, estimate, gate_table
from podlt.sim.arena_report import arena_page, draw_arena
from podlt.sim.arena_rows import compare_honest, honest_run, play_arena
from podlt.sim.attacks import ATTACKS, NOBODY
from podlt.sim.digits import COUNT, DigitsModel
from podlt.sim.learning import FAKES, LearningWorld
from podlt.sim.players import Gossip, Player
from podlt.sim.strategies import Strategist
from podlt.sim.world import MemoryLog, Scenario, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

NO_FAKES = (
    "thief",
    "false-opening",
    "equivocator",
    "double-answer",
    "replayer",
    "forger",
    "silent",
    "crashing",
    "late",
)


def score(
    attack: str, defence: str = "guarded", rounds: int = 12, workers: int = 20, levels: tuple[int, ...] = ()
) -> Score:
    """One run with a third of the workers attacking."""
    return play_attack(attack, defence, 1, workers, rounds, 0.3, levels)  # type: ignore[arg-type]


def learning_world(rules: ProtocolSpec, kind: str = "zeros", cheaters: int = 0) -> tuple[LearningWorld, MemoryLog]:
    """A run of ten workers over ten rounds, some of whom always fake."""
    seed, log = digest("test-learning/1"), MemoryLog()

    def players(gossip: Gossip) -> list[Player]:
        cast = [make_player(ATTACKS["zeros"].player if i < cheaters else Player, i, seed, gossip) for i in range(10)]
        for player in cast[:cheaters]:
            player.kind = kind  # type: ignore[attr-defined]
        return cast

    scenario = Scenario(examples=800, batch_size=80, shard_size=8, protocol=rules)
    world = LearningWorld(scenario, players, seed, log)
    world.begin()
    return world, log


def test_a_simulated_run_trains_and_its_log_holds() -> None:
    world, log = learning_world(ProtocolSpec())
    before = world.model.accuracy()
    world.play()
    assert world.model.accuracy() > before
    found = verify_log(log, Documents(world.recipe, world.program), jobs=1)
    assert found.failure is None


@pytest.mark.parametrize("clip", [0, 8])
def test_updates_are_clipped_as_the_options_say_and_the_log_tells(clip: int) -> None:
    world, _ = learning_world(ProtocolSpec(checked=0.0, own=0.0, clip=clip), "thousand", 1)
    world.step()
    assert (world.clipped > 0) == (clip > 0)
    norms = np.linalg.norm(world.model.values - DigitsModel(world._chance).values)
    assert (norms > 10) == (clip == 0)


def test_without_fakes_a_run_comes_to_the_same_model_as_its_reference() -> None:
    world, _ = learning_world(ProtocolSpec(clip=0))
    world.play()
    assert np.array_equal(world.model.values, world.reference.values)
    faked, _ = learning_world(ProtocolSpec(clip=0, own=0.0), "negative", 3)
    faked.step()
    assert faked.fakes_applied and not np.array_equal(faked.model.values, faked.reference.values)


class WatchedWorld(ArenaWorld):
    """Keeps how many fakes the convicted gave in the round that convicted them, and how many of these were applied."""

    given_then = applied_then = 0

    def apply(self, accepted: list[bytes], plan: Upcoming) -> None:
        round, convicted = self.state.revealed, self.state.revealed.convicted()
        for shard, found in round.answers.items():
            if found.keys() <= convicted:
                due = self.honest_result(self.state.task(shard))
                self.given_then += due not in found.values()
                self.applied_then += accepted[shard] != due
        super().apply(accepted, plan)


class Grown(Strategist):
    """Fakes everything once it has four seats."""

    def result(self, task: Task) -> bytes:
        grown = self.world.state.roster.weight(self.number) >= 4
        return self.fake(task) if grown else self.execute(task)


def test_who_is_convicted_by_one_of_its_tasks_has_none_of_the_others_applied() -> None:
    seed = digest("test-several/1")

    def players(gossip: Gossip) -> list[Player]:
        return [make_player(Grown if i < 2 else Player, i, seed, gossip) for i in range(12)]

    world = WatchedWorld(Scenario(examples=4000, batch_size=160, shard_size=8), players, seed, ATTACKS["zeros"])
    world.levels = [2, 2, *[0] * 10]
    world.begin()
    world.play()
    assert {0, 1} <= world.convicted_in.keys() and world.given_then >= 4 and world.applied_then == 0


@pytest.mark.parametrize("kind", ["thousand", "under-clip", "1e30"])
def test_a_crowd_of_outliers_is_found_in_its_first_round_and_nothing_of_it_is_applied(kind: str) -> None:
    world, _ = learning_world(ProtocolSpec(), kind, 3)
    world.step()
    assert set(world.convicted_in) == {0, 1, 2} and world.fakes_applied == 0


@pytest.mark.parametrize("kind", FAKES)
def test_each_kind_of_fake_differs_from_the_truth_and_from_the_fakes_of_others(kind: str) -> None:
    world, _ = learning_world(ProtocolSpec())
    world.step()
    plan = world.manager.upcoming()
    assert plan is not None
    world.manager.open(plan, world.shards(plan))
    task = world.state.task(0)
    names = [world._execute(task), *(world._forge(task, forger, kind) for forger in (b"", b"", b"one", b"two"))]
    assert names[1] == names[2] and len(set(names)) == 4
    assert all(world._arrays[name].shape == (COUNT,) for name in names)


@pytest.mark.parametrize("attack", ["zeros", "comparing", "sybil", "leaver"])
def test_guarded_convicts_cheaters_and_no_honest_worker(attack: str) -> None:
    found = score(attack)
    assert found.until and found.honest_convicted == 0 and found.outcome == "complete"
    least, most = likely_count(found.trials, (found.expected or 0.0) / found.trials, 0.999)
    assert least <= found.hits <= most


@pytest.mark.parametrize("attack", NO_FAKES)
def test_who_sends_false_messages_or_fails_is_not_convicted_and_gains_nothing(attack: str) -> None:
    found = score(attack, rounds=4, workers=12)
    assert (found.applied, found.vested, found.until, found.honest_convicted) == (0, 0, [], 0)
    assert found.gain <= 0.5  # who has a few tasks more or less by chance gains or loses a tenth of each


def test_without_defence_a_fake_is_never_found_and_paid() -> None:
    found = score("rational", "none", rounds=8)
    assert found.hits == 0 and found.vested == found.applied > 0 and found.gain == pytest.approx(0.9 * 8, abs=1)


def test_friends_outvote_the_honest_under_classic_and_not_under_guarded() -> None:
    assert score("pairs", "classic").honest_convicted > 0
    assert score("pairs").honest_convicted == 0


@pytest.mark.parametrize("attack", ["zeros", "coalition", "comparing"])
def test_rates_of_conviction_are_those_of_the_formula_where_machines_are_unequal(attack: str) -> None:
    found = [play_attack(attack, "guarded", seed, 20, 24, 0.3, (0, 0, 1, 2)) for seed in range(3)]
    trials, hits = sum(one.trials for one in found), sum(one.hits for one in found)
    least, most = likely_count(trials, sum(one.expected or 0.0 for one in found) / trials, 0.999)
    assert trials > 100 and least <= hits <= most
    assert all(one.honest_convicted == 0 and one.withheld == 0 for one in found)


def test_a_gate_holds_or_fails_or_cannot_be_told_yet() -> None:
    assert estimate([1.0, 2.0, 3.0]).within == pytest.approx(4.303 / 3**0.5)
    assert estimate([float(i % 2) for i in range(30)]).within == pytest.approx(0.1899, abs=1e-4)
    lost = {"holds": Estimate(0.1, 0.3), "open": Estimate(0.4, 0.3), "fails": Estimate(0.9, 0.3)}
    rows = [GateRow(name, 0, None, 0.0, 0, one) for name, one in lost.items()]
    (*_, (what, found)) = gate_table(rows)
    assert "0.5 points" in what and found == {name: [name] for name in lost}
    bad = gate_table([GateRow("rational", 1, False, 3.0, 5, lost["holds"])])
    assert [len(found["fails"]) for _, found in bad] == [1, 1, 1, 1, 0]


def test_a_deposit_keeps_who_does_what_pays_most_honest_where_keys_are_free() -> None:
    assert score("rational-keys").applied > 0
    assert score("rational-deposit").applied == 0


def test_a_manager_that_lets_its_accomplices_go_is_counted() -> None:
    found = score("rescue")
    assert found.rescued and found.hits == 0 and found.vested > 0


def test_a_table_has_a_row_for_each_attack_and_defence_and_becomes_a_page_and_a_picture(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    table = play_arena(["zeros"], 2, 12, 4, processes=1, progress=lambda done, of: ticks.append((done, of)))
    assert [(row.attack, row.defence) for row in table.rows] == [(n, d) for n in (NOBODY, "zeros") for d in DEFENCES]
    assert ticks[-1] == (12, 12)
    page = arena_page(table, "podlt arena", "2026-11-29", "podlt 1")
    assert page.count("| `zeros` | gives zeros |") == 6 and "podlt arena" in page
    draw_arena(table, tmp_path / "arena.svg")
    assert b"zeros" in (tmp_path / "arena.svg").read_bytes()


def test_impossible_arenas_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown attack"):
        play_arena(["nothing"], processes=1)
    with pytest.raises(UsageError, match="expected"):
        play_arena([], workers=2, processes=1)


def test_honest_results_are_compared_and_nobody_is_convicted() -> None:
    found = honest_run(1, 300)
    assert found.comparisons >= 300 and found.convicted == 0 and found.bound == pytest.approx(3 / found.comparisons)


@pytest.mark.slow
def test_every_attack_over_five_seeds_comes_to_what_threats_says() -> None:
    """Rates are held against an interval that all rows together leave with 5 % (Bonferroni), not each of them."""
    table = play_arena([])
    guarded = {row.attack: row for row in table.rows if row.defence == "guarded"}
    assert len(guarded) >= 20 and all(row.honest_convicted == 0 for row in guarded.values())
    tested = [row for row in guarded.values() if row.rate is not None]
    for row in tested:
        least, most = likely_count(row.trials, row.expected / row.trials, 1 - 0.05 / len(tested))
        assert least <= (row.rate or 0.0) * row.trials <= most, row.attack
    assert all(guarded[name].gain < 0 for name in ("zeros", "half", "sleeper", "end-game", "coalition", "copycat"))
    assert guarded["rational-deposit"].gain == pytest.approx(0, abs=0.2)
    assert guarded["1e30"].lost.below(0.5) == "holds" and all(row.withheld == 0 for row in guarded.values())
    worse = {name for name, row in guarded.items() if row.lost.below(0.5) == "fails"}
    assert worse <= {"sybil", "rational-keys", "rescue"}  # docs/THREATS.md, "What is not covered"


@pytest.mark.slow
def test_a_hundred_thousand_honest_comparisons_convict_nobody() -> None:
    found = compare_honest(100_000)
    assert found.comparisons >= 100_000 and found.convicted == 0

"""The arena's table: all attacks over all seeds, in as many processes as there are cores, beside what formulas say."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import msgspec

from podlt.economics.formulas import likely_count, tasks_until
from podlt.economics.plan import detection
from podlt.errors import UsageError
from podlt.recipe import ProtocolSpec
from podlt.signature_pool import leave_interrupts_to_parent
from podlt.sim.arena import DEFENCES, Defence, Score, play_attack
from podlt.sim.arena_gates import Estimate, estimate
from podlt.sim.attacks import ATTACKS, NOBODY
from podlt.sim.players import Crashing, Gossip, Player, Silent
from podlt.sim.strategies import proof_options
from podlt.sim.world import MemoryLog, Scenario, World, make_player

LIKELY = 0.95


class ArenaRow(msgspec.Struct, frozen=True):
    """What came of one attack under one defence, over all seeds.

    Attributes:
        attack: by its name.
        what: in a few words.
        defence: whose rules held.
        cheaters: in each run.
        caught: the share of them that was convicted.
        fakes: until the first conviction, the median; None if more than half never were.
        formula: the same by the formula; None where it has none, or says never.
        trials: fakes that were given, in all runs together.
        expected: convictions by the formula, in all runs together.
        rate: convictions a fake; None without fakes or a formula.
        low: of the formula's 95 % interval for it.
        high: of the same.
        inside: whether the rate lies in it.
        honest_convicted: in all runs together.
        applied: fakes that were applied, a run.
        vested: tasks that were paid for fakes, a run.
        gain: of a cheater over an honest worker, in tasks' rewards, the mean.
        accuracy: of the trained model, in %, the mean.
        clean: the same where nobody attacks, under the same defence.
        lost: points of it against that run, seed by seed: what fewer workers, and so more rounds, bring is in it.
        harm: points that the fakes cost: against the same rounds with true updates.
        withheld: credits of honest workers that are not theirs at the end, in all runs together.
        cost: executions that were not useful, in % of the workers'.
        rescued: withdrawals after a commitment that `verify` counts, a run; None where it was not asked.
    """

    attack: str
    what: str
    defence: Defence
    cheaters: int
    caught: float | None
    fakes: float | None
    formula: int | None
    trials: int
    expected: float
    rate: float | None
    low: float | None
    high: float | None
    inside: bool | None
    honest_convicted: int
    applied: float
    vested: float
    gain: float
    accuracy: float
    clean: float
    lost: Estimate
    harm: Estimate
    withheld: int
    cost: float
    rescued: float | None


class ArenaTable(msgspec.Struct, frozen=True):
    """All rows, and what they were measured with.

    Attributes:
        workers: of each run.
        rounds: of each run, about.
        seeds: how many runs each row has.
        share: of the workers that attack.
        levels: of unequal machines, in turn; none where all are equal.
        rows: by attack, then by defence.
    """

    workers: int
    rounds: int
    seeds: int
    share: float
    levels: list[int]
    rows: list[ArenaRow]


def play_arena(
    names: Sequence[str],
    seeds: int = 5,
    workers: int = 50,
    rounds: int = 120,
    share: float = 0.3,
    levels: Sequence[int] = (),
    defences: Sequence[str] = (),
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> ArenaTable:
    """Plays attacks against defences, and the clean runs beside them.

    Args:
        names: of attacks, or none for all.
        seeds: runs of each.
        workers: of each run.
        rounds: of each run, about.
        share: of the workers that attack, below 1.
        levels: of unequal machines: those of the workers, in turn.
        defences: by name, or none for all.
        processes: that play; None for all cores; 1 plays in this one.
        progress: is given how many runs are done, and how many there are.

    Raises:
        UsageError: an unknown attack, or numbers that no run could have.
    """
    check_attacks(names)
    if min(seeds, rounds) < 1 or workers < 5 or not 0 < share < 1:
        raise UsageError(f"expected runs, rounds, 5 workers and a share of them, got {seeds}, {rounds}, {workers}")
    chosen = [name for name in ATTACKS if name == NOBODY or not names or name in names]
    against = [defence for defence in DEFENCES if not defences or defence in defences]
    if unknown := sorted(set(defences).difference(DEFENCES)):
        raise UsageError(f"unknown defence {unknown[0]!r}; available: {', '.join(DEFENCES)}")
    jobs = [
        (name, defence, seed, workers, rounds, share, tuple(levels))
        for name in chosen
        for seed in range(seeds)
        for defence in against
    ]
    scores: list[Score] = []
    for score in _played(jobs, processes):
        scores.append(score)
        progress(len(scores), len(jobs))
    return ArenaTable(workers, rounds, seeds, share, list(levels), _rows(chosen, scores, workers))


def check_attacks(names: Sequence[str]) -> None:
    """Refuses what is no attack.

    Raises:
        UsageError: there is none of this name.
    """
    for name in names:
        if name not in ATTACKS:
            raise UsageError(f"unknown attack {name!r}; available: {', '.join(ATTACKS)}")


def _played(jobs: Sequence[Job], processes: int | None) -> Iterator[Score]:
    if processes == 1:
        yield from (play_attack(*job) for job in jobs)
        return
    with _pool(processes) as pool:
        for done in as_completed([pool.submit(play_attack, *job) for job in jobs]):
            yield done.result()


Job = tuple[str, Defence, int, int, int, float, tuple[int, ...]]


def _pool(processes: int | None) -> ProcessPoolExecutor:
    spawning = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes or os.cpu_count(), spawning, initializer=leave_interrupts_to_parent)


def _rows(names: Sequence[str], scores: Sequence[Score], workers: int) -> list[ArenaRow]:
    by: dict[tuple[str, Defence], list[Score]] = {}
    for score in sorted(scores, key=lambda score: score.seed):
        by.setdefault((score.attack, score.defence), []).append(score)
    against = [defence for defence in DEFENCES if (NOBODY, defence) in by]
    return [_row(by[name, d], by[NOBODY, d], workers) for name in names for d in against]


def _row(scores: Sequence[Score], clean: Sequence[Score], workers: int) -> ArenaRow:
    attack, first = ATTACKS[scores[0].attack], scores[0]
    cheaters, until = sum(score.cheaters for score in scores), [n for score in scores for n in score.until]
    trials, hits = sum(score.trials for score in scores), sum(score.hits for score in scores)
    expected = sum(score.expected or 0.0 for score in scores)
    rate = low = high = inside = None
    if attack.formula and trials:
        rate, (least, most) = hits / trials, likely_count(trials, min(1.0, expected / trials), LIKELY)
        low, high, inside = least / trials, most / trials, least <= hits <= most
    rescued = [score.rescued for score in scores if score.rescued is not None]
    return ArenaRow(
        attack=attack.name,
        what=attack.what,
        defence=first.defence,
        cheaters=first.cheaters,
        caught=len(until) / cheaters if cheaters else None,
        fakes=statistics.median_low(sorted(until)) if 2 * len(until) > cheaters else None,
        formula=_median(attack.formula, first, workers) if attack.formula != "paired" else None,
        trials=trials,
        expected=expected,
        rate=rate,
        low=low,
        high=high,
        inside=inside,
        honest_convicted=sum(score.honest_convicted for score in scores),
        applied=_mean([score.applied for score in scores]),
        vested=_mean([score.vested for score in scores]),
        gain=_mean([score.gain for score in scores]),
        accuracy=100 * _mean([score.accuracy for score in scores]),
        clean=100 * _mean([score.accuracy for score in clean]),
        lost=estimate([100 * (b.accuracy - a.accuracy) for a, b in zip(scores, clean, strict=True)]),
        harm=estimate([100 * (score.without_fakes - score.accuracy) for score in scores]),
        withheld=sum(score.withheld for score in scores),
        cost=100 * _mean([score.cost for score in scores]),
        rescued=_mean(rescued) if rescued else None,
    )


def _median(formula: str, score: Score, workers: int) -> int | None:
    if not formula:
        return None
    options = proof_options(DEFENCES[score.defence].options)
    return tasks_until(getattr(detection(options, workers, max(1, score.cheaters)), formula), 0.5)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class HonestComparisons(msgspec.Struct, frozen=True):
    """Comparisons of honest workers' results.

    Attributes:
        comparisons: pairs of results to one shard, the manager's among them.
        convicted: workers that a verdict named.
    """

    comparisons: int
    convicted: int

    @property
    def bound(self) -> float:
        """The largest chance of a conviction that 0 convictions leave at 95 %: 3 over the comparisons."""
        return 3 / max(1, self.comparisons)


class HonestWorld(World):
    """A run that counts its verdicts. Arguments as `World`."""

    comparisons = 0

    def apply(self, accepted: list[bytes], plan: object) -> None:
        """Counts what the round compared: each result of a shard but the first with it, or with the manager's."""
        round = self.state.revealed
        self.comparisons += sum(len(round.answers[j]) - 1 + (j in round.own) for j in round.due())
        super().apply(accepted, plan)  # type: ignore[arg-type]


def compare_honest(
    least: int, processes: int | None = None, progress: Callable[[int, int], None] = lambda done, of: None
) -> HonestComparisons:
    """Plays runs of honest workers, some of which fail now and then, until so many results were compared.

    Args:
        least: how many comparisons there are to be at least.
        processes: that play; None for all cores; 1 plays in this one.
        progress: is given how many comparisons there were, and how many there are to be.
    """
    found = HonestComparisons(0, 0)
    each = 20_000
    jobs = [(seed, min(each, least)) for seed in range(-(-least // each))]
    with _pool(processes) as pool:
        for done in as_completed([pool.submit(honest_run, *job) for job in jobs]):
            one = done.result()
            found = HonestComparisons(found.comparisons + one.comparisons, found.convicted + one.convicted)
            progress(min(found.comparisons, least), least)
    return found


def honest_run(seed: int, least: int) -> HonestComparisons:
    """One run in which each shard has a spare, and the manager executes it as well.

    Args:
        seed: decides everything.
        least: how many comparisons there are to be at least.
    """
    workers = 50
    rules = ProtocolSpec(checked=1.0, own=1.0, own_most=workers)
    rounds = -(-least // (workers - 10))

    def players(gossip: Gossip) -> list[Player]:
        kinds = [*[Silent] * 5, *[Crashing] * 5, *[Player] * (workers - 10)]
        return [
            make_player(kind, i, seed.to_bytes(8, "big"), gossip, 0.01 if i < 10 else None)
            for i, kind in enumerate(kinds)
        ]

    examples = workers * rounds
    scenario = Scenario(examples=examples, batch_size=workers, shard_size=1, protocol=rules)
    world = HonestWorld(scenario, players, seed.to_bytes(8, "big"), MemoryLog())
    world.begin()
    world.play(lambda world: isinstance(world, HonestWorld) and world.comparisons >= least)
    return HonestComparisons(world.comparisons, len(world.convicted_in))

"""What the rules leave free, measured: `podlt bench free-moves` (docs/THREATS.md).

The real manager, rules and signatures over simulated workers; only its choices are a liar's. A draw is known to the
manager before it opens a round: `throws` and `joins` look how many different ones it can choose among. `rescue` and
`pending` play whole runs, and `verify` is asked what it says of each.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from podlt.crypto import SigningKey, digest
from podlt.protocol.claims import Outcome
from podlt.protocol.draw import Roles, deal, mix_beacon, round_dice
from podlt.protocol.messages import Task
from podlt.protocol.options import MILLION, Preset
from podlt.protocol.roster import Roster
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import SHARE
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import Cheater
from podlt.sim.players import Player, honest_update
from podlt.sim.strategies import Accomplice
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

SYBILS, TARGET = (0, 1), 7
"""Two workers of the manager's, and an honest one that it would like to have for a third."""


def world_of(
    workers: int, rounds: int, name: str, first: type[Player] = Player, preset: Preset = "guarded"
) -> tuple[World, MemoryLog]:
    """A run of so many workers and rounds that has begun; worker 0 may be another player."""
    seed, log = digest("free-moves/1", name.encode()), MemoryLog()

    def players(gossip: Any) -> list[Player]:
        return [make_player(first if i == 0 else Player, i, seed, gossip) for i in range(workers)]

    rules = ProtocolSpec(preset=preset)
    world = World(Scenario(examples=workers * rounds, batch_size=workers, protocol=rules), players, seed, log)
    world.begin()
    return world, log


def verify_summary(world: World, log: MemoryLog) -> str:
    """What `verify` reports of a run, on one line."""
    found = verify_log(log, Documents(world.recipe, world.program), jobs=1)
    failing = [finding.claim.name for finding in found.findings if finding.outcome is Outcome.FAILS]
    counts = found.counts
    return f"verify: {'FAILS ' + ', '.join(failing) if failing else 'nothing fails'}; " + (
        f"{counts['withdraw']:,} withdrawals, {counts['rescued']:,} of them after an answer; "
        f"{counts['convicted']:,} convicted"
    )


def drawn(state: RunState, secret: bytes, *, without: Iterable[int] = (), keys: Sequence[SigningKey] = ()) -> Roles:
    """The roles of the next round, without some workers, and with newcomers (numbered from 10^6 on)."""
    assert state.begin is not None
    roster, gone = Roster(), set(without)
    for worker in state.active():
        if worker not in gone:
            roster.add(worker, state.workers[worker].key, state.workers[worker].operator, 0)
    for number, key in enumerate(keys):
        roster.add(10**6 + number, key.public, "", 0)
    beacon = mix_beacon(state.beacon, *sorted([*state.joined, *(key.sign(SHARE, state.run) for key in keys)]))
    dice, active = round_dice(secret, beacon), len(roster.order)
    spares = state.spares(state.round, active)
    plan = state.begin.cut.upcoming(state.epoch, state.offset, active - spares)
    return deal(dice, state.options, roster, spares, plan.shards)


def groups(roles: Roles) -> frozenset[frozenset[int]]:
    """Who is compared with each other, and (alone, or with its spare) with the manager."""
    return frozenset(frozenset(roles.group(shard)) for shard in {*roles.checked, *roles.own})


def is_fooled(roles: Roles) -> bool:
    """Whether both sybils are compared, with no honest majority and no execution by the manager against them."""
    found = [shard for shard in roles.checked if shard not in roles.own]
    return any(set(SYBILS) <= set(roles.group(shard)) for shard in found)


def chance(world: World, workers: int, throws: int) -> float:
    """That one of so many throws seats the two sybils together, as `is_fooled` has it (own executions aside)."""
    options, pairs = world.state.options, math.comb(workers, 2)
    spares = workers * options.checked / (MILLION + options.checked)
    once = 3 / pairs if options.votes else spares / pairs
    return 1 - (1 - once) ** throws


def throws(workers: int, rounds: int, preset: Preset = "guarded") -> None:
    """Withdrawing up to two honest workers before a round, so as to have sybils compared together, or not at all."""
    world, _ = world_of(workers, rounds + 1, "throws", preset=preset)
    together, unseen, with_target, draws = [0, 0, 0], [0, 0, 0], [0, 0, 0], [0.0, 0.0, 0.0]
    for _ in range(rounds):
        state, secret = world.state, world.chain.secret(world.state.round)
        honest = [worker for worker in state.active() if worker not in SYBILS]
        seen: set[frozenset[frozenset[int]]] = set()
        found: list[Roles] = []
        for count in range(3):
            found += [drawn(state, secret, without=gone) for gone in combinations(honest, count)]
            seen |= {groups(roles) for roles in found}
            draws[count] += len(seen) / rounds
            together[count] += any(map(is_fooled, found))
            unseen[count] += any(not frozenset(SYBILS) & frozenset().union(*groups(roles)) for roles in found)
            with_target[count] += any(frozenset({*SYBILS, TARGET}) in one for one in seen)
        world.step()
    print(f"withdrawing before a round, {preset}, {workers} workers, {rounds} rounds; 2 sybils:")
    for count in range(3):
        # j withdrawals move a group of m by C(j + m, m) ways of how many of them come before each of its members.
        most = math.comb(count + 4, 4) if preset == "classic" else math.comb(count + 3, 3)
        target = f", with worker {TARGET} in {with_target[count] / rounds:.2%}" if preset == "classic" else ""
        print(
            f"  at most {count} withdrawn: {draws[count]:.1f} different draws ({most} for one shard's group); the "
            f"sybils are compared with each other in {together[count] / rounds:.1%} of the rounds "
            f"({chance(world, workers, most):.1%} by chance){target}, and neither is compared in "
            f"{unseen[count] / rounds:.1%}"
        )


def joins(workers: int, rounds: int, preset: Preset = "guarded") -> None:
    """Choosing which of those who wait join before a round."""
    print(f"choosing who of w newcomers joins before a round, {preset}, {workers} workers, {rounds} rounds:")
    for waiting in (0, 2, 4, 8):
        world, _ = world_of(workers, rounds + 1, "joins", preset=preset)
        keys = [SigningKey(digest("newcomer/1", bytes([i]))) for i in range(waiting)]
        hit = draws = 0
        for _ in range(rounds):
            state, secret = world.state, world.chain.secret(world.state.round)
            chosen = [[key for i, key in enumerate(keys) if mask >> i & 1] for mask in range(2**waiting)]
            found = [drawn(state, secret, keys=some) for some in chosen]
            draws += len({groups(roles) for roles in found})
            hit += any(map(is_fooled, found))
            world.step()
        print(
            f"  w = {waiting}: {draws / rounds:.1f} different draws (2^w = {2**waiting}); two sybils are compared with "
            f"each other in {hit / rounds:.1%} of the rounds ({chance(world, workers, 2**waiting):.1%} by chance); "
            "no entry tells of who was left waiting"
        )


def rescue(workers: int, rounds: int, preset: Preset = "guarded") -> None:
    """Letting an accomplice go in each round that would compare it, after it answered and before the reveal."""
    world, log = world_of(workers, rounds, "rescue", Accomplice, preset)
    collect = world._collect

    def collected(waiting: deque[Any]) -> None:
        collect(waiting)
        compared = any(0 in group for group in groups(world.manager.roles))
        if compared and world.state.is_active(0):
            collect(deque(world.manager.withdraw(0, "was silent for 15 s")))

    world._collect = collected  # type: ignore[method-assign]
    world.play()
    accounts, accomplice = world.state.ledger.accounts, world.state.workers[0]
    honest = [accounts[worker].vested for worker in range(1, workers)]
    print(
        f"rescue, {preset}, {workers} workers, {rounds} rounds: a worker that always fakes is let go when it would be "
        "compared"
    )
    print(
        f"  {world.fakes_applied} fakes applied in {world.state.round} rounds; {accounts[0].vested} credits vested to "
        f"it, {sum(honest) / len(honest):.1f} to an honest worker; it left {accomplice.left_bound} rounds that it had "
        f"answered in, the last time in round {accomplice.left}, and is {accomplice.status}"
    )
    print(f"  {verify_summary(world, log)}")


class Cautious(Cheater):
    """Fakes only while so little of its pay is pending that a conviction costs it next to nothing."""

    world: World
    most = 3

    def result(self, task: Task) -> bytes:
        """A fake while at most `most` credits are pending."""
        pending = self.world.state.ledger.accounts[self.number].pending
        return self.fake(task) if pending <= self.most else honest_update(task)


def pending(workers: int, rounds: int, runs: int, preset: Preset = "guarded") -> None:
    """A lone worker that fakes while it has little to lose."""
    print(
        f"faking only while at most th credits are pending, {preset}, {workers} workers, up to {rounds} rounds, "
        f"{runs} runs:"
    )
    for most in (0, 3, 10):
        fakes = paid = caught = 0
        for run in range(runs):
            world, _ = world_of(workers, rounds, f"pending-{run}", Cautious, preset)
            player = world.players[0]
            player.world, player.most = world, most  # type: ignore[attr-defined]
            done, vested = _cautious_run(world, rounds)
            fakes, paid, caught = fakes + done, paid + vested, caught + (0 in world.convicted_in)
        print(
            f"  th = {most}: {fakes / runs:.1f} fakes applied a run, {paid / runs:.1f} of them paid for "
            f"({paid / max(1, fakes):.0%}); caught in {caught} of {runs} runs"
        )


def _cautious_run(world: World, rounds: int) -> tuple[int, int]:
    """Plays until worker 0 is convicted, or the run is over; how many of its fakes were applied, and paid for."""
    account, ledger = world.state.ledger.accounts[0], world.state.ledger
    is_fake: list[bool] = []
    vested = 0
    while 0 not in world.convicted_in and world.state.round < rounds:
        before = account.pending + account.vested, world.fakes_applied
        if not world.step():
            break
        if account.pending + account.vested > before[0]:
            is_fake.append(world.fakes_applied > before[1])
        if 0 not in world.convicted_in:
            vested = len(is_fake) - len(ledger.credits(0))
    if 0 not in world.convicted_in:
        vested = len(is_fake)  # all of it does, at the end
    return world.fakes_applied, sum(is_fake[:vested])


def main() -> None:
    """Measures all of them, or some."""
    parser = argparse.ArgumentParser(description="measure what the rules leave a manager, or a worker, free to do")
    parser.add_argument("--only", choices=["throws", "joins", "rescue", "pending"], action="append")
    parser.add_argument("--preset", choices=["classic", "guarded"], action="append", help="both unless given")
    parser.add_argument("--workers", type=int, default=50, help="of every run")
    parser.add_argument("--rounds", type=int, default=200, help="of throws and joins")
    parser.add_argument("--runs", type=int, default=40, help="of pending")
    options = parser.parse_args()
    workers = options.workers
    moves: dict[str, Callable[..., None]] = {
        "throws": partial(throws, workers, options.rounds),
        "joins": partial(joins, workers, options.rounds),
        "rescue": partial(rescue, workers, 100),
        "pending": partial(pending, workers, 400, options.runs),
    }
    for preset in options.preset or ["classic", "guarded"]:
        for name, measure in moves.items():
            if not options.only or name in options.only:
                measure(preset=preset)


if __name__ == "__main__":
    main()

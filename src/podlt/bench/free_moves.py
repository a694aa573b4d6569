"""What the rules leave free, measured: `podlt bench free-moves` (docs/THREATS.md).

The real manager, rules and signatures over simulated workers; only its choices are a liar's. A draw is known to the
manager before it opens a round: `throws` and `joins` look how many different ones it can choose among. `rescue`,
`stingy` and `pending` play whole runs, and `verify` is asked what it says of each.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from podlt.crypto import SigningKey, digest
from podlt.protocol.claims import Outcome
from podlt.protocol.draw import deal, mix_beacon
from podlt.protocol.messages import Task
from podlt.protocol.roster import Roster
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import SHARE
from podlt.sim.adversaries import Cheater
from podlt.sim.players import Player, honest_update
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

SYBILS, TARGET = (0, 1), 7
"""Two workers of the manager's, and the honest one that it would like to have for a third."""


def world_of(workers: int, rounds: int, name: str, first: type[Player] = Player) -> tuple[World, MemoryLog]:
    """A run of so many workers and rounds that has begun; worker 0 may be another player."""
    seed, log = digest("free-moves/1", name.encode()), MemoryLog()

    def players(gossip: Any) -> list[Player]:
        return [make_player(first if i == 0 else Player, i, seed, gossip) for i in range(workers)]

    world = World(Scenario(lines=workers * rounds, block_lines=workers), players, seed, log)
    world.begin()
    return world, log


def verify_summary(world: World, log: MemoryLog) -> str:
    """What `verify` reports of a run, on one line."""
    found = verify_log(log, Documents(world.recipe, world.program), jobs=1)
    failing = [finding.claim.name for finding in found.findings if finding.outcome is Outcome.FAILS]
    counts = found.counts
    return f"verify: {'FAILS ' + ', '.join(failing) if failing else 'nothing fails'}; " + (
        f"{counts['withdraw']:,} withdrawals, {counts['rescued']:,} of them after an answer; "
        f"{counts['evicted']:,} evicted"
    )


def group(
    state: RunState, secret: bytes, *, without: Iterable[int] = (), keys: Sequence[SigningKey] = ()
) -> frozenset[int]:
    """Who would be compared in the next round, without some workers, and with newcomers (numbered from 10^6 on)."""
    roster, gone = Roster(), set(without)
    for worker in state.active():
        if worker not in gone:
            roster.add(worker, state.workers[worker].key, 0)
    for number, key in enumerate(keys):
        roster.add(10**6 + number, key.public, 0)
    beacon = mix_beacon(state.beacon, *sorted([*state.joined, *(key.sign(SHARE, state.run) for key in keys)]))
    return frozenset(deal(secret, beacon, roster, len(roster.order) - 2, 2).group())


def chance(workers: int, throws: int, wanted: int) -> float:
    """That one of so many throws seats one of so many wanted groups of three."""
    return 1 - (1 - wanted / math.comb(workers, 3)) ** throws


def throws(workers: int, rounds: int) -> None:
    """Withdrawing up to two honest workers before a round, so as to seat two sybils together."""
    world, _ = world_of(workers, rounds + 1, "throws")
    any_third, with_target, groups = [0, 0, 0], [0, 0, 0], [0.0, 0.0, 0.0]
    for _ in range(rounds):
        state, secret = world.state, world.chain.secret(world.state.round)
        honest = [worker for worker in state.active() if worker not in SYBILS]
        seen: set[frozenset[int]] = set()
        for count in range(3):
            seen |= {group(state, secret, without=gone) for gone in combinations(honest, count)}
            groups[count] += len(seen) / rounds
            any_third[count] += any(set(SYBILS) <= found for found in seen)
            with_target[count] += frozenset({*SYBILS, TARGET}) in seen
        world.step()
    print(
        f"withdrawing before a round, {workers} workers, {rounds} rounds: two sybils are compared with an honest third"
    )
    for count in range(3):
        print(
            f"  at most {count} withdrawn: {groups[count]:.1f} different groups (C(j+3,3) by j of them, together "
            f"{math.comb(count + 4, 4)}); "
            f"with any third in {any_third[count] / rounds:.1%} of the rounds "
            f"({chance(workers, math.comb(count + 4, 4), workers - 2):.1%} by chance), "
            f"with worker {TARGET} in {with_target[count] / rounds:.2%}"
        )


def joins(workers: int, rounds: int) -> None:
    """Choosing which of those who wait join before a round."""
    print(f"choosing who of w newcomers joins before a round, {workers} workers, {rounds} rounds:")
    for waiting in (0, 2, 4, 8):
        world, _ = world_of(workers, rounds + 1, "joins")
        keys = [SigningKey(digest("newcomer/1", bytes([i]))) for i in range(waiting)]
        hit = groups = 0
        for _ in range(rounds):
            state, secret = world.state, world.chain.secret(world.state.round)
            chosen = [[key for i, key in enumerate(keys) if mask >> i & 1] for mask in range(2**waiting)]
            seen = {group(state, secret, keys=some) for some in chosen}
            groups += len(seen)
            hit += any(set(SYBILS) <= found for found in seen)
            world.step()
        print(
            f"  w = {waiting}: {groups / rounds:.1f} different groups (2^w = {2**waiting}); two sybils with any third "
            f"in {hit / rounds:.1%} of the rounds ({chance(workers, 2**waiting, workers - 2):.1%} by chance); "
            "no entry tells of who was left waiting"
        )


class Accomplice(Cheater):
    """Fakes always, but in the settlement."""

    world: World

    def result(self, task: Task) -> bytes:
        """A fake, or honest work where all are compared."""
        current = self.world.state.current
        settling = current is not None and current.open.purpose == "settle"
        return honest_update(task) if settling else self.fake(task)


def rescue(workers: int, rounds: int) -> None:
    """Letting an accomplice go in each round that would compare it, after it answered and before the reveal."""
    world, log = world_of(workers, rounds, "rescue", Accomplice)
    world.players[0].world = world  # type: ignore[attr-defined]
    collect = world._collect

    def collected(waiting: deque[Any]) -> None:
        collect(waiting)
        trains, group = world.state.in_progress.open.purpose == "train", world.manager.roles.group()
        if trains and 0 in group and world.state.is_active(0):
            collect(deque(world.manager.withdraw(0, "was silent for 15 s")))

    world._collect = collected  # type: ignore[method-assign]
    world.play()
    accounts = world.state.ledger.accounts
    honest = [accounts[worker].vested for worker in range(1, workers)]
    print(f"rescue, {workers} workers, {rounds} rounds: a worker that always fakes is let go when it would be compared")
    print(
        f"  {world.fakes_applied} fakes applied in {rounds} rounds; {accounts[0].vested} credits vested to it, "
        f"{sum(honest) / len(honest):.1f} to an honest worker"
    )
    print(f"  {verify_summary(world, log)}")


def stingy(workers: int, rounds: int) -> None:
    """Choosing draws that vest least, and letting all but two go before the settlement."""
    print(f"keeping pay from vesting, {workers} workers, {rounds} rounds:")
    for choose, end in ((False, False), (False, True), (True, False), (True, True)):
        world, log = world_of(workers, rounds, "stingy")
        state = world.state
        while True:
            world.readmit()
            world.write()
            plan, accounts = world.manager.upcoming(), state.ledger.accounts
            if plan is not None and plan.purpose == "settle" and end:
                for worker in sorted(state.active(), key=lambda n: (accounts[n].pending, n))[2:]:
                    world.manager.withdraw(worker, "was silent for 15 s")
            elif plan is not None and plan.purpose == "train" and choose:
                secret = world.chain.secret(state.round)
                moves: list[tuple[int, ...]] = [(), *((worker,) for worker in state.active())]
                owed = {gone: sum(accounts[n].pending for n in group(state, secret, without=gone)) for gone in moves}
                for worker in min(moves, key=lambda gone: (owed[gone], gone)):
                    world.manager.withdraw(worker, "was silent for 15 s")
            if not world.step():
                break
        vested = sum(account.vested for account in state.ledger.accounts.values())
        earned = vested + sum(account.pending for account in state.ledger.accounts.values())
        print(
            f"  {'one withdrawal a round' if choose else 'nobody withdrawn in the rounds'}, "
            f"{'all but two' if end else 'nobody'} before the settlement: {vested:,} of {earned:,} credits vest "
            f"({vested / earned:.1%}); {verify_summary(world, log)}"
        )


class Cautious(Cheater):
    """Fakes only while so little of its pay is pending that a conviction costs it next to nothing."""

    world: World
    most = 3

    def result(self, task: Task) -> bytes:
        """A fake while at most `most` credits are pending."""
        pending = self.world.state.ledger.accounts[self.number].pending
        return self.fake(task) if pending <= self.most else honest_update(task)


def pending(workers: int, rounds: int, runs: int) -> None:
    """A lone worker that fakes while it has little to lose."""
    print(f"faking only while at most th credits are pending, {workers} workers, up to {rounds} rounds, {runs} runs:")
    for most in (0, 3, 10):
        fakes = paid = caught = 0
        for run in range(runs):
            world, _ = world_of(workers, rounds, f"pending-{run}", Cautious)
            player = world.players[0]
            player.world, player.most = world, most  # type: ignore[attr-defined]
            account, due, done = world.state.ledger.accounts[0], 0, 0
            while 0 not in world.evicted_in and world.state.round < rounds:
                before = (account.vested, account.pending, world.fakes_applied)
                if not world.step():
                    break
                if account.vested > before[0]:  # what was pending is its own now, fakes among it
                    paid, due = paid + due, 0
                done += (new := world.fakes_applied - before[2])
                due += new
            fakes, caught = fakes + done, caught + (0 in world.evicted_in)
        print(
            f"  th = {most}: {fakes / runs:.1f} fakes applied a run, {paid / runs:.1f} of them paid for "
            f"({paid / max(1, fakes):.0%}); caught in {caught} of {runs} runs"
        )


def main() -> None:
    """Measures all of them, or some."""
    parser = argparse.ArgumentParser(description="measure what the rules leave a manager, or a worker, free to do")
    parser.add_argument("--only", choices=["throws", "joins", "rescue", "stingy", "pending"], action="append")
    parser.add_argument("--workers", type=int, default=50, help="of every run")
    parser.add_argument("--rounds", type=int, default=200, help="of throws and joins")
    parser.add_argument("--runs", type=int, default=40, help="of pending")
    options = parser.parse_args()
    workers = options.workers
    moves: dict[str, Callable[[], None]] = {
        "throws": lambda: throws(workers, options.rounds),
        "joins": lambda: joins(workers, options.rounds),
        "rescue": lambda: rescue(workers, 100),
        "stingy": lambda: stingy(workers, 200),
        "pending": lambda: pending(workers, 400, options.runs),
    }
    for name, measure in moves.items():
        if not options.only or name in options.only:
            measure()


if __name__ == "__main__":
    main()

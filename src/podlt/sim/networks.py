"""Many runs over simulated networks, one a seed, and what must hold in each whatever went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import msgspec

from podlt.receipts import commitments
from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld

ROUNDS, WORKERS = 10, 6

EXAMPLES = (1, 4, 1, 16)
"""Of each worker's share of a round, by the seed: tasks can be cut more and less finely."""


class NetworkReport(msgspec.Struct, frozen=True):
    """What came of one run.

    Attributes:
        seed: that it is repeated by.
        rounds: how many were played.
        seconds: simulated ones.
        messages: how many were sent.
        kills: how often the manager died.
        withdrawn: how often a worker was let go.
        failure: what did not hold, and where in the code; empty if all did.
        faults: what went wrong.
    """

    seed: int
    rounds: int
    seconds: float
    messages: int
    kills: int
    withdrawn: int
    failure: str
    faults: NetworkFaults


def play_networks(
    seed: int, runs: int = 1, *, workers: int = WORKERS, rounds: int = ROUNDS, faults: NetworkFaults | None = None
) -> Iterator[NetworkReport]:
    """Plays runs of the real manager and workers over simulated networks.

    Args:
        seed: of the first; the others follow.
        runs: how many.
        workers: identities, two a process and some alone.
        rounds: of training, each.
        faults: what goes wrong; drawn from each seed, unless given.
    """
    pairs = workers // 3
    processes = [2] * pairs + [1] * (workers - 2 * pairs)
    for number in range(seed, seed + runs):
        world = NetworkedWorld(processes, rounds, number, faults, examples=EXAMPLES[number % len(EXAMPLES)])
        yield NetworkReport(
            seed=number,
            failure=_failure(world),
            rounds=world.state.round,
            seconds=world.schedule.now,
            messages=world.packets.carried,
            kills=world.kills,
            withdrawn=len(world.withdrawn),
            faults=world.faults,
        )


def _failure(world: NetworkedWorld) -> str:
    """Plays a run; what did not hold in it."""
    try:
        world.run()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({place.filename.rpartition('/podlt/')[2]}:{place.lineno})"
    fakes = world.fakes_applied
    wrong = [f"{fakes} updates were applied that are not what their tasks give"] if fakes else []
    return "; ".join([*wrong, *broken_promises(world)])


def broken_promises(world: NetworkedWorld) -> Iterator[str]:
    """What must hold at the end of a run, whoever cheated in it, and does not."""
    honest = world.honest
    if evicted := sorted(n for n in world.convicted_in if world.state.workers[n].key in honest):
        yield f"honest workers {evicted} were evicted"
    before = world.state
    world.state_from_log()
    if world.state.parameters != before.parameters or world.state.round != before.round:
        yield "the log gives another state than the manager had"
    rows, note, run = world.memory_log.rows, world.head, before.run
    saved = commitments.compare(world.bound.receipts, rows, note, world.key.public, run)
    if saved.dropped or saved.beyond:
        yield f"{len(saved.dropped)} commitments with receipts are not in the log, and {saved.beyond} are beyond it"
    numbers = {worker.key: number for number, worker in before.workers.items()}
    for host in world.hosts:
        for key, earned in host.earned.items():
            if key not in honest or earned.number != numbers.get(key) or earned.upto < world.tree.size:
                continue  # its last welcome or its last credits were lost, and the manager did not wait for ever
            account = before.ledger.accounts[numbers[key]]
            if (earned.pending, earned.vested) != (account.pending, account.vested):
                yield f"worker {numbers[key]} knows of {earned.vested} credits, and the ledger has {account.vested}"

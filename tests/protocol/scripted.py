"""A world whose players do what a test says, and the run that the tests of tampering and of the transcript share."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import msgspec

from podlt.crypto import SigningKey, digest
from podlt.dice import Dice
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.protocol.messages import Assignment, Committed, Opened, Task
from podlt.protocol.rules import RunState
from podlt.sim.players import Gossip, Player, honest_update
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.verify import Verification, verify_log
from podlt.verify.documents import Documents

SEED = digest("test/1", b"scripted")


class Scripted(Player):
    """A worker that is honest until a test sets `mood` to "fake", "silent" or "mute" (commits, and opens nothing)."""

    mood = "honest"
    returns = False

    def result(self, task: Task) -> bytes:
        fake = digest("scripted-fake/1", self.key.public, task.digest())
        return fake if self.mood == "fake" else honest_update(task)

    def commit(self, assignment: Assignment) -> list[Committed]:
        return [] if self.mood == "silent" else super().commit(assignment)

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        return [] if self.mood == "mute" else super().open(round)


def scripted(number: int, gossip: Gossip, seed: bytes = SEED) -> Scripted:
    name = number.to_bytes(8, "big")
    return Scripted(number, SigningKey(digest("key", seed, name)), Dice(digest("dice", seed, name)), gossip)


def scripted_world(
    scenario: Scenario, workers: int, seed: bytes = SEED, *, spare_secrets: int = 0
) -> tuple[World, MemoryLog]:
    log = MemoryLog()
    players = lambda gossip: [scripted(i, gossip, seed) for i in range(workers)]  # noqa: E731
    world = World(scenario, players, seed, log, spare_secrets=spare_secrets)
    world.begin()
    return world, log


SCENARIO = Scenario(lines=90, epochs=2, block_lines=20, fragment_lines=3, deposit=40, tested=True)


def eventful_run() -> tuple[World, MemoryLog]:
    """A small run in which everything happens: each kind of entry, each outcome, a stop, a return, a settlement."""
    world, log = scripted_world(SCENARIO, 7)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[0].mood = "fake"
    until(world, lambda: 0 in world.evicted_in)
    players[1].mood = "silent"
    world.step()
    players[1].mood = "honest"
    world.admit(players[1])
    world.step()
    players[2].mood = "mute"
    world.step()
    world.stop("for the test")
    world.manager.resume()
    players[2].mood = "honest"
    world.admit(players[2])
    for _ in range(3):
        newcomer = scripted(len(world.players), world.gossip)
        world.players.append(newcomer)
        world.admit(newcomer)
    world.manager.withdraw(7, "changed its mind")
    world.manager.return_deposits([7])
    players[5].mood = "mute"
    world.step()
    players[5].mood = "honest"
    world.admit(players[5])
    world.stop("once more")
    world.manager.resume()
    players[3].mood = "fake"
    until(world, lambda: 3 in world.evicted_in)
    until(world, lambda: world.state.trained)
    players[4].mood = "fake"
    while world.step():
        pass
    return world, log


def amended_run() -> tuple[World, MemoryLog]:
    """The eventful run, opened again for a third epoch by another optimiser, and ended within it."""
    world, log = eventful_run()
    world.manager.amend(3, '{"lr":0.1,"name":"sgd"}', "one more")
    world.write()
    for number, worker in world.state.workers.items():
        world.players[number].mood = "honest"  # type: ignore[attr-defined]
        if worker.status == "withdrawn":
            world.admit(world.players[number])
    world.step()
    world.manager.end("enough")
    log_figures(world)
    while world.step():
        pass
    return world, log


def log_figures(world: World) -> None:
    """Logs the figures that are due between rounds, and writes."""
    if world.state.measure_due:
        world.manager.measure({"accuracy": 0.5, "loss": 1.0})
    world.write()


def until(world: World, holds: Callable[[], bool]) -> None:
    while not holds():
        assert world.step(), "the run ended before it happened"


def replay(log: MemoryLog) -> RunState:
    state = RunState()
    for _, _, body in log.entries():
        state.apply(e.decode(body))
    return state


def verified(world: World, log: MemoryLog) -> Verification:
    """What `verify` says of a log, given the world's documents."""
    return verify_log(log, Documents(world.recipe, world.program), jobs=1)


WITH_MORE = {Claim.MANAGER, Claim.CONTINUITY, Claim.MODEL}
"""What no log shows: it takes a key, a head that somebody kept, a model."""


def failing(result: Verification) -> list[Claim]:
    """The claims that fail; none only if all others of `verify` hold that a log and its documents can show."""
    failed = [f.claim for f in result.findings if f.outcome is Outcome.FAILS]
    assert bool(failed) == (result.failure is not None) == (result.exit_code == 1)
    shown = {f.claim for f in result.findings if f.outcome is Outcome.HOLDS}
    assert failed or shown == {c for c in Claim if c.command == "verify"} - WITH_MORE
    return failed


def facts(state: RunState) -> dict[str, object]:
    """Everything that a state holds, comparable."""
    known = dict(vars(state))
    ledger, roster = known.pop("ledger"), known.pop("roster")
    return {**known, **vars(ledger), "workers": roster.workers, "order": roster.order}


NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from([2**20 - 1, 2**40 - 1, 2**63 - 1]))
PIECES = st.one_of(st.just(bytes(32)), st.binary(min_size=32, max_size=32))


def spoiled(data: st.DataObject, record: msgspec.Struct) -> msgspec.Struct:
    """A record with some fields drawn anew, each of its type."""
    changes: dict[str, object] = {}
    for field in msgspec.structs.fields(type(record)):
        value = getattr(record, field.name)
        if data.draw(st.integers(0, 3)) or field.name == "kind":
            continue
        if isinstance(value, int):
            changes[field.name] = data.draw(NUMBERS)
        elif isinstance(value, float):
            changes[field.name] = data.draw(st.floats())
        elif isinstance(value, bytes):
            changes[field.name] = data.draw(PIECES)[: len(value)] + bytes(max(0, len(value) - 32))
        elif isinstance(value, list):
            items = [spoiled(data, item) if isinstance(item, msgspec.Struct) else item for item in value]
            changes[field.name] = data.draw(st.permutations(items)) if data.draw(st.booleans()) else items[1:]
    return msgspec.structs.replace(record, **changes)

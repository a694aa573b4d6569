"""A world whose players do what a test says, and the run that the tests of tampering and of the transcript share."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

import hypothesis.strategies as st
import msgspec

from podlt.crypto import SigningKey, digest
from podlt.dice import Dice
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Outcome
from podlt.protocol.draw import Roles
from podlt.protocol.families.membership import AWAY
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Assignment, Committed, Opened, Task
from podlt.protocol.rules import RunState
from podlt.recipe import ProtocolSpec
from podlt.sim.players import Gossip, Player, honest_update
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.store.log_store import LogStore
from podlt.verify import Verification, verify_log
from podlt.verify.documents import Documents

SEED = digest("test/1", b"scripted")


class Scripted(Player):
    """A worker that is honest until a test sets its mood.

    Attributes:
        mood: "fake"; "silent"; "mute" (commits, and opens nothing); "slow" (is backed up, and both answer in time);
            "late" (is backed up, and answers after the backup).
    """

    mood = "honest"
    returns = False

    def result(self, task: Task) -> bytes:
        fake = digest("scripted-fake/1", self.key.public, task.digest())
        return fake if self.mood == "fake" else honest_update(task)

    def commit(self, assignment: Assignment) -> list[Committed]:
        return [] if self.mood == "silent" else super().commit(assignment)

    def open(self, round: int) -> list[tuple[Opened, bytes]]:
        return [] if self.mood == "mute" else super().open(round)


class ScriptedWorld(World):
    """A world whose manager backs up who is slow or late, suspects what a test names, and clips.

    Attributes:
        dealt: is called in each round once its tasks are dealt.
        suspected: shards of the next rounds that the manager suspects.
        clipped: what the next rounds clip.
    """

    suspected: Sequence[int] = ()
    clipped: Sequence[e.ClippedPart] = ()

    def dealt(self, roles: Roles) -> None:
        """Whatever a test makes of the roles, that nobody but the manager knows."""

    def _collect(self, waiting: deque[Assignment]) -> None:
        manager, apply = self.manager, Manager.apply
        manager.apply = lambda *said: apply(manager, *said, self.clipped)  # type: ignore[method-assign, assignment]
        self.dealt(manager.roles)
        for shard in self.suspected:
            manager.suspect(shard)
        delayed = [task for task in waiting if self._mood(task.holder) in ("slow", "late")]
        prompt = deque(task for task in waiting if task not in delayed)
        while prompt:
            prompt.extend(self._ask(prompt.popleft()))
        backups = [backup for task in delayed if (backup := manager.back_up(task.seat))]
        for task in (*backups, *(each for each in delayed if self._mood(each.holder) == "slow")):
            assert not self._ask(task)
        manager.commit()
        for task in delayed:
            if self._mood(task.holder) == "late" and self.state.is_active(task.holder):
                manager.committed(self.players[task.holder].commit(task)[0])
        super()._collect(deque())

    def suspect(self, shards: Sequence[int]) -> Sequence[int]:
        """Suspects shards of this round; returns them."""
        self.suspected = shards
        return shards

    def _mood(self, worker: int) -> str:
        return getattr(self.players[worker], "mood", "honest")


def scripted(number: int, gossip: Gossip, seed: bytes = SEED, operator: str = "") -> Scripted:
    name = number.to_bytes(8, "big")
    player = Scripted(number, SigningKey(digest("key", seed, name)), Dice(digest("dice", seed, name)), gossip)
    player.operator = operator
    return player


def scripted_world(
    scenario: Scenario,
    workers: int,
    seed: bytes = SEED,
    *,
    spare_secrets: int = 0,
    operators: Mapping[int, str] | None = None,
) -> tuple[ScriptedWorld, MemoryLog]:
    """A run that has begun.

    Args:
        operators: worker -> who runs it.
    """
    log, named = MemoryLog(), operators or {}
    players = lambda gossip: [scripted(i, gossip, seed, named.get(i, "")) for i in range(workers)]  # noqa: E731
    world = ScriptedWorld(scenario, players, seed, log, spare_secrets=spare_secrets)
    world.begin()
    return world, log


CLASSIC = ProtocolSpec(preset="classic")
GUARDED = ProtocolSpec(checked=0.5, own=0.3, clip=4, escrow=4)
"""Of each five shards or so two are checked, and one is the manager's own: much happens in a short run."""

SCENARIO = Scenario(examples=120, epochs=2, batch_size=30, shard_size=3, deposit=40, tested=True, protocol=GUARDED)


def eventful_run() -> tuple[ScriptedWorld, MemoryLog]:
    """A small guarded run in which everything happens: each kind of entry, each outcome, each reason, each transfer."""
    world, log = scripted_world(SCENARIO, 9, operators={1: "anna", 2: "anna", 3: "bea", 4: "bea"})
    players = moods(world)
    players[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    players[0].mood, players[1].mood = "honest", "silent"
    world.step()
    players[1].mood, players[5].mood, players[6].mood = "honest", "slow", "late"
    world.admit(players[1])
    world.admit(players[0])
    world.step()
    players[5].mood, players[6].mood, players[2].mood = "honest", "honest", "mute"
    world.step()
    world.stop("for the test")
    world.manager.resume()
    players[2].mood = "honest"
    world.admit(players[2])
    for _ in range(2):
        newcomer = scripted(len(world.players), world.gossip)
        world.players.append(newcomer)
        world.admit(newcomer)
    world.manager.withdraw(9, "changed its mind")
    world.manager.withdraw(8, "goes for good")
    players[0].mood = "fake"
    until(world, lambda: world.state.workers[0].status == "evicted")
    fake_in_turn(world, lambda roles: roles.checked[:1])
    fake_in_turn(world, lambda roles: [j for j in roles.own if j not in roles.checked])
    plain = lambda roles: [j for j in range(3) if j not in (*roles.own, *roles.checked)]  # noqa: E731
    fake_in_turn(world, lambda roles: world.suspect(plain(roles)))
    world.clipped = [e.ClippedPart(0, 0, 3), e.ClippedPart(1, 1, 1)]
    world.step()
    world.clipped = ()
    slow, slower, *_, quick = world.state.active()
    world.manager.share({slow: -1, slower: -2, quick: 1})
    for _ in range(GUARDED.escrow):
        world.step()
    world.manager.return_deposits([8, 9])
    while world.step():
        pass
    return world, log


def classic_run() -> tuple[ScriptedWorld, MemoryLog]:
    """A small classic run: one is outvoted, three that all differ go to the referee, one leaves and comes back."""
    scenario = Scenario(examples=60, batch_size=12, shard_size=2, deposit=40, protocol=CLASSIC)
    world, log = scripted_world(scenario, 7)
    players = moods(world)
    players[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    players[1].mood = "mute"
    world.step()
    players[1].mood = "honest"
    world.admit(players[1])
    two_of_three = lambda roles: roles.checked * 2  # noqa: E731
    fake_in_turn(world, two_of_three)
    while world.step():
        pass
    return world, log


def fake_in_turn(world: ScriptedWorld, where: Callable[[Roles], Sequence[int]]) -> None:
    """Plays rounds until one has shards of a kind: the workers of these fake, as many of each as it is named."""
    found: list[int] = []

    def dealt(roles: Roles) -> None:
        taken = Counter[int]()
        for shard in where(roles):
            found.append(roles.group(shard)[taken[shard]])
            taken[shard] += 1
        for worker in found:
            moods(world)[worker].mood = "fake"

    world.dealt = dealt  # type: ignore[method-assign]
    until(world, lambda: bool(found))
    del world.dealt
    world.suspected = ()
    for worker in found:
        assert worker in world.convicted_in
        moods(world)[worker].mood = "honest"


def amended_run() -> tuple[ScriptedWorld, MemoryLog]:
    """The eventful run, opened again for a third epoch by another optimiser, and ended within it."""
    world, log = eventful_run()
    world.manager.amend(3, '{"lr":0.1,"name":"sgd"}', "one more")
    world.write()
    for number, worker in world.state.workers.items():
        if worker.status in AWAY:
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


def moods(world: World) -> list[Scripted]:
    """The players, whose moods a test may set."""
    return world.players  # type: ignore[return-value]


def until(world: World, holds: Callable[[], bool]) -> None:
    while not holds():
        assert world.step(), "the run ended before it happened"


def replay(log: MemoryLog | LogStore) -> RunState:
    state = RunState()
    for _, _, body in log.entries():
        state.apply(e.decode(body))
    return state


def verified(world: World, log: MemoryLog) -> Verification:
    """What `verify` says of a log, given the world's documents."""
    return verify_log(log, Documents(world.recipe, world.program), jobs=1)


WITH_MORE = {Claim.MANAGER, Claim.CONTINUITY, Claim.MODEL, Claim.WITNESSES}
"""What no log shows: it takes a key, a head that somebody kept, a model, witnesses."""


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


WORDS = {
    "outcome": ["agree", "vote", "referee", "complete", "stopped"],
    "reason": ["compared", "own", "differ", "suspect"],
    "kind": ["earn", "vest", "forfeit", "seize", "return"],
    "optimizer": ["", "{}", "[]"],
}
"""What a text may be."""


def spoiled(data: st.DataObject, record: msgspec.Struct) -> msgspec.Struct:
    """A record with some fields drawn anew, each of its type."""
    changes: dict[str, object] = {}
    for field in msgspec.structs.fields(type(record)):
        value = getattr(record, field.name)
        if data.draw(st.integers(0, 3)):
            continue
        if isinstance(value, int):
            changes[field.name] = data.draw(NUMBERS)
        elif isinstance(value, str):
            changes[field.name] = data.draw(st.sampled_from(WORDS.get(field.name, ["", "a", "anna"])))
        elif isinstance(value, float):
            changes[field.name] = data.draw(st.floats())
        elif isinstance(value, bytes):
            changes[field.name] = data.draw(PIECES)[: len(value)] + bytes(max(0, len(value) - 32))
        elif isinstance(value, list):
            items = [spoiled(data, item) if isinstance(item, msgspec.Struct) else item for item in value]
            changes[field.name] = data.draw(st.permutations(items)) if data.draw(st.booleans()) else items[1:]
    return msgspec.structs.replace(record, **changes)

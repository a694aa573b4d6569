"""Verdicts: who is convicted, by what, and that in a guarded run no coalition convicts who worked."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from examples_drawn import examples
from hypothesis import given
from scripted import GUARDED, ScriptedWorld, failing, fake_in_turn, moods, scripted_world, until, verified

from podlt.crypto import digest
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import Opened, Task
from podlt.protocol.rules import RunState
from podlt.protocol.verdict import Judgement, judge
from podlt.recipe import ProtocolSpec
from podlt.sim.players import honest_update
from podlt.sim.world import Scenario, World

from .steps_of_a_round import answered, fresh, opened, refused, revealed

A, B, C, D = (bytes([n]) * 32 for n in range(4))
RESULTS = st.dictionaries(st.integers(0, 5), st.sampled_from([A, B, C]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("results", "own", "executed", "expected"),
    [
        ([A], True, None, None),
        ([A], True, A, ("agree", "own", A, [])),
        ([A], True, B, ("referee", "own", B, [0])),
        ([A, A], False, None, ("agree", "compared", A, [])),
        ([A, A], True, None, None),
        ([A, A], True, A, ("agree", "own", A, [])),
        ([A, A], True, B, ("referee", "own", B, [0, 1])),
        ([A, B], False, None, None),
        ([A, B], False, A, ("referee", "differ", A, [1])),
        ([A, B], False, C, ("referee", "differ", C, [0, 1])),
        ([A, B], True, B, ("referee", "differ", B, [0])),
        ([A, A, B], False, None, None),
        ([A, A, B], False, B, ("referee", "differ", B, [0, 1])),
        ([A, A, B, B], False, A, ("referee", "differ", A, [2, 3])),
    ],
)
def test_in_guarded_the_manager_executes_what_differs_and_what_is_its_own(
    results: list[bytes], own: bool, executed: bytes | None, expected: tuple[Any, ...] | None
) -> None:
    found = judge(dict(enumerate(results)), vote=False, own=own, executed=executed)
    assert found == (None if expected is None else Judgement(*expected))


@pytest.mark.parametrize(
    ("results", "executed", "expected"),
    [
        ([A, A, A], None, ("agree", "compared", A, [])),
        ([A, A, B], None, ("vote", "compared", A, [2])),
        ([B, A, A], C, ("vote", "compared", A, [0])),
        ([A, B, C], None, None),
        ([A, B, C], C, ("referee", "differ", C, [0, 1])),
        ([A, B, C], D, ("referee", "differ", D, [0, 1, 2])),
    ],
)
def test_in_classic_two_of_three_outvote_the_third(
    results: list[bytes], executed: bytes | None, expected: tuple[Any, ...] | None
) -> None:
    found = judge(dict(enumerate(results)), vote=True, own=False, executed=executed)
    assert found == (None if expected is None else Judgement(*expected))


@given(RESULTS, st.booleans(), st.sampled_from([A, B]))
def test_whoever_has_the_tasks_result_is_never_convicted_without_a_vote(
    results: dict[int, bytes], own: bool, truth: bytes
) -> None:
    found = judge(results, vote=False, own=own, executed=truth)
    assert found is not None and found.outcome != "vote"
    assert not any(results[worker] == truth for worker in found.convicted)
    differ = len(set(results.values())) > 1 or (own and truth not in results.values())
    assert bool(found.convicted) == differ and (not own or found.accepted == truth)


# -- whole runs --------------------------------------------------------------------------------------------------------


class Plotting(ScriptedWorld):
    """A world in which members of a coalition find what the strategy of a test says, all the same for a task."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.coalition: set[int] = set()

    def plot(self, coalition: set[int], fakes: dict[int, int]) -> None:
        """In the next rounds these fake, the same where the number that a shard has is the same; 0: honest."""
        self.coalition = coalition
        for number in coalition:
            player = moods(self)[number]
            player.result = lambda task: self._found(task, fakes)  # type: ignore[method-assign]

    def _found(self, task: Task, fakes: dict[int, int]) -> bytes:
        kind = fakes.get(self.state.in_progress.open.shards.index(task.shard), 0)
        return digest("plot/1", task.digest(), bytes([kind])) if kind else honest_update(task)


@examples(30)
@given(st.data())
def test_no_coalition_convicts_an_honest_worker_of_a_guarded_run(data: st.DataObject) -> None:
    """Whoever is in it, whatever they give, however few are honest, and whoever is slow, late or gone."""
    workers = data.draw(st.integers(2, 7))
    rules = ProtocolSpec(
        checked=data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])),
        own=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        own_most=data.draw(st.integers(0, 3)),
        escrow=2,
    )
    coalition = data.draw(st.sets(st.integers(0, workers - 1), max_size=workers - 1))
    operators = dict(enumerate(data.draw(st.lists(st.sampled_from(["", "a"]), min_size=7, max_size=7))))
    scenario = Scenario(examples=40, batch_size=10, protocol=rules)
    plain, log = scripted_world(scenario, workers, operators=operators)
    plain.__class__ = Plotting
    world: Plotting = plain  # type: ignore[assignment]
    for _ in range(3):
        world.plot(coalition, data.draw(st.dictionaries(st.integers(0, 6), st.integers(0, 2), max_size=7)))
        for player in moods(world):
            player.mood = data.draw(st.sampled_from(["honest"] * 4 + ["slow", "late", "mute", "silent"]))
        if not world.step():
            break
    assert set(world.convicted_in) <= coalition
    assert not failing(verified(world, log))


def test_a_worker_that_fakes_everything_is_named_by_its_own_execution_alone() -> None:
    """One worker and no spare: only the manager's own seat finds it."""
    rules = ProtocolSpec(checked=0.0, own=0.5)
    world, log = scripted_world(Scenario(examples=40, batch_size=2, protocol=rules), 1)
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    verdict = next(x for x in reversed(entries(log)) if isinstance(x, e.Verdict))
    assert (verdict.outcome, verdict.reason, verdict.convicted) == ("referee", "own", [0])


def entries(log: Any) -> list[e.AnyEntry]:
    return [e.decode(body) for _, _, body in log.entries()]


def test_two_convictions_of_a_round_are_one() -> None:
    """A worker whose own task and whose backup are both compared, both fakes: it is suspended, and may come back."""
    world = fresh(8, Scenario(examples=80, batch_size=8, protocol=ProtocolSpec(checked=0.4, own=0.0)))
    tasks = opened(world)
    backups = [backup for task in tasks if (backup := world.manager.back_up(task.seat)) is not None]
    faker = backups[0].holder
    moods(world)[faker].mood = "fake"
    for task in (*tasks, *backups):
        world.manager.committed(world.players[task.holder].commit(task)[0])
    world.manager.commit()
    for player in world.players:
        for message, uploaded in player.open(0):
            world.manager.opened(message, uploaded)
    world.manager.reveal()
    verdicts = world.manager.judge({f: world.honest_result(world.state.task(f)) for f in world.manager.to_execute()})
    assert sum(faker in verdict.convicted for verdict in verdicts) > 1
    world.manager.apply(bytes(32), bytes(32), 0.0)
    paid = world.manager.pay()
    assert world.state.workers[faker].convictions == 1 and world.state.workers[faker].status == "suspended"
    assert not [t for t in paid if t.worker == faker]


def test_passing_checks_is_counted_once_a_round_and_not_of_who_was_convicted() -> None:
    world, _ = scripted_world(Scenario(examples=40, batch_size=8, protocol=ProtocolSpec(checked=1.0, own=1.0)), 4)
    moods(world)[1].mood = "fake"
    world.step()
    assert {n: worker.checks_passed for n, worker in world.state.workers.items()} == {0: 1, 1: 0, 2: 1, 3: 1}


# -- what a manager may write ------------------------------------------------------------------------------------------


def verdict_on(world: World, shard: int, **fields: Any) -> e.Verdict:
    """The verdict that is due where all agree."""
    round = world.state.revealed
    reason = "own" if shard in round.roles.own else "compared"
    said = {"outcome": "agree", "reason": reason, "accepted": round.accepted(shard), "convicted": [], **fields}
    return e.Verdict(at=world.state.at, round=0, shard=shard, **said)


def test_a_classic_verdict_must_be_the_one_that_follows_from_the_results() -> None:
    world = fresh()
    round = revealed(world)
    checked = round.roles.checked[0]
    plain = (checked + 1) % len(round.open.shards)
    right = verdict_on(world, checked)
    everybody = sorted(round.answers[checked])
    for change in (
        {"shard": 99},
        {"shard": plain, "accepted": round.accepted(plain)},
        {"outcome": "vote"},
        {"accepted": bytes(32)},
        {"convicted": everybody[:1]},
        {"outcome": "referee", "reason": "differ", "accepted": bytes(32), "convicted": everybody},
        {"outcome": "referee", "reason": "own", "accepted": bytes(32), "convicted": everybody},
        {"outcome": "referee", "reason": "compared"},
        {"reason": "suspect"},
        {"reason": "own"},
        {"outcome": "referee", "reason": "suspect", "accepted": bytes(32), "convicted": []},
    ):
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Claim.VERDICTS, change
    world.state.apply(right)


HALF = Scenario(examples=40, batch_size=10, protocol=ProtocolSpec(checked=0.3, own=0.3))


def half() -> World:
    """A guarded round with a checked shard, the manager's own, and one that is neither."""
    for seed in range(50):
        world = scripted_world(HALF, 8, digest("half/1", bytes([seed])))[0]
        roles = revealed_roles(world)
        if roles.own and roles.checked and not set(roles.own) & set(roles.checked):
            return world
    raise AssertionError("no such round")


def revealed_roles(world: World) -> Any:
    return revealed(world).roles


def test_a_guarded_verdict_must_be_the_one_that_follows_from_the_results() -> None:
    world = half()
    round = world.state.revealed
    own, checked = round.roles.own[0], round.roles.checked[0]
    plain = next(f for f in range(len(round.open.shards)) if f not in round.due())
    pair = sorted(round.answers[checked])
    wrong = {
        own: [
            {"reason": "compared"},
            {"accepted": bytes(32)},
            {"outcome": "referee", "accepted": bytes(32)},
            {"outcome": "referee", "reason": "differ", "accepted": bytes(32), "convicted": sorted(round.answers[own])},
            {"outcome": "referee"},
        ],
        checked: [
            {"reason": "own"},
            {"outcome": "vote"},
            {"accepted": bytes(32)},
            {"convicted": pair[:1]},
            {"outcome": "referee", "reason": "differ", "accepted": bytes(32), "convicted": pair},
            {"outcome": "referee", "reason": "own", "accepted": bytes(32), "convicted": pair},
            {"outcome": "referee", "reason": "suspect", "accepted": bytes(32), "convicted": pair[1:]},
        ],
        plain: [
            {},
            {"reason": "own"},
            {"outcome": "referee", "reason": "own", "accepted": bytes(32), "convicted": sorted(round.answers[plain])},
        ],
    }
    for shard, changes in wrong.items():
        for change in changes:
            entry = msgspec.structs.replace(verdict_on(world, shard), **change)
            assert refused(world.state, entry).step == Claim.VERDICTS, (shard, change)
    world.state.apply(verdict_on(world, checked))
    assert refused(world.state, verdict_on(world, checked)).step == Claim.VERDICTS
    early = e.Apply(at=world.state.at, round=0, update=bytes(32), parameters=bytes(32), loss=0.0, clipped=[])
    for shard in set(round.due()) - {checked}:
        assert refused(world.state, early).step == Claim.VERDICTS
        world.state.apply(verdict_on(world, shard))
    world.state.apply(early)


def test_a_dispute_goes_to_the_referee_whatever_the_numbers() -> None:
    """Two of three agree (the seat, its spare, a backup), and the third is right: there is no vote."""
    world = fresh(6, Scenario(examples=40, batch_size=8, protocol=ProtocolSpec(checked=0.2, own=0.0)))
    tasks = opened(world)
    roles = world.manager.roles
    seat, spare = roles.group(roles.checked[0])
    backup = world.manager.back_up(seat)
    assert backup is not None
    same = digest("the same fake")
    for liar in (seat, spare):
        moods(world)[liar].result = lambda task: same  # type: ignore[method-assign]
    for task in (*tasks, backup):
        world.manager.committed(world.players[task.holder].commit(task)[0])
    world.manager.commit()
    due = set(world.manager.unopened())
    for player in world.players:
        for message, uploaded in player.open(0):
            if (message.seat, message.holder) in due and isinstance(message, Opened):
                world.manager.opened(message, uploaded)
    world.manager.reveal()
    assert len(world.state.revealed.answers[roles.checked[0]]) == 3
    shard = roles.checked[0]
    honest = world.honest_result(world.state.task(shard))
    for outcome, reason, accepted, convicted in (
        ("vote", "compared", same, [backup.holder]),
        ("agree", "compared", same, []),
        ("referee", "own", honest, sorted([seat, spare])),
    ):
        entry = verdict_on(world, shard, outcome=outcome, reason=reason, accepted=accepted, convicted=convicted)
        assert refused(world.state, entry).step == Claim.VERDICTS
    assert shard in world.manager.to_execute()
    found = world.manager.judge({shard: honest})
    verdict = next(v for v in found if v.shard == shard)
    assert (verdict.outcome, verdict.reason, verdict.convicted) == ("referee", "differ", sorted([seat, spare]))


@pytest.mark.parametrize("preset", ["classic", "guarded"])
def test_a_manager_may_overrule_only_by_saying_that_it_executed(preset: str) -> None:
    """What THREATS.md admits: a false "suspect" convicts by the manager's word, in sight of everybody who audits."""
    rules = ProtocolSpec("classic") if preset == "classic" else GUARDED
    world = fresh(6, Scenario(examples=40, batch_size=10, protocol=rules))
    answered(world)
    world.manager.suspect(0)
    world.manager.reveal()
    assert 0 in world.manager.to_execute()
    state = world.state
    others = {f: world.honest_result(state.task(f)) for f in world.manager.to_execute()}
    world.manager.judge({**others, 0: bytes(32)})
    verdict = state.revealed.verdicts[0]
    assert (verdict.outcome, verdict.reason) == ("referee", "suspect")
    assert verdict.convicted == sorted(state.revealed.answers[0]) and state.revealed.uploads()[0] is None


def test_a_verdict_before_the_reveal_or_of_another_round_is_refused() -> None:
    world = fresh(6, HALF)
    answered(world)
    entry = e.Verdict(at=world.state.at, round=0, shard=0, outcome="agree", reason="compared", accepted=A, convicted=[])
    assert refused(world.state, entry).step == Claim.PROGRESS
    world.manager.reveal()
    assert refused(world.state, msgspec.structs.replace(entry, round=1)).step == Claim.PROGRESS
    assert refused(RunState(), entry).step == Claim.PROGRESS


def test_the_worker_of_an_own_shard_that_nobody_else_had_is_found_by_the_manager() -> None:
    world, log = scripted_world(HALF, 8)
    fake_in_turn(world, lambda roles: [f for f in roles.own if f not in roles.checked])
    last = [x for x in entries(log) if isinstance(x, e.Verdict) and x.convicted]
    assert {(x.outcome, x.reason) for x in last} == {("referee", "own")}

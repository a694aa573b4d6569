"""Escrow, first in first out: a credit is its worker's once so many younger ones are there, or the worker left."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import msgspec
import pytest
from examples_drawn import examples
from hypothesis import given
from scripted import GUARDED, failing, log_figures, moods, scripted_world, until, verified

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.ledger import Account, Ledger, move
from podlt.protocol.plan import shard_bounds
from podlt.protocol.rules import RunState
from podlt.recipe import ProtocolSpec
from podlt.sim.world import MemoryLog, Scenario, World

from .steps_of_a_round import begin_of, refused

ESCROW = GUARDED.escrow
SCENARIO = Scenario(examples=300, batch_size=6, deposit=100, protocol=GUARDED)


class NaiveEscrow:
    """What SPEC.md, 4.4, says, read word for word: all credits of a worker, and how many are its own.

    Args:
        escrow: how many younger credits vest one.
    """

    def __init__(self, escrow: int) -> None:
        self.escrow = escrow
        self.credits: dict[int, list[int]] = {}
        self.own = Counter[int]()
        self.vested = Counter[int]()
        self.owed = Counter[int]()

    def earn(self, worker: int, amount: int) -> None:
        """One credit: lost where it is owed."""
        self.credits.setdefault(worker, [])
        if self.owed[worker]:
            self.owed[worker] -= 1
        else:
            self.credits[worker].append(amount)

    def end_round(self, convicted: set[int], gone: set[int]) -> None:
        """Credits with at least `escrow` younger ones vest, and all of who is gone for long; of a fraud none do."""
        for worker, credits in self.credits.items():
            count = len(credits) if worker in gone else max(self.own[worker], len(credits) - self.escrow)
            if worker not in convicted:
                self.vested[worker] += sum(credits[self.own[worker] : count])
                self.own[worker] = count
        for worker in convicted:
            self.owed[worker] = self.escrow - len(self.credits.get(worker, [])[self.own[worker] :])
            self.credits[worker], self.own[worker] = [], 0

    def release(self, worker: int) -> None:
        credits = self.credits.get(worker, [])
        self.vested[worker] += sum(credits[self.own[worker] :])
        self.own[worker] = len(credits)

    def pending(self, worker: int) -> int:
        return sum(self.credits.get(worker, [])[self.own[worker] :])


def naive(log: MemoryLog) -> NaiveEscrow:
    """All credits of a log, worked out without the ledger."""
    state, left = RunState(), dict[int, int]()
    found = NaiveEscrow(0)
    for _, _, body in log.entries():
        entry = e.decode(body)
        if isinstance(entry, e.Begin):
            found = NaiveEscrow(entry.escrow)
        elif isinstance(entry, e.Join):
            left.pop(entry.worker, None)
        elif isinstance(entry, e.Withdraw):
            left[entry.worker] = state.round
        elif isinstance(entry, e.Pay):
            round = state.revealed
            bounds = shard_bounds(round.open.examples, len(round.open.shards))
            convicted = {worker for verdict in round.verdicts.values() for worker in verdict.convicted}
            for seat, holder in sorted(round.results):
                start, stop = bounds[round.roles.seats[seat]]
                if holder not in convicted:
                    found.earn(holder, (stop - start) * begin_reward(state))
            gone = {worker for worker, since in left.items() if since + found.escrow <= state.round}
            found.end_round(convicted, gone)
        elif isinstance(entry, e.Release):
            for transfer in entry.transfers:
                if transfer.kind == "vest":
                    found.release(transfer.worker)
        before = set(state.active())
        state.apply(entry)
        if isinstance(entry, e.Amend):
            left |= dict.fromkeys(before - set(state.active()), state.round)
    return found


def begin_reward(state: RunState) -> int:
    assert state.begin is not None
    return state.begin.reward


def same(world: World, log: MemoryLog) -> bool:
    """Whether the ledger has what the naive reading gives."""
    model, accounts = naive(log), world.state.ledger.accounts
    return all((a.vested, a.pending) == (model.vested[n], model.pending(n)) for n, a in accounts.items())


@examples(150)
@given(
    st.integers(0, 5),
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 3), st.lists(st.integers(1, 9), min_size=1, max_size=3), max_size=4),
            st.sets(st.integers(0, 3), max_size=2),
            st.sets(st.integers(0, 3), max_size=1),
        ),
        max_size=25,
    ),
)
def test_the_ledger_pays_what_a_naive_reading_pays(
    escrow: int, rounds: list[tuple[dict[int, list[int]], set[int], set[int]]]
) -> None:
    ledger, model = Ledger(escrow), NaiveEscrow(escrow)
    for worker in range(4):
        ledger.open(worker)
    for earned, convicted, gone in rounds:
        gone = gone - set(earned) - convicted  # who is gone for long has no task, and nobody convicts it
        transfers = ledger.owed(earned, convicted, gone)
        kinds = [(("earn", "vest", "forfeit", "seize").index(t.kind), t.worker) for t in transfers]
        assert kinds == sorted(set(kinds)) and all(t.amount > 0 for t in transfers)
        ledger.pay(transfers, earned, convicted)
        for worker, amounts in earned.items():
            for amount in amounts if worker not in convicted else ():
                model.earn(worker, amount)
        model.end_round(convicted, gone)
        for worker, account in ledger.accounts.items():
            assert (account.vested, account.pending) == (model.vested[worker], model.pending(worker))
            assert ledger.credits(worker) == model.credits.get(worker, [])[model.own[worker] :]
            assert len(ledger.credits(worker)) <= escrow or worker in gone
        assert ledger.total() == 0 and ledger.pending == sum(a.pending for a in ledger.accounts.values())


@examples(12)
@given(st.data())
def test_a_run_pays_what_a_naive_reading_of_its_log_pays(data: st.DataObject) -> None:
    rules = ProtocolSpec(checked=0.5, own=0.2, escrow=data.draw(st.integers(0, 4)), reward=data.draw(st.integers(0, 2)))
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, examples=40, protocol=rules), 6, spare_secrets=99)
    names = ["honest"] * 5 + ["fake", "silent", "mute", "slow", "late"]
    going = True
    while going:
        for player in moods(world):
            player.mood = data.draw(st.sampled_from(names))
            worker = world.state.workers[player.number]
            if worker.status in ("withdrawn", "suspended") and data.draw(st.booleans()):
                world.admit(player)
        going = world.step()
    assert same(world, log)


def vests(log: MemoryLog, worker: int) -> list[tuple[int, int]]:
    """In which rounds what vested of a worker."""
    pays = [entry for _, _, body in log.entries() if isinstance(entry := e.decode(body), e.Pay)]
    return [(pay.round, t.amount) for pay in pays for t in pay.transfers if (t.kind, t.worker) == ("vest", worker)]


def test_a_conviction_costs_as_many_credits_as_an_escrow_holds_whenever_it_comes() -> None:
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, shard_size=1), 6)
    world.step()
    moods(world)[4].mood = "fake"
    until(world, lambda: 4 in world.convicted_in)
    lost, ledger = world.state.ledger.accounts[4].forfeited, world.state.ledger
    owes = ledger.owes(4)
    assert owes == ESCROW - lost and owes > 0  # a credit is one here, and there is one a round
    moods(world)[4].mood = "honest"
    world.admit(world.players[4])
    while ledger.owes(4):
        world.step()
        assert ledger.accounts[4].pending == ledger.accounts[4].vested == 0
    assert ledger.accounts[4].forfeited == ESCROW
    world.step()
    assert ledger.accounts[4].pending == 1 and same(world, log)


def test_who_leaves_is_paid_in_full_so_many_rounds_later_and_not_before() -> None:
    world, log = scripted_world(SCENARIO, 6)
    for _ in range(3):
        world.step()
    world.manager.withdraw(4, "goes")
    pending, left = world.state.ledger.accounts[4].pending, world.state.round
    assert pending > 0
    for _ in range(ESCROW):
        world.step()
        assert world.state.ledger.accounts[4].pending == pending
    world.step()
    assert world.state.ledger.accounts[4].pending == 0 and vests(log, 4)[-1] == (left + ESCROW, pending)
    assert same(world, log)


def test_who_leaves_within_a_round_waits_from_that_round() -> None:
    world, log = scripted_world(SCENARIO, 6)
    for _ in range(2):
        world.step()
    moods(world)[4].mood = "mute"
    until(world, lambda: world.state.workers[4].status == "withdrawn")
    left = world.state.workers[4].left
    assert left == world.state.round - 1
    until(world, lambda: world.state.ledger.accounts[4].pending == 0)
    assert vests(log, 4)[-1][0] == left + ESCROW == world.state.round - 1


def test_who_comes_back_in_time_has_its_pay_still_at_stake() -> None:
    world, _ = scripted_world(SCENARIO, 6)
    for _ in range(3):
        world.step()
    world.manager.withdraw(4, "goes")
    pending = world.state.ledger.accounts[4].pending
    for _ in range(ESCROW - 1):
        world.step()
    world.admit(world.players[4])
    moods(world)[4].mood = "fake"
    until(world, lambda: 4 in world.convicted_in)
    account = world.state.ledger.accounts[4]
    assert account.pending == 0 and account.forfeited >= pending and account.seized == 100


def test_leaving_twice_waits_from_the_second_time() -> None:
    world, log = scripted_world(SCENARIO, 6)
    world.step()
    world.manager.withdraw(4, "goes")
    world.step()
    world.admit(world.players[4])
    world.manager.withdraw(4, "goes again")
    left = world.state.round
    until(world, lambda: world.state.ledger.accounts[4].pending == 0)
    assert world.state.round - 1 == left + ESCROW and same(world, log)


def test_at_the_end_all_that_is_pending_vests_whoever_left() -> None:
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, examples=18), 6)
    world.step()
    world.manager.withdraw(4, "goes")
    while world.step():
        pass
    accounts = world.state.ledger.accounts.values()
    assert all(a.pending == a.deposit == a.forfeited == 0 and a.returned == 100 for a in accounts)
    assert sum(a.vested for a in accounts) + 600 == -world.state.ledger.treasury
    release = [entry for _, _, body in log.entries() if isinstance(entry := e.decode(body), e.Release)]
    assert len(release) == 1 and {t.kind for t in release[0].transfers} == {"vest", "return"} and same(world, log)


def test_without_escrow_pay_vests_at_once() -> None:
    rules = msgspec.structs.replace(GUARDED, escrow=0)
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, protocol=rules), 5)
    for _ in range(4):
        world.step()
        assert all(account.pending == 0 for account in world.state.ledger.accounts.values())
    assert same(world, log)


@pytest.mark.parametrize("early", ["vest", "return", "both"])
def test_nothing_vests_by_a_release_before_the_end(early: str) -> None:
    world, _ = scripted_world(SCENARIO, 5)
    for _ in range(3):
        world.step()
    account = world.state.ledger.accounts[2]
    both = {"vest": account.pending, "return": account.deposit}
    transfers = [e.Transfer(k, 2, n) for k, n in both.items() if early in (k, "both")]  # type: ignore[arg-type]
    assert account.pending and account.deposit
    assert refused(world.state, e.Release(at=world.state.at, transfers=transfers)).step == Claim.PAYMENTS


def test_a_round_pays_to_the_credit_what_its_tasks_owe() -> None:
    world, _ = scripted_world(SCENARIO, 6)
    for _ in range(ESCROW + 1):
        world.step()
    moods(world)[5].mood = "fake"
    until(world, lambda: 5 in world.convicted_in)
    paid = next(entry for entry in reversed(log_of(world)) if isinstance(entry, e.Pay))
    index = log_of(world).index(paid)
    assert [t.kind for t in paid.transfers if t.worker == 5] == ["forfeit", "seize"]
    for change in (
        paid.transfers[1:],
        [*paid.transfers, e.Transfer("earn", 5, 1)],
        [t for t in paid.transfers if t.kind != "vest"],
        [t for t in paid.transfers if t.kind != "forfeit"],
        [t for t in paid.transfers if t.kind != "seize"],
        [msgspec.structs.replace(paid.transfers[0], amount=paid.transfers[0].amount + 1), *paid.transfers[1:]],
        sorted(paid.transfers, key=lambda t: t.worker),
        [],
    ):
        state = RunState()
        for entry in log_of(world)[:index]:
            state.apply(entry)
        assert refused(state, msgspec.structs.replace(paid, transfers=change)).step == Claim.PAYMENTS


def log_of(world: World) -> list[e.AnyEntry]:
    assert isinstance(world.log, MemoryLog)
    return [e.decode(body) for _, _, body in world.log.entries()]


@pytest.mark.parametrize("kind", ["earn", "vest", "forfeit", "seize", "return"])
def test_each_transfer_takes_from_one_account_what_it_gives_to_another(kind: str) -> None:
    account, treasury = Account(pending=5, vested=1, deposit=7), -13
    treasury += move(account, e.Transfer(kind, 0, 5))  # type: ignore[arg-type]
    assert treasury + account.pending + account.vested + account.deposit + account.returned == 0


@pytest.mark.parametrize("kind", ["vest", "forfeit", "seize", "return"])
def test_no_account_goes_below_zero(kind: str) -> None:
    with pytest.raises(InvalidProofError, match="not 8"):
        move(Account(pending=7, deposit=7), e.Transfer(kind, 0, 8))  # type: ignore[arg-type]


def test_with_a_reward_of_nothing_nothing_moves() -> None:
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, protocol=ProtocolSpec(reward=0), deposit=0), 4)
    while world.step():
        pass
    log_figures(world)
    assert begin_of(world).reward == 0
    assert not any(entry.transfers for entry in log_of(world) if isinstance(entry, e.Pay))
    assert not failing(verified(world, log))

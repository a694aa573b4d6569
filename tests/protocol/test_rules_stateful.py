"""The rules under everything that can happen, in any order: what must hold does hold after every step."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from examples_drawn import ALL
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scripted import Scripted, facts, failing, log_figures, replay, scripted, scripted_world, verified

from podlt.crypto import digest
from podlt.errors import InvalidProofError
from podlt.log.merkle import EMPTY_ROOT
from podlt.log.tree_head import open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.families.membership import AWAY, may_return
from podlt.recipe import ProtocolSpec
from podlt.sim.world import Scenario

from .test_escrow import same

MOODS = ["honest"] * 6 + ["fake", "silent", "mute", "slow", "late"]


class AnyRun(RuleBasedStateMachine):
    """A run in which workers fake, are late, leave, come back and join, and which stops, ends and goes on."""

    @initialize(
        preset=st.sampled_from(["classic", "guarded", "guarded"]),
        shares=st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0.0, 0.3, 1.0])),
        own_most=st.integers(0, 3),
        escrow=st.integers(0, 5),
        first_fault=st.sampled_from(["suspend", "evict"]),
        operators=st.lists(st.sampled_from(["", "a", "b"]), min_size=12, max_size=12),
        workers=st.integers(3, 7),
        examples=st.integers(1, 60),
        batch=st.integers(1, 25),
        shard=st.integers(0, 4),
        epochs=st.integers(1, 2),
        reward=st.integers(0, 3),
        deposit=st.integers(0, 9),
        tested=st.booleans(),
        seed=st.binary(max_size=4),
    )
    def begin(
        self,
        preset: Any,
        shares: tuple[float, float],
        own_most: int,
        escrow: int,
        first_fault: Any,
        operators: list[str],
        workers: int,
        examples: int,
        batch: int,
        shard: int,
        epochs: int,
        reward: int,
        deposit: int,
        tested: bool,
        seed: bytes,
    ) -> None:
        more = {"checked": shares[0], "own": shares[1], "own_most": own_most, "first_fault": first_fault}
        rules = ProtocolSpec(preset, escrow=escrow, reward=reward, **(more if preset == "guarded" else {}))
        scenario = Scenario(
            examples=examples,
            epochs=epochs,
            batch_size=batch,
            shard_size=min(shard, batch),
            deposit=deposit,
            tested=tested,
            protocol=rules,
        )
        self.operators = dict(enumerate(operators))
        self.world, self.log = scripted_world(
            scenario, workers, digest("stateful", seed), spare_secrets=2000, operators=self.operators
        )
        self.ever_faked: set[int] = set()

    def open_for_more(self) -> bool:
        return self.world.state.closed is None

    def stopped(self) -> bool:
        closed = self.world.state.closed
        return closed is not None and closed.outcome == "stopped"

    @precondition(open_for_more)
    @rule(moods=st.lists(st.sampled_from(MOODS), min_size=12, max_size=12), suspected=st.booleans())
    def play_a_round(self, moods: list[str], suspected: bool) -> None:
        self.world.suspected = [0] if suspected else []
        for player, mood in zip(self.players(), moods, strict=False):
            player.mood = mood
            if mood == "fake":
                self.ever_faked.add(player.number)
        self.world.step()

    @precondition(open_for_more)
    @rule(number=st.integers(0, 11))
    def leave_between_rounds(self, number: int) -> None:
        if number in self.world.state.active():
            self.world.manager.withdraw(number, "left")
            self.world.write()

    @precondition(open_for_more)
    @rule(number=st.integers(0, 11))
    def come_back(self, number: int) -> None:
        worker = self.world.state.workers.get(number)
        if worker is not None and worker.status in AWAY and may_return(worker):
            self.world.admit(self.world.players[number])
            self.world.write()

    @precondition(open_for_more)
    @rule()
    def join_anew(self) -> None:
        if len(self.world.players) < 12:
            number = len(self.world.players)
            player = scripted(number, self.world.gossip, operator=self.operators[number])
            self.world.players.append(player)
            self.world.admit(player)
            self.world.write()

    @precondition(open_for_more)
    @rule(number=st.integers(0, 11))
    def ask_for_the_deposit(self, number: int) -> None:
        state = self.world.state
        if number in state.workers:
            worker, account = state.workers[number], state.ledger.accounts[number]
            waited = worker.status in AWAY and state.round - worker.left >= state.options.escrow
            due = account.deposit if (waited and not account.pending) or state.trained else 0
            given = self.world.manager.return_deposits([number])
            self.world.write()
            assert sum(t.amount for t in given) == due and {t.worker for t in given} <= {number}

    @precondition(open_for_more)
    @rule()
    def stop(self) -> None:
        self.world.stop("by hand")

    @precondition(open_for_more)
    @rule()
    def end_early(self) -> None:
        self.world.manager.end("by hand")
        log_figures(self.world)

    @precondition(open_for_more)
    @rule(more=st.integers(0, 2))
    def amend(self, more: int) -> None:
        self.world.manager.amend(self.world.state.epoch + more, '{"lr":0.5}' if more else "")
        log_figures(self.world)

    @precondition(stopped)
    @rule()
    def resume(self) -> None:
        self.world.manager.resume()
        self.world.write()

    def complete(self) -> bool:
        closed = self.world.state.closed
        return closed is not None and closed.outcome == "complete"

    @precondition(complete)
    @rule(amends=st.booleans())
    def nothing_but_another_epoch_follows_a_complete_run(self, amends: bool) -> None:
        state = replay(self.log)
        entry = e.Amend(at=state.at, epochs=state.epoch, optimizer="", reason="") if amends else e.Resume(at=state.at)
        with pytest.raises(InvalidProofError):
            state.apply(entry)

    @precondition(complete)
    @rule()
    def open_again_for_another_epoch(self) -> None:
        state = self.world.state
        active = state.active()
        self.world.manager.amend(state.epoch + 1)
        self.world.write()
        assert not state.active()
        for number in active:
            self.world.admit(self.world.players[number])
        self.world.write()

    @invariant()
    def all_accounts_sum_to_zero(self) -> None:
        assert self.world.state.ledger.total() == 0

    @invariant()
    def every_deposit_is_held_or_returned_or_its_owner_was_caught(self) -> None:
        state = self.world.state
        brought, seized = dict.fromkeys(state.workers, 0), dict.fromkeys(state.workers, 0)
        for _, _, body in self.log.entries():
            entry = e.decode(body)
            if isinstance(entry, e.Join):
                brought[entry.worker] += entry.deposit
            elif isinstance(entry, e.Pay):
                for transfer in entry.transfers:
                    seized[transfer.worker] += transfer.amount if transfer.kind == "seize" else 0
        for number, account in state.ledger.accounts.items():
            assert account.deposit + account.returned + account.seized == brought[number]
            assert account.seized == seized[number]
            worker = state.workers[number]
            if worker.status in ("evicted", "suspended"):
                assert account.deposit == account.pending == 0 < worker.convictions
            if not worker.convictions:
                assert account.forfeited == account.seized == 0
            assert seized[number] <= worker.convictions * self.world.scenario.deposit
            assert worker.convictions <= (2 if state.options.first_fault == "suspend" else 1)
            assert not self.complete() or account.deposit == 0
        assert state.ledger.taken == sum(brought.values())

    @invariant()
    def who_never_faked_is_never_convicted(self) -> None:
        """In classic too: the fakes of this world all differ, so that no two outvote a third."""
        assert set(self.world.convicted_in) <= self.ever_faked

    @invariant()
    def nobody_votes_in_a_guarded_run(self) -> None:
        verdicts = [entry for _, _, body in self.log.entries() if isinstance(entry := e.decode(body), e.Verdict)]
        assert self.world.state.options.votes or all(verdict.outcome != "vote" for verdict in verdicts)

    @invariant()
    def the_ledger_has_what_a_naive_reading_gives(self) -> None:
        assert same(self.world, self.log)

    @invariant()
    def each_example_is_used_once_an_epoch(self) -> None:
        used: dict[int, int] = {}
        for _, _, body in self.log.entries():
            entry = e.decode(body)
            if isinstance(entry, e.Open):
                assert entry.offset == used.get(entry.epoch, 0)
                assert 0 < entry.examples <= self.world.scenario.examples - entry.offset
                used[entry.epoch] = entry.offset + entry.examples
        done = range(self.world.state.epoch)
        assert all(used[epoch] == self.world.scenario.examples for epoch in done)

    @invariant()
    def the_figures_of_each_epoch_are_there_once_it_is_done(self) -> None:
        used, whole, parts = 0, [], []
        for _, _, body in self.log.entries():
            entry = e.decode(body)
            if isinstance(entry, e.Open):
                used = entry.offset + entry.examples
            elif isinstance(entry, e.Measure):
                (whole if used == self.world.scenario.examples else parts).append((entry.epoch, used))
        done = self.world.state.epoch if self.world.scenario.tested else 0
        assert [epoch for epoch, _ in whole] == list(range(done))
        assert sorted(set(parts)) == parts, "once where training ended within an epoch"

    @invariant()
    def every_joining_was_signed_over_a_head_of_this_log_and_serves_once(self) -> None:
        roots, last = {0: EMPTY_ROOT}, {}
        for size, note in self.log.heads():
            roots[size] = open_head(note, self.world.key.public, origin_of(self.world.state.run)).root
        for index, _, body in self.log.entries():
            if isinstance(entry := e.decode(body), e.Join):
                assert entry.seen <= index and roots[entry.seen] == entry.root
                assert entry.worker not in last or entry.seen > last[entry.worker]
                last[entry.worker] = index

    @invariant()
    def replaying_the_log_gives_the_live_state(self) -> None:
        again, live = facts(replay(self.log)), facts(self.world.state)
        assert again == live, {name: (again[name], live[name]) for name in live if again[name] != live[name]}

    def teardown(self) -> None:
        if hasattr(self, "world"):
            assert not failing(verified(self.world, self.log))

    def players(self) -> list[Scripted]:
        return self.world.players  # type: ignore[return-value]


AnyRun.TestCase.settings = settings(max_examples=60 if ALL else 15, stateful_step_count=20, deadline=None)
test_any_run_keeps_the_rules = AnyRun.TestCase


def a_run(**options: Any) -> AnyRun:
    """The smallest, but for the options."""
    small = dict(workers=3, examples=2, batch=1, shard=0, epochs=1, reward=0, deposit=1, tested=False, seed=b"")
    rules = dict(preset="classic", shares=(0.0, 0.0), own_most=1, escrow=5, first_fault="suspend", operators=[""] * 12)
    run = AnyRun()
    run.begin(**(rules | small | options))
    return run


def test_who_took_its_deposit_back_at_an_end_brings_it_again_when_training_goes_on() -> None:
    """Found by the machine: it stayed active, faked without anything at stake, and kept what it had taken back."""
    run = a_run()
    run.end_early()
    run.join_anew()
    run.ask_for_the_deposit(number=3)
    assert run.world.state.ledger.accounts[3].deposit == 0 and run.world.state.is_active(3)
    run.amend(more=1)
    assert run.world.state.workers[3].status == "withdrawn"
    assert run.world.state.active() == [0, 1, 2]
    run.every_deposit_is_held_or_returned_or_its_owner_was_caught()
    run.replaying_the_log_gives_the_live_state()

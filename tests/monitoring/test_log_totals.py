"""Totals over a log, against the rules that the log was written by."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from podlt.monitoring.log_totals import LogFollower, LogTotals
from podlt.protocol import entries as e
from podlt.protocol.round import RevealedRound
from podlt.report.fold import walk
from podlt.store.log_store import LogStore


@pytest.mark.parametrize(("run", "status"), [("eventful", "suspended"), ("classic", "evicted")])
def test_totals_are_those_that_the_rules_come_to(request: pytest.FixtureRequest, run: str, status: str) -> None:
    path = request.getfixturevalue(run)
    follower = LogFollower(path)
    assert follower.catch_up(60) and follower.problem == ""
    totals = follower.totals
    follower.close()
    kinds: Counter[type[e.Entry]] = Counter()
    lines = executed = 0
    for visit in walk(path):
        kinds[type(visit.entry)] += 1
        if isinstance(visit.entry, e.Apply):
            assert visit.round is not None
            lines += visit.round.open.examples
            assert isinstance(visit.round, RevealedRound)
            judged = {v.shard for v in visit.round.verdicts.values() if v.outcome == "referee"}
            executed += len(judged | set(visit.round.roles.own))
        state = visit.state
    accounts = state.ledger.accounts.values()
    assert totals.pending == sum(a.pending for a in accounts)
    assert totals.vested == sum(a.vested for a in accounts) > 0
    assert totals.forfeited == sum(a.forfeited for a in accounts) > 0
    assert totals.deposits == sum(a.deposit for a in accounts) == 0
    assert totals.returned == sum(a.returned for a in accounts) > 0
    assert totals.seized == sum(a.seized for a in accounts) == 60
    assert totals.pending + totals.vested + totals.returned == -state.ledger.treasury
    assert totals.workers == {number: worker.status for number, worker in state.workers.items()}
    assert sum(totals.convictions.values()) == sum(w.status == status for w in state.workers.values()) == 2
    assert totals.executions == executed and (executed > 0) == (run == "eventful")
    assert (totals.redeals, totals.withdrawals) == (kinds[e.Redeal], kinds[e.Withdraw])
    assert totals.redeals > 0 and totals.returns == kinds[e.Join] - len(state.workers) > 0
    assert totals.entries == kinds.total() and totals.rounds == kinds[e.Apply] and totals.examples == lines
    assert totals.closed == "complete"


def test_a_log_that_grows_is_followed_from_where_it_was_left(eventful: Path, tmp_path: Path) -> None:
    with closing(LogStore.at(eventful / "log.db", readonly=True)) as store:
        bodies, heads = [body for _, _, body in store.entries()], store.heads()
    follower = LogFollower(tmp_path)
    assert not follower.catch_up() and "no run here" in follower.problem
    written, steps = 0, []
    with closing(LogStore.at(tmp_path / "log.db", create=True)) as store:
        for size, note in heads:
            store.append(written, bodies[written:size], note)
            written = size
            assert follower.catch_up(60)
            assert follower.totals.entries == size
            steps.append(follower.totals.vested)
    assert steps == sorted(steps) and follower.problem == ""
    whole = LogFollower(eventful)
    whole.catch_up(60)
    assert follower.totals == whole.totals
    follower.close()
    whole.close()


def test_a_long_log_is_read_a_piece_at_a_time(eventful: Path) -> None:
    follower = LogFollower(eventful)
    assert not follower.catch_up(0.0)
    first = follower.totals.entries
    assert first == 1
    while not follower.catch_up(0.0):
        assert follower.totals.entries == first + 1
        first += 1
    assert follower.totals.closed == "complete"
    follower.close()


def test_a_worker_that_two_verdicts_name_is_convicted_once_and_evicted_by_another_round() -> None:
    totals = LogTotals()
    joined = e.Join(
        at=1,
        worker=0,
        key=bytes(32),
        operator="",
        deposit=0,
        seen=0,
        root=bytes(32),
        signature=bytes(64),
        share=bytes(64),
    )
    for round, status in enumerate(("suspended", "evicted")):
        totals.take(joined)
        for shard, reason in enumerate(("differ", "suspect")):
            totals.take(
                e.Verdict(
                    at=2,
                    round=round,
                    shard=shard,
                    outcome="referee",
                    reason=reason,  # type: ignore[arg-type]
                    accepted=bytes(32),
                    convicted=[0],
                )
            )
        totals.take(e.Pay(at=3, round=round, transfers=[]))
        assert totals.convictions == {"referee": round + 1} and totals.workers == {0: status}
    assert totals.executions == 4 and totals.returns == 1


def test_a_shard_whose_update_was_clipped_in_both_parts_counts_once() -> None:
    totals = LogTotals()
    clipped = [e.ClippedPart(2, 0, 5), e.ClippedPart(2, 1, 1), e.ClippedPart(7, 0, 1)]
    totals.take(e.Apply(at=1, round=0, update=bytes(32), parameters=bytes(32), loss=1.0, clipped=clipped))
    assert totals.clipped == 2


def test_a_figure_that_the_last_epoch_lacks_is_not_that_of_an_earlier_one() -> None:
    totals = LogTotals()
    for epoch, figures in enumerate(({"accuracy": 0.5, "loss": 1.5}, {"accuracy": 0.25})):
        named = [e.Figure(name, value) for name, value in figures.items()]
        totals.take(e.Measure(at=1, epoch=epoch, test=bytes(32), parameters=bytes(32), figures=named))
    assert totals.figures == {"accuracy": 0.25}


def test_figures_are_taken_by_whole_lines_and_others_left_out(eventful: Path, tmp_path: Path) -> None:
    with closing(LogStore.at(tmp_path / "log.db", create=True)):
        pass
    figures = tmp_path / "rounds.jsonl"
    follower = LogFollower(tmp_path)
    figures.write_text('{"round":0,"compute":1.5,"proof":0.25}\nnot json\n{"round":1,"compute":2.0,"pro')
    follower.catch_up()
    assert (follower.spent.compute, follower.spent.proof) == (1.5, 0.25)
    with figures.open("a") as file:
        file.write('of":0.5}\n')
    follower.catch_up()
    follower.catch_up()
    assert (follower.spent.compute, follower.spent.proof) == (3.5, 0.75)
    follower.close()


def test_a_log_that_is_spoiled_is_a_problem_and_no_exception(eventful: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes((eventful / "log.db").read_bytes())
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE entries SET body = x'c1' WHERE number = 5")
        database.commit()
    follower = LogFollower(tmp_path)
    assert not follower.catch_up(60)
    assert "entry 5" in follower.problem and follower.totals.entries == 5
    follower.close()


@pytest.mark.parametrize("kind", e.KINDS, ids=e.tag_of)
def test_every_kind_of_entry_says_its_version(kind: type[e.Entry]) -> None:
    """docs/OPERATIONS.md says so, and what an upgrade does with it."""
    assert e.tag_of(kind) == f"{e.kind_of(kind)}/{e.FORMAT}"

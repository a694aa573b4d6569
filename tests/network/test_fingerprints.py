"""Runs whose averages anybody can check by their workers' fingerprints, without executing a task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hub import Hub
from second_aggregates import Shape, outcome
from small_runs import seeded, small_recipe, train
from test_engine import crews

from podlt.canonical import encode
from podlt.crypto import blob_digest
from podlt.errors import UsageError
from podlt.execution.aggregate import packed, unpacked
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.audit.aggregates import AggregateCheck
from podlt.manager.audit.logged import logged
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.protocol import entries as e
from podlt.protocol import fingerprint as fp
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.remote.workplace import RemoteMachines
from podlt.report.fold import open_log
from podlt.report.history import read_history
from podlt.store.bundle import write_bundle
from podlt.store.bundle_reader import aggregate_name
from podlt.worker import fingerprints as replies


def trained(path: Path, folder: Path, **options: Any) -> Any:
    hub = Hub()
    made = crews(hub, folder, 3, 3, 2)
    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat, aggregates=True)
    found = train(path, small_recipe(arithmetic="exact", **options), place=place, entropy=seeded(1))
    for crew in made:
        crew.join()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("aggregates")
    trained(folder / "run", folder, epochs=1, batch_size=400)
    yield folder / "run"


def finding(run: Path, **options: Any) -> Finding:
    return audit(run, aggregates=True, seed=1, jobs=1, **options).finding(Claim.AGGREGATES)


def changed(run: Path, round: int, change: Any) -> bytes:
    """Changes the file of a round's sum; returns what it was."""
    path = run / aggregate_name(round)
    before = path.read_bytes()
    length = int.from_bytes(before[:8], "big")
    head = msgspec.msgpack.decode(before[8 : 8 + length], type=fp.AggregateHead)
    sums = unpacked(before[8 + length :], head.count, head.width)
    head, sums = change(head, sums)
    width, raw = packed(sums)
    body = encode(msgspec.structs.replace(head, width=width))
    path.write_bytes(len(body).to_bytes(8, "big") + body + raw)
    return before


def test_every_average_follows_from_its_workers_fingerprints_and_no_task_is_executed(run: Path) -> None:
    report = audit(run, aggregates=True, jobs=1)
    found = report.finding(Claim.AGGREGATES)
    rounds = report.verification.state.round
    assert found.outcome is Outcome.HOLDS and found.figure == f"{rounds} of {rounds} averages, by fingerprints"
    assert report.executed == 0 and report.rounds == rounds and report.exit_code == 0
    assert report.finding(Claim.PARAMETERS).outcome is Outcome.HOLDS


def second_opinion(run: Path, round: int, raw: bytes | None = None) -> str:
    """What the second verifier says of a round, of its file or of other bytes in its place."""
    program = Program.from_bytes((run / "program.json").read_bytes())
    layout = update_layout(program)
    gaps = {i for gap in layout.gaps for i in range(gap.start // 4, gap.stop // 4)}
    shape = Shape(layout.float_bytes // 4, layout.section("grad:")[1] // 4, None, gaps)
    log = open_log(run)
    (item,) = [one for one in logged(log) if not isinstance(one, e.Measure) and one.number == round]
    log.close()
    state, apply = read_history(run).state, item.apply
    assert apply is not None
    shards: list[dict[tuple[int, int], bytes]] = [{} for _ in item.open.shards]
    for (seat, holder), update in item.copies.items():
        if update == item.accepted[item.seats[seat]]:
            shards[item.seats[seat]][seat, holder] = update
    clipped: dict[int, dict[int, int]] = {}
    for one in apply.clipped:
        clipped.setdefault(one.shard, {})[one.part] = one.exponent
    if raw is None:
        raw = (run / aggregate_name(round)).read_bytes()
    key_of = lambda number: state.workers[number].key  # noqa: E731
    return outcome(raw, round, state.run, apply.update, item.open.examples, shape, shards, clipped, key_of)


def test_a_second_verifier_comes_to_the_same(run: Path) -> None:
    assert {second_opinion(run, round) for round in range(read_history(run).state.round)} == {"holds"}
    before = (run / aggregate_name(1)).read_bytes()
    assert second_opinion(run, 1, before[:-1]) == second_opinion(run, 2, before) == "fails"
    assert second_opinion(run, 1, before[:-7] + bytes([before[-7] ^ 1]) + before[-6:]) == "fails"
    changed(run, 1, lambda head, sums: (msgspec.structs.replace(head, words=head.words[::2]), sums))
    try:
        assert second_opinion(run, 1) == finding(run).outcome == "not checked"
    finally:
        (run / aggregate_name(1)).write_bytes(before)


@pytest.mark.slow
def test_a_bundle_with_updates_has_all_that_it_takes(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "run.podlt", updates=True)
    report = audit(tmp_path / "run.podlt", aggregates=True, jobs=1)
    assert report.exit_code == 0 and report.finding(Claim.AGGREGATES).outcome is Outcome.HOLDS
    write_bundle(run, tmp_path / "small.podlt")
    assert finding(tmp_path / "small.podlt").outcome is Outcome.NOT_CHECKED
    log_alone = audit(run / "log.db", aggregates=True, jobs=1)
    assert log_alone.exit_code == 4 and log_alone.finding(Claim.AGGREGATES).asked
    assert "recipe.json" in log_alone.finding(Claim.AGGREGATES).why


@pytest.mark.slow
def test_it_is_not_checked_unless_it_is_asked_for_and_goes_with_executing_all(run: Path) -> None:
    found = audit(run, 0.1, jobs=1).finding(Claim.AGGREGATES)
    assert found.outcome is Outcome.NOT_CHECKED and not found.asked
    both = audit(run, 1.0, aggregates=True, jobs=1)
    assert both.executed == both.tasks and both.exit_code == 0


def test_a_sum_that_was_changed_is_not_what_was_applied(run: Path) -> None:
    def change(head: fp.AggregateHead, sums: np.ndarray) -> Any:
        sums[100] += 2**40
        digest = blob_digest(np.ascontiguousarray(sums, "<i8").view(np.uint8).data)
        return msgspec.structs.replace(head, terms=msgspec.structs.replace(head.terms, sums=digest)), sums

    before = changed(run, 2, change)
    found = finding(run)
    (run / aggregate_name(2)).write_bytes(before)
    assert found.outcome is Outcome.FAILS and "round 2" in found.why and "was applied" in found.why


@pytest.mark.slow
def test_a_sum_that_is_not_the_one_that_was_claimed_or_no_file_at_all_fails(run: Path) -> None:
    def other(head: fp.AggregateHead, sums: np.ndarray) -> Any:
        sums[100] += 1
        return head, sums

    path = run / aggregate_name(1)
    before = changed(run, 1, other)
    assert finding(run).outcome is Outcome.FAILS
    for raw in (b"", b"\xff" * 8, before[:-1], before + b"\0", bytes(8) + before):
        path.write_bytes(raw)
        assert finding(run).outcome is Outcome.FAILS
    path.write_bytes(before)
    assert finding(run).outcome is Outcome.HOLDS


@pytest.mark.slow
def test_what_was_not_kept_or_not_signed_was_not_checked(run: Path) -> None:
    path = run / aggregate_name(3)
    before = path.read_bytes()
    path.unlink()
    found = finding(run)
    assert found.outcome is Outcome.NOT_CHECKED and "not kept (round 3)" in found.why

    def forget(head: fp.AggregateHead, sums: np.ndarray) -> Any:
        return msgspec.structs.replace(head, words=[]), sums

    path.write_bytes(before)
    changed(run, 3, forget)
    found = finding(run)
    assert found.outcome is Outcome.NOT_CHECKED and "not everybody signed" in found.why
    assert finding(run, round=3).outcome is Outcome.HOLDS, "who executes the round knows what is missing"
    path.write_bytes(before)


def test_a_forged_word_is_of_nobody(run: Path) -> None:
    def forge(head: fp.AggregateHead, sums: np.ndarray) -> Any:
        words = []
        for one in head.words:
            values = [(value + 1) % fp.PRIME for value in one.fingerprint.values]
            other = msgspec.structs.replace(one.fingerprint, values=values)
            words.append(msgspec.structs.replace(one, fingerprint=other))
        return msgspec.structs.replace(head, words=words), sums

    before = changed(run, 0, forge)
    found = finding(run)
    (run / aggregate_name(0)).write_bytes(before)
    assert found.outcome is Outcome.NOT_CHECKED and "not everybody signed" in found.why


@pytest.mark.slow
def test_a_false_word_stops_no_run_frames_nobody_and_costs_its_worker_the_seat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, liar = fp.sign, []

    def sign(key: Any, run: bytes, terms: fp.SumTerms, place: tuple[int, int], *rest: Any) -> fp.SignedFingerprint:
        update, scaling, found = rest
        if not liar:
            liar.append(key.public)
        if key.public == liar[0]:
            found = msgspec.structs.replace(found, values=[(value + 7) % fp.PRIME for value in found.values])
        return honest(key, run, terms, place, update, scaling, found)

    monkeypatch.setattr(replies.fp, "sign", sign)
    with_liar = trained(tmp_path / "run", tmp_path, epochs=2)
    number = with_liar.state.roster.number(liar[0])
    withdrawn = with_liar.of(ev.Withdrawn)
    assert withdrawn and {event.worker for event in withdrawn} == {number}
    assert "its fingerprint of round" in withdrawn[0].reason and not with_liar.result.evicted
    found = finding(tmp_path / "run")
    assert found.outcome is Outcome.NOT_CHECKED
    assert "do not add up" in found.why or "signed different fingerprints" in found.why
    words: list[str] = []
    rounded = AggregateCheck.round

    def round(self: AggregateCheck, *arguments: Any) -> Any:
        average = rounded(self, *arguments)
        words.extend(self.false_words)
        return average

    monkeypatch.setattr(AggregateCheck, "round", round)
    assert finding(tmp_path / "run", fraction=1.0).outcome is Outcome.HOLDS, "with all tasks executed nothing is open"
    assert words and all(f"worker {number} signed" in word for word in words)


@pytest.mark.slow
def test_sums_of_stock_arithmetic_are_not_claimed(tmp_path: Path) -> None:
    hub = Hub()
    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat, aggregates=True)
    with pytest.raises(UsageError, match="--aggregates is for exact arithmetic"):
        train(tmp_path / "run", small_recipe(arithmetic="stock"), place=place, entropy=seeded(1))

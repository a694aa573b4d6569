"""A manager and workers as real processes, with TLS on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from stage import Process, Stage, write_recipe

import podlt.api
from podlt.protocol import entries as e
from podlt.recipe import load_recipe
from podlt.report.fold import walk
from podlt.worker.folder import read_status


@pytest.mark.slow
def test_a_run_over_the_network_ends_with_the_bits_of_one_machine(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=2)
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        stage.start_worker("a", "--identities", 3)
        stage.start_worker("b", "--identities", 2)
        stage.start_worker("c")
        state = stage.end()
    local = podlt.api.train(load_recipe(recipe), run=tmp_path / "local")
    assert state.parameters == local.parameters
    assert not local.evicted and all(worker.status == "active" for worker in state.workers.values())
    status, running = read_status(tmp_path / "a")
    assert not running and len(status.workers) == 3
    for earned in status.workers.values():
        assert earned.vested == state.ledger.accounts[earned.number].vested > 0


@pytest.mark.slow
def test_a_cheater_is_evicted_told_so_and_not_let_in_again(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=80, workers=7)) as stage:
        stage.start_manager()
        stage.start_worker("honest", "--identities", 6)
        stage.start_worker("cheat", "--cheat", "sign-flip")
        code = stage.workers["cheat"].end(60)
        assert code == 3 and "evicted" in stage.workers["cheat"].text
        stage.start_worker("cheat")
        assert stage.workers["cheat"].end() == 3
        state = stage.end()
    evicted = [worker for worker in state.workers.values() if worker.status == "evicted"]
    (status, _) = read_status(tmp_path / "cheat")
    assert [worker.key.hex() for worker in evicted] == list(status.workers)


@pytest.mark.slow
def test_workers_may_come_later_and_leave_early(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=80, workers=4)) as stage:
        stage.start_manager()
        stage.start_worker("first", "--identities", 4)
        stage.until_round(5)
        stage.invite(3)
        stage.start_worker("later", "--identities", 2)
        stage.start_worker("short", "--until", "12s")
        state = stage.end()
    assert len(state.workers) == 7
    assert {worker.status for worker in state.workers.values()} <= {"active", "withdrawn"}
    assert "its time is over" in stage.workers["short"].text or "complete" in stage.workers["short"].text


@pytest.mark.slow
def test_who_shares_an_invitation_is_one_operator_and_is_compared_with_others(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=4, workers=6)) as stage:
        stage.start_manager()
        assert stage.events("invited")[0]["operator"] == "invitation-1"
        stage.start_worker("first", "--identities", 2)
        for name in ("anna", "bea"):
            stage.invite(2, name)
            stage.start_worker(name, "--identities", 2)
        state = stage.end()
    whose = {number: worker.operator for number, worker in state.workers.items()}
    assert sorted(whose.values()) == ["anna", "anna", "bea", "bea", "invitation-1", "invitation-1"]
    for visit in walk(stage.run):
        if isinstance(visit.entry, e.Verdict):
            holders = list(visit.round.answers[visit.entry.shard])  # type: ignore[union-attr]
            assert len({whose[holder] for holder in holders}) == len(holders)
    assert "of anna" in stage.workers["anna"].text
    listed = Process(tmp_path / "list.txt", "workers", "list", stage.run)
    assert listed.end() == 0 and "anna" in listed.text
    shown = Process(tmp_path / "show.txt", "show", stage.run, "worker", 0)
    assert shown.end() == 0 and f"operator {whose[0]}" in " ".join(shown.text.split())


@pytest.mark.slow
def test_a_manager_that_is_killed_logs_what_it_signed_receipts_for_or_begins_the_round_anew(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=12, workers=4)) as stage:
        stage.start_manager()
        for name in ("a", "b"):
            stage.start_worker(name, "--identities", 2)
        for rounds in (5, 40):
            stage.until_round(rounds)
            stage.manager.kill()
            stage.start_manager()
        state = stage.end()
    assert state.resumes == 2
    for name in ("a", "b"):
        compared = Process(tmp_path / f"{name}.json", "receipts", stage.run, "--folder", tmp_path / name, "--json")
        assert compared.end() == 0, compared.text
        found = json.loads(compared.text)["commitments"]
        assert found["logged"] >= 2 * state.round - 8 and found["beyond"] == found["dropped"] == 0


@pytest.mark.slow
def test_averages_are_checked_without_tasks_but_for_the_round_in_which_the_manager_was_killed(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=4, workers=4, arithmetic="exact")
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager("--aggregates")
        for name in ("a", "b"):
            stage.start_worker(name, "--identities", 2)
        stage.until_round(10)
        stage.manager.kill()
        stage.start_manager()
        state = stage.end()
    audited = Process(tmp_path / "audit.json", "audit", stage.run, "--aggregates", "--json")
    code = audited.end()
    document = json.loads(audited.text)
    found = document["claims"][26]
    assert document["executed"] == 0 and found["name"] == "aggregates"
    checked = int(found["figure"].partition(" ")[0].replace(",", ""))
    assert state.round - 2 <= checked <= state.round and code == (0 if checked == state.round else 4)


def test_statuses_are_read_back_as_they_were_written() -> None:
    from podlt.worker.books import Earned, Status

    status = Status(1, 2.0, "x", workers={"k": Earned(number=3, vested=4)})
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status

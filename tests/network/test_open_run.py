"""A run that is open for a deposit, with real processes: who has not paid, who cheats, and who is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from stage import Process, Stage, write_recipe

from podlt.access.invitation import read
from podlt.access.worker_key import load_or_create_keys
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.report.fold import walk
from podlt.worker.folder import read_status

DEPOSIT = 300
BOOKS = ("pending", "vested", "forfeited", "deposit", "returned", "seized")


def keys(stage: Stage, name: str, count: int = 1) -> list[str]:
    """The public keys of a worker's folder, made if there are none yet."""
    (stage.folder / name).mkdir(mode=0o700, exist_ok=True)
    return [key.public.hex() for key in load_or_create_keys(stage.folder / name / "worker.key", count)]


def command(stage: Stage, *arguments: object) -> str:
    """What a `podlt` command says; it must succeed."""
    output = stage.folder / f"command{len(list(stage.folder.glob('command*')))}.txt"
    process = Process(output, *arguments)
    assert process.end() == 0, process.text
    return process.text


def pay(stage: Stage, name: str, count: int = 1) -> None:
    for key in keys(stage, name, count):
        assert f"{DEPOSIT} credits" in command(stage, "workers", "deposit", stage.run, key, DEPOSIT)


def books_agree(stage: Stage, name: str, state: RunState) -> None:
    """What a worker's owner sees must be what the ledger says."""
    status, _ = read_status(stage.folder / name)
    for earned in status.workers.values():
        account = state.ledger.accounts[earned.number]
        assert [getattr(earned, book) for book in BOOKS] == [getattr(account, book) for book in BOOKS], name


@pytest.mark.slow
def test_who_paid_works_and_gets_it_back_who_cheats_loses_it_and_kills_change_neither(tmp_path: Path) -> None:
    opened = ("--open", DEPOSIT, "--pay-to", "the cashier")
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=60, workers=6), silence_timeout=4.0) as stage:
        stage.start_manager(*opened)
        address = read((stage.run / "invitation.txt").read_text())
        assert address.deposit == DEPOSIT and not address.secret
        (key,) = keys(stage, "late")
        stage.start_worker("late")
        assert stage.workers["late"].end() == 3
        said = stage.workers["late"].text
        assert f"pay {DEPOSIT} to the cashier" in said and key in said
        for name, count in (("a", 3), ("b", 2), ("cheat", 1)):
            pay(stage, name, count)
        stage.start_worker("a", "--identities", 3)
        stage.start_worker("b", "--identities", 2)
        stage.start_worker("cheat", "--cheat", "sign-flip")
        stage.until_round(5)
        pay(stage, "late")
        stage.start_worker("late")
        stage.until_round(40)
        stage.workers["b"].kill()
        stage.start_worker("b")
        stage.until_round(80)
        stage.manager.kill()
        stage.start_manager()
        state = stage.end()
        by_key = {worker.key.hex(): number for number, worker in state.workers.items()}
        assert by_key[key] and state.ledger.taken == 7 * DEPOSIT
        cheater = by_key[keys(stage, "cheat")[0]]
        assert [n for n, w in state.workers.items() if w.status == "suspended"] == [cheater]
        for number, account in state.ledger.accounts.items():
            assert account.returned == (0 if number == cheater else DEPOSIT) and account.deposit == 0
        for name in ("a", "b", "late", "cheat"):
            books_agree(stage, name, state)
            said = command(stage, "receipts", stage.run, "--folder", tmp_path / name)
            assert "all " in said and " are in this log" in said, said


@pytest.mark.slow
def test_who_leaves_is_paid_back_while_the_run_goes_on_and_needs_a_new_deposit_to_return(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=120, workers=4)) as stage:
        stage.start_manager("--open", DEPOSIT)
        pay(stage, "a", 4)
        pay(stage, "short")
        stage.start_worker("a", "--identities", 4)
        stage.until_round(2)
        stage.start_worker("short")
        stage.until(lambda: len(stage.events("joined")) == 5)
        stage.workers["short"].send(signal.SIGTERM)
        assert stage.workers["short"].end() == 0
        stage.until(lambda: bool(stage.events("withdrawn")))
        (key,) = keys(stage, "short")
        command(stage, "workers", "return", stage.run, key, "--reference", "transfer 2")
        stage.until(lambda: any(isinstance(visit.entry, e.Release) for visit in walk(stage.run)))
        stage.start_worker("short")
        assert stage.workers["short"].end() == 3 and f"pay {DEPOSIT}" in stage.workers["short"].text
        state = stage.end()
    releases = [v.entry for v in walk(stage.run) if isinstance(v.entry, e.Release)]
    number = next(n for n, worker in state.workers.items() if worker.key.hex() == key)
    assert [(t.kind, t.worker) for t in releases[0].transfers] == [("return", number)] and len(releases) == 2
    assert state.ledger.accounts[number].returned == DEPOSIT

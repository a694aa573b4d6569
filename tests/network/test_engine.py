"""The network engine over links of one process: the same bits as on one machine, whatever the links do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub import CrewLink, Hub
from near_hosts import train_near
from small_runs import OFTEN, Trained, seeded, small_recipe, tiny_recipe, train

from podlt.crypto import SigningKey
from podlt.manager import events as ev
from podlt.recipe import Recipe
from podlt.remote.workplace import RemoteMachines
from podlt.verify import verify


def keys(count: int, first: int = 0) -> list[SigningKey]:
    return [SigningKey(bytes([first + i + 1]) * 32) for i in range(count)]


def crews(hub: Hub, folder: Path, *sizes: int, cheats: dict[int, str] | None = None) -> list[CrewLink]:
    """Processes of so many identities each."""
    made, first = [], 0
    for number, size in enumerate(sizes):
        cheat = (cheats or {}).get(number, "")
        made.append(CrewLink(hub, keys(size, first), folder / f"crew{number}", cheat))
        first += size
    return made


def run(hub: Hub, path: Path, recipe: Recipe, **options: Any) -> Trained:
    return train(
        path, recipe, place=RemoteMachines(hub.connect, heartbeat_seconds=hub.beat), entropy=seeded(1), **options
    )


def whole(trained: Trained, gone: Collection[int] = ()) -> None:
    """The run must be sound, and everybody paid whom the log owes; what no check covered of who left stays pending."""
    verification = verify(trained.result.run, jobs=1)
    assert verification.ok, verification.failure
    assert all(account.pending == 0 for number, account in trained.result.ledger.items() if number not in gone)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same recipe on one machine."""
    return train_near(tmp_path_factory.mktemp("local") / "run", small_recipe(), entropy=seeded(1))


def test_workers_elsewhere_train_the_same_bits_as_workers_here(tmp_path: Path, local: Trained) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained = run(hub, tmp_path / "run", small_recipe())
    whole(trained)
    assert trained.result.parameters == local.result.parameters
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)
    for crew in made:
        outcome = crew.join()
        assert outcome is not None and outcome.how == "complete"


def test_receipts_add_up_to_what_the_ledger_says(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 2, 1)
    trained = run(hub, tmp_path / "run", tiny_recipe())
    vested = 0
    for crew in made:
        crew.join()
        assert crew.books is not None
        for earned in crew.books.status.workers.values():
            assert earned.vested == trained.result.ledger[earned.number].vested
            assert earned.pending == 0
            vested += earned.vested
    assert vested == sum(account.vested for account in trained.result.ledger.values()) > 0


@pytest.mark.slow
def test_lost_doubled_and_reordered_messages_change_no_bit(tmp_path: Path, local: Trained) -> None:
    hub = Hub(loss=0.03, twice=0.05, shuffle=0.05, seed=3)
    crews(hub, tmp_path, 3, 3, 2)
    trained = run(hub, tmp_path / "run", small_recipe())
    whole(trained)
    assert trained.result.parameters == local.result.parameters
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)


@pytest.mark.parametrize("cheat", ["sign-flip", pytest.param("zero", marks=pytest.mark.slow)])
def test_those_who_cheat_are_evicted_and_nobody_else(tmp_path: Path, cheat: str) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 5, 2, 1, cheats={2: cheat})
    rules = msgspec.structs.replace(OFTEN, first_fault="evict")
    trained = run(hub, tmp_path / "run", small_recipe(protocol=rules))
    whole(trained)
    cheater = keys(1, 7)[0].public
    numbers = {worker.key: number for number, worker in trained.state.workers.items()}
    assert trained.result.evicted == [numbers[cheater]]
    outcome = made[2].join()
    assert outcome is not None and outcome.how == "refused" and "evicted" in outcome.reason

"""Large blobs beside the messages: the same bits, whatever carries them, and whatever is cut off on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hub import CrewLink, Hub
from small_runs import Trained, seeded, small_recipe, tiny_recipe, train
from test_engine import crews, whole

from podlt.network import depot, messages, transfer
from podlt.network.place import Blobs, Elsewhere
from podlt.network.publishing import Published
from podlt.recipe import Recipe
from podlt.training import events as ev

LARGE = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large, and in many ranges."""
    monkeypatch.setattr(transfer, "RANGE", 3000)
    monkeypatch.setattr(messages, "INLINE", 2000)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same recipe on one machine."""
    return train(tmp_path_factory.mktemp("local") / "run", small_recipe(epochs=1), entropy=seeded(1))


def run(hub: Hub, path: Path, recipe: Recipe, bucket: str = "", **options: Any) -> tuple[Trained, list[Published]]:
    published: list[Published] = []
    blobs = Blobs("127.0.0.1", names=["127.0.0.1"], bucket=bucket, large=LARGE)
    place = Elsewhere(hub.connect, beat=hub.beat, blobs=blobs, published=published.append, **options)
    return train(path, recipe, place=place, entropy=seeded(1)), published


def unharmed(trained: Trained, made: list[CrewLink]) -> None:
    whole(trained)
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)
    for crew in made:
        outcome = crew.join()
        assert outcome is not None and outcome.how == "complete"


@pytest.mark.parametrize("deltas", ["never", "always"])
def test_what_goes_by_https_comes_to_the_same_bits(tmp_path: Path, local: Trained, deltas: str) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, published = run(hub, tmp_path / "run", small_recipe(epochs=1), deltas=deltas)
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert {one.way for one in published if one.form != "same"} == {"https"}
    changed = [one for one in published if one.form == "delta"]
    assert all(one.sent < one.size for one in changed)
    assert (len(changed) >= len(published) - 3) if deltas == "always" else not changed
    assert not [line for crew in made for line in crew.told if "ignored" in str(line)]
    assert not [path for path in (tmp_path / "run" / depot.FOLDER).glob("??/*")]

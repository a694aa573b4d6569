"""Two small runs that the tests of this folder look at: a table of people, and arrays for a user's own module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from near_hosts import train_near
from nets import tied
from people import people, people_spec, write_csv
from small_runs import seeded

from podlt.data.spec import DataSpec
from podlt.manager.result import Result
from podlt.recipe import ModelSpec, Recipe, TrainingSpec


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People to train on and to test on, and arrays."""
    path = tmp_path_factory.mktemp("inference")
    write_csv(path / "people.csv", people(240, 1))
    write_csv(path / "test.csv", people(80, 2))
    draw = np.random.default_rng(3)
    x = (draw.normal(size=(150, 6)) * [1, 5, 0.2, 1, 3, 1] + 2).astype(np.float32)
    np.savez(path / "arrays.npz", x=x, kind=(x[:, 0] > 2).astype(np.int64) + (x[:, 4] > 4))
    return path


@pytest.fixture(scope="session")
def of_people(folder: Path) -> Result:
    """A finished run on the table."""
    recipe = Recipe(
        data=people_spec(folder),
        model=ModelSpec("podlt.models:embedding_mlp", {"cardinalities": "@cardinalities", "numeric": 2, "hidden": 8}),
        optimizer={"name": "adamw", "lr": 0.02},
        training=TrainingSpec(epochs=2, workers=3, batch_size=60),
        arithmetic="stock",
    )
    return train_near(folder / "run", recipe, cache=folder / "cache", entropy=seeded(1)).result


@pytest.fixture(scope="session")
def of_arrays(folder: Path) -> Result:
    """A finished run on the arrays, of a module that was given as an object."""
    recipe = Recipe(
        data=DataSpec(
            str(folder / "arrays.npz"), inputs=("x",), label="kind", test_fraction=0.2, standardise=True, classes=3
        ),
        model=ModelSpec("nets:tied"),
        optimizer={"name": "adamw", "lr": 0.02},
        training=TrainingSpec(epochs=2, workers=3, batch_size=40),
        arithmetic="stock",
    )
    made = tied()
    return train_near(folder / "arrays", recipe, model=made, cache=folder / "cache", entropy=seeded(2)).result

"""A run with exact arithmetic: the same bits whatever executes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import OFTEN, seeded, small_recipe, train

from podlt.data.spec import DataSpec
from podlt.manager.audit import audit
from podlt.recipe import ModelSpec, Recipe
from podlt.verify import verify


def test_a_recipe_that_says_nothing_is_exact() -> None:
    silent = Recipe(data=DataSpec("digits"), model=ModelSpec("podlt.models:mlp", {}))
    assert silent.program_arithmetic == "exact/auto"


@pytest.mark.slow
def test_an_exact_run_catches_its_cheater_and_any_number_of_processes_gives_its_bits(tmp_path: Path) -> None:
    recipe = small_recipe(epochs=1, arithmetic="exact", protocol=OFTEN)
    runs = [
        train(tmp_path / str(n), recipe, cheats=["1:low-precision"], entropy=seeded(3), processes=n).result
        for n in (1, 2)
    ]
    assert runs[0].parameters == runs[1].parameters
    assert runs[0].convicted and runs[0].convicted == runs[1].convicted
    assert verify(runs[0].run, jobs=1).ok
    report = audit(runs[0].run, 1.0, seed=0)
    assert report.executed == report.tasks and report.averaged and not report.false_convictions
    assert all(mismatch.worker in runs[0].convicted for mismatch in report.mismatches)

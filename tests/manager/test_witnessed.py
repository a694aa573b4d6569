"""A run whose recipe names witnesses: they cosign it while it is trained, and when it is resumed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from near_hosts import train_near
from small_runs import seeded, tiny_recipe

from podlt.crypto import SigningKey, digest
from podlt.errors import UsageError
from podlt.manager import events as ev
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import Recipe, WitnessSpec, check
from podlt.verify import verify
from podlt.witness.server import WitnessServer
from podlt.witness.state import WitnessState
from podlt.witness.witness import Witness


def witness_in(folder: Path) -> Witness:
    return Witness("w.example/5", SigningKey(digest("test-witness/5")), WitnessState(folder), most=5, open=True)


def named(witness: Witness, url: str) -> Recipe:
    return msgspec.structs.replace(tiny_recipe(), witnesses=(WitnessSpec(witness.public.text(), url),))


def test_a_run_is_cosigned_to_its_end_while_it_is_trained(tmp_path: Path) -> None:
    witness = witness_in(tmp_path / "w")
    with WitnessServer(witness, "127.0.0.1", 0, lambda: 1_800_000_000) as server:
        trained = train_near(tmp_path / "run", named(witness, server.url), entropy=seeded(9))
    (event,) = trained.of(ev.Witnessed)
    assert event.witness == "w.example/5" and not trained.of(ev.WitnessFailed)
    found = verify(trained.result.run, jobs=1, witnesses=[witness.public])
    assert found.finding(Claim.WITNESSES).outcome is Outcome.HOLDS and found.exit_code == 0


def test_a_run_without_witnesses_has_the_recipe_that_it_had_before_there_were_any(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    assert b"witnesses" not in recipe.to_bytes()
    again = named(witness_in(tmp_path), "http://localhost:1")
    assert Recipe.from_bytes(again.to_bytes()) == again


def test_a_witness_key_with_a_slip_of_the_pen_is_refused_with_its_place(tmp_path: Path) -> None:
    key = witness_in(tmp_path).public.text().replace("w.example", "v.example")
    recipe = msgspec.structs.replace(tiny_recipe(), witnesses=(WitnessSpec(key, "http://localhost:1"),))
    with pytest.raises(UsageError, match=r"witnesses\[0\].key: .* copied with a mistake"):
        check(recipe)

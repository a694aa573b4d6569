"""A run's terms: its first entry says what its recipe says, no more and no less, and `verify` works it out again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from podlt.canonical import to_json
from podlt.crypto import HashChain, digest
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.protocol.manager import Manager
from podlt.protocol.plan import RoundCut
from podlt.protocol.rules import RunState
from podlt.recipe import ProtocolSpec, Recipe, Terms, recipe_digest, terms_of
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents, check_terms

SCENARIO = Scenario(examples=40, epochs=2, batch_size=10, shard_size=2, protocol=ProtocolSpec(reward=3))


def world_with(**otherwise: Any) -> tuple[World, MemoryLog]:
    """A whole run that begins with other terms than its recipe's; every worker signs it as it is."""
    log, seed = MemoryLog(), digest("terms/1")
    world = World(SCENARIO, lambda gossip: [make_player(Player, i, seed, gossip) for i in range(5)], seed, log)
    world.terms = msgspec.structs.replace(world.terms, **otherwise)
    terms = world.terms
    cut = RoundCut(SCENARIO.examples, terms.batch_size, terms.shard_size)
    length = max(terms.chain_length, cut.most_rounds(terms.epochs))
    world.terms = msgspec.structs.replace(terms, chain_length=length)
    world.chain = HashChain(digest("terms-chain/1"), length)
    world.manager = Manager(RunState(), world.chain, world._clock)
    world.begin()
    world.play()
    return world, log


def documents(world: World) -> Documents:
    return Documents(world.recipe, world.program)


def test_a_run_on_its_recipes_terms_holds() -> None:
    world, log = world_with()
    found = verify_log(log, documents(world), jobs=1)
    assert found.failure is None and found.finding(Claim.TERMS).outcome is Outcome.HOLDS
    assert found.finding(Claim.TERMS).figure == "16 terms; reward 3 an example"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reward": 2}, ["reward"]),
        ({"reward": 0}, ["reward"]),
        ({"seed": bytes(32)}, ["seed"]),
        ({"epochs": 1}, ["epochs"]),
        ({"epochs": 3}, ["epochs", "chain_length"]),
        ({"batch_size": 20}, ["batch_size"]),
        ({"batch_size": 9}, ["batch_size"]),
        ({"shard_size": 1}, ["shard_size", "chain_length"]),
        ({"shard_size": 0}, ["shard_size"]),
        ({"local_steps": 2, "local_lr": 0.5}, ["local_steps", "local_lr"]),
        ({"chain_length": 60}, ["chain_length"]),
    ],
)
def test_a_run_on_other_terms_is_refused_though_all_else_holds(change: dict[str, Any], named: list[str]) -> None:
    world, log = world_with(**change)
    found = verify_log(log, documents(world), jobs=1)
    assert found.exit_code == 1
    assert [f.claim for f in found.findings if f.outcome is Outcome.FAILS] == [Claim.TERMS]
    assert found.failure is not None and (found.failure.step, found.failure.entry) == (Claim.TERMS, 0)
    assert found.finding(Claim.TERMS).why.startswith(", ".join(named) + ": the recipe gives " + named[0])
    assert found.finding(Claim.OUTCOME).outcome is Outcome.HOLDS


WORLD = world_with()[0]
BEGIN = WORLD.state.begin
assert BEGIN is not None
OTHER: dict[str, Any] = {"preset": "classic", "first_fault": "evict", "local_lr": 0.1, "seed": bytes(32)}


@pytest.mark.parametrize("name", Terms.__struct_fields__)
def test_each_term_by_itself_is_compared_with_the_recipes(name: str) -> None:
    value = OTHER.get(name, getattr(BEGIN, name))
    begin = msgspec.structs.replace(BEGIN, **{name: value if name in OTHER else value + 1})
    found = check_terms(documents(WORLD), begin)
    assert found.outcome is Outcome.FAILS and found.why.startswith(f"{name}: the recipe gives {name} ")


def test_every_field_of_begin_is_a_term_or_bound_by_something_else() -> None:
    elsewhere = {
        "at": "the manager's clock",
        "manager": "the tree heads",
        "nonce": "the workers' signatures",
        "recipe": "the document",
        "program": "the document",
        "arithmetic": "audit",
        "data": "audit",
        "test": "audit",
        "parameters": "audit",
        "examples": "audit",
        "chain_end": "the secrets",
    }
    assert set(e.Begin.__struct_fields__) == set(Terms.__struct_fields__) | set(elsewhere)
    assert not set(Terms.__struct_fields__) & set(elsewhere)


def test_terms_are_a_pure_function_of_the_recipe_and_the_number_of_examples() -> None:
    recipe = Recipe.from_bytes(WORLD.recipe)
    assert terms_of(recipe, SCENARIO.examples) == terms_of(Recipe.from_bytes(recipe.to_bytes()), SCENARIO.examples)
    # 40 examples by 2 a round at least, twice
    assert terms_of(recipe, SCENARIO.examples).chain_length == 40
    training = msgspec.structs.replace(recipe.training, local_steps=1, local_lr=0.5)
    assert terms_of(msgspec.structs.replace(recipe, training=training), 40).local_lr is None


def judged(recipe: bytes = WORLD.recipe, program: bytes = WORLD.program, **changes: Any) -> Finding:
    """What is said of the terms, where the first entry names these documents."""
    named = {"recipe": recipe_digest(recipe), "program": digest("program/1", program)}
    return check_terms(Documents(recipe, program), msgspec.structs.replace(BEGIN, **named, **changes))


def recipe_with(**changes: Any) -> bytes:
    return msgspec.structs.replace(Recipe.from_bytes(WORLD.recipe), **changes).to_bytes()


def test_first_parameters_that_the_recipe_names_must_be_the_runs() -> None:
    model = Recipe.from_bytes(WORLD.recipe).model
    right = msgspec.structs.replace(model, parameters=BEGIN.parameters.hex())
    wrong = msgspec.structs.replace(model, parameters=bytes(32).hex())
    assert judged(recipe_with(model=right)).outcome is Outcome.HOLDS
    found = judged(recipe_with(model=wrong))
    assert found.outcome is Outcome.FAILS and found.why.startswith("parameters: ")


def test_the_programs_arithmetic_must_be_the_recipes() -> None:
    assert judged(recipe_with(digits=3)).outcome is Outcome.FAILS
    stock = recipe_with(arithmetic="stock")
    assert judged(stock).outcome is Outcome.FAILS
    assert judged(stock, to_json({"arithmetic": "stock"})).outcome is Outcome.HOLDS
    for program in (b"", b"[]", b"\xff", to_json({}), to_json({"arithmetic": None})):
        assert judged(program=program).outcome is Outcome.FAILS


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"\xff\xfe", b"[" * 10_000, b'{"data":{"source":"x"},"model":{"name":"y"}}', WORLD.recipe + b" "],
)
def test_a_document_that_is_no_recipe_fails_where_the_run_names_it(raw: bytes) -> None:
    found = judged(raw)
    assert found.outcome is Outcome.FAILS and "no recipe" in found.why


def test_without_the_runs_own_recipe_and_program_the_terms_were_not_checked() -> None:
    other = recipe_with(digits=3)
    for missing in (
        Documents(None, WORLD.program),
        Documents(None, None),
        Documents(WORLD.recipe, None),
        Documents(other, WORLD.program),
        Documents(WORLD.recipe, b"{}"),
    ):
        found = check_terms(missing, BEGIN)
        assert found.outcome is Outcome.NOT_CHECKED and found.asked and found.remedy
        assert "not here" in found.why or "not the run's" in found.why

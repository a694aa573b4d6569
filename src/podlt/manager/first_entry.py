"""What a new run binds itself to before its first round: how many secrets, which first parameters, the first entry."""

from __future__ import annotations

import msgspec

from podlt.crypto import HashChain
from podlt.data.prepare import Prepared
from podlt.errors import UsageError
from podlt.execution.conformance import arithmetic_digest
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.recipe import Recipe, cut_of, terms_of

MOST_ROUNDS, MANY_ROUNDS = 20_000_000, 1_000_000
"""A secret for each is made when the run begins, and at each resumption: a second for a million. Many are worth a
word."""


def chain_length(recipe: Recipe, examples: int) -> int:
    """How many secrets a run needs at most.

    Args:
        recipe: says how many epochs, and examples a round.
        examples: of the training set.

    Raises:
        UsageError: more than a chain can have.
    """
    training = recipe.training
    rounds = cut_of(recipe, examples).most_rounds(training.epochs)
    if rounds > MOST_ROUNDS:
        raise UsageError(
            f"training: {training.epochs:,} epochs are {rounds:,} rounds, and a run has at most {MOST_ROUNDS:,}: "
            "fewer epochs, or larger batches"
        )
    return rounds


def naming_parameters(recipe: Recipe, digest: str) -> Recipe:
    """The recipe that names the first parameters, where no seed gives them: so its terms bind them.

    Args:
        recipe: may name them already.
        digest: of the parameters that the model has, hexadecimal.

    Raises:
        UsageError: it names others.
    """
    named = recipe.model.parameters
    if named and named != digest:
        raise UsageError(
            f"model.parameters: the recipe names other first parameters ({named[:16]}...) than the model has "
            f"({digest[:16]}...): give the module that they are of, or leave the field out"
        )
    return msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, parameters=digest))


def naming_torch(recipe: Recipe, version: str) -> Recipe:
    """The recipe that names the version of PyTorch, so that whoever audits knows by which one the program was captured.

    Args:
        recipe: may name it already.
        version: that is here.

    Raises:
        UsageError: it names another.
    """
    if recipe.torch and recipe.torch != version:
        raise UsageError(f"torch: the recipe names {recipe.torch}, and {version} is installed")
    return msgspec.structs.replace(recipe, torch=version)


def first_entry(
    recipe: Recipe,
    data: Prepared,
    program: Program,
    *,
    at: int,
    manager: bytes,
    nonce: bytes,
    parameters: bytes,
    chain: HashChain,
) -> e.Begin:
    """The first entry of a run.

    Args:
        recipe: gives the terms.
        data: the training set and the test set.
        program: the training step.
        at: milliseconds since 1970.
        manager: the manager's public key.
        nonce: 32 random bytes, which make the run's identity its own.
        parameters: digest of the first parameters.
        chain: the manager's secrets.
    """
    return e.Begin(
        at=at,
        manager=manager,
        nonce=nonce,
        recipe=recipe.digest(),
        program=program.digest,
        arithmetic=arithmetic_digest(program.arithmetic),
        data=data.train.digest,
        test=data.test.digest if data.test is not None else e.NO_TEST,
        parameters=parameters,
        examples=data.train.examples,
        chain_end=chain.end,
        **msgspec.structs.asdict(terms_of(recipe, data.train.examples)),
    )

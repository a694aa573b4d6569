"""What `verify` checks of a run's files besides the log: recipe, program, and the trained model. No PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import msgspec

from podlt import crypto
from podlt.canonical import from_json
from podlt.errors import InvalidProofError, UsageError
from podlt.model_file import state_digest
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.protocol.state import RunFacts
from podlt.recipe import SIMULATED, Recipe, terms_of
from podlt.store.run_files import RunFiles


class Documents(msgspec.Struct, frozen=True):
    """The bytes of recipe.json and program.json; None where one is missing."""

    recipe: bytes | None
    program: bytes | None

    @property
    def is_simulated(self) -> bool:
        """Whether the recipe says that the run was simulated."""
        try:
            return self.recipe is not None and Recipe.from_bytes(self.recipe).data.source == SIMULATED
        except (InvalidProofError, UsageError):
            return False

    @property
    def gives_equal_shares(self) -> bool:
        """Whether the recipe says that all workers have equal shares."""
        try:
            return self.recipe is not None and Recipe.from_bytes(self.recipe).protocol.shares == "equal"
        except (InvalidProofError, UsageError):
            return False

    @property
    def witnesses(self) -> tuple[str, ...]:
        """The keys of the witnesses that the recipe names, as far as it can be read."""
        try:
            return () if self.recipe is None else tuple(w.key for w in Recipe.from_bytes(self.recipe).witnesses)
        except (InvalidProofError, UsageError):
            return ()

    def check(self, begin: e.Begin) -> Finding:
        """Whether they are those that the first entry names."""
        missing = []
        for name in ("recipe", "program"):
            raw, expected = getattr(self, name), getattr(begin, name)
            if raw is None:
                missing.append(f"{name}.json")
            elif (found := crypto.digest(f"{name}/1", raw)) != expected:
                why = f"{name}.json is not the run's (expected digest {expected.hex()}, got {found.hex()})"
                return Finding(Claim.DOCUMENTS, Outcome.FAILS, why=why)
        if missing:
            return _not_checked(Claim.DOCUMENTS, f"{' and '.join(missing)}: not here", "give the run or a bundle of it")
        return Finding(Claim.DOCUMENTS, Outcome.HOLDS, "2 documents")


def check_terms(documents: Documents, begin: e.Begin) -> Finding:
    """Whether the first entry says what the recipe says; what the data say of themselves is the audit's."""
    for name in ("recipe", "program"):
        raw = getattr(documents, name)
        if raw is None:
            return _not_checked(Claim.TERMS, f"{name}.json: not here", "give the run or a bundle of it")
        if crypto.digest(f"{name}/1", raw) != getattr(begin, name):
            return _not_checked(Claim.TERMS, f"{name}.json is not the run's", "give the run's own")
    assert documents.recipe is not None and documents.program is not None
    try:
        recipe = Recipe.from_bytes(documents.recipe)
    except (InvalidProofError, UsageError) as error:
        return Finding(Claim.TERMS, Outcome.FAILS, why=f"recipe.json is no recipe: {error}")
    terms = msgspec.structs.asdict(terms_of(recipe, begin.examples))
    wrong = [name for name, value in terms.items() if getattr(begin, name) != value]
    if wrong:
        name = wrong[0]
        why = f"{', '.join(wrong)}: the recipe gives {name} {_shown(terms[name])}, begin says "
        return Finding(Claim.TERMS, Outcome.FAILS, why=why + _shown(getattr(begin, name)))
    given = recipe.model.parameters
    if given and begin.parameters.hex() != given:
        return Finding(Claim.TERMS, Outcome.FAILS, why="parameters: the recipe names other first parameters")
    arithmetic = _arithmetic(documents.program)
    if arithmetic != recipe.program_arithmetic:
        why = f"arithmetic: the recipe says {recipe.program_arithmetic!r}, the program {arithmetic!r}"
        return Finding(Claim.TERMS, Outcome.FAILS, why=why)
    return Finding(Claim.TERMS, Outcome.HOLDS, f"{len(terms)} terms; reward {begin.reward} an example")


def check_model(files: RunFiles, documents: Documents, state: RunFacts, log_holds: bool) -> Finding:
    """Whether model.safetensors is the parameters after the last round, byte for byte."""
    claim = Claim.MODEL
    finished = state.closed is not None and state.closed.outcome == "complete"
    if documents.is_simulated:
        return Finding(claim, Outcome.NOT_CHECKED, why="the run was simulated: there is no model", asked=False)
    model = files.model()
    if model is None:
        why = "model.safetensors: not here" if finished else "the run is not finished: there is no model yet"
        return Finding(claim, Outcome.NOT_CHECKED, why=why, remedy="give the run or a bundle of it", asked=finished)
    if not log_holds:
        return Finding(claim, Outcome.NOT_CHECKED, why="the log was not read to its end")
    with model, files.buffers() or nullcontext() as buffers:
        if documents.program is None:
            return _not_checked(claim, "program.json, which says how it is laid out: not here", "give the run")
        if state.begin is None or crypto.digest("program/1", documents.program) != state.begin.program:
            return _not_checked(claim, "program.json is not the run's, so its layout is unknown", "")
        try:
            found = state_digest(model, Program.from_bytes(documents.program), buffers)
        except InvalidProofError as error:
            return Finding(claim, Outcome.FAILS, why=str(error))
    if found != state.parameters:
        why = f"its digest is {found.hex()}, the log's last parameters are {state.parameters.hex()}"
        return Finding(claim, Outcome.FAILS, why=why)
    return Finding(claim, Outcome.HOLDS, f"parameters {found.hex()[:16]}")


def _not_checked(claim: Claim, why: str, remedy: str) -> Finding:
    return Finding(claim, Outcome.NOT_CHECKED, why=why, remedy=remedy)


def _arithmetic(program: bytes) -> Any:
    try:
        document = from_json(program)
    except InvalidProofError:
        return None
    return document.get("arithmetic") if isinstance(document, dict) else None


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)

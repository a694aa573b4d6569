"""From a run's directory back to where the run was: the log through the rules, the parameters through the updates."""

from __future__ import annotations

from contextlib import closing

import msgspec

from podlt.crypto import SigningKey, digest
from podlt.data.dataset import Dataset
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.execution.conformance import arithmetic_digest
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import open_head, origin_of
from podlt.manager.amendments import Optimizers
from podlt.manager.directory import RunDirectory
from podlt.manager.weights import Weights
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.protocol.plan import examples_seen
from podlt.protocol.rules import RunState
from podlt.recipe import recipe_digest
from podlt.store.log_store import LogStore
from podlt.store.run_names import MANAGER_KEY, PROGRAM, RECIPE, WORKERS_KEY


class AppliedRound(msgspec.Struct, frozen=True):
    """What the log says of a round's update: digests of the average and of the parameters after it.

    Attributes:
        seen: examples that were seen before it, in all epochs.
    """

    round: int
    seen: int
    update: bytes
    parameters: bytes


def replay_log(store: LogStore) -> tuple[RunState, list[AppliedRound], Tree]:
    """The run's state after its log, every round's update, and the tree.

    Signatures of workers are not checked again: the head over all entries is the manager's own.

    Raises:
        InvalidProofError: an entry was changed, or the last head is not over these entries.
        UsageError: there are no entries.
    """
    state, tree, applied = RunState(), Tree(), []
    for number, leaf, body in store.entries():
        if number != tree.size or leaf_hash(body) != leaf:
            raise InvalidProofError("the entry was changed after it was written, or one is missing", entry=tree.size)
        entry = e.decode(body)
        state.apply(entry)
        tree.append(leaf)
        if isinstance(entry, e.Apply):
            assert state.begin is not None and state.current is not None
            seen = examples_seen(state.begin.examples, state.current.open.epoch, state.current.open.offset)
            applied.append(AppliedRound(entry.round, seen, entry.update, entry.parameters))
    heads = store.heads()
    if state.begin is None or not heads:
        raise UsageError("the log is empty: start the run anew")
    head = open_head(heads[-1][1], state.begin.manager, origin_of(state.run))
    if (head.size, head.root) != (tree.size, tree.root()):
        raise InvalidProofError(
            "the last tree head is not over the entries that are there", expected=head.size, actual=tree.size
        )
    return state, applied, tree


def is_complete(directory: RunDirectory) -> bool:
    """Whether the log ends with a complete close, as far as its last tree head says; a manager may write meanwhile.

    Raises:
        InvalidProofError: the last entry is malformed.
    """
    if not directory.has_entries():
        return False
    with closing(directory.log()) as store:
        size = store.size()
        last = [e.decode(body) for _, _, body in store.entries(size - 1)][:1] if size else []
    return any(isinstance(entry, e.Close) and entry.outcome == "complete" for entry in last)


def check_documents(begin: e.Begin, recipe: bytes, program: Program, dataset: Dataset) -> None:
    """Nothing that the first entry names may have changed; `recipe` is the document as it lies on the disk.

    Raises:
        InvalidProofError: recipe, program or data are others than those of the run.
        UsageError: this podlt computes otherwise than the one that began the run.
    """
    named = {
        PROGRAM: (begin.program, program.digest),
        RECIPE: (begin.recipe, recipe_digest(recipe)),
        "the data's examples": (begin.data, dataset.digest),
    }
    for what, (expected, actual) in named.items():
        if expected != actual:
            raise InvalidProofError(f"{what} are not those of the run", expected=expected, actual=actual)
    if begin.arithmetic != (here := arithmetic_digest(program.arithmetic)):
        raise UsageError(
            f"this podlt defines the arithmetic {program.arithmetic!r} otherwise than the one that began the run "
            f"({here.hex()[:16]}, and the log says {begin.arithmetic.hex()[:16]}): every worker would be taken for a "
            "cheater; use the version that began it"
        )


def check_secrets(state: RunState, directory: RunDirectory, *, workers: bool = True) -> None:
    """The keys that are there must be those of the run: others would sign what nobody could verify.

    Args:
        workers: whether the workers' keys are here.

    Raises:
        UsageError: a key file was changed, or is another run's.
        StorageError: a key file is malformed.
    """
    begin = state.begin
    assert begin is not None
    if directory.manager_key().public != begin.manager or directory.chain(begin.chain_length).end != begin.chain_end:
        raise UsageError(f"{directory.path / MANAGER_KEY}: these are not the secrets of this run's manager")
    if not workers:
        return
    keys = [SigningKey(seed).public for seed in directory.worker_seeds()]
    for number, worker in state.workers.items():
        if number >= len(keys) or keys[number] != worker.key:
            raise UsageError(f"{directory.path / WORKERS_KEY}: has another key than worker {number} joined with")


def check_files(directory: RunDirectory) -> None:
    """Recipe and program must be the run's, before anything in them is looked at; a run without entries has none yet.

    Raises:
        InvalidProofError: recipe.json or program.json was changed.
    """
    if not directory.has_entries():
        return
    with closing(directory.log()) as store:
        first = e.decode(next(body for _, _, body in store.entries()))
    if not isinstance(first, e.Begin):
        raise InvalidProofError("the first entry is not the beginning of a run", entry=0)
    found = {
        RECIPE: (first.recipe, recipe_digest(directory.document(RECIPE))),
        PROGRAM: (first.program, digest("program/1", directory.document(PROGRAM))),
    }
    for name, (expected, actual) in found.items():
        if expected != actual:
            raise InvalidProofError(f"{name} is not that of the run", expected=expected, actual=actual)


def restore_weights(
    weights: Weights, directory: RunDirectory, state: RunState, applied: list[AppliedRound], optimizers: Optimizers
) -> None:
    """Brings parameters and optimiser to where they were after the log's last round.

    Args:
        weights: are changed in place.
        directory: of the run.
        state: the run after its log.
        applied: what the log says of each round.
        optimizers: of each round.

    Raises:
        StorageError: a file is missing.
        InvalidProofError: a file is not what the log says.
    """
    wanted, begin = len(applied), state.begin
    assert begin is not None
    saved = sorted((int(p.stem) for p in directory.checkpoints.glob("*.safetensors") if p.stem.isdigit()), reverse=True)
    start = next((number for number in saved if number <= wanted), None)
    if start is None:
        raise StorageError(f"{directory.checkpoints}: no checkpoint at or before round {wanted}")
    path = directory.checkpoint(start)
    weights.use(optimizers.after(start))
    weights.load(path, state.run, begin.manager)
    expected = applied[start - 1].parameters if start else begin.parameters
    if weights.digest() != expected or weights.steps != start:
        raise InvalidProofError(f"{path}: is not the state that the log names; the run's directory was changed")
    for step, done in enumerate(applied[start:wanted], start):
        weights.use(optimizers.at(step))
        weights.replay(directory.update(done.round), done.update, done.parameters, done.seen)
    weights.use(optimizers.at(wanted))

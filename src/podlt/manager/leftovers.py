"""The files that a run leaves next to its log: what must fit it when it is resumed, and the model at its end."""

from __future__ import annotations

import json
from contextlib import nullcontext

from podlt.errors import InvalidProofError, StorageError
from podlt.manager.directory import RunDirectory
from podlt.manager.weights import Weights
from podlt.model_file import state_digest, write_model
from podlt.program.ir import Program
from podlt.protocol.rules import RunState
from podlt.store.files import write_whole
from podlt.store.run_log import store_of
from podlt.store.run_names import BUFFERS, LOG, ROUNDS


def require_untrained(directory: RunDirectory) -> None:
    """A run whose log is gone must not begin anew over what it left: its secrets are known to whoever saw the log.

    Raises:
        StorageError: rounds were trained here.
    """
    if directory.was_trained():
        where = "the database that run.json names" if store_of(directory.path) else LOG
        raise StorageError(
            f"{directory.path}: the log is missing, but rounds were trained here; bring back {where}, or "
            "begin a new run in another directory"
        )


def drop_later_figures(directory: RunDirectory, state: RunState) -> None:
    """Seconds and simulated fakes (no part of the proof) may be a round ahead of the log after a kill."""
    path = directory.path / ROUNDS
    if path.is_file():
        lines = [line for line in path.read_bytes().splitlines() if 0 <= _round_of(line) < state.round]
        write_whole(path, b"".join(line + b"\n" for line in lines))


def write_trained(directory: RunDirectory, program: Program, weights: Weights) -> None:
    """Writes the trained module's state, or checks that it is what the log says.

    Raises:
        InvalidProofError: there is another model.
        StorageError: it cannot be written.
    """
    path = directory.model
    if not path.exists():
        write_model(path, program, weights.state.data)
        return
    others = path.with_name(BUFFERS)
    with path.open("rb") as file, others.open("rb") if others.is_file() else nullcontext() as buffers:
        if state_digest(file, program, buffers) != weights.digest():
            raise InvalidProofError(f"{path}: is not what was trained; the run's directory was changed")


def _round_of(line: bytes) -> int:
    """The round that a line of figures speaks of; -1 for a line of which a full disk left a part."""
    try:
        return int(json.loads(line)["round"])
    except (ValueError, TypeError, KeyError):
        return -1

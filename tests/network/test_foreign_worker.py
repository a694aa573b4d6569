"""docs/WIRE.md is enough to write a worker: one that was written from it works for a real manager, and is paid."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_worker import ForeignWorker
from stage import Process, Stage, write_recipe

from podlt.data.dataset import DTYPES
from podlt.execution.fingerprint import measured
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.protocol import entries as e
from podlt.report.fold import walk

SHARES = '\n[protocol]\npreset = "guarded"\nreward = 1\nescrow = 2\nchecked = 0.5\nown = 0.5\n'


def execute(
    program: bytes, parameters: bytes, lines: Sequence[tuple[dict[str, Any], bytes]], randomness: bytes
) -> bytes:
    """The training step itself, which is not about the wire: podlt's."""
    code = Program.from_bytes(program)
    arrays = {
        f["name"]: np.frombuffer(bytearray(values), DTYPES[f["dtype"]]).reshape(-1, *f["shape"]) for f, values in lines
    }
    out = np.zeros(update_layout(code).nbytes, np.uint8)
    with one_thread():
        state = state_layout(code).views(np.frombuffer(bytearray(parameters), np.uint8))
        TaskExecutor(code, 1, None)(state, as_batch(arrays), randomness, out)
    return out.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "epochs"), [(32, 2), (2000, 1)], ids=["inline", "large-blobs"])
def test_a_worker_written_from_the_text_joins_computes_is_compared_and_paid(
    tmp_path: Path, hidden: int, epochs: int
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=epochs, workers=3, hidden=hidden)
    recipe.write_text(recipe.read_text() + SHARES)
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        foreign = ForeignWorker(stage.invitation.read_text(), execute, measured("stock").digest)
        thread = threading.Thread(target=foreign.work, daemon=True)
        thread.start()
        for name in ("a", "b"):
            stage.start_worker(name)
        state = stage.end()
        thread.join(30)
    assert foreign.outcome == "complete" and not thread.is_alive()
    mine = state.workers[foreign.number]
    assert mine.key == foreign.public and mine.status == "active"
    assert foreign.setup["updates_as_blobs"] == (hidden == 2000)
    agreed = [
        visit.entry.reason
        for visit in walk(stage.run)
        if isinstance(visit.entry, e.Verdict)
        and visit.entry.outcome == "agree"
        and foreign.number in visit.round.answers[visit.entry.fragment]  # type: ignore[union-attr]
    ]
    assert {"own", "compared"} <= set(agreed)
    account = state.ledger.accounts[foreign.number]
    assert account.vested == sum(foreign.paid.values()) > 0 and account.pending == account.forfeited == 0
    assert len(foreign.receipts) >= state.round
    for arguments in (("verify",), ("audit", "--fraction", "1")):
        process = Process(tmp_path / f"{arguments[0]}.json", arguments[0], stage.run, *arguments[1:], "--json")
        assert process.end() == 0, process.text
        assert json.loads(process.text)["claims"]

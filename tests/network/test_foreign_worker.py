"""docs/WIRE.md is enough to write a worker: one that was written from it works for a real manager, and is paid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from foreign_worker import ForeignWorker
from stage import Process, Stage, write_recipe

from podlt.access.invitation import Invitation, sign, write
from podlt.access.login import binding, check_login
from podlt.canonical import encode
from podlt.crypto import SigningKey
from podlt.data.dataset import DTYPES
from podlt.execution.fingerprint import measured
from podlt.execution.task_executor import TaskExecutor, as_batch, one_thread
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.protocol import entries as e
from podlt.protocol.entries import Commitment
from podlt.protocol.messages import JoinTerms
from podlt.protocol.receipt import Bound, sign_receipts
from podlt.protocol.signatures import join_checks
from podlt.report.fold import walk
from podlt.wire import control
from podlt.wire import messages as m

SHARES = '\n[protocol]\npreset = "guarded"\nreward = 1\nescrow = 2\nchecked = 0.5\nown = 0.5\n'


def execute(
    program: bytes, parameters: bytes, examples: Sequence[tuple[dict[str, Any], bytes]], randomness: bytes
) -> bytes:
    """The training step itself, which is not about the wire: podlt's."""
    code = Program.from_bytes(program)
    arrays = {
        f["name"]: np.frombuffer(bytearray(values), DTYPES[f["dtype"]]).reshape(-1, *f["shape"])
        for f, values in examples
    }
    out = np.zeros(update_layout(code).nbytes, np.uint8)
    with one_thread():
        state = state_layout(code).views(np.frombuffer(bytearray(parameters), np.uint8))
        TaskExecutor(code, 1, None)(state, as_batch(arrays), randomness, out)
    return out.tobytes()


class Sent:
    """In the place of a WebSocket: keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.messages.append(payload)


def test_what_it_signs_and_checks_is_what_the_manager_checks_and_signs() -> None:
    manager, run, nonce = SigningKey(bytes(range(32))), b"r" * 32, b"n" * 32
    servers, certificate = ["https://127.0.0.1:1"], b"certificate"
    invitation = sign(Invitation(servers, manager.public, certificate, b"s" * 16, 3), manager)
    foreign = ForeignWorker(write(invitation), execute, "")
    foreign.socket = sent = Sent()
    foreign.on_challenge(1, nonce, 10**6)
    login = control.from_client(sent.messages.pop()[2:])
    assert isinstance(login, control.Login) and login.key == foreign.public
    check_login(login, binding(invitation.channel, certificate, nonce))

    foreign.index, foreign.run, foreign.number = 5, run, 2
    seen, root = 3, b"t" * 32
    terms = JoinTerms(2, 7, seen, root, "anna")
    foreign.on_offer(run, msgspec.structs.asdict(terms), sign_head(Head(origin_of(run), seen, root), manager))
    signed = m.from_worker(sent.messages.pop()[2:])
    assert isinstance(signed, m.SignedJoin) and signed.terms == terms
    assert all(check.holds() for check in join_checks(run, foreign.public, terms, signed.signatures))

    made = b"c" * 32, b"s" * 64
    foreign.done[b"deal-id!", 2] = (*made, b"update", b"salt" * 4)
    commitments = [Commitment(seat, seat, *made) for seat in range(7)]
    receipt = sign_receipts(run, Bound(4, 0, commitments), manager)[2]
    foreign.on_open(b"deal-id!", 4, [msgspec.msgpack.decode(encode(receipt))])
    opened = m.from_worker(sent.messages.pop()[2:])
    assert isinstance(opened, m.Openings)
    assert [(one.seat, one.holder, one.salt) for one in opened.opened] == [(2, 2, b"salt" * 4)]


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "epochs"), [(32, 2), (2000, 1)], ids=["inline", "large-blobs"])
def test_a_worker_written_from_the_text_joins_computes_is_compared_and_paid(
    tmp_path: Path, hidden: int, epochs: int
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=epochs, workers=3, hidden=hidden)
    recipe.write_text(recipe.read_text() + SHARES)
    with ThreadPoolExecutor(1) as pool, Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        foreign = ForeignWorker(stage.invitation.read_text(), execute, measured("stock").digest)
        work = pool.submit(foreign.work)
        for name in ("a", "b"):
            stage.start_worker(name)
        stage.until(work.done)
        work.result()
        state = stage.end()
    assert foreign.outcome == "complete"
    mine = state.workers[foreign.number]
    assert mine.key == foreign.public and mine.status == "active"
    assert foreign.setup["updates_as_blobs"] == (hidden == 2000)
    agreed = [
        visit.entry.reason
        for visit in walk(stage.run)
        if isinstance(visit.entry, e.Verdict)
        and visit.entry.outcome == "agree"
        and foreign.number in visit.round.answers[visit.entry.shard]  # type: ignore[union-attr]
    ]
    assert {"own", "compared"} & set(agreed)  # which of its tasks were, is secret and random
    account = state.ledger.accounts[foreign.number]
    assert account.vested == sum(foreign.paid.values()) > 0 and account.pending == account.forfeited == 0
    assert len(foreign.receipts) >= state.round
    for arguments in (("verify",), ("audit", "--fraction", "1")):
        process = Process(tmp_path / f"{arguments[0]}.json", arguments[0], stage.run, *arguments[1:], "--json")
        assert process.end() == 0, process.text
        assert json.loads(process.text)["claims"]

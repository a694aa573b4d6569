"""Parameters and examples on their way into a worker: whatever comes, or does not, ends in the right bits."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from podlt.crypto import blob_digest
from podlt.engine.isolated.interface import ProgramLoaded
from podlt.engine.isolated.records import HoldParameters, ReleaseParameters
from podlt.errors import InvalidProofError
from podlt.network.blobs.client import TransferEnded
from podlt.network.blobs.jobs import TransferError
from podlt.wire import messages as m
from podlt.worker.effects import CancelTransfer, Effect, FetchBlob
from podlt.worker.inputs import Inputs, ProgramInput
from podlt.worker.replies import Replies

SIZE = 1000
NOW, BEAT = 10.0, 2.0


class Runtime:
    """What does what `Inputs` wants done, and the memory of the parameters."""

    def __init__(self) -> None:
        self.state = np.zeros(SIZE, np.uint8)
        self.held = b""
        self.fetches: list[FetchBlob] = []
        self.cancelled: list[bytes] = []
        loaded = ProgramLoaded(self.state, 4, 10, "exact/2", "", "")
        self.inputs = Inputs(loaded, Replies(False, self.perform), self.perform, lambda: b"k", BEAT)

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, HoldParameters):
            assert blob_digest(self.state.data) == effect.digest
            self.held = effect.digest
        elif isinstance(effect, FetchBlob):
            self.fetches.append(effect)
        elif isinstance(effect, CancelTransfer):
            self.cancelled.append(effect.digest)
        else:
            assert isinstance(effect, ReleaseParameters)
            self.held = b""

    def came(self, data: np.ndarray) -> None:
        """The last fetch ends, with these bytes."""
        fetch = self.fetches[-1]
        fetch.place.data[:] = data
        self.inputs.transferred(TransferEnded(fetch.digest, fetch.place, None), NOW)


def parameters(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)


def said(data: np.ndarray, *, inline: bool = True) -> m.Parameters:
    return m.Parameters(digest=blob_digest(data.data), size=SIZE, data=data.data if inline else m.NOTHING)


def test_parameters_in_a_message_are_held_at_once_and_replace_others() -> None:
    runtime = Runtime()
    for seed in (1, 2):
        runtime.inputs.announced(said(parameters(seed)), NOW)
        assert runtime.inputs.held == runtime.held == blob_digest(parameters(seed).data)
    assert not runtime.fetches and not runtime.inputs.requests(NOW + BEAT)


def test_large_parameters_are_fetched_once_and_again_where_that_failed() -> None:
    runtime, new = Runtime(), parameters(1)
    for _ in range(2):
        runtime.inputs.announced(said(new, inline=False), NOW)
    (fetch,) = runtime.fetches
    assert (fetch.key, fetch.digest, fetch.place.size) == (b"k", blob_digest(new.data), SIZE)
    runtime.inputs.transferred(TransferEnded(fetch.digest, fetch.place, TransferError("cut", fetch.digest)), NOW)
    assert not runtime.inputs.requests(NOW + 0.1)
    (asked,) = runtime.inputs.requests(NOW + BEAT)
    assert asked == (b"k", m.GetParameters(digest=fetch.digest)), "perhaps they come otherwise now"
    assert runtime.fetches[1].place is fetch.place, "and goes on where it was"
    runtime.came(new)
    assert runtime.inputs.held == runtime.held == fetch.digest
    assert not runtime.inputs.requests(NOW + 9 * BEAT) or runtime.inputs.held


def test_parameters_that_are_not_needed_any_more_are_not_fetched_further() -> None:
    runtime, old, new = Runtime(), parameters(1), parameters(2)
    runtime.inputs.announced(said(old, inline=False), NOW)
    runtime.inputs.announced(said(new, inline=False), NOW)
    assert runtime.cancelled == [blob_digest(old.data)]
    late = runtime.fetches[0]
    runtime.inputs.transferred(TransferEnded(late.digest, late.place, None), NOW)
    assert not runtime.inputs.held
    runtime.came(new)
    assert runtime.inputs.held == blob_digest(new.data)


def test_parameters_that_a_task_names_and_nobody_announced_are_asked_about() -> None:
    runtime, digest = Runtime(), blob_digest(parameters(1).data)
    runtime.inputs.needed(digest, NOW)
    assert not runtime.inputs.requests(NOW + 0.1)
    assert runtime.inputs.requests(NOW + BEAT) == [(b"k", m.GetParameters(digest=digest))]
    runtime.inputs.announced(said(parameters(1)), NOW)
    assert not runtime.inputs.requests(NOW + 9 * BEAT)


@pytest.mark.parametrize("changes", [{"size": SIZE + 1}, {"data": memoryview(bytes(SIZE - 1))}, {"digest": bytes(32)}])
def test_announcements_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    runtime = Runtime()
    with pytest.raises(InvalidProofError):
        runtime.inputs.announced(msgspec.structs.replace(said(parameters(1)), **changes), NOW)
    assert not runtime.inputs.held and not runtime.state.any()


def test_a_large_program_is_fetched_until_it_is_here() -> None:
    fetches: list[FetchBlob] = []
    setup = m.Setup(
        version=m.VERSION, begin=b"", head="", program_blob=bytes(32), program_size=3, program=b"", fields=[]
    )
    program = ProgramInput(setup, fetches.append, b"k")  # type: ignore[arg-type]
    for now in (NOW, NOW + 0.1, NOW + 2):
        program.requests(now)
    assert len(fetches) == 2 and fetches[0].place is fetches[1].place
    fetches[0].place.data[:] = (1, 2, 3)
    program.transferred(TransferEnded(bytes(32), fetches[0].place, None), NOW)
    assert program.program == bytes((1, 2, 3)) and not program.requests(NOW + 9)
    with pytest.raises(InvalidProofError, match="longer than"):
        ProgramInput(msgspec.structs.replace(setup, program_size=2**40), fetches.append, b"k")  # type: ignore[arg-type]

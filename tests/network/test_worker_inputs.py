"""Parameters on their way into a worker: whatever comes, or does not, ends in the right bits or in a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.crypto import blob_digest
from podlt.engine.isolated.interface import ProgramLoaded
from podlt.engine.isolated.records import HoldParameters, ReleaseParameters
from podlt.errors import InvalidProofError
from podlt.network import messages as m
from podlt.network.blobs import delta
from podlt.network.blobs.chunks import CHUNK, message, split
from podlt.network.session.publishing import REST, DeltaChoice
from podlt.network.worker import inputs
from podlt.network.worker.effects import Effect
from podlt.network.worker.inputs import Inputs
from podlt.network.worker.replies import Replies

SIZE = 3 * CHUNK + 100
NOW = 10.0


class Runtime:
    """What does what `Inputs` wants done, and the memory of the parameters."""

    def __init__(self) -> None:
        self.state = np.zeros(SIZE, np.uint8)
        self.holds: list[bytes] = []
        self.held = b""

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, HoldParameters):
            assert blob_digest(self.state.data) == effect.digest
            self.holds.append(effect.digest)
            self.held = effect.digest
        else:
            assert isinstance(effect, ReleaseParameters)
            self.held = b""


def parameters(seed: int, base: np.ndarray | None = None) -> np.ndarray:
    dice = np.random.default_rng(seed)
    if base is None:
        return dice.standard_normal(SIZE // 4, np.float32).view(np.uint8)
    return (base.view(np.float32) + np.float32(1e-4) * dice.standard_normal(SIZE // 4, np.float32)).view(np.uint8)


def whole(data: np.ndarray) -> m.Parameters:
    digest = blob_digest(data.data)
    return m.Parameters(digest=digest, size=SIZE, blob=digest, length=SIZE)


def changed(data: np.ndarray, base: np.ndarray, encoded: bytes) -> m.Parameters:
    digest, before = blob_digest(data.data), blob_digest(base.data)
    return m.Parameters(digest=digest, size=SIZE, blob=blob_digest(encoded), length=len(encoded), base=before)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Inputs, Runtime, list[str]]]:
    monkeypatch.setattr(inputs, "SILENT_HEARTBEATS", 0)

    def make() -> tuple[Inputs, Runtime, list[str]]:
        runtime, warnings = Runtime(), []
        loaded = ProgramLoaded(runtime.state, 4, 10, "exact/2", "", "")
        replies = Replies(False, runtime.perform)
        one = Inputs(loaded, 4, replies, False, runtime.perform, lambda: b"k", 0.0, warnings.append)
        return one, runtime, warnings

    return make


def test_what_changed_is_applied_to_what_is_there(made: Any) -> None:
    taken, runtime, _ = made()
    old = parameters(1)
    new = parameters(2, old)
    taken.announced(whole(old), NOW)
    for body in split(blob_digest(old.data), old):
        taken.chunk(memoryview(body), NOW)
    assert taken.held == blob_digest(old.data) and runtime.holds == [taken.held]
    encoded = b"".join(delta.encode(new, old))
    said = changed(new, old, encoded)
    taken.announced(said, NOW)
    assert taken.held == said.base, "what is there stays until all of the change has come"
    taken.announced(said, NOW)
    for body in [*split(said.blob, encoded)][::-1]:
        taken.chunk(memoryview(body), NOW)
    assert taken.held == runtime.held == said.digest and np.array_equal(runtime.state, new)


def test_who_has_another_base_asks_for_the_whole_at_once(made: Any) -> None:
    taken, runtime, _ = made()
    old = parameters(1)
    new = parameters(2, old)
    said = changed(new, old, b"".join(delta.encode(new, old)))
    taken.announced(said, NOW)
    asked = [request for _, request in taken.requests(NOW) if request.ranges]
    assert [request.digest for request in asked] == [said.digest] and len(asked[0].ranges) == 4
    taken.announced(said, NOW)
    for offset, length in asked[0].ranges:
        taken.chunk(memoryview(message(said.digest, SIZE, offset, new[offset : offset + length])), NOW)
    assert taken.held == runtime.held == said.digest and np.array_equal(runtime.state, new)


def test_a_change_that_leads_elsewhere_is_found_out_and_the_whole_is_asked_for(made: Any) -> None:
    taken, runtime, warnings = made()
    old = parameters(1)
    new, other = parameters(2, old), parameters(3, old)
    taken.announced(whole(old), NOW)
    for body in split(blob_digest(old.data), old):
        taken.chunk(memoryview(body), NOW)
    encoded = b"".join(delta.encode(other, old))
    said = changed(new, old, encoded)
    taken.announced(said, NOW)
    for body in split(said.blob, encoded):
        taken.chunk(memoryview(body), NOW)
    assert taken.held == b"" and "asked for all parameters" in warnings[0]
    assert said.digest in [request.digest for _, request in taken.requests(NOW)]
    for body in split(said.digest, new):
        taken.chunk(memoryview(body), NOW)
    assert taken.held == runtime.held == said.digest and np.array_equal(runtime.state, new)


def test_parameters_that_a_task_names_and_nobody_announced_are_asked_about(made: Any) -> None:
    taken, _, _ = made()
    new = parameters(1)
    taken.needed(blob_digest(new.data), NOW - 1)
    assert [request for _, request in taken.requests(NOW)] == [m.GetChunks(digest=blob_digest(new.data), ranges=[])]
    taken.announced(whole(new), NOW)
    assert all(request.digest == blob_digest(new.data) for _, request in taken.requests(NOW))


@pytest.mark.parametrize(
    "changes", [{"size": SIZE + 1}, {"length": delta.bound(SIZE) + 1}, {"length": SIZE - 1}, {"blob": bytes(32)}]
)
def test_announcements_that_cannot_be_are_refused(made: Any, changes: dict[str, Any]) -> None:
    import msgspec

    taken, _, _ = made()
    with pytest.raises(InvalidProofError):
        taken.announced(msgspec.structs.replace(whole(parameters(1)), **changes), NOW)


@examples(60)
@given(st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 5), st.floats(0.01, 100)), max_size=40))
def test_what_is_not_worth_it_is_rested_from_and_tried_again(rounds: list[tuple[float, float, float]]) -> None:
    now = [0.0]
    choice, since = DeltaChoice("auto", lambda: now[0]), REST
    for ratio, carry, seconds in rounds:
        if choice.planned:
            assert since >= REST or since < 0
            choice.tried(int(ratio * 1e6), 0.01)
            since = 0 if ratio > 0.9 else -(10**6)
        choice.published(10**6)
        choice.carried(carry)
        now[0] += seconds
        since += 1


def test_it_is_tried_where_rounds_are_long_or_ways_are_slow_and_only_there() -> None:
    now = [0.0]

    def planned(seconds: float, carry: float, policy: Any = "auto") -> bool:
        choice = DeltaChoice(policy, lambda: now[0])
        for _ in range(2):
            choice.carried(carry)
            choice.published(400_000)
            now[0] += seconds
        return choice.planned

    assert not planned(0.05, 0.001) and planned(5.0, 0.001) and planned(0.05, 0.04)
    assert planned(0.05, 0.001, "always") and not planned(5.0, 1.0, "never")

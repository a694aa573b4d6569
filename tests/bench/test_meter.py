"""The meter that says where the cost of the proof goes."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator

import msgspec
import pytest

from podlt.bench.meter import FOLDER, WORKER, Meter, Took
from podlt.bench.where import MANAGER


@pytest.fixture
def watched() -> Iterator[types.ModuleType]:
    """A module with a function that calls another, and a class."""
    module = types.ModuleType("podlt_watched")
    source = """
def inner(n):
    return sum(range(n))

def outer(n):
    return inner(n) + inner(n)

class Thing:
    @staticmethod
    def alone(n):
        return inner(n)
"""
    exec(compile(source, "podlt_watched", "exec"), module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


CAUSES = {"podlt_watched:inner": "in", "podlt_watched:outer": "out", "podlt_watched:Thing.alone": "out"}


def test_what_a_function_takes_is_put_down_to_it_without_what_it_calls(watched: types.ModuleType) -> None:
    meter = Meter()
    meter.watch(CAUSES)
    assert watched.outer(200_000) == 2 * sum(range(200_000)) and watched.Thing.alone(10) == 45
    found = meter.found()
    assert (found["in"].calls, found["out"].calls) == (3, 2)
    assert found["out"].whole == pytest.approx(found["out"].seconds + found["in"].seconds)
    assert found["in"].whole == found["in"].seconds > found["out"].seconds > 0


def test_threads_are_added_up_and_what_was_before_is_taken_off(watched: types.ModuleType) -> None:
    meter = Meter()
    meter.watch(CAUSES)
    watched.inner(10)
    before = meter.found()["in"]
    threads = [threading.Thread(target=watched.inner, args=(1000,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    since = meter.found()["in"].since(before)
    assert since.calls == 3 and since.seconds > 0


def test_a_process_leaves_what_it_took_under_its_number(
    watched: types.ModuleType, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    meter = Meter()
    meter.watch(CAUSES)
    watched.inner(10)
    path = meter.write()
    assert msgspec.json.decode(path.read_bytes(), type=dict[str, Took]) == meter.found()


@pytest.mark.parametrize("place", [*WORKER, *MANAGER])
def test_what_is_timed_is_there(place: str) -> None:
    module, _, path = place.partition(":")
    __import__(module)
    found: object = sys.modules[module]
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)

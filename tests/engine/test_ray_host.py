"""What an actor does and what the workplace `ray` refuses, without a cluster."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from podlt.data.field import Field
from podlt.engine.ray.workplace import RayCluster, TrustWarning, parse_resource
from podlt.errors import EngineError, UsageError

ray = pytest.importorskip("ray")

from podlt.engine.ray.actors import label_of, shares  # noqa: E402
from podlt.engine.ray.host import CALL_BYTES, aligned, pack_examples, tasks_a_call, unpack_examples  # noqa: E402

FIELDS = [Field("x", "f32", (3,), "input", None), Field("y", "i64", (), "label", None)]


def examples(count: int) -> dict[str, np.ndarray]:
    """Examples of two fields."""
    x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    return {"x": x, "y": np.arange(count, dtype=np.int64)}


@pytest.mark.parametrize("count", [1, 7, 64])
def test_examples_come_out_of_one_array_as_they_went_in_each_field_at_a_multiple_of_64(count: int) -> None:
    packed = pack_examples(FIELDS, examples(count))
    unpacked = unpack_examples(FIELDS, aligned(packed), count)
    for name, values in examples(count).items():
        assert np.array_equal(unpacked[name], values) and unpacked[name].dtype == values.dtype
        assert unpacked[name].ctypes.data % 64 == 0


@pytest.mark.parametrize("count", [6, 40])
def test_other_examples_than_were_packed_are_refused(count: int) -> None:
    with pytest.raises(EngineError, match=f"{count} examples of"):
        unpack_examples(FIELDS, pack_examples(FIELDS, examples(7)).repeat(3), count)


def test_bytes_anywhere_are_moved_to_a_multiple_of_64_and_others_stay() -> None:
    memory = aligned(np.arange(200, dtype=np.uint8))
    assert aligned(memory) is memory
    moved = aligned(memory[1:])
    assert moved.ctypes.data % 64 == 0 and np.array_equal(moved, memory[1:])


def test_a_call_holds_a_few_tasks_and_never_more_bytes_than_it_may() -> None:
    assert tasks_a_call(400_000) == 8
    assert tasks_a_call(CALL_BYTES // 2) == 2
    assert tasks_a_call(5 * CALL_BYTES) == 1


def test_workers_are_shared_evenly_and_actors_named_after_them() -> None:
    found = shares(50, 4)
    assert [n for share in found for n in share] == list(range(50))
    assert {len(share) for share in found} <= {12, 13}
    assert label_of(found[0]) == "podlt worker 0-11" and label_of([7]) == "podlt worker 7"


@pytest.mark.parametrize("text", ["training", "training=", "training=many"])
def test_a_resource_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="expected NAME=AMOUNT"):
        parse_resource(text)


@pytest.mark.parametrize(
    "options",
    [
        {"address": "ray://head:10001"},
        {"address": "head"},
        {"resources": {"training": 0.0}},
        {"resources": {"training": 1.5}},
        {"resources": {"training": float("nan")}},
        {"resources": {"CPU": 1.0}},
        {"resources": {"": 1.0}},
    ],
)
def test_an_address_or_resource_that_ray_would_take_otherwise_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        RayCluster(**options)


def test_whoever_uses_a_cluster_is_told_whom_it_trusts() -> None:
    with pytest.warns(TrustWarning, match="never with strangers"):
        RayCluster()


def test_importing_podlt_does_not_import_ray_and_without_it_the_error_names_the_extra() -> None:
    program = (
        "import sys, podlt, podlt.api, podlt.cli\n"
        "from podlt.engine.ray.workplace import RayCluster\n"
        "print('ray' in sys.modules)\n"
        "sys.modules['ray'] = None  # it cannot be imported any more\n"
        "from podlt.errors import UsageError\n"
        "try:\n"
        "    with RayCluster().ready(3): pass\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    imported, _, said = done.stdout.partition("\n")
    assert imported == "False" and "pip install '.[ray]'" in said


@pytest.mark.filterwarnings("ignore::podlt.engine.ray.workplace.TrustWarning")
def test_an_address_at_which_nobody_listens_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineError, match=f"no Ray cluster at {address}"), RayCluster(address).ready(3):
            pass
    assert not ray.is_initialized()

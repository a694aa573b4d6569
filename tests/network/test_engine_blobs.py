"""Large blobs outside the messages: the same bits, whatever carries them, and whatever is cut off on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cutting import Wire
from hub import CrewLink, Hub
from near_hosts import train_near
from small_runs import Trained, seeded, small_recipe, tiny_recipe, train
from test_engine import crews, keys, whole
from web import Web

import podlt.api
from podlt.crypto import SigningKey
from podlt.errors import StorageError
from podlt.events import NetworkEvent, Published
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.network.blobs import client, object_store, uploads
from podlt.network.blobs import server as blob_server
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import ProtocolSpec, Recipe
from podlt.remote.session import joining
from podlt.remote.session.peers import Peer
from podlt.remote.workplace import RemoteMachines
from podlt.store.run_names import BLOBS
from podlt.wire import messages

LARGE = 500


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same recipe on one machine."""
    return train_near(tmp_path_factory.mktemp("local") / "run", small_recipe(epochs=1), entropy=seeded(1))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    one = Web(tmp_path / "web")
    yield one
    one.close()


def run(
    hub: Hub, web: Web, path: Path, recipe: Recipe, bucket: str = "", large: int = LARGE, **options: Any
) -> tuple[Trained, list[Published]]:
    events: list[NetworkEvent] = []
    hub.web = web.host
    elsewhere = RemoteMachines(
        hub.connect, heartbeat_seconds=hub.beat, bucket=bucket, large=large, listener=events.append, **options
    )
    return train(path, recipe, place=elsewhere, entropy=seeded(1)), [e for e in events if isinstance(e, Published)]


def unharmed(trained: Trained, made: list[CrewLink]) -> None:
    whole(trained)
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)
    for crew in made:
        outcome = crew.join()
        assert outcome is not None and outcome.how == "complete"


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[bytes]]:
    """Digests that were put into an object store, and that were fetched from the manager."""
    found: dict[str, set[bytes]] = {"put": set(), "https": set()}
    put, give = object_store.ObjectStore.put, blob_server.BlobServer._give

    async def noted_put(self: Any, data: np.ndarray, digest: bytes, part: int) -> None:
        found["put"].add(digest)
        await put(self, data, digest, part)

    async def noted_give(self: Any, http: Any, key: bytes, digest: bytes) -> None:
        found["https"].add(digest)
        await give(self, http, key, digest)

    monkeypatch.setattr(object_store.ObjectStore, "put", noted_put)
    monkeypatch.setattr(blob_server.BlobServer, "_give", noted_give)
    return found


@pytest.mark.slow
def test_averages_of_large_updates_are_proven_by_fingerprints_and_clipping_changes_nothing(
    tmp_path: Path, web: Web
) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    rules = ProtocolSpec(clip=1)
    trained, _ = run(
        hub, web, tmp_path / "run", small_recipe(epochs=1, arithmetic="exact", protocol=rules), aggregates=True
    )
    unharmed(trained, made)
    assert trained.of(ev.Clipped), "with so low a bound honest updates are scaled"
    report = audit(tmp_path / "run", aggregates=True, jobs=1)
    assert report.exit_code == 0 and report.finding(Claim.AGGREGATES).outcome is Outcome.HOLDS


@pytest.mark.slow
def test_what_goes_by_https_comes_to_the_same_bits(
    tmp_path: Path, web: Web, local: Trained, carried: dict[str, set[bytes]]
) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, published = run(hub, web, tmp_path / "run", small_recipe(epochs=1))
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert {one.way for one in published} == {"https"}
    tasks = sum(worker.tasks for crew in made if crew.books for worker in crew.books.status.workers.values())
    assert len(carried["https"]) > len(published) + tasks / 4 > 40, "program and examples as well"
    assert not [line for crew in made for line in crew.told if "ignored" in str(line)]
    assert not list((tmp_path / "run" / BLOBS).iterdir())


@pytest.mark.slow
def test_parameters_go_through_an_object_store_once(tmp_path: Path, web: Web, carried: dict[str, set[bytes]]) -> None:
    hub, bucket, recipe = Hub(), tmp_path / "bucket", tiny_recipe(400, workers=5)
    made = crews(hub, tmp_path, 2, 2, 1)
    trained, published = run(hub, web, tmp_path / "run", recipe, f"file://{bucket}")
    unharmed(trained, made)
    assert len(carried["put"]) > 5 and not carried["put"] & carried["https"]
    assert trained.result.parameters == train_near(tmp_path / "local", recipe, entropy=seeded(1)).result.parameters
    assert {one.way for one in published} == {"store"}
    assert not list(bucket.iterdir()), "what is not needed any more is deleted"


@pytest.mark.slow
def test_an_object_store_that_lies_or_fails_is_done_without(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = object_store.ObjectStore.put, []

    async def put(self: object_store.ObjectStore, data: np.ndarray, digest: bytes, part: int) -> None:
        calls.append(digest)
        if len(calls) % 3 == 0:
            raise client.TransferError("the disk is full", digest)
        await right(self, np.zeros_like(data) if len(calls) % 3 == 1 else data, digest, part)

    monkeypatch.setattr(object_store.ObjectStore, "put", put)
    hub = Hub()
    made = crews(hub, tmp_path, 2, 1)
    trained, published = run(hub, web, tmp_path / "run", tiny_recipe(), f"file://{tmp_path}/bucket")
    unharmed(trained, made)
    assert {one.way for one in published} == {"store", "https"} and len(calls) > 3


def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The largest size of each kind of blob in the runs that follow."""
    found: dict[str, int] = {}
    record = messages.record

    def noted(message: messages.Message, blob: Sequence[memoryview] = ()) -> bytes:
        now: dict[str, int] = {}
        if isinstance(message, messages.Setup):
            now = {"program": message.program_size}
        elif isinstance(message, messages.Parameters):
            now = {"parameters": message.size}
        elif isinstance(message, messages.DealTask):
            now = {"examples": message.size}
        found.update({name: max(size, found.get(name, 0)) for name, size in now.items()})
        return record(message, blob)

    monkeypatch.setattr(messages, "record", noted)
    return found


@pytest.mark.parametrize("momentum", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_limit_between_any_two_sizes_changes_no_bit(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch, momentum: float
) -> None:
    """Asked of two sizes, "large" had two answers: a blob was put on the server and sought in messages, for ever."""
    recipe = msgspec.structs.replace(
        tiny_recipe(200, workers=3), optimizer={"name": "sgd", "lr": 0.1, "momentum": momentum}
    )
    local = train_near(tmp_path / "local", recipe, entropy=seeded(1))
    found, hub = sizes(monkeypatch), Hub()
    crews(hub, tmp_path / "all", 2, 1)
    first, published = run(hub, web, tmp_path / "messages", recipe, large=2**30)
    program = Program.from_bytes((first.result.run / "program.json").read_bytes())
    found["update"] = update_layout(program).nbytes
    assert first.result.parameters == local.result.parameters
    assert {one.way for one in published} == {"message"}
    assert set(found) == {"program", "parameters", "examples", "update"}
    ordered = sorted(set(found.values()))
    limits = [(small + large) // 2 for small, large in pairwise(ordered)]
    assert len(limits) >= 2
    for limit in limits:
        hub = Hub()
        made = crews(hub, tmp_path / f"{limit}", 2, 1)
        trained, published = run(hub, web, tmp_path / f"run{limit}", recipe, large=limit)
        unharmed(trained, made)
        assert trained.result.parameters == local.result.parameters
        assert {one.way for one in published} == {"https" if found["parameters"] > limit else "message"}


@pytest.mark.slow
@pytest.mark.parametrize("large", [LARGE, 2**30])
def test_lost_messages_change_no_bit(tmp_path: Path, web: Web, local: Trained, large: int) -> None:
    hub = Hub(loss=0.05, twice=0.05, shuffle=0.05, seed=5)
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, _ = run(hub, web, tmp_path / "run", small_recipe(epochs=1), large=large)
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters


@pytest.mark.slow
def test_a_wire_that_is_cut_again_and_again_loses_nothing(tmp_path: Path, web: Web, local: Trained) -> None:
    wire = Wire(web.port, [5000 * n for n in range(1, 30)])
    web.host.urls[:] = [f"https://127.0.0.1:{wire.port}"]
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, _ = run(hub, web, tmp_path / "run", small_recipe(epochs=1))
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters and wire.connections > 8


def test_who_uploads_something_else_is_let_go_and_the_run_ends(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = client.BlobTransfers.send
    spoilt: list[bytes] = []

    def send(self: client.BlobTransfers, key: bytes, digest: bytes, data: np.ndarray) -> None:
        if key == keys(1, 3)[0].public and len(spoilt) < 1:
            spoilt.append(digest)
            data = data.copy()
            data[-1] ^= 1
        right(self, key, digest, data)

    monkeypatch.setattr(client.BlobTransfers, "send", send)
    hub = Hub()
    crews(hub, tmp_path, 3, 1)
    trained, _ = run(hub, web, tmp_path / "run", tiny_recipe(workers=4))
    withdrawn = trained.of(ev.Withdrawn)
    whole(trained, [gone.worker for gone in withdrawn])
    if spoilt:  # else others had sent the same before
        (gone,) = withdrawn
        assert "does not match its commitment" in gone.reason
    assert not trained.result.evicted


@pytest.mark.slow
def test_a_full_disk_of_the_manager_stops_the_run_and_nobody_is_let_go_for_it(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ev.Event] = []

    def full(event: ev.Event) -> None:
        told.append(event)
        if isinstance(event, ev.RoundDone):
            monkeypatch.setattr(uploads, "RESERVE", 2**60)

    hub = Hub()
    hub.web = web.host
    crews(hub, tmp_path, 2, 1)
    elsewhere = RemoteMachines(hub.connect, silence_timeout=1.0, heartbeat_seconds=hub.beat, large=LARGE)
    with pytest.raises(StorageError, match="no room"):
        podlt.api.train(tiny_recipe(), run=tmp_path / "run", listener=full, place=elsewhere, entropy=seeded(1))
    assert not [event for event in told if isinstance(event, ev.Withdrawn)]


@pytest.mark.slow
def test_parameters_go_through_s3(
    tmp_path: Path, web: Web, local: Trained, monkeypatch: pytest.MonkeyPatch, carried: dict[str, set[bytes]]
) -> None:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {**settings, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="podlt")
    monkeypatch.setattr(object_store, "OBJECT", 4000)
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, published = run(hub, web, tmp_path / "run", small_recipe(epochs=1), "s3://podlt/runs")
    server.stop()
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert {one.way for one in published} == {"store"}
    assert len(carried["put"]) > 10 and not carried["put"] & carried["https"]
    assert not [line for crew in made for line in crew.told if "ignored" in str(line) or "asked" in str(line)]


@pytest.mark.slow
def test_a_server_that_moved_is_asked_for_by_those_who_do_not_find_it(
    tmp_path: Path, web: Web, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restore on another machine: workers that were told of another port learn the new one."""
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    greet, sign, right = joining.JoinHandler.greet, joining.sign_setup, list[bool]()

    def misled(setup: messages.Setup, key: SigningKey) -> messages.Setup:
        return sign(setup if right[-1] else msgspec.structs.replace(setup, blobs=["https://127.0.0.1:1"]), key)

    def misses(crew: CrewLink) -> bool:
        return any("transfers of large blobs failed in a row" in str(line) for line in crew.told)

    def greets(self: joining.JoinHandler, peer: Peer, hello: messages.Hello) -> None:
        right.append(any(peer.key in crew.keys and misses(crew) for crew in made))
        self._setup = None
        greet(self, peer, hello)

    monkeypatch.setattr(joining, "sign_setup", misled)
    monkeypatch.setattr(joining.JoinHandler, "greet", greets)
    trained, _ = run(hub, web, tmp_path / "run", small_recipe(epochs=1))
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert all(misses(crew) for crew in made)


@pytest.mark.parametrize("beside", [pytest.param(False, marks=pytest.mark.slow), True])
def test_workers_follow_a_manager_that_goes_on_with_another_idea_of_what_is_large(
    tmp_path: Path, web: Web, local: Trained, beside: bool
) -> None:
    hub, path, limits = Hub(), tmp_path / "run", [2**30, LARGE]
    hub.web = web.host
    made = crews(hub, tmp_path, 3, 3, 2)

    def enough(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat, large=limits[beside])
        podlt.api.train(small_recipe(epochs=1), run=path, listener=enough, place=first, entropy=seeded(1))
    events: list[ev.Event] = []
    second = RemoteMachines(lambda job: hub, heartbeat_seconds=hub.beat, large=limits[not beside])
    result = podlt.api.resume(path, listener=events.append, place=second, entropy=seeded(1))
    unharmed(Trained(result, events), made)
    assert result.parameters == local.result.parameters

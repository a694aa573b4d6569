"""Large blobs beside the messages: the same bits, whatever carries them, and whatever is cut off on the way."""

from __future__ import annotations

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

import podlt.api
from podlt.crypto import SigningKey
from podlt.errors import StorageError
from podlt.events import NetworkEvent, Published
from podlt.manager import events as ev
from podlt.network import messages, workplace
from podlt.network.blobs import client, http_client, object_store, transfer
from podlt.network.blobs import server as blob_server
from podlt.network.blobs.store import BlobStore
from podlt.network.session import joining
from podlt.network.session.peers import Peer
from podlt.network.workplace import Blobs, RemoteMachines
from podlt.program.ir import Program
from podlt.program.layout import update_layout
from podlt.recipe import Recipe

LARGE = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large, and in many ranges."""
    monkeypatch.setattr(transfer, "RANGE", 3000)
    monkeypatch.setattr(messages, "INLINE", 500)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same recipe on one machine."""
    return train_near(tmp_path_factory.mktemp("local") / "run", small_recipe(epochs=1), entropy=seeded(1))


def run(
    hub: Hub, path: Path, recipe: Recipe, bucket: str = "", large: int = LARGE, **options: Any
) -> tuple[Trained, list[Published]]:
    events: list[NetworkEvent] = []
    blobs = Blobs("127.0.0.1", names=["127.0.0.1"], bucket=bucket, large=large)
    elsewhere = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat, blobs=blobs, listener=events.append, **options)
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
    put, fetch = object_store.ObjectStore.put, http_client.BlobClient.fetch_range

    async def noted_put(self: Any, store: Any, digest: bytes, part: int = 0) -> None:
        found["put"].add(digest)
        await put(self, store, digest, part)

    async def noted_fetch(self: Any, digest: bytes, offset: int, length: int) -> bytes:
        found["https"].add(digest)
        return await fetch(self, digest, offset, length)

    monkeypatch.setattr(object_store.ObjectStore, "put", noted_put)
    monkeypatch.setattr(http_client.BlobClient, "fetch_range", noted_fetch)
    return found


@pytest.mark.parametrize("deltas", ["never", "always"])
@pytest.mark.slow
def test_what_goes_by_https_comes_to_the_same_bits(
    tmp_path: Path, local: Trained, deltas: str, carried: dict[str, set[bytes]]
) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, published = run(hub, tmp_path / "run", small_recipe(epochs=1), deltas=deltas)
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert {one.way for one in published if one.form != "same"} == {"https"}
    tasks = sum(worker.tasks for crew in made if crew.books for worker in crew.books.status.workers.values())
    assert len(carried["https"]) > len(published) + tasks / 4 > 40, "program and lines as well"
    changed = [one for one in published if one.form == "delta"]
    assert all(one.sent < one.size for one in changed)
    assert (len(changed) >= len(published) - 3) if deltas == "always" else not changed
    assert not [line for crew in made for line in crew.told if "ignored" in str(line)]
    assert not [path for path in (tmp_path / "run" / blob_server.FOLDER).glob("??/*")]


@pytest.mark.slow
def test_parameters_go_through_an_object_store_once(tmp_path: Path, carried: dict[str, set[bytes]]) -> None:
    hub, bucket, recipe = Hub(), tmp_path / "bucket", tiny_recipe(400, workers=5)
    made = crews(hub, tmp_path, 2, 2, 1)
    trained, published = run(hub, tmp_path / "run", recipe, f"file://{bucket}")
    unharmed(trained, made)
    assert len(carried["put"]) > 5 and not carried["put"] & carried["https"]
    assert trained.result.parameters == train_near(tmp_path / "local", recipe, entropy=seeded(1)).result.parameters
    assert {one.way for one in published if one.form != "same"} == {"store"}
    assert not list(bucket.iterdir()), "what is not needed any more is deleted"


@pytest.mark.slow
def test_an_object_store_that_lies_or_fails_is_done_without(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podlt.network.blobs.object_store import ObjectStore

    right, calls = ObjectStore.put, []

    async def put(self: ObjectStore, store: transfer.Source, digest: bytes, part: int = 0) -> None:
        calls.append(digest)
        if len(calls) % 3 == 0:
            raise transfer.TransferError("the disk is full", digest)
        if len(calls) % 3 == 1:
            store = transfer.InMemory(np.zeros(store.size(digest), np.uint8))
        await right(self, store, digest, part)

    monkeypatch.setattr(ObjectStore, "put", put)
    hub = Hub()
    made = crews(hub, tmp_path, 2, 1)
    trained, published = run(hub, tmp_path / "run", tiny_recipe(), f"file://{tmp_path}/bucket")
    unharmed(trained, made)
    assert {one.way for one in published if one.form != "same"} == {"store", "https"} and len(calls) > 3


def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The largest size of each kind of blob in the runs that follow."""
    found: dict[str, int] = {}
    record = messages.record

    def noted(message: messages.Message) -> bytes:
        now: dict[str, int] = {}
        if isinstance(message, messages.Setup):
            now = {"program": message.program_size}
        elif isinstance(message, messages.Parameters):
            now = {"parameters": message.size} | ({"difference": message.length} if message.base else {})
        elif isinstance(message, messages.DealTask):
            now = {"lines": message.size}
        found.update({name: max(size, found.get(name, 0)) for name, size in now.items()})
        return record(message)

    monkeypatch.setattr(messages, "record", noted)
    return found


@pytest.mark.parametrize("momentum", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_limit_between_any_two_sizes_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, momentum: float
) -> None:
    """Asked of two sizes, "large" had two answers: a blob was put on the server and sought in messages, for ever."""
    recipe = msgspec.structs.replace(
        tiny_recipe(200, workers=3), optimizer={"name": "sgd", "lr": 0.1, "momentum": momentum}
    )
    local = train_near(tmp_path / "local", recipe, entropy=seeded(1))
    found, hub = sizes(monkeypatch), Hub()
    crews(hub, tmp_path / "all", 2, 1)
    first, published = run(hub, tmp_path / "messages", recipe, large=2**30, deltas="always")
    program = Program.from_bytes((first.result.run / "program.json").read_bytes())
    found["update"] = update_layout(program).nbytes
    assert first.result.parameters == local.result.parameters
    assert {one.way for one in published if one.form != "same"} == {"messages"}
    assert set(found) == {"program", "parameters", "difference", "lines", "update"}
    ordered = sorted(set(found.values()))
    limits = [(small + large) // 2 for small, large in pairwise(ordered)]
    assert len(limits) >= 3
    for limit in limits:
        hub = Hub()
        made = crews(hub, tmp_path / f"{limit}", 2, 1)
        trained, published = run(hub, tmp_path / f"run{limit}", recipe, large=limit, deltas="always")
        unharmed(trained, made)
        assert trained.result.parameters == local.result.parameters
        way = "https" if found["parameters"] > limit else "messages"
        assert {one.way for one in published if one.form != "same"} == {way}
        assert "delta" in {one.form for one in published}


@pytest.mark.slow
@pytest.mark.parametrize("large", [LARGE, 2**30])
def test_lost_messages_and_differences_change_no_bit(tmp_path: Path, local: Trained, large: int) -> None:
    hub = Hub(loss=0.05, twice=0.05, shuffle=0.05, seed=5)
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, published = run(hub, tmp_path / "run", small_recipe(epochs=1), large=large, deltas="always")
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert "delta" in {one.form for one in published}


@pytest.mark.slow
def test_a_wire_that_is_cut_again_and_again_loses_nothing(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    wires: list[Wire] = []

    class Slow(blob_server.BlobServer):
        def start(self) -> None:
            super().start()
            wires.append(Wire(int(self.urls[0].rpartition(":")[2]), [5000 * n for n in range(1, 30)]))
            self.urls = [f"https://127.0.0.1:{wires[0].port}"]

    monkeypatch.setattr(workplace, "BlobServer", Slow)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    hub = Hub()
    made = crews(hub, tmp_path, 3, 3, 2)
    trained, _ = run(hub, tmp_path / "run", small_recipe(epochs=1), deltas="always")
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters and wires[0].connections > 8


def test_who_uploads_something_else_is_let_go_and_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    trained, _ = run(hub, tmp_path / "run", tiny_recipe(workers=4))
    withdrawn = trained.of(ev.Withdrawn)
    whole(trained, [gone.worker for gone in withdrawn])
    if spoilt:  # else others had sent the same before
        (gone,) = withdrawn
        assert "does not match its commitment" in gone.reason
    assert not trained.result.evicted


@pytest.mark.slow
def test_a_full_disk_of_the_manager_stops_the_run_and_nobody_is_let_go_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ev.Event] = []
    right = BlobStore.check_room

    def check_room(self: BlobStore, nbytes: int) -> None:
        if any(isinstance(event, ev.RoundDone) for event in told):
            raise StorageError(f"no room for {nbytes} bytes")
        right(self, nbytes)

    monkeypatch.setattr(BlobStore, "check_room", check_room)
    hub = Hub()
    crews(hub, tmp_path, 2, 1)
    blobs = Blobs("127.0.0.1", names=["127.0.0.1"], large=LARGE)
    elsewhere = RemoteMachines(hub.connect, silence_timeout=1.0, heartbeat_seconds=hub.beat, blobs=blobs)
    with pytest.raises(StorageError, match="no room"):
        podlt.api.train(tiny_recipe(), run=tmp_path / "run", listener=told.append, place=elsewhere, entropy=seeded(1))
    assert not [event for event in told if isinstance(event, ev.Withdrawn)]


@pytest.mark.slow
def test_parameters_go_through_s3(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch, carried: dict[str, set[bytes]]
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
    trained, published = run(hub, tmp_path / "run", small_recipe(epochs=1), "s3://podlt/runs", deltas="always")
    server.stop()
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert {one.way for one in published if one.form != "same"} == {"store"}
    assert len(carried["put"]) > 10 and not carried["put"] & carried["https"]
    assert not [line for crew in made for line in crew.told if "ignored" in str(line) or "asked" in str(line)]


@pytest.mark.slow
def test_a_server_that_moved_is_asked_for_by_those_who_do_not_find_it(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
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
    trained, _ = run(hub, tmp_path / "run", small_recipe(epochs=1))
    unharmed(trained, made)
    assert trained.result.parameters == local.result.parameters
    assert all(misses(crew) for crew in made)


@pytest.mark.parametrize("beside", [pytest.param(False, marks=pytest.mark.slow), True])
def test_workers_follow_a_manager_that_goes_on_with_another_way_for_what_is_large(
    tmp_path: Path, local: Trained, beside: bool
) -> None:
    hub, path = Hub(), tmp_path / "run"
    made = crews(hub, tmp_path, 3, 3, 2)
    ways = [None, Blobs("127.0.0.1", names=["127.0.0.1"], large=LARGE)]

    def enough(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat, blobs=ways[beside])
        podlt.api.train(small_recipe(epochs=1), run=path, listener=enough, place=first, entropy=seeded(1))
    events: list[ev.Event] = []
    second = RemoteMachines(lambda job: hub, heartbeat_seconds=hub.beat, blobs=ways[not beside])
    result = podlt.api.resume(path, listener=events.append, place=second, entropy=seeded(1))
    unharmed(Trained(result, events), made)
    assert result.parameters == local.result.parameters

"""Workers that reach nothing but a WebSocket, as through firewalls that let only port 443 out."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from gate_runs import CHANNEL, gate_run, run, worker_key
from stage import Stage, write_recipe
from town import town

from podlt.errors import UsageError
from podlt.manager.directory import RunDirectory
from podlt.network.access import invitation as inv
from podlt.network.access.registry import Registry
from podlt.network.nats import open_run
from podlt.network.nats.link import NatsWorker
from podlt.network.nats.server import NatsServer


def until_connected(link: NatsWorker, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not link.connected:
        assert time.monotonic() < deadline, "it did not connect"
        time.sleep(0.05)


@pytest.mark.parametrize("away", ["refused", pytest.param("silent", marks=pytest.mark.slow)])
def test_a_worker_goes_by_websocket_where_the_other_port_cannot_be_reached(tmp_path: Path, away: str) -> None:
    with gate_run(tmp_path, websocket=0) as stands, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if away == "silent":  # connections are taken, and nothing is ever said
            dead.listen()
        web = stands.invite().urls(websocket=True)
        stands.register.set_place([f"tls://127.0.0.1:{dead.getsockname()[1]}", *web], stands.server.certificate)
        key = worker_key(1)
        link = open_run.join(inv.read(inv.write(stands.invite())), [key])
        try:
            until_connected(link)
            assert [one.key for one in stands.gate.connections()] == [key.public]

            async def hear() -> None:
                manager = await stands.link()
                heard = await manager.subscribe(f"podlt.{CHANNEL}.up.>")
                await manager.flush()
                link.send(key.public, b"x" * 300_000)
                assert (await heard.next_msg(10)).data == b"x" * 300_000
                await manager.close()

            run(hear())
        finally:
            link.close()


def test_a_run_without_websocket_says_so_to_whoever_asks_for_it(tmp_path: Path) -> None:
    with gate_run(tmp_path) as stands, pytest.raises(UsageError, match="no WebSocket"):
        open_run.join(stands.invite(), [worker_key(1)], websocket=True)


def test_a_server_keeps_what_workers_know_of_it_though_it_is_not_told_again(tmp_path: Path) -> None:
    from gate_runs import MANAGER

    first = NatsServer(tmp_path, MANAGER, host="127.0.0.1", websocket=0, advertise=["localhost"])
    first.start()
    first.stop()
    later = NatsServer(tmp_path, MANAGER)
    later.start()
    try:
        assert later.urls == first.urls and len(later.urls) == 2
    finally:
        later.stop()


def only_web(run: Path, name: Path) -> Path:
    """An invitation to a run that names WebSocket alone."""
    register = Registry(run)
    place = register.place()
    register.set_place([url for url in place.servers if url.startswith("wss:")], bytes.fromhex(place.certificate))
    key = RunDirectory.existing(run).manager_key()
    name.write_text(inv.write(register.invite(key, uses=4, now=time.time_ns() // 10**6)))
    return name


@pytest.mark.slow
@pytest.mark.parametrize("where", ["own server", "cluster"])
def test_a_run_goes_over_websocket_alone(tmp_path: Path, where: str) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=4, workers=4)
    with town(tmp_path / "town", 2, websocket=True) as stands, Stage(tmp_path, recipe, silence_timeout=30) as stage:
        stage.start_manager(*(stands.options(stands.web_urls) if where == "cluster" else ["--websocket", 0]))
        if where == "cluster":
            assert all(url.startswith("wss://") for url in Registry(stage.run).place().servers)
            stage.start_worker("a", "--identities", 2)
        else:
            stage.start_worker("a", "--identities", 2, "--websocket")
            only_web(stage.run, stage.run / "invitation.txt")
        stage.start_worker("b", "--identities", 2)
        state = stage.end()
        assert not stage.events("withdrawn")
    assert [worker.status for worker in state.workers.values()] == ["active"] * 4
    summary = json.loads((tmp_path / "a" / "status.json").read_text())
    assert all(account["pending"] + account["vested"] > 0 for account in summary["workers"].values())

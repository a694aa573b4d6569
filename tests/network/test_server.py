"""A manager's own NATS server: it outlives the manager, and is brought back when it dies itself."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_runs import MANAGER, eventually, gate_run, run

from podlt.crypto import SigningKey
from podlt.errors import UsageError
from podlt.network.nats.server import LOCK, PID, NatsServer


def server(folder: Path, **options: object) -> NatsServer:
    return NatsServer(folder, MANAGER, host="127.0.0.1", **options)  # type: ignore[arg-type]


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def pid(folder: Path) -> int:
    return int((folder / PID).read_text())


def test_a_server_begins_and_ends_and_keeps_port_and_certificate(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.start()
    assert first.running and not first.adopted
    first.stop()
    assert not first.running
    second = server(tmp_path)
    second.start()
    assert (second.port, second.certificate) == (first.port, first.certificate) and not second.adopted
    second.stop()


def test_nobody_else_can_read_its_keys_and_they_are_in_no_log(tmp_path: Path) -> None:
    one = server(tmp_path / "nats")
    one.start()
    one.stop()
    assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
    for name in ("tls.key", "server.conf"):
        assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600, name
    private = (tmp_path / "nats" / "tls.key").read_text().splitlines()[1]
    said = "".join(p.read_text("utf-8", "replace") for p in (tmp_path / "nats").iterdir() if p.name != "tls.key")
    assert private not in said and MANAGER.seed().hex() not in said


def test_a_server_that_is_killed_is_started_again_on_the_same_port(tmp_path: Path) -> None:
    one = server(tmp_path)
    one.start()
    try:
        before = pid(tmp_path)
        os.kill(before, signal.SIGKILL)
        wait(lambda: one.restarts == 1)
        assert one.running and pid(tmp_path) != before
    finally:
        one.stop()


def test_a_server_outlives_a_manager_that_is_killed_and_the_next_one_takes_it_over(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from podlt.crypto import SigningKey\n"
        "from podlt.network.nats.server import NatsServer\n"
        f"one = NatsServer(Path(sys.argv[1]), SigningKey({MANAGER.seed()!r}), host='127.0.0.1'); one.start()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as manager:
        assert manager.stdout is not None
        assert manager.stdout.readline() == b"ready\n"
        manager.kill()
    survivor = pid(tmp_path)
    os.kill(survivor, 0)
    one = server(tmp_path)
    one.start()
    try:
        assert one.adopted and pid(tmp_path) == survivor
        os.kill(survivor, signal.SIGKILL)  # nobody's child any more, and still noticed
        wait(lambda: one.restarts == 1)
    finally:
        one.stop()
    assert not one.running


def test_a_server_with_another_configuration_is_replaced(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.start()
    first.leave()
    before = pid(tmp_path)
    second = NatsServer(tmp_path, SigningKey(b"another manager".ljust(32)), host="127.0.0.1")
    second.start()
    try:
        assert not second.adopted and pid(tmp_path) != before and second.port == first.port
    finally:
        second.stop()


def test_a_process_number_that_another_program_has_by_now_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        (tmp_path / PID).write_text(str(bystander.pid))
        one = server(tmp_path)
        one.start()
        one.stop()
        assert bystander.poll() is None
        bystander.kill()


def test_a_port_that_another_program_took_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.network.nats.server.STOP_SECONDS", 0.3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is used"):
            server(tmp_path, port=port).start()


def test_invitations_name_the_hosts_that_were_given(tmp_path: Path) -> None:
    one = NatsServer(tmp_path, MANAGER, port=4222, websocket=443, advertise=["train.example", "2001:db8::1"])
    assert one.urls == [
        "tls://train.example:4222",
        "tls://[2001:db8::1]:4222",
        "wss://train.example:443",
        "wss://[2001:db8::1]:443",
    ]


@pytest.mark.slow
def test_workers_come_back_by_themselves_after_server_and_door_were_killed(tmp_path: Path) -> None:
    from gate_runs import down, enter, worker_key

    async def test() -> None:
        with gate_run(tmp_path) as stands:
            key = worker_key(1)
            client = await enter(
                stands.invite(), key, allow_reconnect=True, max_reconnect_attempts=-1, reconnect_time_wait=0.1
            )
            got = await client.subscribe(down(key))
            os.kill(pid(tmp_path / "nats"), signal.SIGKILL)
            await eventually(lambda: not client.is_connected)
            await eventually(lambda: client.is_connected)
            link = await stands.link()
            await link.publish(down(key), b"again")
            assert (await got.next_msg(10)).data == b"again"
            await client.close()
            await link.close()

    run(test())

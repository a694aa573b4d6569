"""What a large blob costs beside the transport alone: `podlt bench blobs --megabytes 38`; with `--engine`, in a run.

A manager's server and a worker's carrier in two processes, over TLS on loopback, with nothing else to do: parameters
are fetched and updates uploaded, and for each the processor time and the memory of both ends are measured. The floor
beside it is the same bytes over one TLS connection between two blocking sockets. Every figure is of one blob, the
least of all rounds. With `--engine` a whole model is trained: see `large`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing as mp
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from podlt.access import certificate as tls
from podlt.bench import large
from podlt.crypto import SigningKey, blob_digest
from podlt.network.background import Background
from podlt.network.blobs.client import BlobTransfers
from podlt.network.blobs.jobs import BlobBuffer
from podlt.network.blobs.server import PATH, BlobServer
from podlt.network.http import RouteTable
from podlt.network.server.listener import Listener

WORKER = SigningKey(bytes(32))
FETCH, UPLOAD, FLOOR_DOWN, FLOOR_UP = "fetch", "upload", "floor: down", "floor: up"
WAYS = FETCH, FLOOR_DOWN, UPLOAD, FLOOR_UP


class BlobCost(msgspec.Struct, frozen=True):
    """What one blob cost: seconds, of which processor time of each end, and bytes of memory at their peaks."""

    seconds: float
    manager: float
    worker: float
    manager_memory: int = 0
    worker_memory: int = 0


def main() -> None:
    """Prints what both directions take, beside the floor."""
    parser = argparse.ArgumentParser(prog="podlt bench blobs", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=38.0, help="of 10**6 bytes (default: 38)")
    parser.add_argument("--rounds", type=int, default=0, help="default: 20; with --engine: 2")
    parser.add_argument("--folder", type=Path, default=None, help="on a disk with room for it")
    parser.add_argument("--engine", action="store_true", help="train models of --gigabytes over a real worker")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="with --engine (default: 3)")
    parser.add_argument("--compare", type=float, default=0.3, help="with --engine: gigabytes of a smaller one first")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.engine:
        sizes = [options.compare] * (0 < options.compare < options.gigabytes) + [options.gigabytes]
        large.run(sizes, options.rounds or 2, options.folder, as_json=options.json)
        return
    size = int(options.megabytes * 1e6)
    found = measure(size, options.rounds or 20, options.folder)
    if options.json:
        print(msgspec.json.encode({"size": size, "costs": found}).decode())
        return
    print(f"{size / 1e6:.1f} MB{'':20}{'ms':>8}{'MB/s':>8}   processor ms: manager, worker   peak MiB: manager, worker")
    for way, cost in found.items():
        print(
            f"{way:28}{1e3 * cost.seconds:8.1f}{size / 1e6 / cost.seconds:8.0f}   {1e3 * cost.manager:21.1f}"
            f"{1e3 * cost.worker:8.1f}   {cost.manager_memory / 2**20:17.0f}{cost.worker_memory / 2**20:8.0f}"
        )


def measure(size: int, rounds: int, folder: Path | None = None) -> dict[str, BlobCost]:
    """Carries blobs of so many bytes both ways, and the same bytes without podlt."""
    with tempfile.TemporaryDirectory(prefix="podlt-bench-", dir=folder) as made, _manager(Path(made), size) as pipe:
        certificate, port, floor, digest = pipe.recv()
        worker = _Worker(certificate, port, floor, digest, size)
        best: dict[str, BlobCost] = {}
        for _ in range(rounds):
            for way in WAYS:
                pipe.send(way)
                pipe.recv()
                began, before = time.perf_counter(), time.process_time()
                worker.carry(way)
                worker_time = time.process_time() - before
                pipe.send("done")
                manager_time, manager_memory = pipe.recv()
                seconds = time.perf_counter() - began
                cost = BlobCost(
                    seconds, manager_time, worker_time, manager_memory, large.ProcessMemory.of("self").taken
                )
                if way not in best or cost.manager + cost.worker < best[way].manager + best[way].worker:
                    best[way] = cost
        worker.close()
        pipe.send("stop")
        return best


class _Worker:
    """This process's end: a carrier, and a plain TLS connection."""

    def __init__(self, certificate: bytes, port: int, floor: int, digest: bytes, size: int) -> None:
        fingerprint = hashlib.sha256(certificate).digest()
        self._carrier = BlobTransfers([f"https://127.0.0.1:{port}"], fingerprint, [WORKER])
        self._buffer, self._digest = np.zeros(size, np.uint8), digest
        self._update = _weights(size, 2)
        self._update_digest = blob_digest(self._update.data)
        plain = socket.create_connection(("127.0.0.1", floor))
        self._sock = tls.client_context(certificate).wrap_socket(plain)

    def carry(self, way: str) -> None:
        """Carries one blob."""
        if way == FETCH:
            self._carrier.fetch(WORKER.public, self._digest, BlobBuffer(self._buffer))
            self._wait(lambda: bool(self._carrier.ended()))
        elif way == UPLOAD:
            self._carrier.send(WORKER.public, self._update_digest, self._update)
            self._wait(lambda: not self._carrier.busy)
        elif way == FLOOR_DOWN:
            _receive(self._sock, self._buffer.data)
        else:
            self._sock.sendall(self._update.data)
            self._sock.recv(1)

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            time.sleep(0.001)

    def close(self) -> None:
        self._carrier.close()
        self._sock.close()


def _manage(folder: Path, size: int, pipe: Connection) -> None:
    """The manager's process: a server of blobs, and a thread with a plain TLS connection."""
    certificate = tls.load_or_create(folder)
    context = tls.server_context(folder / tls.CERTIFICATE, folder / tls.PRIVATE_KEY)
    server, routes, background = BlobServer(folder), RouteTable(), Background("bench")
    data, room = _weights(size, 1), np.zeros(size, np.uint8)
    digest, update = blob_digest(data.data), blob_digest(_weights(size, 2).data)
    routes.add(PATH, server.answer)

    async def listen() -> int:
        def upgrade(arrival: Any) -> asyncio.BaseProtocol:
            raise AssertionError("no session")

        return Listener(context, upgrade, routes.connection, print).start("127.0.0.1", 0)

    port = background.call(listen())
    server.start([f"https://127.0.0.1:{port}"], hashlib.sha256(certificate).digest())
    server.admitted.add(WORKER.public)
    server.offer(digest, data)
    floor = socket.create_server(("127.0.0.1", 0))
    pipe.send((certificate, port, floor.getsockname()[1], digest))
    sock = context.wrap_socket(floor.accept()[0], server_side=True)
    while (way := pipe.recv()) != "stop":
        server.allow(WORKER.public, 2 * size)
        server.expect(WORKER.public, update, size)
        before = time.process_time()
        pipe.send("ready")
        if way == FLOOR_DOWN:
            sock.sendall(data.data)
        elif way == FLOOR_UP:
            _receive(sock, room.data)
            sock.sendall(b"1")
        pipe.recv()
        pipe.send((time.process_time() - before, large.ProcessMemory.of("self").taken))
        server.clear()
    background.end()


def _receive(sock: ssl.SSLSocket, view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += sock.recv_into(view[done:])


def _weights(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@contextmanager
def _manager(folder: Path, size: int) -> Iterator[Connection]:
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_manage, args=(folder, size, there))
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(10)
        process.kill()


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))

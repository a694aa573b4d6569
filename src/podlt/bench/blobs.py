"""Whether large parameters stay out of memory: `python -m podlt.bench.blobs --gigabytes 3`; with `--engine`, of a run.

Random weights on disk, and the same after a step of training. They are served over HTTPS on loopback to a child
process, an update of the same length is uploaded, and what changed is encoded by one child and decoded by another.
For each end: how far its memory rose above its start. "Anonymous" is what it took; "resident" counts the pages of
mapped files too, which the system takes back when it likes. With `--engine` a whole model is trained: see `large`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import multiprocessing as mp
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podlt.bench import large
from podlt.crypto import SigningKey
from podlt.network.access import tokens
from podlt.network.blobs import delta
from podlt.network.blobs.endpoint import BlobEndpoint
from podlt.network.blobs.http_client import BlobClient
from podlt.network.blobs.store import BlobStore
from podlt.network.blobs.transfer import download, upload

WORKER = SigningKey(bytes(32))
STEP_SIZE = np.float32(1e-4)


class TransferJob(msgspec.Struct, frozen=True):
    """What a child process needs to know."""

    folder: Path
    size: int
    old: bytes
    new: bytes
    update: bytes
    encoded: bytes = b""
    port: int = 0

    def store(self, name: str) -> BlobStore:
        return BlobStore(self.folder / name, 2**50)


class PeakMemory(threading.Thread):
    """Watches this process's memory, in bytes beyond what it was at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self._start = _memory()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = tuple(map(max, self.peak, _memory()))  # type: ignore[assignment]

    def result(self, seconds: float = 0.0, made: bytes = b"") -> TransferResult:
        """Ends the watch."""
        self._ended.set()
        self.join()
        return TransferResult(self.peak[0] - self._start[0], self.peak[1] - self._start[1], seconds, made)


class TransferResult(msgspec.Struct, frozen=True):
    """What one process needed: bytes of memory beyond its start, at their peak; and what it made, if anything."""

    anonymous: int
    resident: int
    seconds: float = 0.0
    made: bytes = b""


def main() -> None:
    """Makes the weights, lets children move them, and prints what it took."""
    parser = argparse.ArgumentParser(description="time large blobs, and watch the memory of both ends")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="of 10**9 bytes (default: 3)")
    parser.add_argument("--folder", type=Path, default=None, help="on a disk with eight times as much room")
    parser.add_argument("--engine", action="store_true", help="train a model of that size over a real worker")
    parser.add_argument("--compare", type=float, default=0.3, help="with --engine: gigabytes of a smaller one first")
    parser.add_argument("--rounds", type=int, default=2, help="with --engine (default: 2)")
    parser.add_argument("--deltas", choices=["auto", "always", "never"], default="auto", help="with --engine")
    parser.add_argument("--json", action="store_true", help="with --engine")
    options = parser.parse_args()
    if options.engine:
        sizes = [options.compare] * (0 < options.compare < options.gigabytes) + [options.gigabytes]
        large.run(sizes, options.rounds, options.deltas, options.folder, as_json=options.json)
        return
    size = int(options.gigabytes * 1e9) // 64 * 64
    print(f"{size / 1e9:.2f} GB of random weights, and the same after a step of training")
    print(f"{'':28}{'seconds':>8}{'MB/s':>8}   anonymous, resident MiB above the start", flush=True)
    with tempfile.TemporaryDirectory(prefix="podlt-bench-", dir=options.folder) as folder:
        for name, result in measure(Path(folder), size):
            speed = f"{result.seconds:8.1f}{size / 1e6 / result.seconds:8.0f}" if result.seconds else " " * 16
            print(f"{name:28}{speed}   {result.anonymous / 2**20:9.1f}{result.resident / 2**20:10.1f}", flush=True)
            if result.made:
                encoded = BlobStore(Path(folder) / "manager", 2**50).size(result.made)
                print(f"{'':28}to {encoded / size:.3f} of the whole")


def measure(folder: Path, size: int) -> Iterator[tuple[str, TransferResult]]:
    """Moves blobs of `size` bytes, a multiple of 64, between child processes; what each of these needed."""
    job = _make(folder, size)
    with _child(_serve, job) as server:
        job = msgspec.structs.replace(job, port=server.recv())
        yield "download", _one(_download, job)
        yield "upload", _one(_upload, job)
        server.send("stop")
        yield "  the server of both", server.recv()
    encoding = _one(_encode, job)
    yield "encode the difference", encoding
    yield "decode it", _one(_decode, msgspec.structs.replace(job, encoded=encoding.made))


def _make(folder: Path, size: int) -> TransferJob:
    """Weights before and after a step in the manager's store, and an update in the worker's."""
    job = TransferJob(folder, size, b"", b"", b"")
    old = job.store("manager").put_stream(_weights(size, np.random.default_rng(1)), size)
    before, dice = job.store("manager").open(old), np.random.default_rng(2)
    after = (_stepped(before[start : start + delta.PART], dice) for start in range(0, size, delta.PART))
    new = job.store("manager").put_stream(after, size)
    update = job.store("worker").put_stream(_weights(size, np.random.default_rng(3)), size)
    return TransferJob(folder, size, old, new, update)


def _weights(size: int, dice: np.random.Generator) -> Iterator[np.ndarray]:
    for start in range(0, size, delta.PART):
        yield dice.standard_normal(min(delta.PART, size - start) // 4, np.float32) * np.float32(0.03)


def _stepped(part: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    values = part.view(np.float32)
    return values - STEP_SIZE * np.tanh(dice.standard_normal(len(values), np.float32))


def _serve(job: TransferJob, pipe: Connection) -> TransferResult:
    """The manager's end, until it is asked to stop."""

    async def run() -> TransferResult:
        store, memory = job.store("manager"), PeakMemory()
        endpoint = BlobEndpoint(store, *_certificate(job.folder), lambda key, digest: key == WORKER.public)
        port = await endpoint.start("127.0.0.1")
        done = endpoint.expect(WORKER.public, job.update, job.size)
        memory.start()
        pipe.send(port)
        await done
        await asyncio.to_thread(pipe.recv)
        await endpoint.stop()
        return memory.result()

    return asyncio.run(run())


def _download(job: TransferJob, pipe: Connection) -> TransferResult:
    async def run(client: BlobClient) -> None:
        await download(job.store("worker"), job.old, job.size, client.fetch_range, job.size)

    return _with_client(job, run)


def _upload(job: TransferJob, pipe: Connection) -> TransferResult:
    async def run(client: BlobClient) -> None:
        await upload(job.store("worker"), job.update, client)

    return _with_client(job, run)


def _with_client(job: TransferJob, work: Callable[[BlobClient], Any]) -> TransferResult:
    fingerprint = tokens.fingerprint((job.folder / "certificate.pem").read_bytes())

    async def run() -> TransferResult:
        async with BlobClient(f"https://127.0.0.1:{job.port}", fingerprint, WORKER) as client:
            memory, started = PeakMemory(), time.perf_counter()
            memory.start()
            await work(client)
            return memory.result(time.perf_counter() - started)

    return asyncio.run(run())


def _encode(job: TransferJob, pipe: Connection) -> TransferResult:
    store, memory, started = job.store("manager"), PeakMemory(), time.perf_counter()
    memory.start()
    encoded = store.put_stream(delta.encode(store.open(job.new), store.open(job.old)), delta.bound(job.size))
    seconds = time.perf_counter() - started
    return memory.result(seconds, encoded)


def _decode(job: TransferJob, pipe: Connection) -> TransferResult:
    store, memory, started = job.store("worker"), PeakMemory(), time.perf_counter()
    encoded = job.store("manager").open(job.encoded)
    memory.start()
    delta.decode_to(store, encoded, store.open(job.old), job.size, job.new)
    return memory.result(time.perf_counter() - started)


@contextmanager
def _child(work: Callable[[TransferJob, Connection], TransferResult], job: TransferJob) -> Iterator[Connection]:
    """A process of its own for one job; its result is the last message of its pipe."""
    context = mp.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(work, job, there))
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(10)
        process.kill()


def _work(work: Callable[[TransferJob, Connection], TransferResult], job: TransferJob, pipe: Connection) -> None:
    pipe.send(work(job, pipe))


def _one(work: Callable[[TransferJob, Connection], TransferResult], job: TransferJob) -> TransferResult:
    with _child(work, job) as pipe:
        result: TransferResult = pipe.recv()
        return result


def _memory() -> tuple[int, int]:
    """Anonymous and resident bytes of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    anonymous, resident = (1024 * int(lines[name].split()[0]) for name in ("RssAnon", "VmRSS"))
    return anonymous, resident


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for an hour, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now, hour = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "podlt bench")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - hour, now + hour)
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, clear))
    return paths


if __name__ == "__main__":
    import sys

    from podlt.faults import guarded

    sys.exit(guarded(main))

"""The workplace `network`: a run whose workers are wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from podlt.engine.interface import Engine, Job
from podlt.events import NetworkEvent
from podlt.execution.fingerprint import expected
from podlt.network.access import certificate as tls
from podlt.network.access.registry import FOLDER
from podlt.network.blobs.server import BlobServer
from podlt.network.engine import NetworkEngine
from podlt.network.link import ManagerLink
from podlt.network.messages import HEARTBEAT_SECONDS, LARGE
from podlt.network.receipt_history import ReceiptHistory
from podlt.network.server.open_server import ANYWHERE
from podlt.network.session.facts import SILENCE_TIMEOUT, LargeBlobs, ServedRun, Timing
from podlt.network.session.publishing import Policy
from podlt.network.settings import HTTPS, NONE, NetworkSettings, load_settings, save_settings
from podlt.program.layout import state_layout, update_layout


class Blobs(msgspec.Struct, frozen=True):
    """How large blobs go outside the messages: by HTTPS from and to the manager.

    Attributes:
        host: the address to listen on.
        port: 0 for any, and then always the same for a run.
        names: hosts by which workers reach this machine (host and names: unless given, those of the run's server).
        bucket: the URL of an object store, through which parameters go then (file:///DIR, s3://BUCKET/PREFIX, gs://...,
            az://...), "https" for none, or "none": no large blobs either, all goes in messages (unless given, as it was
            for the run; at first "https").
        large: from more than how many bytes on a blob is one.
    """

    host: str = ""
    port: int = 0
    names: Sequence[str] = ()
    bucket: str = ""
    large: int = LARGE


class RemoteMachines:
    """Other machines.

    Args:
        connect: makes the manager's link for a run, once its directory and keys are there.
        silence_timeout: seconds of silence after which a worker is gone (unless given, as it was, at first 15).
        heartbeat_seconds: seconds between two heartbeats of a worker.
        blobs: how large blobs go. Without it they go in messages, as all others do, and take memory.
        deltas: whether what changed in the parameters is published instead of the whole: "auto", as it pays, "always"
            where it is shorter, or "never".
        listener: hears how the parameters of each round went out, what each worker does, and who holds up a round.
    """

    name = "network"
    keeps_keys = False

    def __init__(
        self,
        connect: Callable[[Job], ManagerLink],
        silence_timeout: float | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        *,
        blobs: Blobs | None = None,
        deltas: Policy = "auto",
        listener: Callable[[NetworkEvent], None] = lambda event: None,
    ) -> None:
        self._connect, self._silence_timeout, self._heartbeat_seconds = connect, silence_timeout, heartbeat_seconds
        self._blobs, self._deltas, self._listener = blobs, deltas, listener

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Nothing to begin before the run has its keys."""
        yield self._engine

    def _engine(self, job: Job) -> Engine:
        arithmetic = expected(job.program.arithmetic)
        before = load_settings(job.directory)
        way, silence_timeout = self._way(before), self._silence_timeout or before.silence_timeout or SILENCE_TIMEOUT
        blob_server = self._blob_server(job, self._blobs, way) if self._blobs is not None and way != NONE else None
        link = None
        try:
            save_settings(job.directory, blobs=way, silence_timeout=self._silence_timeout or before.silence_timeout)
            link = self._connect(job)
            return NetworkEngine(
                _served(job, arithmetic),
                link,
                ReceiptHistory.of_run(job.directory),
                timing=Timing(silence_timeout, self._heartbeat_seconds),
                large=LargeBlobs(blob_server, self._blobs.large if self._blobs is not None else LARGE),
                deltas=self._deltas,
                tell=self._listener,
            )
        except BaseException:
            if link is not None:
                link.close()
            if blob_server is not None:
                blob_server.close()
            raise

    def _way(self, before: NetworkSettings) -> str:
        """The way of large blobs; unless given, as it was."""
        return before.blobs if self._blobs is None else self._blobs.bucket or before.blobs or HTTPS

    def _blob_server(self, job: Job, one: Blobs, way: str) -> BlobServer:
        """The server of large blobs; it shows the certificate that the run's server has."""
        folder = job.directory / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tls.load_or_create(folder)
        before = load_settings(job.directory)
        server = BlobServer(
            job.directory,
            folder / tls.CERTIFICATE,
            folder / tls.PRIVATE_KEY,
            host=one.host or before.host or ANYWHERE,
            port=one.port,
            names=one.names or before.names,
            bucket="" if way == HTTPS else way,
        )
        server.start()
        return server


def _served(job: Job, arithmetic: str) -> ServedRun:
    return ServedRun(
        key=job.key,
        program=job.program.to_bytes(),
        fields=job.fields,
        arithmetic=arithmetic,
        state_bytes=state_layout(job.program).nbytes,
        update_bytes=update_layout(job.program).nbytes,
        block_lines=job.block_lines,
    )

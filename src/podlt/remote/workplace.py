"""The workplace `network`: a run whose workers are wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from podlt.engine.interface import Engine, Job
from podlt.errors import UsageError
from podlt.events import NetworkEvent
from podlt.execution.fingerprint import expected
from podlt.execution.sparse_kernels import packed
from podlt.network.blobs.server import PATH, BlobServer
from podlt.network.link import HostedLink
from podlt.network.settings import HTTPS, load_settings, save_settings
from podlt.program.layout import state_layout, update_layout
from podlt.program.operations import EXACT_ARITHMETIC
from podlt.receipts.history import ReceiptHistory
from podlt.remote.engine import NetworkEngine
from podlt.remote.session.facts import LargeBlobs, ServedRun, Timing
from podlt.remote.worker_figures import WorkerFiguresFile
from podlt.wire.messages import HEARTBEAT_SECONDS, INLINE


class RemoteMachines:
    """Other machines.

    Args:
        connect: makes the manager's link for a run, once its directory and keys are there.
        silence_timeout: seconds of silence after which a worker is gone (unless given, as it was, at first 15).
        late_seconds: that every task has before somebody else is dealt it as well (as before; at first a
            fifteenth of the silence timeout, 1 s at least).
        heartbeat_seconds: seconds between two heartbeats of a worker.
        bucket: the URL of an object store, through which large parameters go then (file:///DIR, s3://BUCKET/PREFIX,
            gs://..., az://...), or "https" for none (unless given, as it was, at first "https").
        large: blobs of more bytes go outside the messages.
        listener: hears how the parameters of each round went out, what each worker does, and who holds up a round.
        aggregates: whether the sum of each round is kept, with its workers' fingerprints (unless given, as it was).
    """

    name = "network"
    keeps_keys = False

    def __init__(
        self,
        connect: Callable[[Job], HostedLink],
        silence_timeout: float | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        *,
        late_seconds: float | None = None,
        bucket: str = "",
        large: int = INLINE,
        listener: Callable[[NetworkEvent], None] = lambda event: None,
        aggregates: bool | None = None,
    ) -> None:
        self._connect, self._silence_timeout, self._heartbeat_seconds = connect, silence_timeout, heartbeat_seconds
        self._bucket, self._large, self._listener, self._late_seconds = bucket, large, listener, late_seconds
        self._aggregates = aggregates

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        """Nothing to begin before the run has its keys."""
        yield self._engine

    def _engine(self, job: Job) -> Engine:
        arithmetic = expected(job.program.arithmetic)
        before = load_settings(job.directory)
        way, silence_timeout = self._bucket or before.blobs or HTTPS, self._silence_timeout or before.silence_timeout
        late_seconds = self._late_seconds or before.late_seconds
        aggregates = before.aggregates if self._aggregates is None else self._aggregates
        if aggregates and job.program.arithmetic not in EXACT_ARITHMETIC:
            raise UsageError(
                "--aggregates is for exact arithmetic: PyTorch's own sums are rounded in the order of the updates, and "
                "do not follow from fingerprints"
            )
        blob_server = BlobServer(job.directory, "" if way == HTTPS else way)
        link = None
        try:
            save_settings(
                job.directory,
                blobs=way,
                silence_timeout=silence_timeout,
                late_seconds=late_seconds,
                aggregates=aggregates,
            )
            link = self._connect(job)
            large = LargeBlobs(above=self._large)
            if link.web is not None:
                blob_server.start(link.web.urls, link.web.fingerprint)
                link.web.routes.add(PATH, blob_server.answer)
                large = LargeBlobs(blob_server, self._large)
            return NetworkEngine(
                _served(job, arithmetic),
                link,
                ReceiptHistory.of_run(job.directory),
                timing=Timing.of(silence_timeout, self._heartbeat_seconds, late_seconds),
                large=large,
                tell=WorkerFiguresFile(job.directory, self._listener),
                aggregates=aggregates,
                pack=packed,
            )
        except BaseException:
            if link is not None:
                link.close()
            blob_server.close()
            raise


def _served(job: Job, arithmetic: str) -> ServedRun:
    return ServedRun(
        key=job.key,
        program=job.program.to_bytes(),
        fields=job.fields,
        arithmetic=arithmetic,
        state_bytes=state_layout(job.program).nbytes,
        update_bytes=update_layout(job.program).nbytes,
        batch_size=job.batch_size,
    )

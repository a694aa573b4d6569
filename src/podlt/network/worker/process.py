"""The driver of a worker's session: it has the link, the clock, the executor and the transfers, and one thread for all.

What may wait has a thread of its own, which only brings what came: messages, results, transfers.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from podlt.crypto import SigningKey
from podlt.engine.isolated import interface as execution
from podlt.engine.isolated import records
from podlt.network.blobs.client import BlobTransfers
from podlt.network.link import WorkerLink
from podlt.network.token_bucket import TokenBucket
from podlt.network.worker import effects as fx
from podlt.network.worker.identity import WorkerExit
from podlt.network.worker.session import WorkerSession

TICK_SECONDS, SHORT_TICK_SECONDS = 0.1, 0.02
"""How often to look at the clock; and while a transfer is under way."""

SHORT = 4096
"""Bytes of a message that waits for no bandwidth."""

UNBOUNDED = 1e15

BATCHES = 8
"""How many batches of messages may wait: what comes beyond them waits in the link, which is bounded."""


class WorkerProcess:
    """Works for a run until it ends.

    Args:
        session: what to do.
        link: to the manager.
        executor: executes tasks; ended with this.
        keys: of the identities.
        named: hosts that may be asked for blobs although only a local network has their addresses: the invitation's.
        bandwidth: bytes a second that messages may take in each direction; 0 for no bound.
        look: is called about ten times a second.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        session: WorkerSession,
        link: WorkerLink,
        executor: execution.ExecutionBackend,
        keys: Sequence[SigningKey],
        named: Collection[str],
        bandwidth: float = 0.0,
        look: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._link, self._executor, self._keys = session, link, executor, keys
        self._named, self._look, self._clock = named, look, clock
        self._transfers: BlobTransfers | None = None
        self._coming, self._going = (TokenBucket(bandwidth or UNBOUNDED, bandwidth or UNBOUNDED) for _ in range(2))
        self._outbox: deque[fx.SendMessage] = deque()
        self._next = 0.0
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._room, self._stop = threading.Semaphore(BATCHES), threading.Event()
        self._performers: Mapping[type, Callable[[Any], None]] = {
            fx.SendMessage: self._send,
            fx.DropKey: lambda effect: link.drop(effect.key),
            fx.SaveStatus: lambda effect: session.books.save(effect.doing, link.connected, time.time()),
            fx.UseServer: self._use_server,
            fx.FetchBlob: self._fetch,
            fx.UploadBlob: self._upload,
            fx.CancelTransfer: self._cancel,
            records.LoadProgram: executor.load,
            records.AdmitCheat: executor.admit,
            records.HoldParameters: executor.hold,
            records.ReleaseParameters: executor.release,
            execution.ExecuteTask: executor.execute,
            execution.FreeUpdate: executor.free,
            execution.StopExecution: executor.stop,
        }

    def run(self) -> WorkerExit:
        """Works until the run ends, everybody is refused, or it is time to leave.

        Raises:
            EngineError: the link was refused, or is lost for good, or the program cannot be executed here.
            InvalidProofError: the manager sent what no run can have.
        """
        session = self._session
        listening = threading.Thread(target=self._listen, name="podlt-messages", daemon=True)
        listening.start()
        try:
            self._executor.start(self._inbox.put, self._result)
            while session.outcome is None:
                self._take()
                session.tick(self._clock(), self._link.connected)
                self._perform()
                self._flush()
                self._look()
            return session.outcome
        finally:
            self._stop.set()
            session.close()
            self._perform()
            self._executor.close()
            self._use_server(fx.UseServer([], b""))
            self._room.release(BATCHES)  # it may wait for that
            listening.join()

    def _listen(self) -> None:
        """Brings messages, on a thread."""
        while not self._stop.is_set():
            try:
                if batch := self._link.receive(TICK_SECONDS):
                    self._room.acquire()
                    self._inbox.put(partial(self._messages, batch))
                    self._stop.wait(self._coming.take(sum(len(raw) for _, raw in batch), self._clock()))
            except Exception as error:
                self._inbox.put(partial(_raise, error))
                return

    def _take(self) -> None:
        """Takes what has come, after a while if nothing has."""
        transfers = self._transfers
        with suppress(queue.Empty):
            self._inbox.get(timeout=SHORT_TICK_SECONDS if transfers is not None and transfers.busy else TICK_SECONDS)()
        for ended in transfers.ended() if transfers is not None else []:
            self._session.transferred(ended, self._clock())
            self._perform()

    def _messages(self, batch: Sequence[tuple[bytes | None, bytes]]) -> None:
        for key, raw in batch:
            self._session.receive(key, raw, self._clock())
            self._perform()
        self._room.release()

    def _result(self, result: execution.ExecutionResult) -> None:
        if isinstance(result, execution.ProgramLoaded | execution.LoadRefused):
            self._session.loaded(result, self._clock())
        else:
            self._session.executed(result, self._clock())
        self._perform()

    def _perform(self) -> None:
        for effect in self._session.effects():
            self._performers[type(effect)](effect)

    def _send(self, send: fx.SendMessage) -> None:
        """Sends what is short, such as heartbeats, at once; the rest in its turn, as fast as it may go."""
        if len(send.message) < SHORT:
            self._going.take(len(send.message), self._clock())
            self._link.send(send.key, send.message)
        else:
            self._outbox.append(send)
            self._flush()

    def _flush(self) -> None:
        while self._outbox and self._clock() >= self._next:
            send = self._outbox.popleft()
            self._link.send(send.key, send.message)
            self._next = self._clock() + self._going.take(len(send.message), self._clock())

    def _use_server(self, server: fx.UseServer) -> None:
        if server.moved and self._transfers is not None:
            self._transfers.move(server.urls, server.certificate)
            return
        if self._transfers is not None:
            self._transfers.close()
        self._transfers = None
        if server.urls:
            self._transfers = BlobTransfers(server.urls, server.certificate, self._keys, self._named)

    def _fetch(self, fetch: fx.FetchBlob) -> None:
        if self._transfers is not None:
            self._transfers.fetch(fetch.key, fetch.digest, fetch.place, fetch.urls, fetch.part)

    def _upload(self, upload: fx.UploadBlob) -> None:
        if self._transfers is not None:
            self._transfers.send(upload.key, upload.digest, upload.data)

    def _cancel(self, cancelled: fx.CancelTransfer) -> None:
        if self._transfers is not None:
            self._transfers.cancel(cancelled.key, cancelled.digest)


def _raise(error: Exception) -> None:
    raise error

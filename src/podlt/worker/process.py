"""The driver of a worker's session: it has the link, the clock, the executor and the transfers, on the link's thread.

All that came at once is given to the session before anything that follows from it is done: so tasks of many identities
are executed, and replied to, together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from podlt.crypto import SigningKey
from podlt.engine.isolated import interface as execution
from podlt.engine.isolated import records
from podlt.network.bandwidth import Bandwidth
from podlt.network.blobs.client import BlobTransfers
from podlt.network.link import Received, WorkerLink
from podlt.worker import effects as fx
from podlt.worker.identity import WorkerExit
from podlt.worker.session import WorkerSession

TICK_SECONDS, SHORT_TICK_SECONDS = 0.1, 0.02
"""How often to look at the clock; and while a transfer is under way."""

SHORT = 4096
"""Bytes of a message that waits for no bandwidth."""


class WorkerProcess:
    """Works for a run until it ends.

    Args:
        session: what to do.
        link: to the manager.
        executor: executes tasks; ended with this.
        keys: of the identities.
        named: hosts that may be asked for blobs although only a local network has their addresses: the invitation's.
        bandwidth: bytes a second that messages and blobs may take together, each way; 0 for no bound.
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
        self._bandwidth = Bandwidth(bandwidth, clock)
        self._outbox: deque[fx.SendMessage] = deque()
        self._next = self._ticked = 0.0
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
            execution.FingerprintUpdate: executor.fingerprint,
            execution.StopExecution: executor.stop,
        }

    def run(self) -> WorkerExit:
        """Works until the run ends, everybody is refused, or it is time to leave.

        Raises:
            EngineError: the link was refused, or is lost for good, or the program cannot be executed here.
            InvalidProofError: the manager sent what no run can have.
        """
        background = self._link.background
        working = background.start(self._work())
        try:
            return working.result()
        except BaseException:  # on Ctrl-C it is left in order, as after an error
            working.cancel()
            background.call(self._closed())
            raise

    async def _work(self) -> WorkerExit:
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[WorkerExit] = self._loop.create_future()
        self._executor.start(self._loop, self._guarded(self._results))
        self._link.listen(self._guarded(self._messages))
        self._tick = self._guarded(self._look_at_the_clock)
        self._tick()
        try:
            return await self._over
        finally:
            self._close()

    def _guarded(self, call: Callable[..., None]) -> Callable[..., None]:
        """As `call`, on the loop: what it raises ends the work, and nothing is called after that."""

        def guarded(*arguments: Any) -> None:
            if self._over.done():
                return
            try:
                call(*arguments)
                if self._session.outcome is not None:
                    self._over.set_result(self._session.outcome)
            except Exception as error:
                self._over.set_exception(error)

        return guarded

    def _close(self) -> None:
        self._link.listen(None)
        self._session.close()
        self._perform()
        self._executor.close()
        self._use_server(fx.UseServer([], b""))
        if not self._over.done():
            self._over.cancel()

    async def _closed(self) -> None:
        """The work has ended: it is closed on the thread that this runs on."""

    def _messages(self, batch: Sequence[Received]) -> None:
        now = self._clock()
        for key, raw in batch:
            self._session.receive(key, raw, now)
        self._perform()
        if now - self._ticked >= SHORT_TICK_SECONDS:
            self._step(now)
        if (wait := self._bandwidth.came(sum(len(raw) for _, raw in batch))) > 0:
            self._link.pause(wait)

    def _results(self, results: Sequence[execution.ExecutionResult]) -> None:
        now = self._clock()
        for result in results:
            if isinstance(result, execution.ProgramLoaded | execution.LoadRefused):
                self._session.loaded(result, now)
            elif isinstance(result, execution.UpdateFingerprinted):
                self._session.fingerprinted(result)
            else:
                self._session.executed(result, now)
        self._perform()

    def _look_at_the_clock(self) -> None:
        transfers = self._transfers
        is_busy = transfers is not None and transfers.busy
        self._loop.call_later(SHORT_TICK_SECONDS if is_busy else TICK_SECONDS, self._tick)
        self._link.check()
        for ended in transfers.ended() if transfers is not None else []:
            self._session.transferred(ended, self._clock())
            self._perform()
        self._step(self._clock())
        self._look()

    def _step(self, now: float) -> None:
        self._ticked = now
        self._session.tick(now, self._link.connected)
        self._perform()
        self._flush()

    def _perform(self) -> None:
        for effect in self._session.effects():
            self._performers[type(effect)](effect)
        self._executor.flush()

    def _send(self, send: fx.SendMessage) -> None:
        """Sends what is short, such as heartbeats, at once; the rest in its turn, as fast as it may go."""
        if len(send.message) < SHORT:
            self._bandwidth.went(len(send.message))
            self._link.send(send.key, send.message)
        else:
            self._outbox.append(send)
            self._flush()

    def _flush(self) -> None:
        while self._outbox and self._clock() >= self._next:
            send = self._outbox.popleft()
            self._link.send(send.key, send.message)
            self._next = self._clock() + self._bandwidth.went(len(send.message))

    def _use_server(self, server: fx.UseServer) -> None:
        if server.moved and self._transfers is not None:
            self._transfers.move(server.urls, server.certificate)
            return
        if self._transfers is not None:
            self._transfers.close()
        self._transfers = None
        if server.urls:
            self._transfers = BlobTransfers(
                server.urls, server.certificate, self._keys, self._named, bandwidth=self._bandwidth
            )

    def _fetch(self, fetch: fx.FetchBlob) -> None:
        if self._transfers is not None:
            self._transfers.fetch(fetch.key, fetch.digest, fetch.place, fetch.urls, fetch.part)

    def _upload(self, upload: fx.UploadBlob) -> None:
        if self._transfers is not None:
            self._transfers.send(upload.key, upload.digest, upload.data)

    def _cancel(self, cancelled: fx.CancelTransfer) -> None:
        if self._transfers is not None:
            self._transfers.cancel(cancelled.key, cancelled.digest)

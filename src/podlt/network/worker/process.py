"""A worker process: one thread takes messages and computes, a second one sends heartbeats meanwhile."""

from __future__ import annotations

import threading

from podlt.network.worker.identity import WorkerExit
from podlt.network.worker.session import WorkerSession


class WorkerProcess:
    """Several identities, one program, one copy of the parameters.

    Args:
        session: what they do.
    """

    def __init__(self, session: WorkerSession) -> None:
        self._session = session
        self._stop = threading.Event()

    def run(self) -> WorkerExit:
        """Works until the run ends, everybody is refused, or it is time to leave.

        Raises:
            EngineError: the link was refused, or is lost for good.
            InvalidProofError: the manager sent what no run can have.
        """
        session = self._session
        heartbeats = threading.Thread(target=self._send_heartbeats, name="podlt-heartbeat", daemon=True)
        heartbeats.start()
        try:
            while session.outcome is None:
                for key, raw in session.link.receive(session.receive_seconds()):
                    session.receive(key, raw)
                session.go_on()
            return session.outcome
        finally:
            self._stop.set()
            heartbeats.join()
            session.close()

    def _send_heartbeats(self) -> None:
        while True:
            self._session.send_heartbeats()
            if self._stop.wait(self._session.heartbeat):
                return

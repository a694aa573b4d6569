"""How a run is asked to end early: by a listener that raises `StopTraining`, or by the file of `podlt finish`."""

from __future__ import annotations

from podlt.errors import StopTraining
from podlt.manager import events as ev
from podlt.manager.directory import RunDirectory


class Ending:
    """Whether a run is to end where it is, and why. What is asked within a round is done after it.

    Args:
        directory: of the run; holds the request that another process wrote.
        listener: is called with every event, and may raise `StopTraining`. May be put in another's place, which calls
            the one before.
    """

    def __init__(self, directory: RunDirectory, listener: ev.Listener) -> None:
        self._directory, self.listener = directory, listener
        self._reason: str | None = None

    def tell(self, event: ev.Event) -> None:
        """Calls the listener; what it raises ends no round."""
        try:
            self.listener(event)
        except StopTraining as stop:
            self.ask(stop.reason)

    def ask(self, reason: str) -> None:
        """Asks for the run's end; the first reason stands."""
        if self._reason is None:
            self._reason = reason

    def reason(self) -> str | None:
        """Why the run is to end; None if it is not."""
        return self._reason if self._reason is not None else self._directory.finish_request()

    def is_asked(self) -> bool:
        """Whether the run is to end."""
        return self.reason() is not None

    def done(self) -> None:
        """The run has ended: the request is answered."""
        self._directory.drop_finish_request()

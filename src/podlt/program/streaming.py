"""Outputs of a step one at a time, so that two steps of a large model can be compared without holding an update."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import torch

Each = Callable[[str, torch.Tensor], None]
"""Is called with an output's name and its value."""


class _StoppedError(Exception):
    """Nobody wants the rest of the outputs."""


class _Turns:
    """Two threads of which one runs at a time: one asks for outputs, the other computes up to the next."""

    def __init__(self) -> None:
        self._asked, self._answered = threading.Semaphore(0), threading.Semaphore(0)
        self._given: list[tuple[str, torch.Tensor]] = []
        self._is_stopped = False
        self.error: BaseException | None = None

    def next(self) -> tuple[str, torch.Tensor] | None:
        """Lets the step run up to its next output; None if it ended."""
        self._asked.release()
        self._answered.acquire()
        return self._given.pop() if self._given else None

    def stop(self) -> None:
        """Ends the step, wherever it is."""
        self._is_stopped = True
        self._asked.release()

    def run(self, give: Callable[[Each], None]) -> None:
        """Runs the step: the other thread's body."""
        try:
            self._wait()
            give(self._hand_over)
        except _StoppedError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self._answered.release()

    def _hand_over(self, name: str, value: torch.Tensor) -> None:
        self._given.append((name, value))
        del value
        self._answered.release()
        self._wait()

    def _wait(self) -> None:
        self._asked.acquire()
        if self._is_stopped:
            raise _StoppedError


def streamed(give: Callable[[Each], None]) -> Generator[tuple[str, torch.Tensor], None, None]:
    """What a function gives to a callback, as an iterator; close it where the rest is not wanted.

    The function runs in a thread of its own, which waits between outputs.

    Args:
        give: as `Executor.give` with all but its callback.

    Raises:
        Exception: whatever the function raises.
    """
    turns = _Turns()
    thread = threading.Thread(target=turns.run, args=(give,), name="podlt-outputs", daemon=True)
    thread.start()
    try:
        while (found := turns.next()) is not None:
            yield found
            del found  # not to be alive while the next one is computed
    finally:
        turns.stop()
        thread.join()
    if turns.error is not None:
        raise turns.error

"""An event loop on a thread of its own, for those who wait for nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

CLOSE_SECONDS = 5.0
"""How long an end may take."""

Result = TypeVar("Result")


class Background:
    """Runs coroutines; its thread begins with the first.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self._lock = threading.Lock()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begins with something."""
        with self._lock:
            if self._begun is None:
                loop = asyncio.new_event_loop()
                self._begun = loop, threading.Thread(target=loop.run_forever, name=self._name, daemon=True)
                self._begun[1].start()
        return asyncio.run_coroutine_threadsafe(work, self._begun[0])

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does something, and waits for it; raises what it raises."""
        return self.start(work).result()

    def post(self, what: Callable[[], object]) -> None:
        """Has something called on the thread, soon, if it has begun."""
        if self._begun is not None:
            with suppress(RuntimeError):  # it was closed
                self._begun[0].call_soon_threadsafe(what)

    def end(self, last: Callable[[], Coroutine[Any, Any, object]] | None = None) -> None:
        """Cancels what is going on, does something as the last thing, and ends the thread."""

        async def ending() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if last is not None:
                await last()

        if self._begun is None:
            return
        loop, thread = self._begun
        with suppress(Exception):
            self.start(ending()).result(CLOSE_SECONDS)
        self._begun = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()

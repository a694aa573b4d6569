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
    """Runs coroutines, from when it is made.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begins with something."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does something, and waits for it; raises what it raises."""
        return self.start(work).result()

    def end(self, last: Callable[[], Coroutine[Any, Any, object]] | None = None) -> None:
        """Cancels what is going on, does something as the last thing, and ends the thread."""

        async def ending() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if last is not None:
                await last()

        with suppress(Exception):
            self.start(ending()).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

"""Processor time by cause: functions that are timed while they are called as ever, in any thread and process."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

FOLDER = "PODLT_METER"
"""Names the environment's variable with the folder for what processes say when they end."""


class Took(msgspec.Struct, frozen=True):
    """What calls took, in seconds of processor time: without what others took within them, and with it."""

    seconds: float = 0.0
    whole: float = 0.0
    calls: int = 0

    def since(self, before: Took) -> Took:
        """What came after a moment when it was this."""
        return Took(self.seconds - before.seconds, self.whole - before.whole, self.calls - before.calls)


class _Thread:
    """What one thread took.

    Attributes:
        seconds: cause -> processor time, without what others take within.
        whole: cause -> processor time, with it.
        calls: cause -> how many.
        within: the functions that it is in, innermost last: what those that they called took.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.whole: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.within: list[float] = []


class Meter:
    """Adds up what functions take, each without those that it calls and that are timed as well."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._threads: list[_Thread] = []

    def watch(self, causes: Mapping[str, str]) -> None:
        """Times functions from now on.

        Args:
            causes: "module:name" or "module:class.name" -> what its time is put down to.
        """
        for place, cause in causes.items():
            module, _, path = place.partition(":")
            *outer, name = path.split(".")
            owner: Any = functools.reduce(getattr, outer, import_module(module))
            found = owner.__dict__[name]
            is_static = isinstance(found, staticmethod)
            timed = self._timed(found.__func__ if is_static else found, cause)
            setattr(owner, name, staticmethod(timed) if is_static else timed)

    def found(self) -> dict[str, Took]:
        """By cause, what was added up."""
        total: dict[str, Took] = {}
        for thread in list(self._threads):
            for cause, calls in list(thread.calls.items()):
                known = total.get(cause, Took())
                total[cause] = Took(
                    known.seconds + thread.seconds[cause], known.whole + thread.whole[cause], known.calls + calls
                )
        return total

    def write(self) -> Path:
        """Leaves what was found in the folder that the environment names, under this process's number."""
        path = Path(os.environ[FOLDER]) / f"{os.getpid()}.json"
        path.write_bytes(msgspec.json.encode(self.found()))
        return path

    def _timed(self, function: Callable[..., Any], cause: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            own = self._thread()
            own.within.append(0.0)
            start = time.thread_time()
            try:
                return function(*arguments, **keywords)
            finally:
                took = time.thread_time() - start
                inner = own.within.pop()
                own.seconds[cause] = own.seconds.get(cause, 0.0) + took - inner
                own.whole[cause] = own.whole.get(cause, 0.0) + took
                own.calls[cause] = own.calls.get(cause, 0) + 1
                if own.within:
                    own.within[-1] += took

        return call

    def _thread(self) -> _Thread:
        found = getattr(self._own, "thread", None)
        if found is None:
            found = self._own.thread = _Thread()
            self._threads.append(found)
        return found


WORKER = {
    "podlt.engine.hosting:HostedWorkers.work": "the worker's loop",
    "podlt.execution.worker_runtime:WorkerRuntime.commit": "a worker hashes its update",
    "podlt.execution.worker_runtime:WorkerRuntime.check_inputs": "a worker hashes its examples",
    "podlt.execution.worker_runtime:WorkerRuntime.compute": "tasks",
    "podlt.execution.worker_runtime:WorkerRuntime.hold": "parameters cut into digits",
    "podlt.protocol.worker:Worker.commit": "a worker commits and signs",
    "podlt.execution.worker_runtime:WorkerRuntime.open": "a worker opens",
    "podlt.engine.hosting:HostedWorkers._digest_of": "a worker hashes the parameters",
    "podlt.engine.local.frames:send": "worker frames",
    "podlt.engine.local.frames:receive": "worker frames",
}
"""What the processes that host workers do."""


def main() -> None:
    """The entry point of a worker process that is timed."""
    from podlt.engine.local import host

    meter = Meter()
    meter.watch(WORKER)
    host.main(ended=meter.write)


if __name__ == "__main__":
    main()

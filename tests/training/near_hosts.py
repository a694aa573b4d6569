"""Hosts of the engine `local` in threads of the test's process: PyTorch is imported already, and a run takes moments.

For tests that need a run and are not about its processes; those that are start real ones.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import Trained, train

from podlt.engine.host import serve
from podlt.engine.process import HostProcess
from podlt.recipe import Recipe


class HostThread(HostProcess):
    """A host in a thread, with the same messages over the same kind of socket."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self.connection, theirs = socket.socketpair()
        self._popen = _Thread(theirs)  # type: ignore[assignment]


class _Thread:
    """What `HostProcess` asks of a process: it ends when its socket does."""

    pid = os.getpid()

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        torch.set_grad_enabled(False)  # of this thread alone
        with self._connection, suppress(OSError):
            serve(self._connection)

    def kill(self) -> None:
        """A thread cannot be ended: it reads the end of its socket."""

    def wait(self, timeout: float | None = None) -> int:
        self._thread.join()
        return 0


@contextmanager
def hosts_in_threads() -> Iterator[None]:
    """Lets the engine `local` start threads instead of processes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("process", "local"):
            patch.setattr(f"podlt.engine.{module}.HostProcess", HostThread)
        yield


def train_near(path: Path, recipe: Recipe, **options: Any) -> Trained:
    """`small_runs.train` with hosts in threads."""
    with hosts_in_threads():
        return train(path, recipe, **options)

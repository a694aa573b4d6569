"""Runs that take moments, for tests that need one and are not about how it comes to be.

Hosts of the engine `local` are threads of the test's process, which has imported PyTorch already, and a model that was
captured is not captured again. Tests of processes start real ones, and those of capturing capture.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from small_runs import Trained, train
from torch import nn

from podlt.engine.local.host import serve
from podlt.engine.local.process import HostProcess
from podlt.program import capture as capturing
from podlt.program.capture import Captured
from podlt.program.ir import FieldSpec, Program
from podlt.recipe import Recipe


class HostThread(HostProcess):
    """A host in a thread, with the same messages over the same kind of socket."""

    @classmethod
    def start(cls) -> HostThread:
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        ours, theirs = socket.socketpair()
        return cls(_Thread(theirs, log), ours, log)  # type: ignore[arg-type]


class _Thread:
    """What `HostProcess` asks of a process: it ends when its socket does."""

    pid = os.getpid()

    def __init__(self, connection: socket.socket, log: IO[bytes]) -> None:
        self._connection, self._log = connection, log
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        torch.set_grad_enabled(False)  # of this thread alone
        with self._connection:
            try:
                serve(self._connection)
            except ConnectionError:
                pass
            except Exception:
                self._log.write(traceback.format_exc().encode())
                self._log.flush()

    def kill(self) -> None:
        """A thread cannot be ended: it reads the end of its socket."""

    def wait(self, timeout: float | None = None) -> int:
        self._thread.join()
        return 0


@contextmanager
def hosts_in_threads() -> Iterator[None]:
    """Lets the engine `local` start threads instead of processes, and runs use programs that were captured before."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("process", "engine"):
            patch.setattr(f"podlt.engine.local.{module}.HostProcess", HostThread)
        patch.setattr("podlt.manager.setup.capture", captured_once)
        yield


_programs: dict[tuple[Any, ...], Program] = {}


def captured_once(model: nn.Module, loss: Any, fields: Sequence[FieldSpec], arithmetic: str, *tried: Any) -> Captured:
    """`podlt.program.capture.capture`, which takes a model that looks the same for the same."""
    if type(model) is not nn.Sequential:  # it has code of its own
        return capturing.capture(model, loss, fields, arithmetic, *tried)
    looks = (str(model), loss, tuple(fields), arithmetic)
    if looks not in _programs:
        _programs[looks] = capturing.capture(model, loss, fields, arithmetic, *tried).program
    return Captured(_programs[looks], capturing.state_of(model))


@contextmanager
def audits_that_capture_once() -> Iterator[None]:
    """Lets audits, which capture a run's program again, use what was captured before of a model that looks the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podlt.manager.audit.program.capture", captured_once)
        yield


def train_near(path: Path, recipe: Recipe, **options: Any) -> Trained:
    """`small_runs.train` with hosts in threads."""
    with hosts_in_threads():
        return train(path, recipe, **options)

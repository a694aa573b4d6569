"""Checks many signatures in parallel: they are independent of each other, and most of what verifying costs."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.protocol.signatures import SignatureCheck

CHUNK = 2000
"""How many signatures travel to another process together: about 0.15 s of work."""

Signed = tuple[bytes, str, bytes, bytes]
"""Key, domain, message, signature."""


class SignaturePool:
    """Checks signatures in other processes; starts them only when there is enough to do.

    Args:
        jobs: how many processes; with 1, this process checks them itself.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._executor: ProcessPoolExecutor | None = None
        self._waiting: list[SignatureCheck] = []
        self._running: deque[tuple[list[SignatureCheck], Future[int]]] = deque()
        self._failure: InvalidProofError | None = None

    def __enter__(self) -> SignaturePool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def add(self, found: Sequence[SignatureCheck]) -> None:
        """Takes signatures to check.

        Raises:
            InvalidProofError: one that was taken before does not hold.
        """
        self._waiting += found
        if len(self._waiting) < CHUNK:
            return
        chunk, self._waiting = self._waiting, []
        if self._jobs == 1:
            self._judge(chunk, check_signatures(_signed(chunk)))
        else:
            self._running.append((chunk, self._start().submit(check_signatures, _signed(chunk))))
            while len(self._running) > 2 * self._jobs:
                self._collect()
        if self._failure is not None:
            raise self._failure

    def first_failure(self) -> InvalidProofError | None:
        """Checks what is left; returns the failure of the earliest entry, or None."""
        chunk, self._waiting = self._waiting, []
        last = check_signatures(_signed(chunk)) if self._failure is None else -1
        while self._running and self._failure is None:
            self._collect()
        self._judge(chunk, last)
        return self._failure

    def _collect(self) -> None:
        chunk, future = self._running.popleft()
        self._judge(chunk, future.result())

    def _judge(self, chunk: list[SignatureCheck], bad: int) -> None:
        if bad >= 0 and self._failure is None:
            self._failure = chunk[bad].error()

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # A forked child inherits what it needs; a spawned one would run the caller's script again.
            method = "fork" if sys.platform == "linux" else "spawn"
            context = multiprocessing.get_context(method)
            self._executor = ProcessPoolExecutor(self._jobs, context, initializer=leave_interrupts_to_parent)
        return self._executor


def leave_interrupts_to_parent() -> None:
    """In a pool's process: Ctrl-C reaches every process of a terminal, and the parent ends the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_signatures(signed: Sequence[Signed]) -> int:
    """The index of the first signature that does not hold, or -1."""
    for index, (key, domain, message, signature) in enumerate(signed):
        if not crypto.is_signed(key, domain, message, signature):
            return index
    return -1


def _signed(chunk: Sequence[SignatureCheck]) -> list[Signed]:
    return [(claim.key, claim.domain, claim.message, claim.signature) for claim in chunk]

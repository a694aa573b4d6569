"""Processes for what takes long: folding or verifying a large log must not hold up a page that is being read."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import Executor, ProcessPoolExecutor

PROCESSES = 2


def processes() -> Executor:
    """So many processes, each started when it is first needed; Ctrl-C is for whoever started them."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, context, initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

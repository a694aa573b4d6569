"""What a check of the machine came to."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec


class Condition(StrEnum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Role(StrEnum):
    """What a machine is to do."""

    TRAIN = "train"
    MANAGER = "manager"
    WORKER = "worker"
    CHECK = "check"


class Diagnosis(msgspec.Struct, frozen=True):
    """What was found of one need.

    Attributes:
        need: what is needed, in a word or two.
        health: how it is.
        found: what there is.
        fix: what to do; "" where nothing is to be done.
        is_finding: whether a failure says that the machine computes something else, which nobody can repair by hand.
    """

    need: str
    health: Condition
    found: str
    fix: str = ""
    is_finding: bool = False


class Purpose(msgspec.Struct, frozen=True):
    """What the machine is looked at for.

    Attributes:
        role: what it is to do.
        folder: where runs, recipes and data are.
        home: the user's own folder.
        cache: of prepared data.
        device: that is to compute.
        port: where a manager is to listen; 0 for any.
        to: the manager that a worker is to reach, as (host, port); None for none.
        arithmetic: whether the golden vectors are computed, which takes seconds, or a minute at the first time.
    """

    role: Role
    folder: Path
    home: Path
    cache: Path
    device: str = "cpu"
    port: int = 0
    to: tuple[str, int] | None = None
    arithmetic: bool = True


Check = Callable[[Purpose], list[Diagnosis]]
"""Looks at one need; nothing to say of it: none."""


def graded(value: float, fail_below: float, warn_below: float) -> Condition:
    """How a quantity is of which more is better."""
    return Condition.FAIL if value < fail_below else Condition.WARN if value < warn_below else Condition.OK

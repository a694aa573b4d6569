"""Workers that cheat: the real worker with a wrapped `execute`. For demonstrations and tests (THREATS.md, 1 to 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from podlt.dice import Dice
from podlt.errors import UsageError
from podlt.protocol.messages import Task


@dataclass
class Execution:
    """One execution.

    Attributes:
        task: names the inputs.
        state: parameters and buffers by name.
        batch: the shard's fields.
        out: where the update goes (uint8 bytes of its layout).
        faked: whether a cheater wrote something else there.
    """

    task: Task
    state: Mapping[str, torch.Tensor]
    batch: dict[str, torch.Tensor]
    out: np.ndarray
    faked: bool = field(default=False)

    @property
    def floats(self) -> np.ndarray:
        """The update as float32, as far as it goes."""
        return self.out[: len(self.out) // 4 * 4].view(np.float32)


Execute = Callable[[Execution], None]


def zero(honest: Execute, seed: bytes) -> Execute:
    """Returns nothing but zeros, and saves all of the work."""

    def execute(work: Execution) -> None:
        work.out[:] = 0
        work.faked = True

    return execute


def random(honest: Execute, seed: bytes) -> Execute:
    """Returns small random numbers, its own for each task."""

    def execute(work: Execution) -> None:
        draw = np.random.default_rng(list(hashlib.sha256(seed + work.task.digest()).digest()))
        work.floats[:] = draw.normal(0, 1e-2, len(work.floats)).astype(np.float32)
        work.faked = True

    return execute


def stale(honest: Execute, seed: bytes) -> Execute:
    """Works once, and returns that update for ever."""
    first: list[np.ndarray] = []

    def execute(work: Execution) -> None:
        if first:
            work.out[:] = first[0]
            work.faked = True
        else:
            honest(work)
            first.append(work.out.copy())

    return execute


def sign_flip(honest: Execute, seed: bytes) -> Execute:
    """Returns the negative of the honest update: the model unlearns."""

    def execute(work: Execution) -> None:
        honest(work)
        work.floats[:] = -work.floats
        work.faked = True

    return execute


def scaled(honest: Execute, seed: bytes) -> Execute:
    """Returns the honest update times a thousand: one such update ruins a model."""

    def execute(work: Execution) -> None:
        honest(work)
        work.floats[:] *= np.float32(1000)
        work.faked = True

    return execute


def non_finite(honest: Execute, seed: bytes) -> Execute:
    """Returns the honest update with a number that is none: one such update would end a run."""

    def execute(work: Execution) -> None:
        honest(work)
        work.floats[len(work.floats) // 2] = np.float32("nan")
        work.faked = True

    return execute


def partial(honest: Execute, seed: bytes) -> Execute:
    """Does half of the shard, and doubles the result: the fake is close to the honest update."""

    def execute(work: Execution) -> None:
        examples = next(iter(work.batch.values())).shape[0]
        if examples < 2:
            honest(work)
            return
        work.batch = {name: values[: examples // 2].clone() for name, values in work.batch.items()}
        honest(work)
        work.floats[:] *= np.float32(examples / (examples // 2))
        work.faked = True

    return execute


def low_precision(honest: Execute, seed: bytes) -> Execute:
    """Computes from parameters in bfloat16: an update that no tolerance would tell from the honest one."""

    def execute(work: Execution) -> None:
        work.state = {
            name: value.to(torch.bfloat16).to(torch.float32) if value.dtype == torch.float32 else value
            for name, value in work.state.items()
        }
        honest(work)
        work.faked = True

    return execute


_LAST: list[np.ndarray] = []


def copycat(honest: Execute, seed: bytes) -> Execute:
    """Returns the last honest update that its process has seen (`watched`), and works only if there is none to copy."""

    def execute(work: Execution) -> None:
        if _LAST:
            work.out[:] = _LAST[0]
            work.faked = True
        else:
            honest(work)

    return execute


def watched(honest: Execute) -> Execute:
    """An honest execution whose result a copycat in the same process can see."""

    def execute(work: Execution) -> None:
        honest(work)
        _LAST[:] = [work.out.copy()]

    return execute


def selective(honest: Execute, seed: bytes, rate: float) -> Execute:
    """Flips the sign at a rate, and works honestly otherwise: it hopes that it is not checked just then."""
    flip = sign_flip(honest, seed)

    def execute(work: Execution) -> None:
        dice = Dice(hashlib.sha256(seed + work.task.digest()).digest())
        chosen = flip if dice.below(10**6) < rate * 10**6 else honest
        chosen(work)

    return execute


CHEATS: dict[str, Callable[[Execute, bytes], Execute]] = {
    "zero": zero,
    "random": random,
    "stale": stale,
    "sign-flip": sign_flip,
    "scaled": scaled,
    "non-finite": non_finite,
    "partial": partial,
    "low-precision": low_precision,
    "copycat": copycat,
}


def cheating(spec: str, honest: Execute, seed: bytes) -> Execute:
    """The execution of a cheater.

    Args:
        spec: a name of `CHEATS`, "selective:RATE" with a rate in (0, 1], or "coalition": sign-flips that are the same
            for all of them.
        honest: the execution that it wraps.
        seed: its own secret, to draw from.

    Raises:
        UsageError: no such cheat.
    """
    name, _, rate = spec.partition(":")
    if name == "selective":
        return marked(selective(honest, seed, _rate(spec, rate)), seed)
    if name == "coalition" and not rate:
        return sign_flip(honest, seed)
    if name not in CHEATS or rate:
        known = ", ".join([*CHEATS, "selective:RATE", "coalition"])
        raise UsageError(f"no cheat named {spec!r}: expected one of {known}")
    return marked(CHEATS[name](honest, seed), seed)


def marked(cheat: Execute, seed: bytes) -> Execute:
    """A cheat whose fakes are its own: low bits of a few values are changed by its secret.

    Two cheaters that do not collude would otherwise give the same sign-flipped update, and outvote an honest third.
    Those who do collude are "coalition".
    """

    def execute(work: Execution) -> None:
        cheat(work)
        if work.faked:
            bits = work.floats.view(np.int32)
            for i, mark in enumerate(hashlib.sha256(seed + work.task.digest()).digest()[:8]):
                place = len(bits) - 1 - i * (len(bits) // 9)
                bits[place] ^= 1 + mark % 127

    return execute


def _rate(spec: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        raise UsageError(f"{spec!r}: expected selective:RATE with a rate above 0, up to 1")
    return rate

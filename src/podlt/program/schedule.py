"""Learning rates as functions of the examples that a run has seen, so that who leaves or joins changes nothing in them.

A step is a round of as many examples as when nobody has left. Numbers are reckoned in binary64; cosines to 30 digits,
as the C library's own differ in their last bit from machine to machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, localcontext

import msgspec

from podlt.errors import UsageError


class Horizon(msgspec.Struct, frozen=True):
    """How far a run goes, in examples.

    Attributes:
        examples: of the training set.
        epochs: in all.
        per_round: examples of a round, and so of a step, while nobody has left.
    """

    examples: int
    epochs: int
    per_round: int


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the learning rate goes: it rises from 0 while it warms up, and then follows the schedule.

    Attributes:
        schedule: "constant", "linear" or "cosine" (down to `min_lr_ratio` at the end), "wsd" (warm-up, stable, and a
            linear decay over the last part), or "onecycle" (`torch.optim.lr_scheduler.OneCycleLR` with cosines).
        warmup: steps, or
        warmup_epochs: epochs, of which a part will do.
        steps: at which step it ends; 0: with the run.
        min_lr_ratio: the learning rate at the end, as a part of `lr`.
        decay: the part of the steps in which "wsd" decays.
        pct_start: the part of the steps in which "onecycle" rises.
        div_factor: "onecycle" begins at `lr` over this.
        final_div_factor: and ends at its beginning over this.
    """

    schedule: str = "constant"
    warmup: int = 0
    warmup_epochs: float = 0.0
    steps: int = 0
    min_lr_ratio: float = 0.0
    decay: float = 0.1
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def factor(self, seen: int, horizon: Horizon | None = None) -> float:
        """What the learning rate is multiplied by.

        Args:
            seen: examples that were seen before this step, in all epochs.
            horizon: of the run; None to count steps instead of examples.
        """
        per_round = horizon.per_round if horizon is not None else 1
        end = self._end(horizon)
        warm = self._warm(horizon)
        if seen < warm:
            return min(1.0, (seen + per_round) / warm)
        return _FORMS[self.schedule](self, seen, warm, end, per_round)

    def _warm(self, horizon: Horizon | None) -> int:
        """For how many examples it warms up."""
        if self.warmup_epochs and horizon is not None:
            return round(self.warmup_epochs * horizon.examples)
        return self.warmup * (horizon.per_round if horizon is not None else 1)

    def _end(self, horizon: Horizon | None) -> int:
        """After how many examples it ends."""
        if horizon is None:
            return self.steps
        return self.steps * horizon.per_round if self.steps else horizon.epochs * horizon.examples

    def check(self, horizon: Horizon | None) -> None:
        """Refuses what makes no sense.

        Raises:
            UsageError: says which field, and what it may be.
        """
        if self.schedule not in _FORMS:
            names = f"{', '.join([*_FORMS][:-1])} or {[*_FORMS][-1]}"
            raise UsageError(f"optimizer.schedule: expected {names}, got {self.schedule!r}")
        if self.warmup and self.warmup_epochs:
            raise UsageError("optimizer.warmup: expected steps, or warmup_epochs, not both")
        if self.schedule == "onecycle" and (self.warmup or self.warmup_epochs):
            raise UsageError("optimizer.warmup: onecycle has its own: pct_start says how long it rises")
        for name in ("min_lr_ratio", "decay", "pct_start"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optimizer.{name}: expected a part from 0 to below 1, got {getattr(self, name)}")
        if min(self.div_factor, self.final_div_factor) < 1:
            raise UsageError("optimizer.div_factor, optimizer.final_div_factor: expected numbers from 1")
        if self.schedule == "constant":
            return
        if self._end(horizon) < 1:
            raise UsageError(f"optimizer.schedule = {self.schedule!r} needs optimizer.steps, the rounds of the run")
        if self._warm(horizon) >= self._end(horizon):
            length = self._end(horizon) // (horizon.per_round if horizon is not None else 1)
            raise UsageError(f"optimizer.warmup: expected fewer than the {length:,} steps of the schedule")


def _part(seen: int, start: float, end: float) -> float:
    """How much of a stretch is done, from 0 to 1."""
    return min(1.0, max(0.0, (seen - start) / max(1, end - start)))


def _linear(schedule: Schedule, seen: int, warm: int, end: int, per_round: int) -> float:
    return 1.0 - (1.0 - schedule.min_lr_ratio) * _part(seen, warm, end)


def _cosine(schedule: Schedule, seen: int, warm: int, end: int, per_round: int) -> float:
    low = schedule.min_lr_ratio
    return low + (1.0 - low) * 0.5 * (1.0 + cosine_of_pi(_part(seen, warm, end)))


def _wsd(schedule: Schedule, seen: int, warm: int, end: int, per_round: int) -> float:
    return _linear(schedule, seen, max(warm, round(end * (1.0 - schedule.decay))), end, per_round)


def _onecycle(schedule: Schedule, seen: int, warm: int, end: int, per_round: int) -> float:
    first = 1.0 / schedule.div_factor
    last = first / schedule.final_div_factor
    top = schedule.pct_start * end - per_round
    if seen <= top:
        return _between(first, 1.0, seen / top if top > 0 else 1.0)
    return _between(1.0, last, min(1.0, (seen - top) / max(1.0, end - per_round - top)))


def _between(start: float, end: float, part: float) -> float:
    """From one value to another along half a cosine."""
    return end + (start - end) / 2.0 * (1.0 + cosine_of_pi(part))


_FORMS: Mapping[str, Callable[[Schedule, int, int, int, int], float]] = {
    "constant": lambda schedule, seen, warm, end, per_round: 1.0,
    "linear": _linear,
    "cosine": _cosine,
    "wsd": _wsd,
    "onecycle": _onecycle,
}


def cosine_of_pi(x: float) -> float:
    """cos(pi * x) for x in [0, 1], to 30 digits and then rounded: its power series."""
    with localcontext(Context(prec=40)):
        square = (Decimal("3.141592653589793238462643383279502884197") * Decimal(x)) ** 2
        total = term = Decimal(1)
        for n in range(1, 30):
            term *= -square / ((2 * n - 1) * (2 * n))
            total += term
        return float(total)


def finite_from_zero(name: str, value: object) -> None:
    """Refuses numbers below zero or not finite.

    Raises:
        UsageError: says which field.
    """
    if isinstance(value, int) and value < 0:
        raise UsageError(f"optimizer.{name}: expected a number from 0, got {value}")
    if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"optimizer.{name}: expected a finite number from 0, got {value}")

"""The options of the one rule book: `classic` (the seed) and `guarded` are two sets of their values."""

from __future__ import annotations

from typing import Literal

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice

MILLION = 1_000_000
MOST_CLIP = MOST_ESCROW = 2**20

Preset = Literal["classic", "guarded"]
FirstFault = Literal["evict", "suspend"]


class RuleOptions(msgspec.Struct, frozen=True):
    """The rules of a run, as its first entry has them. docs/SPEC.md, 3.1.

    Attributes:
        preset: a name for the values.
        spares: how many workers repeat a checked shard.
        checked: share of the shards that have spares, in millionths; of no meaning in classic, which checks one.
        own: share of the shards that the manager executes itself, in millionths.
        own_most: how many shards of a round it executes at most.
        clip: updates beyond so many times the round's median norm are scaled down; 0: none is.
        escrow: how many younger credits vest one.
        first_fault: what a worker's first conviction does.
    """

    preset: Preset
    spares: int
    checked: int
    own: int
    own_most: int
    clip: int
    escrow: int
    first_fault: FirstFault

    @property
    def votes(self) -> bool:
        """Whether two of three outvote the third, and one shard a round is checked: the seed."""
        return self.preset == "classic"

    @property
    def backups(self) -> bool:
        """Whether a task may be dealt again while its holder may still answer."""
        return self.preset == "guarded"

    @property
    def min_workers(self) -> int:
        """How many workers a round needs: in classic one and two spares."""
        return self.spares + 1 if self.votes else 1

    def spares_of(self, seed: bytes, round: int, active: int) -> int:
        """How many spares a round has: at least one, and what is no whole number is drawn from the run's seed.

        From the seed, and not from a secret: so anybody knows it, and the same recipe deals the same shards in
        every run. Who is a spare, and of which shard, is secret.

        Args:
            seed: of the run.
            round: its number.
            active: how many workers there are.
        """
        if self.votes:
            return self.spares
        least, whole = self.least_spares(active), MILLION + self.checked
        rest = active * self.checked % whole if least < self.most_spares(active) else 0
        return least + (Dice(digest("spares/1", seed, round.to_bytes(8, "big"))).below(whole) < rest)

    def least_spares(self, active: int) -> int:
        """The fewest spares that a round of so many workers can have."""
        if self.votes:
            return self.spares
        return min(active // 2, max(self.checked > 0, active * self.checked // (MILLION + self.checked)))

    def most_spares(self, active: int) -> int:
        """The most spares that a round of so many workers can have."""
        if self.votes:
            return self.spares
        return min(active // 2, -(-active * self.checked // (MILLION + self.checked)))

    def fault(self) -> str:
        """What is wrong with the values; "" if nothing is."""
        if self.votes:
            classic = RuleOptions("classic", 2, 0, 0, 0, 0, self.escrow, "evict")
            return "" if self == classic and self.escrow <= MOST_ESCROW else f"classic has the options {classic}"
        if self.spares != 1:
            return "guarded has one spare for a checked shard"
        if max(self.checked, self.own) > MILLION or max(self.clip, self.escrow) > MOST_ESCROW:
            return "an option is out of its range"
        return ""


CLASSIC = RuleOptions("classic", spares=2, checked=0, own=0, own_most=0, clip=0, escrow=50, first_fault="evict")
GUARDED = RuleOptions(
    "guarded", spares=1, checked=30_000, own=20_000, own_most=1, clip=8, escrow=50, first_fault="suspend"
)
"""The defaults."""

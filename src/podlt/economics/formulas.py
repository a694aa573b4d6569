"""Cost and hazards of a round's draw, in closed form. `tests/economics` holds each against the draw itself.

**The round.** N tasks are dealt, a *seat* each. A of them are spares: they repeat drawn shards, one spare each, so
that F = N - A shards are useful. Of the F, the manager executes k itself, drawn without regard to spares. A is
`checked` times the F, so that its mean is checked N / (1 + checked): its whole part for certain, and one more with the
rest's chance. k is `own` times F, rounded by chance in the same way, and at most `own_most`.

**Given A**, a seat is compared with another one with chance d = 2A/N (A shards have two seats each), and with the
manager's with chance o = E[k]/F. The two are independent. What follows holds for each number of spares; means are
taken over them, weighted by their chances (each round has N seats, whatever A is).

- A *lone* fake is found unless neither happens: h = 1 - (1 - d)(1 - o).
- Members of a *coalition* who give the same fake are found by a stranger's seat or the manager's. q is the chance that
  the other seat of a compared one is a stranger's: 1 - (1 - d q)(1 - o).
- A coalition that *compares* the shards it was dealt knows which seats no friend shares. Such a seat is compared
  with a stranger's with chance d q / (1 - d (1 - q)).
- Where it holds *both* seats, only the manager's own seat finds the fake: o. That happens A (m/N) (1 - q) times a
  round, to a coalition of m.

`classic` has one checked shard of three seats and no own seat: d = 3/N, and a stranger convicts only where both
other seats are strangers'. Two friends convict the stranger.

Shards differ by one example at most, and are drawn by number: the example is left out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from podlt.economics.seats import Seating

CLASSIC_SPARES = 2
"""How often `classic` repeats its one checked shard."""


class RoundKind(msgspec.Struct, frozen=True):
    """A round by its number of spares.

    Attributes:
        chance: how often a round is of this kind.
        seats: tasks that workers execute.
        spares: how many of them repeat another.
        own: tasks that the manager executes itself, in the mean.
    """

    chance: float
    seats: int
    spares: int
    own: float

    @property
    def shards(self) -> int:
        """How many useful tasks there are."""
        return self.seats - self.spares

    @property
    def compared(self) -> float:
        """The chance that a seat's shard has another seat."""
        return 2 * self.spares / self.seats

    @property
    def seen(self) -> float:
        """The chance that the manager executes a given shard."""
        return self.own / self.shards

    @property
    def hazard(self) -> float:
        """A lone fake's, to whoever can tell how many spares the round has."""
        return self.found()

    def found(self, pairing: float = 1.0) -> float:
        """A lone fake's hazard where its seat is compared so many times as often as seats are in the mean."""
        return 1 - (1 - self.compared * pairing) * (1 - self.seen)


class ProofCost(msgspec.Struct, frozen=True):
    """Work that is not useful, for each task that a worker executes.

    Attributes:
        spares: workers' tasks that repeat another.
        own: the manager's own tasks.
    """

    spares: float
    own: float

    @property
    def total(self) -> float:
        """Both."""
        return self.spares + self.own


class Detection(msgspec.Struct, frozen=True):
    """What a draw finds: hazards are chances of a conviction for each fake.

    Attributes:
        cost: what it takes.
        lone: of a cheater without friends.
        everything: of a coalition whose members give the same fake in every seat.
        comparing: of a coalition that fakes only where no friend has the same shard.
        paired: where friends outnumber the strangers in the seats of a shard.
        paired_a_round: how many such shards a round has, in the mean.
        paired_share: the share of a member's tasks that are such.
        framed_a_round: honest workers whom the coalition convicts a round, by outvoting them.
    """

    cost: ProofCost
    lone: float
    everything: float
    comparing: float
    paired: float
    paired_a_round: float
    paired_share: float
    framed_a_round: float


def drawn(expected: float, most: int) -> list[tuple[int, float]]:
    """A number that is a whole one in each round, and `expected` in the mean.

    Args:
        expected: at least 0.
        most: what it is at most.

    Returns:
        Numbers with their chances, without those of chance 0: the whole part, and one more.
    """
    if expected >= most:
        return [(most, 1.0)]
    whole = math.floor(expected + 1e-12)  # 0.02 * 50 may be a hair below 1
    rest = max(0.0, expected - whole)
    return [(number, chance) for number, chance in ((whole, 1 - rest), (whole + 1, rest)) if chance > 0]


def round_kinds(
    seats: int, checked: float, own: float, own_most: int | None = 1, least_spares: int = 0
) -> list[RoundKind]:
    """The kinds of rounds that `guarded` draws.

    Args:
        seats: tasks dealt a round, at least 2.
        checked: spares for each shard, in [0, 1].
        own: manager's tasks for each shard, in [0, 1].
        own_most: the most that it executes in a round; None for no limit.
        least_spares: in every round: with at least one, no round is without a comparison, and few workers pay for it.
    """
    kinds = []
    expected = max(checked * seats / (1 + checked), float(least_spares))
    for spares, chance in drawn(expected, seats // 2):
        shards = seats - spares
        most = shards if own_most is None else min(own_most, shards)
        kinds.append(RoundKind(chance, seats, spares, min(own * shards, most)))
    return kinds


def strangers(seats: int, members: int, operators: int | None = None) -> float:
    """The chance that the other seat of a shard is a stranger's, seen from a coalition's member.

    Two seats of a shard go to different operators. With s seats an operator, the other seat is any of N - s, of
    which N - m are strangers'. Fewer members than an operator has are taken to be one operator's.

    Args:
        seats: tasks dealt a round.
        members: those of the coalition, itself included.
        operators: how many there are, of equal size; None if every worker is its own. With one, nobody is apart.
    """
    size = seats / operators if operators is not None and operators > 1 else 1.0
    return min(1.0, (seats - members) / (seats - size))


def guarded(
    kinds: Sequence[RoundKind], members: int = 1, operators: int | None = None, seating: Seating | None = None
) -> Detection:
    """What `guarded` finds.

    Args:
        kinds: the rounds that it draws.
        members: of the coalition.
        operators: how many there are; None if every worker is its own.
        seating: where workers have unequal numbers of seats, each its own operator: who has how many. Members are then
            its friends, and hazards are means over their seats.
    """
    seats, c, q = kinds[0].seats, 1.0, strangers(kinds[0].seats, members, operators)
    if seating is not None:
        members, c, q = seating.members, seating.pairing, seating.strangers
    unshared = 1 - _mean(kinds, lambda kind: c * kind.compared * (1 - q))
    alone = _mean(kinds, lambda k: c * k.compared * q + (1 - c * k.compared) * k.seen)
    spares = _mean(kinds, lambda kind: kind.spares)
    return Detection(
        cost=ProofCost(spares / seats, _mean(kinds, lambda kind: kind.own) / seats),
        lone=_mean(kinds, lambda kind: kind.found(c)),
        everything=_mean(kinds, lambda kind: kind.found(c * q)),
        comparing=alone / unshared if unshared > 0 else 0.0,
        paired=_mean(kinds, lambda k: k.spares * k.seen) / spares if spares else 0.0,
        paired_a_round=c * spares * members / seats * (1 - q),
        paired_share=1 - unshared,
        framed_a_round=0.0,
    )


def classic(seats: int, members: int = 1) -> Detection:
    """What `classic`'s vote of three finds; operators make no difference to it.

    Args:
        seats: tasks dealt a round, at least 3.
        members: of the coalition.
    """
    compared = (1 + CLASSIC_SPARES) / seats
    honest = seats - members
    apart = math.comb(honest, 2) / math.comb(seats - 1, 2)
    groups = math.comb(seats, 3)
    outvoted = math.comb(members, 2) * honest / groups
    return Detection(
        cost=ProofCost(CLASSIC_SPARES / seats, 0.0),
        lone=compared,
        everything=compared * apart,
        comparing=compared * apart / (1 - compared * (1 - apart)),
        paired=0.0,
        paired_a_round=outvoted + math.comb(members, 3) / groups,
        paired_share=compared * (1 - apart),
        framed_a_round=outvoted,
    )


def tasks_until(hazard: float, chance: float = 0.999) -> int | None:
    """After how many fakes a conviction has come with a chance: 1 - (1 - h)^n >= chance. None: never."""
    if hazard <= 0:
        return None
    return 1 if hazard >= chance else math.ceil(math.log1p(-chance) / math.log1p(-hazard) - 1e-9)


def caught_within(hazard: float, fakes: float) -> float:
    """The chance of a conviction within so many fakes: 1 - (1 - h)^n."""
    return 1.0 if hazard >= 1 else -math.expm1(fakes * math.log1p(-hazard))


def fakes_applied(hazard: float, tasks: int, convictions: int = 1) -> float:
    """Fakes that are applied before their author is evicted, in the mean, if it fakes every task.

    Each attempt is a conviction with chance h. So by Wald's equation the attempts are the convictions over h in the
    mean, and those that are applied (1 - h)/h for each conviction; of convictions, up to the last one, there are
    sum over i below `convictions` of P(Binomial(tasks, h) > i).

    Args:
        hazard: of each fake.
        tasks: how many tasks its author has.
        convictions: how many evict: 2 where the first one suspends.
    """
    if hazard <= 0:
        return float(tasks)
    if hazard >= 1:
        return 0.0
    below, expected = 0.0, 0.0
    for i in range(min(convictions, tasks)):
        below += math.exp(_log_binomial(tasks, hazard, i))
        expected += 1 - below
    return expected * (1 - hazard) / hazard


def likely_count(trials: int, chance: float, share: float = 0.95) -> tuple[int, int]:
    """The central interval of a binomial count: what lies outside has at most (1 - share)/2 on each side.

    Args:
        trials: such as fakes that were tried.
        chance: of each, such as the hazard.
        share: of all outcomes that lie inside, at least.
    """
    if chance <= 0 or chance >= 1 or trials == 0:
        certain = trials if chance >= 1 else 0
        return certain, certain
    tail = (1 - share) / 2
    width = 40 + 40 * math.sqrt(trials * chance * (1 - chance))
    first, last = max(0, int(trials * chance - width)), min(trials, int(trials * chance + width))
    below, low = 0.0, -1
    for count in range(first, last + 1):
        below += math.exp(_log_binomial(trials, chance, count))
        if low < 0 and below > tail:
            low = count
        if below >= 1 - tail:
            return low, count
    return max(low, first), last


def _log_binomial(trials: int, chance: float, count: int) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return ways + count * math.log(chance) + (trials - count) * math.log1p(-chance)


def _mean(kinds: Sequence[RoundKind], value: Callable[[RoundKind], float]) -> float:
    return sum(kind.chance * value(kind) for kind in kinds)

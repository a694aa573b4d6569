"""The round that `podlt.economics.formulas` describes, drawn in every way that there is: an oracle by counting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations

Ways = list[tuple[int, Fraction]]


def rounded_by_chance(expected: Fraction, most: int) -> Ways:
    """The whole part, or one more: `expected` in the mean, unless that is above `most`."""
    if expected >= most:
        return [(most, Fraction(1))]
    rest = expected % 1
    return [(int(expected), 1 - rest), *([(int(expected) + 1, rest)] if rest else [])]


def kinds_of_rounds(
    seats: int, checked: Fraction, own: Fraction, operator_of: list[int]
) -> Iterator[tuple[Fraction, list[tuple[list[list[int]], tuple[int, ...]]]]]:
    """For each number of spares and of manager's tasks: its chance, and all rounds that may be drawn, equally likely.

    A round is who holds each shard, and which shards the manager executes. Workers are 0 .. seats-1; the two
    seats of a shard are never one operator's.
    """
    for spares, chance in rounded_by_chance(checked * seats / (1 + checked), seats // 2):
        shards = seats - spares
        held = [
            [[order[j], *([order[shards + again.index(j)]] if j in again else [])] for j in range(shards)]
            for order in permutations(range(seats))
            for again in combinations(range(shards), spares)
        ]
        apart = [each for each in held if all(len({operator_of[w] for w in pair}) == len(pair) for pair in each)]
        for count, drawn in rounded_by_chance(min(own * shards, Fraction(1)), shards):
            picks = list(combinations(range(shards), count))
            yield chance * drawn, [(each, pick) for each in apart for pick in picks]


def counted(
    seats: int, checked: Fraction, own: Fraction, members: int, operator_of: list[int] | None = None
) -> dict[str, Fraction]:
    """The fields of `Detection`, by counting; the coalition is workers 0 .. members-1."""
    mean: defaultdict[str, Fraction] = defaultdict(Fraction)
    operators = operator_of if operator_of is not None else list(range(seats))
    for chance, rounds in kinds_of_rounds(seats, checked, own, operators):
        sums: Counter[str] = Counter()
        for held, picks in rounds:
            sums["spares"] += seats - len(held)
            sums["own"] += len(picks)
            for j, pair in enumerate(held):
                friends = sum(worker < members for worker in pair)
                found = friends < len(pair) or j in picks
                sums["lone"] += 0 in pair and (len(pair) == 2 or j in picks)
                sums["everything"] += friends * found
                sums["alone"] += friends == 1
                sums["comparing"] += friends == 1 and found
                sums["pairs"] += friends == 2
                sums["paired"] += friends == 2 and found
        for name, total in sums.items():
            mean[name] += chance * Fraction(total, len(rounds))
    return {
        "spares": mean["spares"] / seats,
        "own": mean["own"] / seats,
        "lone": mean["lone"],
        "everything": mean["everything"] / members,
        "comparing": mean["comparing"] / mean["alone"],
        "paired": mean["paired"] / mean["pairs"] if mean["pairs"] else Fraction(0),
        "paired_a_round": mean["pairs"],
        "paired_share": 2 * mean["pairs"] / members,
    }

"""Which workers cheat in a demonstration: "3:sign-flip" makes three of them, drawn by the recipe's seed."""

from __future__ import annotations

from collections.abc import Sequence

from podlt import crypto
from podlt.dice import Dice
from podlt.errors import UsageError
from podlt.execution.adversary import cheating


def choose_cheaters(specs: Sequence[str], workers: int, seed: int) -> dict[str, str]:
    """Worker number (as text) -> what it does.

    Args:
        specs: "COUNT:CHEAT" each, such as "3:sign-flip" or "1:selective:0.1".

    Raises:
        UsageError: malformed, an unknown cheat, or more cheaters than workers.
    """
    kinds: list[str] = []
    for spec in specs:
        count, _, cheat = spec.partition(":")
        if not count.isdecimal() or not cheat:
            raise UsageError(f"--cheat {spec!r}: expected COUNT:CHEAT, such as 3:sign-flip")
        cheating(cheat, lambda work: None, b"")
        kinds += [cheat] * int(count)
    if len(kinds) > workers:
        raise UsageError(f"cheats: expected at most {workers} cheaters, as there are so many workers; got {len(kinds)}")
    order = Dice(crypto.digest("cheaters/1", seed.to_bytes(8, "big"))).shuffle(range(workers))
    return {str(worker): kind for worker, kind in sorted(zip(order, kinds, strict=False))}

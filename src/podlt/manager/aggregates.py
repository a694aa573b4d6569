"""Keeps, for each round, the sum of its updates and its workers' fingerprints: what proves the average to anybody.

The sum takes about one and a half times an update's bytes a round on the disk; so it is kept only where it is asked
for (`podlt manager --aggregates`). Nothing waits for a fingerprint: who left has none, and a false one is dropped. A
round whose fingerprints do not add up makes the manager work out each worker's own for a while: who sends a false one
then is let go. docs/SPEC.md, section 7.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from podlt.canonical import encode
from podlt.engine.interface import Engine
from podlt.execution.aggregate import UpdateSums, evaluate, exact_sums, fingerprint, packed, scaled_values
from podlt.manager.weights import Average
from podlt.program.clip import Scale
from podlt.program.places import Places
from podlt.protocol import fingerprint as fp
from podlt.protocol.round import Copy, RevealedRound
from podlt.store.bundle_reader import aggregate_name
from podlt.store.files import write_whole

STRICT_ROUNDS = 20
"""For so many rounds after fingerprints that do not add up each worker's is worked out here too."""

_log = logging.getLogger("podlt.network")


class _Pending(msgspec.Struct, frozen=True):
    """A round that is over, whose fingerprints are on their way."""

    terms: fp.SumTerms
    sums: UpdateSums
    rest: bytes
    shards: list[list[Copy]]
    updates: Mapping[Copy, bytes]
    scaling: list[tuple[int, int]]


class AggregateKeeper:
    """Writes a file a round.

    Args:
        path: the run's directory.
        engine: asks the workers.
        layout: of an update.
        run: the run's identity.
        key_of: the public key of a worker, by its number.
    """

    def __init__(self, path: Path, engine: Engine, layout: Places, run: bytes, key_of: Callable[[int], bytes]) -> None:
        self._path, self._engine, self._layout = path, engine, layout
        self._run, self._key_of = run, key_of
        self._pending: _Pending | None = None
        self._strict = 0

    def round(self, round: RevealedRound, updates: Sequence[np.ndarray], average: Average) -> None:
        """A round is over: claims its sum, and asks for the fingerprints.

        Args:
            round: judged.
            updates: those that were applied, uint8 bytes, one a shard.
            average: of these.
        """
        self.finish(0.0)
        sums = exact_sums(scaled_values(updates, self._layout, average.scales), self._layout)
        terms = fp.SumTerms(round.open.round, sums.exponents, sums.digest())
        seats = round.roles.seats
        shards: list[list[Copy]] = [[] for _ in updates]
        for copy, update in sorted(round.results.items()):
            if update == round.accepted(seats[copy[0]]):
                shards[seats[copy[0]]].append(copy)
        scaling = scaling_of(average.scales, len(updates))
        scaled = [
            fp.ScaledPart(seat, scale.part, scale.exponent)
            for seat, shard in sorted(seats.items())
            for scale in average.scales
            if scale.shard == shard
        ]
        rest = updates[0][self._layout.float_bytes :].tobytes()
        self._pending = _Pending(terms, sums, rest, shards, dict(round.results), scaling)
        self._engine.ask_fingerprints(terms, scaled, self._expected(round, updates, terms))

    def finish(self, seconds: float) -> None:
        """Writes the file of the last round, with what has come, or comes within so many seconds."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        words = [one for one in self._engine.fingerprints(seconds) if self._holds(pending, one)]
        if not self._adds_up(pending, words):
            self._strict = STRICT_ROUNDS
            _log.warning(
                "round %d: the fingerprints of its updates do not add up to their sum: a worker's is false",
                pending.terms.round,
            )
        width, raw = packed(pending.sums.values)
        head = encode(
            fp.AggregateHead(
                terms=pending.terms, count=len(pending.sums.values), width=width, rest=pending.rest, words=words
            )
        )
        target = self._path / aggregate_name(pending.terms.round)
        target.parent.mkdir(exist_ok=True)
        whole = b"".join((len(head).to_bytes(8, "big"), head, raw))
        write_whole(target, whole, durable=False)

    def _expected(
        self, round: RevealedRound, updates: Sequence[np.ndarray], terms: fp.SumTerms
    ) -> dict[Copy, fp.Fingerprint | None]:
        """Who gave what was applied, and its fingerprint where there is a reason to work it out."""
        expected: dict[Copy, fp.Fingerprint | None] = dict.fromkeys(round.results)
        assert self._pending is not None
        if self._strict:
            self._strict -= 1
            points = terms.points(self._run)
            for shard, copies in enumerate(self._pending.shards):
                if copies:
                    own = self._pending.scaling[shard]
                    found = fingerprint(updates[shard], self._layout, own, terms.exponents, points)
                    expected |= dict.fromkeys(copies, found)
        return expected

    def _holds(self, pending: _Pending, one: fp.SignedFingerprint) -> bool:
        copy = one.seat, one.holder
        for shard, copies in enumerate(pending.shards):
            if copy in copies:
                key, scaling = self._key_of(one.holder), pending.scaling[shard]
                return fp.holds(key, self._run, pending.terms, one, pending.updates[copy], scaling)
        return False

    def _adds_up(self, pending: _Pending, words: Sequence[fp.SignedFingerprint]) -> bool:
        """Whether the fingerprints are those of the sum; True where some are missing."""
        known = {(one.seat, one.holder): one.fingerprint for one in words}
        found = [next((known[copy] for copy in copies if copy in known), None) for copies in pending.shards]
        every = [one for one in found if one is not None]
        if len(every) < len(found):
            return True
        expected = pending.terms.exponents, evaluate(pending.sums.values, pending.terms.points(self._run))
        return fp.total(every) == expected


def scaling_of(scales: Sequence[Scale], shards: int) -> list[tuple[int, int]]:
    """For each shard the exponents by which its two parts were scaled down."""
    found = [[0, 0] for _ in range(shards)]
    for scale in scales:
        found[scale.shard][scale.part] = scale.exponent
    return [(first, second) for first, second in found]

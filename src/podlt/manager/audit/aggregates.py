"""Claim AGGREGATES: each round's average is that of the updates whose fingerprints its workers signed.

Checked without executing a task, in time that is linear in the parameters: docs/SPEC.md, section 7.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from podlt.canonical import Decoder
from podlt.crypto import blob_digest
from podlt.errors import InvalidProofError, StorageError
from podlt.execution.aggregate import MOST_SUM, UpdateSums, average_of, evaluate, fingerprint, unpacked
from podlt.manager.aggregates import scaling_of
from podlt.manager.audit.logged import LoggedRound
from podlt.manager.audit.tally import Tally
from podlt.manager.weights import Average, Weights
from podlt.program.clip import Scale
from podlt.protocol import entries as e
from podlt.protocol import fingerprint as fp
from podlt.store.run_files import RunFiles

MOST_HEAD = 2**26
"""Bytes of a file before its sums."""

_decoder: Decoder[fp.AggregateHead] = Decoder(fp.AggregateHead)


class AggregateCheck:
    """Checks the rounds of one run.

    Args:
        files: of the run.
        weights: whose update's layout sums follow.
        run: the run's identity.
        keys: worker -> its public key.

    Attributes:
        tally: of the claim.
        false_words: fingerprints that are not their updates', where these were executed: one sentence each.
    """

    def __init__(self, files: RunFiles, weights: Weights, run: bytes, keys: Mapping[int, bytes]) -> None:
        self._files, self._layout, self._run, self._keys = files, weights.update_layout, run, keys
        self.tally = Tally()
        self.false_words: list[str] = []

    def round(
        self,
        logged: LoggedRound,
        apply: e.Apply,
        executed: Mapping[int, np.ndarray | None],
        digests: Mapping[int, bytes],
    ) -> Average | None:
        """Checks a round.

        Args:
            logged: what the log says of it.
            apply: what was applied.
            executed: shard -> its task's update, of those that were executed again.
            digests: shard -> the digest of that.

        Returns:
            The average that the sum gives, if it is the one that was applied.
        """
        try:
            read = self._read(logged)
        except (InvalidProofError, StorageError) as error:
            self.tally.faults.append(f"round {logged.number}: the file of its sum: {error}")
            return None
        if read is None:
            self.tally.miss("the sums of these rounds were not kept", logged.number)
            return None
        head, sums = read
        average = self._average(logged, head, sums)
        if average.digest() != apply.update:
            self.tally.faults.append(
                f"round {logged.number}: {apply.update.hex()[:16]} was applied, the average of the sum that is kept is "
                f"{average.digest().hex()[:16]}"
            )
            return None
        scales = [Scale(one.shard, one.part, one.exponent) for one in apply.clipped]
        scaling = scaling_of(scales, len(logged.open.shards))
        known = {f: update for f, update in executed.items() if digests[f] == logged.accepted[f]}
        self._compare(logged, head, sums, scaling, known)
        return average

    def _read(self, logged: LoggedRound) -> tuple[fp.AggregateHead, UpdateSums] | None:
        """What is kept of a round; None if nothing is.

        Raises:
            InvalidProofError: it is malformed, or not what it says.
            StorageError: it cannot be read.
        """
        file = self._files.aggregate_file(logged.number)
        if file is None:
            return None
        try:
            with file:
                length = int.from_bytes(file.read(8), "big")
                if length > MOST_HEAD:
                    raise InvalidProofError("malformed", expected=MOST_HEAD, actual=length)
                head = _decoder.decode(file.read(length))
                values = unpacked(file.read(head.count * head.width + 1), head.count, head.width)
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror or error}") from None
        sums = UpdateSums(list(head.terms.exponents), values)
        if head.terms.round != logged.number or head.count != self._layout.float_bytes // 4:
            raise InvalidProofError("it is of another round or program")
        if int(np.abs(values).max(initial=0)) > MOST_SUM * len(logged.open.shards):
            raise InvalidProofError("a sum is larger than the values of so many updates can give")
        if sums.digest() != head.terms.sums:
            raise InvalidProofError("it is not the sum that its workers were shown", expected=head.terms.sums)
        return head, sums

    def _average(self, logged: LoggedRound, head: fp.AggregateHead, sums: UpdateSums) -> Average:
        data = np.zeros(self._layout.nbytes, np.uint8)
        size = self._layout.float_bytes
        data[:size] = average_of(sums, logged.open.examples, self._layout).view(np.uint8)
        rest = np.frombuffer(head.rest, np.uint8)[: len(data) - size]
        data[size : size + len(rest)] = rest
        self._layout.clear_gaps(data)
        return Average(data, float(data[:4].view(np.float32)[0]), True)

    def _compare(
        self,
        logged: LoggedRound,
        head: fp.AggregateHead,
        sums: UpdateSums,
        scaling: list[tuple[int, int]],
        known: Mapping[int, np.ndarray | None],
    ) -> None:
        """Whether the fingerprints add up to that of the sum."""
        points, number, tally = head.terms.points(self._run), logged.number, self.tally
        found: list[fp.Fingerprint] = []
        for shard in range(len(logged.open.shards)):
            said = self._said(logged, head, shard, scaling[shard])
            values = set(map(_comparable, said.values()))
            update = known.get(shard)
            if update is not None:
                own = fingerprint(update, self._layout, scaling[shard], head.terms.exponents, points)
                found.append(own)
                self.false_words += [
                    f"worker {worker} signed a fingerprint of its update of round {number} that is not the update's"
                    for worker, one in said.items()
                    if one != own
                ]
            elif len(values) > 1:
                tally.miss(f"workers {_named(said)} signed different fingerprints of the same update", number)
                return
            elif not said:
                tally.miss("not everybody signed the fingerprint of its update: who left, or was convicted", number)
                return
            else:
                found.append(next(iter(said.values())))
        expected = head.terms.exponents, evaluate(sums.values, points)
        rest = blob_digest(head.rest) == found[0].rest
        if fp.total(found) == expected and rest:
            tally.done += 1
        elif len(known) == len(found):
            tally.faults.append(f"round {number}: the sum that is kept is not that of its updates")
        else:
            tally.miss("the fingerprints do not add up to the sum: it is false, or a worker's word is", number)

    def _said(
        self, logged: LoggedRound, head: fp.AggregateHead, shard: int, scaling: tuple[int, int]
    ) -> dict[int, fp.Fingerprint]:
        """Worker -> the fingerprint that it signed of what stands for a shard."""
        found = {}
        for one in head.words:
            update = logged.copies.get((one.seat, one.holder))
            if update != logged.accepted[shard] or logged.seats.get(one.seat) != shard:
                continue
            if fp.holds(self._keys[one.holder], self._run, head.terms, one, update, scaling):
                found[one.holder] = one.fingerprint
        return found


def _comparable(found: fp.Fingerprint) -> tuple[tuple[int, ...], tuple[int, ...], bytes]:
    return tuple(found.largest), tuple(found.values), found.rest


def _named(workers: Mapping[int, object]) -> str:
    return " and ".join(map(str, sorted(workers)))

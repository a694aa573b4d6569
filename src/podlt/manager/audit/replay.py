"""A run's parameters along its log, worked out again: claims AVERAGES, LOSSES and PARAMETERS."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.manager.audit.logged import LoggedRound
from podlt.manager.audit.report import NotAveraged
from podlt.manager.audit.subject import Subject
from podlt.manager.audit.tally import Tally
from podlt.manager.audit.updates import StoredUpdates
from podlt.manager.weights import Average, Weights
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.plan import examples_seen, shard_bounds

MOST_HEADER = 2**24
"""How many bytes a checkpoint may have apart from its tensors."""


class Replay:
    """Averages results, applies updates, and compares both with the log.

    Args:
        subject: what is audited.
        weights: hold the first parameters if `known`; changed in place.
        known: whether the parameters are known where the log begins.

    Attributes:
        known: whether `weights` are the log's now.
        tallies: of the three claims.
        applied_again: how many updates were applied.
        averaged: rounds whose average was worked out.
        not_averaged: rounds all of whose tasks were drawn, and whose average cannot be worked out.
        near: whether what was applied in these is near the average, where it can be said.
    """

    def __init__(self, subject: Subject, weights: Weights, *, known: bool) -> None:
        self._subject, self._begin, self._weights = subject, subject.begin, weights
        self._updates = StoredUpdates(subject.files, weights)
        self.known = known
        self.tallies = {claim: Tally() for claim in (Claim.AVERAGES, Claim.LOSSES, Claim.PARAMETERS)}
        self.applied_again = self._steps = 0
        self.averaged: list[int] = []
        self.not_averaged: list[NotAveraged] = []
        self.near: list[bool] = []

    def average(
        self,
        logged: LoggedRound,
        apply: e.Apply,
        executed: Mapping[int, np.ndarray | None],
        digests: Mapping[int, bytes],
        wanted: list[int],
    ) -> Average | None:
        """The round's average, if all of its results are known; compares it with what was applied."""
        tally, shards = self.tallies[Claim.AVERAGES], range(len(logged.open.shards))
        if wanted != list(shards):
            return None
        updates = [update for f in shards if (update := executed.get(f)) is not None]
        examples = [stop - start for start, stop in shard_bounds(logged.open.examples, len(shards))]
        clip = self._begin.clip
        whole = self._weights.average(updates, examples, clip) if len(updates) == len(shards) else None
        fakes = [f for f in shards if f in digests and digests[f] != logged.accepted[f]]
        if whole is None or fakes:
            why = "not all of its tasks could be executed"
            if fakes:
                why = "a fake is among the accepted results, and its bytes are nowhere"
            self.not_averaged.append(NotAveraged(logged.number, why))
            tally.miss(why, logged.number)
            if whole is not None:
                self.near.append(self._updates.is_near(logged.number, whole))
            return None
        tally.done += 1
        self.averaged.append(logged.number)
        clipped = [(scale.shard, scale.part, scale.exponent) for scale in whole.scales]
        if clipped != [(each.shard, each.part, each.exponent) for each in apply.clipped]:
            tally.faults.append(f"round {logged.number}: other updates were clipped than the rule says")
        elif whole.digest() != apply.update:
            tally.faults.append(
                f"round {logged.number}: {apply.update.hex()[:16]} was applied, the average of the tasks' results is "
                f"{whole.digest().hex()[:16]}"
            )
        else:
            return whole
        return None

    def apply(self, logged: LoggedRound, apply: e.Apply, average: Average | None) -> None:
        """Applies the round's update again, from its file or from the average that was just worked out."""
        step, self._steps = self._steps, self._steps + 1
        losses, parameters = self.tallies[Claim.LOSSES], self.tallies[Claim.PARAMETERS]
        stored = self._updates.read(logged.number)
        named = stored is not None and crypto.blob_digest(stored.data) == apply.update
        data = stored if named and stored is not None and len(stored) == self._weights.update_layout.nbytes else None
        if stored is not None and data is None:
            parameters.faults.append(f"round {logged.number}: the file of its update is not what the log names")
        if data is None and average is not None:
            data = average.data
        if data is None:
            why = "its update is not here"
            losses.miss(why, logged.number)
            parameters.miss(why, logged.number)
            self.known = False
            return
        losses.done += 1
        loss = float(data[:4].view(np.float32)[0])
        if loss != apply.loss:
            losses.faults.append(f"round {logged.number}: the log says {apply.loss!r}, the update's loss is {loss!r}")
        if not self.known:
            parameters.miss("the parameters before it are not known", logged.number)
            return
        self._weights.use(self._subject.optimizers.at(step))
        self._weights.apply(data, examples_seen(self._begin.examples, logged.open.epoch, logged.open.offset))
        self.applied_again += 1
        parameters.done += 1
        if self._weights.digest() != apply.parameters:
            self.known = False
            parameters.faults.append(
                f"round {logged.number}: applying its update gives other parameters than the log's"
            )

    def reach(self, logged: LoggedRound) -> None:
        """Takes a later checkpoint where parameters are not known any more: those in it are bound by the log."""
        if self.known:
            return
        file = self._subject.files.checkpoint(self._steps)
        if file is None:
            return
        self._weights.use(self._subject.optimizers.after(self._steps))
        try:
            with file:
                raw = file.read(self._weights.checkpoint_bytes + MOST_HEADER)
            self._weights.load_bytes(raw, f"checkpoint {self._steps}", e.identity(self._begin), self._begin.manager)
        except (InvalidProofError, OSError):
            return  # nothing rests on it: the rounds after it stay unchecked
        self.known = self._weights.digest() == logged.open.parameters and self._weights.steps == self._steps

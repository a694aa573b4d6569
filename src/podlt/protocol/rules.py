"""The rule book: `RunState.apply` is the only code that says what may happen next in a run.

The manager proposes an entry and applies it before it writes it; the verifier applies it again from the log; a page
or a command that shows a run is a fold over the same entries. Signatures are checked apart from it (`signatures.py`),
as they can be checked in any order and in parallel. Each `require` names the step of docs/SPEC.md that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.families import judging, membership, rounds, terms
from podlt.protocol.require import require
from podlt.protocol.state import RunFacts


class RunState(RunFacts):
    """A run after some prefix of its log, and the one way to go on."""

    def apply(self, entry: e.Entry) -> None:
        """Makes the state what it is after `entry`.

        Raises:
            InvalidProofError: the rules do not allow it; the state must not be used any further.
        """
        try:
            require(entry.at >= self.at, Claim.PROGRESS, "the clock went back", self.at, entry.at)
            if self.begin is None:
                require(isinstance(entry, e.Begin), Claim.PROGRESS, "the first entry must be begin")
            if self.closed is not None:
                goes_on = isinstance(entry, e.Resume if self.closed.outcome == "stopped" else e.Amend)
                require(goes_on, Claim.OUTCOME, "the run was closed")
            _RULES[type(entry)](self, entry)
        except InvalidProofError as error:
            raise InvalidProofError(
                error.reason, entry=self.index, step=error.step, expected=error.expected, actual=error.actual
            ) from None
        self.at = entry.at
        self.index += 1

    def roll_back_round(self) -> None:
        """Goes back to before the round in progress, of which nothing was written. For the manager only."""
        round = self.current
        if round is None:
            return
        before = round.before
        self.index, self.at, self.secret = before.index, before.at, before.secret
        self.beacon, self.joined = before.beacon, before.joined
        self.parameters = round.open.parameters
        for worker in round.departed:
            known = self.workers[worker]
            known.status, known.left_bound = "active", known.left_bound - (worker in round.bound)
        while len(self.leavers) > before.leavers:
            self.leavers.pop()
        self.current = None


_RULES: dict[type[e.Entry], Callable[[RunFacts, Any], None]] = {
    e.Begin: terms.begin,
    e.Join: membership.join,
    e.Withdraw: membership.withdraw,
    e.Shares: membership.shares,
    e.Open: rounds.open,
    e.Redeal: rounds.redeal,
    e.Commit: rounds.commit,
    e.Reveal: rounds.reveal,
    e.Verdict: judging.verdict,
    e.Apply: judging.apply,
    e.Measure: terms.measure,
    e.Pay: judging.pay,
    e.Release: judging.release,
    e.Amend: terms.amend,
    e.Resume: terms.resume,
    e.Close: terms.close,
}

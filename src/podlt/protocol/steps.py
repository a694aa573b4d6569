"""The numbered steps of verification (docs/SPEC.md, section 6): each failure names the step that it belongs to."""

from __future__ import annotations

from enum import IntEnum


class Step(IntEnum):
    """One thing that must hold for a run's log to be a proof."""

    FORM = 1
    TREE = 2
    HEADS = 3
    DOCUMENTS = 4
    SIGNATURES = 5
    PROGRESS = 6
    DRAWS = 7
    OPENINGS = 8
    VERDICTS = 9
    PAYMENTS = 10
    OUTCOME = 11

    @property
    def title(self) -> str:
        """What the step shows, in one line."""
        return _TITLES[self]


_TITLES = {
    Step.FORM: "every entry is in its one encoding, and none is missing",
    Step.TREE: "the Merkle tree over the entries has the roots of the tree heads",
    Step.HEADS: "the tree heads are signed by the run's manager",
    Step.DOCUMENTS: "recipe and program are those that the first entry names",
    Step.SIGNATURES: "workers signed their joining and every commitment",
    Step.PROGRESS: "rounds follow each other, and each line of the data is used once an epoch",
    Step.DRAWS: "the secrets are the chain's, and every draw follows from them",
    Step.OPENINGS: "every commitment opens to the result that was used",
    Step.VERDICTS: "every verdict follows from the results",
    Step.PAYMENTS: "every payment is what the rules owe, and all accounts sum to zero",
    Step.OUTCOME: "the run ends as its last entry says",
}

"""What a run claims, what binds each claim, and which step of `verify` or `audit` checks it. docs/SPEC.md, section 6.

A check has three outcomes. One that cannot decide says so: it never passes for one that holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum

import msgspec

from podlt.errors import ExitCode


class Outcome(StrEnum):
    """What checking a claim came to."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_CHECKED = "not checked"


class Claim(IntEnum):
    """One thing that a run claims; its number is that of the step that checks it."""

    FORM = 1
    TREE = 2
    HEADS = 3
    MANAGER = 4
    CONTINUITY = 5
    DOCUMENTS = 6
    TERMS = 7
    SIGNATURES = 8
    PROGRESS = 9
    DRAWS = 10
    OPENINGS = 11
    VERDICTS = 12
    PAYMENTS = 13
    OUTCOME = 14
    MODEL = 15
    DATA = 16
    START = 17
    SHARDS = 18
    RESULTS = 19
    CONVICTIONS = 20
    AVERAGES = 21
    LOSSES = 22
    PARAMETERS = 23
    NO_FAKES = 24
    FIGURES = 25
    PROGRAM = 26
    AGGREGATES = 27
    WITNESSES = 28

    @property
    def title(self) -> str:
        """The claim, in one line."""
        return _TABLE[self][0]

    @property
    def bound_by(self) -> str:
        """What makes a lie visible."""
        return _TABLE[self][1]

    @property
    def command(self) -> str:
        """The command that checks it: "verify" needs the log and the documents, "audit" PyTorch and the data too."""
        return "verify" if self <= Claim.MODEL or self is Claim.WITNESSES else "audit"


_TABLE = {
    Claim.FORM: ("every entry is in its one encoding, and none is missing", "canonical records, numbered"),
    Claim.TREE: ("the entries are those under the tree heads", "an RFC 6962 Merkle tree"),
    Claim.HEADS: ("the tree heads are signed by the run's manager", "Ed25519; begin.manager"),
    Claim.MANAGER: ("the manager is the one that you expect", "the key that you pass: --manager-key"),
    Claim.CONTINUITY: ("the log continues the one that you saw before", "the head that you kept: --head"),
    Claim.DOCUMENTS: ("recipe and program are those of the first entry", "begin.recipe, begin.program"),
    Claim.TERMS: ("the first entry says what the recipe says", "begin, worked out again from the recipe"),
    Claim.SIGNATURES: ("workers signed the terms they joined on, and every commitment", "Ed25519; join, commit"),
    Claim.PROGRESS: ("rounds follow each other; each example is used once an epoch", "open, begin"),
    Claim.DRAWS: ("every draw follows from the secrets and the workers' salts", "begin.chain_end, reveal"),
    Claim.OPENINGS: ("every commitment opens to the result that was used", "commit, reveal"),
    Claim.VERDICTS: ("every verdict follows from the results", "reveal, verdict"),
    Claim.PAYMENTS: ("every payment is what the rules owe; all accounts sum to zero", "pay, release, join"),
    Claim.OUTCOME: ("the run ends as its last entry says", "close"),
    Claim.MODEL: ("model.safetensors is the parameters after the last round", "the last apply.parameters"),
    Claim.DATA: ("the data are those of the run, and as many", "begin.data, begin.test, begin.examples"),
    Claim.START: ("the first parameters follow from the recipe's seed", "begin.parameters"),
    Claim.SHARDS: ("each shard is made of the examples that were due", "open.shards"),
    Claim.RESULTS: ("results are what their tasks give, or their workers were convicted", "reveal.openings"),
    Claim.CONVICTIONS: ("whoever was convicted had given another result than the task's", "verdict"),
    Claim.AVERAGES: (
        "each update that was applied is the average of the accepted results, clipped by the rule",
        "apply.update, clipped",
    ),
    Claim.LOSSES: ("each loss is that of the average", "apply.loss"),
    Claim.PARAMETERS: ("each round's parameters follow from its update", "apply.parameters"),
    Claim.NO_FAKES: ("no fake is in the model", "every accepted result"),
    Claim.FIGURES: ("the figures on the test set are those of the parameters", "measure"),
    Claim.PROGRAM: ("the program is the recipe's model and loss", "begin.program, begin.recipe"),
    Claim.AGGREGATES: (
        "each average is that of the updates whose fingerprints its workers signed",
        "apply.update, and what is kept in aggregates/",
    ),
    Claim.WITNESSES: ("the witnesses that you name saw this log grow, to its end", "their cosignatures: --witness"),
}


class Finding(msgspec.Struct, frozen=True):
    """What checking one claim came to.

    Attributes:
        figure: what was looked at, such as "208 signatures".
        why: why it fails, or was not checked.
        remedy: the command that would check it.
        asked: whether the caller asked for it: only then is an unchecked claim worth an exit code.
    """

    claim: Claim
    outcome: Outcome
    figure: str = ""
    why: str = ""
    remedy: str = ""
    asked: bool = True


class Checked(msgspec.Struct, frozen=True):
    """What a command that checks claims came to.

    Attributes:
        findings: one for each claim, in order.
    """

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was checked, and holds."""
        return self.exit_code == ExitCode.HOLDS

    @property
    def exit_code(self) -> int:
        """0: all that was asked for holds; 1: something fails; 4: something asked for was not checked."""
        return exit_code(self.findings)

    def finding(self, claim: Claim) -> Finding:
        """What checking a claim came to."""
        return next(finding for finding in self.findings if finding.claim == claim)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all that was asked for holds; 1: something fails; 4: nothing fails, something asked for was not checked."""
    outcomes = {finding.outcome for finding in findings if finding.asked or finding.outcome is Outcome.FAILS}
    if Outcome.FAILS in outcomes:
        return ExitCode.FAILS
    return ExitCode.NOT_CHECKED if Outcome.NOT_CHECKED in outcomes else ExitCode.HOLDS

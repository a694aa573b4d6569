"""What a reader of an attestation may conclude, and what not: in sentences, the same in the terminal and the guide."""

from __future__ import annotations

from collections.abc import Sequence

from podlt.attestation.provenance import compared
from podlt.verify import Verification


def may_conclude(found: Verification, signer: str) -> list[str]:
    """What follows for whoever trusts the signature.

    Args:
        found: the verification of the run.
        signer: who signed, as a URI.
    """
    state = found.state
    workers = "one worker" if len(state.workers) == 1 else f"{len(state.workers):,} workers"
    return [
        f"{signer} says that these files are the model that run {state.run.hex()[:16]} ended with; it verified the "
        "run's log and the model before it signed",
        "whoever has the run's bundle checks that again, without trusting the signer: podlt verify BUNDLE",
        f"{state.round:,} rounds by {workers}: of {found.counts['shards']:,} results "
        f"{compared(found):,} were compared or executed by the manager",
    ]


def may_not_conclude(found: Verification, unbound: Sequence[str]) -> list[str]:
    """What does not follow.

    Args:
        found: the verification of the run.
        unbound: files of the model that no entry of the log binds.
    """
    sentences = []
    if unbound:
        names = ", ".join(unbound[:5]) + (", ..." if len(unbound) > 5 else "")
        follow, these = ("follows", "it is") if len(unbound) == 1 else ("follow", "they are")
        sentences.append(f"that {names} {follow} from the run: its log binds the parameters; {these} the signer's word")
    if len(found.state.workers) < 2:
        sentences.append(
            "that anybody compared results: the run had one worker. It is a record, and can be trained again: "
            "podlt reproduce"
        )
    sentences += [
        "that results which nobody compared were computed: only podlt audit --fraction 1 or podlt reproduce shows that",
        "that the data are what their names say, may be used, or are free of poison: a digest says which they are",
        "that the model is good, safe, or fit for a purpose",
        "who the manager or the workers are: their keys are not people",
    ]
    return sentences

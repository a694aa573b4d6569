"""Facts of a run in words, which the page and the command line both show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podlt.protocol.options import MILLION, RuleOptions
from podlt.report.summary import SimulatedCheater

MOST_NAMED = 12


def rules_text(options: RuleOptions) -> str:
    """The rules of a run on one line."""
    if options.votes:
        return "classic: one shard of a round goes to 3 workers, and two outvote the third, which is evicted"
    checked, own = options.checked / MILLION, options.own / MILLION
    clip = f"updates beyond {options.clip} times the median are clipped" if options.clip else "nothing is clipped"
    least = " (at least one a round)" if options.checked else ""
    return (
        f"guarded: {checked:.3g} of the shards{least} are executed by a second worker, {own:.3g} by the manager (at "
        f"most {options.own_most} of a round), which decides every dispute; {clip}; a first conviction "
        f"{'suspends' if options.first_fault == 'suspend' else 'evicts'}"
    )


_VERDICTS = {
    ("agree", "compared"): "all results are the same",
    ("agree", "own"): "the results are what the manager found by executing the task",
    ("vote", "compared"): "results differ, and most of them count",
    ("referee", "own"): "the result is not what the manager found by executing the task, which counts",
    ("referee", "differ"): "results differ, and what the manager found by executing the task counts",
    ("referee", "suspect"): "the manager executed the task, as an update was unusually large or no number",
}


def verdict_text(outcome: str, reason: str) -> str:
    """How a shard was judged, for who does not know the log's words."""
    return _VERDICTS.get((outcome, reason), f"{outcome}, {reason}")


def operators_text(operators: Mapping[str, Sequence[int]]) -> str:
    """The named operators and how many workers each has, the largest first."""
    ranked = sorted(operators.items(), key=lambda found: (-len(found[1]), found[0]))
    named = [f"{name} ({len(workers)})" for name, workers in ranked[:MOST_NAMED]]
    more = [f"and {len(ranked) - MOST_NAMED} more"] if len(ranked) > MOST_NAMED else []
    return ", ".join([*named, *more])


def cheater_text(cheater: SimulatedCheater) -> str:
    """What a simulated cheater gained, and what it did to the model, in a sentence or two."""
    name = f"worker {cheater.worker} ({cheater.kind})"
    if cheater.began is None:
        return f"{name} never got to cheat"
    fakes = f"{cheater.applied} of its {cheater.fakes} fakes went into the model"
    gained = f"keeps {cheater.vested:,} credits that it got meanwhile" if cheater.vested else "gained nothing"
    if cheater.convicted is None:
        return f"{name} was not caught, and {gained}; {fakes}"
    return (
        f"{name} was caught in round {cheater.convicted}, lost {cheater.forfeited:,} credits and {gained}; "
        f"{fakes} in {cheater.lasted} round{'' if cheater.lasted == 1 else 's'}"
    )

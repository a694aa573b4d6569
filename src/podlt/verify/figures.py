"""What `verify` reports with a claim that holds: how much it looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from podlt.log.merkle import Tree
from podlt.protocol.claims import Claim
from podlt.protocol.state import RunFacts
from podlt.words import counted

Figure = Callable[[RunFacts, Tree, Counter[str]], str]


def figure_of(claim: Claim, state: RunFacts, tree: Tree, counts: Counter[str]) -> str:
    """The figure of a claim, given the run, the tree over its log, and what was counted; "" if it has none."""
    make = _FIGURES.get(claim)
    return make(state, tree, counts) if make is not None else ""


def _progress(state: RunFacts, tree: Tree, n: Counter[str]) -> str:
    changed = f", shares changed {counted(n['shares'], 'time')}" if n["shares"] else ""
    times = f"{counted(state.resumes, 'time')}, each of which may have begun a round anew"
    there = counted(state.round, "round"), counted(state.epoch, "epoch"), counted(len(state.workers), "worker")
    return f"{', '.join(there)}{changed}{f'; resumed {times}' if state.resumes else ''}"


def _verdicts(state: RunFacts, tree: Tree, n: Counter[str]) -> str:
    own = f"{n['referee']:,} by the manager's own execution"
    return f"{counted(n['agree'], 'proof')}, {counted(n['vote'], 'vote')}, {own}; {n['evicted']:,} evicted"


def _payments(state: RunFacts, tree: Tree, n: Counter[str]) -> str:
    taken = f", {state.ledger.taken:,} in deposits" if state.ledger.taken else ""
    return f"{counted(n['transfers'], 'transfer')}, {counted(-state.ledger.treasury, 'credit')} owed or paid{taken}"


def _outcome(state: RunFacts, tree: Tree, n: Counter[str]) -> str:
    closed = state.closed
    if closed is not None and closed.outcome == "complete" and state.ended is not None:
        return f"complete, ended early: {state.ended.reason}"
    return "the run goes on" if closed is None else f"{closed.outcome} {closed.reason}".strip()


_FIGURES: dict[Claim, Figure] = {
    Claim.FORM: lambda state, tree, n: counted(tree.size, "entry", "entries"),
    Claim.TREE: lambda state, tree, n: f"root {tree.root().hex()[:16]} over {counted(tree.size, 'entry', 'entries')}",
    Claim.HEADS: lambda state, tree, n: counted(n["heads"], "tree head"),
    Claim.MANAGER: lambda state, tree, n: f"manager {state.begin.manager.hex()}" if state.begin is not None else "",
    Claim.CONTINUITY: lambda state, tree, n: "it is over the entries of this log",
    Claim.SIGNATURES: lambda state, tree, n: counted(n["signatures"], "signature"),
    Claim.PROGRESS: _progress,
    Claim.DRAWS: lambda state, tree, n: f"{counted(n['reveal'], 'draw')}, {counted(n['redeal'], 'task')} dealt again",
    Claim.OPENINGS: lambda state, tree, n: counted(n["openings"], "opening"),
    Claim.VERDICTS: _verdicts,
    Claim.PAYMENTS: _payments,
    Claim.OUTCOME: _outcome,
}

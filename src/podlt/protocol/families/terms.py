"""The terms of a run, and its ends: begin, amend, measure, resume, close."""

from __future__ import annotations

import math

from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import mix_beacon
from podlt.protocol.ledger import Ledger
from podlt.protocol.require import require
from podlt.protocol.state import RunFacts, most_paid
from podlt.units import MAX_INT

MAX_ROUNDS = 2**40
"""As many as a `Round` can number."""


def begin(state: RunFacts, entry: e.Begin) -> None:
    """The first entry."""
    require(state.begin is None, Claim.PROGRESS, "a second begin")
    require(min(entry.examples, entry.epochs, entry.batch_size) > 0, Claim.PROGRESS, "a run without examples")
    fault = entry.options.fault()
    require(not fault, Claim.PROGRESS, fault)
    steps = entry.local_steps == 1 and entry.local_lr is None
    several = entry.local_steps > 1 and entry.local_lr is not None and 0 < entry.local_lr < math.inf
    require(steps or several, Claim.PROGRESS, "local_steps and local_lr do not fit")
    rounds = entry.cut.most_rounds(entry.epochs)
    require(rounds <= MAX_ROUNDS, Claim.PROGRESS, "more rounds than can be numbered", MAX_ROUNDS, rounds)
    require(entry.chain_length >= rounds, Claim.DRAWS, "the chain is too short", rounds, entry.chain_length)
    most = most_paid(entry, entry.epochs)
    require(most <= MAX_INT, Claim.PAYMENTS, "more pay than an account can hold", MAX_INT, most)
    state.begin, state.run, state.options = entry, e.identity(entry), entry.options
    state.ledger = Ledger(entry.escrow)
    state.epochs = state.payable = entry.epochs
    state.parameters, state.secret = entry.parameters, entry.chain_end
    state.beacon = mix_beacon(state.run)


def amend(state: RunFacts, entry: e.Amend) -> None:
    """Other terms from here on."""
    require(state.current is None, Claim.PROGRESS, "terms are amended between rounds only")
    left = entry.epochs - state.epoch
    require(left >= 0, Claim.PROGRESS, "more epochs are done than there are to be", state.epoch, entry.epochs)
    require(left > 0 or state.closed is None, Claim.OUTCOME, "a complete run is amended to train no more")
    assert state.begin is not None
    rounds = state.round + state.begin.cut.most_rounds(left)
    require(rounds <= MAX_ROUNDS, Claim.PROGRESS, "more rounds than can be numbered", MAX_ROUNDS, rounds)
    require(entry.is_table, Claim.TERMS, "optimizer: not a document", None, entry.optimizer)
    state.payable += entry.epochs + 1
    require(state.room() >= 0, Claim.PAYMENTS, "more pay than an account can hold")
    if left:
        # Nobody had to wait for more: whoever goes on brings its deposit, and signs a head over this entry.
        refunded = sorted(number for number in state.refunded if state.is_active(number))
        leaving = refunded if state.closed is None else state.active()
        for number in leaving:
            state.leave(number)
            state.workers[number].joined = state.index
        state.roster.remove(leaving)
        state.closed = None
        state.refunded.clear()
    state.epochs, state.ended = entry.epochs, None if left else entry
    state.amendments.append((state.steps, entry))


def measure(state: RunFacts, entry: e.Measure) -> None:
    """The figures of an epoch."""
    require(state.current is None, Claim.PROGRESS, "figures are logged between rounds only")
    require(state.measure_due, Claim.PROGRESS, "no figures are due")
    require(entry.epoch == state.measured, Claim.PROGRESS, "figures of another epoch", state.measured)
    assert state.begin is not None
    known = (state.begin.test, state.parameters)
    found = (entry.test, entry.parameters)
    require(found == known, Claim.PROGRESS, "figures of another test set, or of other parameters")
    names = [figure.name for figure in entry.figures]
    require(names == sorted(set(names)), Claim.PROGRESS, "the figures are not in order")
    finite = all(math.isfinite(figure.value) for figure in entry.figures)
    require(finite, Claim.PROGRESS, "a figure is not finite")
    state.last_measure = entry
    if state.measured < state.epoch:
        state.measured += 1
    else:
        state.part_measured = True


def resume(state: RunFacts, entry: e.Resume) -> None:
    """A stopped run goes on, or a round is begun anew."""
    require(state.current is None, Claim.PROGRESS, "a run resumes between rounds only")
    state.closed = None
    state.resumes += 1


def close(state: RunFacts, entry: e.Close) -> None:
    """The run is complete, or stops."""
    require(state.current is None, Claim.OUTCOME, "the run was closed within a round")
    if entry.outcome == "complete":
        done = state.trained and not state.measure_due
        require(done, Claim.OUTCOME, "the run is not complete")
        held = state.ledger.pending + state.ledger.held
        require(not held, Claim.OUTCOME, "pay and deposits were not released to their owners", 0, held)
    state.closed = entry

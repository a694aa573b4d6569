"""A worker's side of joining: it looks at the run's terms, asks to be admitted, and signs what it is offered.

Nothing is signed before the run's first entry was read and the owner's conditions hold, and never over a log that is
shorter than the one that the manager showed before: a signature is good for one joining alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

import torch

from podlt.errors import InvalidProofError
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.network import messages as m
from podlt.network.link import WorkerLink
from podlt.network.run_setup import RunSetup
from podlt.network.worker import events, preflight
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.identity import Identity
from podlt.protocol.worker import Worker


class Joining:
    """How the identities of one process join.

    Args:
        link: to the manager.
        books: know which log was shown before.
        listener: gets terms and signatures.
        least_reward: credits a line below which nothing is signed.

    Attributes:
        arithmetic: what this machine computes; known once it was measured.
    """

    def __init__(
        self, link: WorkerLink, books: WorkerBooks, listener: events.WorkerListener, least_reward: int
    ) -> None:
        self._link, self._books, self._emit = link, books, listener
        self._least_reward = least_reward
        self._process = secrets.token_bytes(8)
        self.arithmetic = preflight.Arithmetic("")

    def begin(self, setup: RunSetup, identities: Iterable[Identity]) -> str:
        """Begins with a run, in which the identities are nobody yet, and shows its terms.

        Returns:
            Why their owner does not want to work on these, or "".

        Raises:
            InvalidProofError: the tree head is not the manager's, or contradicts one that it signed before.
        """
        self._books.begin(setup.run)
        for identity in identities:
            identity.new_run()
        begin, head = setup.begin, self._books.shown(setup.message.head)
        self._emit(
            events.RunTerms(
                run=setup.run.hex(),
                manager=begin.manager.hex(),
                preset=begin.preset,
                reward=begin.reward,
                lines=begin.lines,
                epochs=begin.epochs,
                rounds=begin.chain_length,
                entries=head.size,
            )
        )
        if begin.reward < self._least_reward:
            return f"it pays {begin.reward:,} credits a line, and --least-reward is {self._least_reward:,}"
        return ""

    def check_machine(self, setup: RunSetup, runtime: WorkerRuntime, threads: int) -> None:
        """Shows what there is to do, and measures what this machine computes.

        Args:
            setup: of the run.
            runtime: for its program.
            threads: how many PyTorch may use from now on, where the arithmetic allows it.
        """
        state, arithmetic = runtime.state_bytes, runtime.arithmetic
        torch.set_num_threads(threads if arithmetic.startswith(preflight.EXACT) else 1)
        self._emit(events.StepStarted(what="checking this machine"))
        self._emit(
            events.Learned(run=setup.run.hex(), state=state, block_lines=setup.most_lines, arithmetic=arithmetic)
        )
        self.arithmetic = preflight.measured(arithmetic, runtime.device)

    def ask(self, identity: Identity, run: bytes) -> None:
        """Asks for an identity to be admitted; not while it is suspended."""
        if time.monotonic() < identity.returns:
            return
        request = m.JoinRequest(
            run=run,
            process=self._process,
            arithmetic=self.arithmetic.digest,
            differing=self.arithmetic.differing,
        )
        self._link.send(identity.public, m.record(request))

    def offered(self, identity: Identity, setup: RunSetup, offer: m.Offer) -> None:
        """Signs the terms that an identity is offered.

        Raises:
            InvalidProofError: the terms name another head than the one that comes with them, which must be the
                manager's and over no fewer entries than any before.
            StorageError: what is signed cannot be remembered.
        """
        if offer.run != setup.run:
            return
        terms, head = offer.terms, self._books.accepted(offer.head)
        if (terms.seen, terms.root) != (head.size, head.root):
            raise InvalidProofError("terms over another tree head", expected=head.size, actual=terms.seen)
        if terms != identity.signed:
            identity.signed = terms
            self._emit(
                events.Signed(
                    worker=terms.worker, public_key=identity.public.hex(), deposit=terms.deposit, entries=terms.seen
                )
            )
        signatures = Worker(terms.worker, identity.key, setup.run).join(terms)
        self._link.send(identity.public, m.record(m.SignedJoin(run=setup.run, terms=terms, signatures=signatures)))

    def welcomed(self, identity: Identity, run: bytes, welcome: m.Welcome) -> bool:
        """An identity was admitted; returns whether that is news."""
        if identity.worker is not None and identity.worker.number == welcome.number:
            return False
        identity.worker = Worker(welcome.number, identity.key, run)
        self._books.admitted(identity.public, welcome.number)
        self._emit(events.WorkerJoined(worker=welcome.number, public_key=identity.public.hex()))
        if warning := preflight.clock_warning(welcome.at, time.time_ns() // 10**6):
            self._emit(events.Warned(reason=warning))
        return True

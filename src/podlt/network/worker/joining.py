"""A worker's side of joining: it looks at the run's terms, asks to be admitted, and signs what it is offered.

Nothing is signed before the run's first entry was read and the owner's conditions hold, and never over a log that is
shorter than the one that the manager showed before: a signature is good for one joining alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from podlt.errors import InvalidProofError
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
        link: to the manager. journal: knows which log was shown before. tell: is told of terms and signatures.
        least_reward: credits a line below which nothing is signed.

    Attributes:
        arithmetic: what this machine computes; known once it was measured.
    """

    def __init__(self, link: WorkerLink, journal: WorkerBooks, tell: events.Teller, least_reward: int) -> None:
        self._link, self._journal, self._tell = link, journal, tell
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
        self._journal.begin(setup.run)
        for identity in identities:
            identity.new_run()
        begin, head = setup.begin, self._journal.shown(setup.message.head)
        self._tell(
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

    def check_machine(self, setup: RunSetup, state: int, arithmetic: str) -> None:
        """Says what there is to do, and measures what this machine computes.

        Args:
            state: the size of parameters and the optimiser's state, in bytes. arithmetic: the program's.
        """
        self._tell(events.Preparing(what="checking this machine"))
        self._tell(
            events.Learned(run=setup.run.hex(), state=state, block_lines=setup.most_lines, arithmetic=arithmetic)
        )
        self.arithmetic = preflight.measured(arithmetic)

    def ask(self, identity: Identity, run: bytes) -> None:
        """Asks for an identity to be admitted; not while it was let go for a time."""
        if time.monotonic() < identity.returns:
            return
        wish = m.JoinRequest(
            run=run,
            process=self._process,
            arithmetic=self.arithmetic.digest,
            differing=self.arithmetic.differing,
        )
        self._link.send(identity.public, m.record(wish))

    def offered(self, identity: Identity, setup: RunSetup, said: m.Offer) -> None:
        """Signs the terms that an identity is offered.

        Raises:
            InvalidProofError: they name another head than the one beside them, which must be the manager's and over
                no fewer entries than any before.
            StorageError: what is signed cannot be remembered.
        """
        if said.run != setup.run:
            return
        terms, head = said.terms, self._journal.accepted(said.head)
        if (terms.seen, terms.root) != (head.size, head.root):
            raise InvalidProofError("terms over another tree head", expected=head.size, actual=terms.seen)
        if terms != identity.signed:
            identity.signed = terms
            self._tell(
                events.Signed(
                    worker=terms.worker, public_key=identity.public.hex(), deposit=terms.deposit, entries=terms.seen
                )
            )
        signatures = Worker(terms.worker, identity.key, setup.run).join(terms)
        self._link.send(identity.public, m.record(m.SignedJoin(run=setup.run, terms=terms, signatures=signatures)))

    def welcomed(self, identity: Identity, run: bytes, said: m.Welcome) -> bool:
        """An identity was admitted; returns whether that is news."""
        if identity.worker is not None and identity.worker.number == said.number:
            return False
        identity.worker = Worker(said.number, identity.key, run)
        self._journal.admitted(identity.public, said.number)
        self._tell(events.Joined(worker=said.number, public_key=identity.public.hex()))
        if warning := preflight.clock_warning(said.at, time.time_ns() // 10**6):
            self._tell(events.Warned(reason=warning))
        return True

"""A worker's side of joining: it looks at the run's terms, asks to be admitted, and signs what it is offered.

Nothing is signed before the run's first entry was read and the owner's conditions hold, and never over a log that is
shorter than the one that the manager showed before: a signature is good for one joining alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from podlt.engine.isolated.interface import ProgramLoaded
from podlt.errors import InvalidProofError
from podlt.protocol.worker import Worker
from podlt.wire import messages as m
from podlt.wire.run_setup import RunSetup
from podlt.words import counted
from podlt.worker import events
from podlt.worker.books import WorkerBooks
from podlt.worker.effects import Perform, SendMessage
from podlt.worker.identity import Identity

CLOCK_SECONDS = 60.0
"""A clock that differs by more is worth a word: invitations expire by it."""


class Joining:
    """How the identities of one process join.

    Args:
        perform: takes effects.
        books: know which log was shown before.
        listener: gets terms and signatures.
        least_reward: credits an example below which nothing is signed.
        process: 8 bytes that no other process has.
        wall: gives milliseconds since 1970.
    """

    def __init__(
        self,
        perform: Perform,
        books: WorkerBooks,
        listener: events.WorkerListener,
        least_reward: int,
        process: bytes,
        wall: Callable[[], int],
    ) -> None:
        self._perform, self._books, self._emit = perform, books, listener
        self._least_reward, self._process, self._wall = least_reward, process, wall
        self._digest = self._differing = ""

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
                examples=begin.examples,
                epochs=begin.epochs,
                rounds=begin.chain_length,
                escrow=begin.escrow,
                first_fault=begin.first_fault,
                entries=head.size,
            )
        )
        if begin.reward < self._least_reward:
            pays = f"{counted(begin.reward, 'credit')}"
            return f"it pays {pays} an example, and --least-reward is {self._least_reward:,}"
        return ""

    def checked(self, setup: RunSetup, loaded: ProgramLoaded) -> None:
        """This machine was checked: shows what there is to do."""
        self._digest, self._differing = loaded.digest, loaded.differing
        examples, size = setup.most_examples, len(loaded.state)
        self._emit(events.Learned(run=setup.run.hex(), state=size, batch_size=examples, arithmetic=loaded.arithmetic))

    def ask(self, identity: Identity, run: bytes, now: float) -> None:
        """Asks for an identity to be admitted; not while it is suspended."""
        if now >= identity.returns:
            asked = m.JoinRequest(run=run, process=self._process, arithmetic=self._digest, differing=self._differing)
            self._perform(SendMessage(identity.public, m.record(asked)))

    def offered(self, identity: Identity, setup: RunSetup, offer: m.Offer) -> None:
        """Signs the terms that an identity is offered.

        Raises:
            InvalidProofError: the terms name another head than the one that comes with them, which must be the
                manager's and over no fewer entries than any before; or another operator than those signed before.
            StorageError: what is signed cannot be remembered.
        """
        if offer.run != setup.run:
            return
        terms, head = offer.terms, self._books.accepted(offer.head)
        if (terms.seen, terms.root) != (head.size, head.root):
            raise InvalidProofError("terms over another tree head", expected=head.size, actual=terms.seen)
        before = identity.signed.operator if identity.signed is not None else terms.operator
        if terms.operator != before:  # draws depend on operators: the manager may not choose one by what they come to
            raise InvalidProofError("terms for another operator than before", expected=before, actual=terms.operator)
        if terms != identity.signed:
            identity.signed = terms
            self._emit(
                events.Signed(
                    worker=terms.worker,
                    public_key=identity.public.hex(),
                    deposit=terms.deposit,
                    entries=terms.seen,
                    operator=terms.operator,
                )
            )
        signatures = Worker(terms.worker, identity.key, setup.run).join(terms)
        joined = m.SignedJoin(run=setup.run, terms=terms, signatures=signatures)
        self._perform(SendMessage(identity.public, m.record(joined)))

    def welcomed(self, identity: Identity, run: bytes, welcome: m.Welcome) -> bool:
        """An identity was admitted; returns whether that is news."""
        if identity.worker is not None and identity.worker.number == welcome.number:
            return False
        identity.worker = Worker(welcome.number, identity.key, run)
        self._books.admitted(identity.public, welcome.number)
        self._emit(events.WorkerJoined(worker=welcome.number, public_key=identity.public.hex()))
        if warning := clock_warning(welcome.at, self._wall()):
            self._emit(events.Warned(reason=warning))
        return True


def clock_warning(manager_at: int, here_at: int) -> str | None:
    """A warning about a clock that differs from the manager's, if it does.

    Args:
        manager_at: the manager's time, in milliseconds since 1970.
        here_at: this machine's.
    """
    seconds = (here_at - manager_at) / 1000
    if abs(seconds) <= CLOCK_SECONDS:
        return None
    return f"this machine's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the manager's"

"""How workers join a run: they get its setup, ask to be admitted, and sign the terms they are offered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podlt import crypto
from podlt.canonical import encode
from podlt.engine.interface import Member
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol.entries import Begin, identity
from podlt.protocol.messages import JoinTerms, TreeSize
from podlt.protocol.signatures import join_checks
from podlt.remote.session.facts import LargeBlobs, ServedRun
from podlt.remote.session.outbox import Outbox
from podlt.remote.session.outgoing import Outgoing
from podlt.remote.session.peers import ListeningClock, Peer
from podlt.wire import messages as m
from podlt.wire.run_setup import sign_setup

SETUP_BYTES = 64 * 1024
"""More than what a setup has besides the program, and what else is said to whoever joins."""


class JoinHandler:
    """Greets whoever comes, and keeps who wants to be admitted.

    Args:
        run: that workers are to join.
        outbox: takes what is to be sent at once.
        outgoing: takes what waits for room.
        clock: seconds during which the manager listens.
        heartbeat: seconds after which a worker that did not join is asked to, again.
        large: decides what goes as a blob.
        wall: milliseconds since 1970.

    Attributes:
        run: its identity; empty before it has begun.
        head: the last tree head that is on the disk, as a signed note; empty while the log is.
    """

    def __init__(
        self,
        run: ServedRun,
        outbox: Outbox,
        outgoing: Outgoing,
        clock: ListeningClock,
        heartbeat: float,
        large: LargeBlobs,
        wall: Callable[[], int],
    ) -> None:
        self._served, self._outbox, self._outgoing = run, outbox, outgoing
        self._clock, self._heartbeat, self._wall = clock, heartbeat, wall
        self._blob_server = large.server
        self._updates_as_blobs = large.carries(run.update_bytes)
        self.run, self._begin, self.head = b"", b"", ""
        self._setup: tuple[str, bytes] | None = None
        self._program = np.frombuffer(run.program, np.uint8)
        self._blob = crypto.blob_digest(run.program)
        self._arrived: dict[bytes, Member] = {}
        self._known: set[bytes] = set()
        is_large = large.carries(len(run.program))
        self._inline = b"" if is_large else run.program
        if large.server is not None and is_large:
            large.server.offer(self._blob, self._program, self._known)

    def begin(self, begin: Begin, seen: TreeSize) -> None:
        """Says that the manager is there; who works for this run already will join again."""
        self.run, self._begin = identity(begin), encode(begin)
        self.head = self._note(seen)
        self._outbox.announce(m.record(m.ManagerHello(run=self.run)))

    def arrived(self) -> list[Member]:
        """Who asked to be admitted since the last call."""
        arrived, self._arrived = list(self._arrived.values()), {}
        return arrived

    @property
    def need(self) -> int:
        """How many bytes everybody needs before it can join."""
        return SETUP_BYTES + len(self._inline)

    def greet(self, peer: Peer, hello: m.Hello) -> None:
        """Sends the setup, as far as the allowance of whoever asks goes."""
        if hello.version != m.VERSION:
            got = f"expected {m.VERSION}, got {hello.version}"
            reason = f"unsupported version of the messages: {got}; install the podlt that the manager uses"
            self._send(peer, m.JoinRefused(reason=reason))
        elif self.run:
            self._known.add(peer.key)
            if not self._outgoing.reply(peer, self._setup_message(), self._clock.now):
                peer.strikes += 1

    def join(self, peer: Peer, join: m.JoinRequest) -> None:
        """Takes a wish to join; who was admitted already has lost the answer, or its link for a while."""
        if join.run != self.run or self._clock.now < peer.returns:
            return
        if join.arithmetic != self._served.arithmetic or join.differing:
            where = f"; first differing operation: {join.differing}" if join.differing else ""
            got = f"expected {self._served.arithmetic}, got {join.arithmetic}"
            self._send(peer, m.JoinRefused(reason=f"this machine computes other bits: {got}{where}"))
            return
        peer.process = join.process
        if peer.number is not None:
            self._welcome(peer, peer.number)
        else:  # a signature that came meanwhile is worth more than the wish for something to sign
            self._arrived.setdefault(peer.key, Member(peer.key))

    def offer(self, peer: Peer, terms: JoinTerms) -> None:
        """Asks a worker to sign the terms on which it may join; where one of the two is lost, it will ask again."""
        head = self._note(TreeSize(terms.seen, terms.root))
        self._send(peer, m.Offer(run=self.run, terms=terms, head=head))

    def signed(self, peer: Peer, said: m.SignedJoin) -> None:
        """Takes a worker's signature; whether the terms are those that it was offered last is for others to say."""
        if said.run != self.run or not peer.process or self._clock.now < peer.returns:
            return
        if peer.number is not None:
            self._welcome(peer, peer.number)
        elif not all(check.holds() for check in join_checks(self.run, peer.key, said.terms, said.signatures)):
            self._send(peer, m.JoinRefused(reason="invalid signature on the join terms"))
        else:
            known = self._arrived.get(peer.key)
            if known is None or known.terms is None or known.terms.seen <= said.terms.seen:
                self._arrived[peer.key] = Member(peer.key, said.terms, said.signatures)

    def admitted(self, peer: Peer, number: int) -> None:
        """A worker is admitted, as this number: it may fetch what is for all."""
        if self._blob_server is not None:
            self._blob_server.admitted.add(peer.key)
        self._welcome(peer, number)

    def _welcome(self, peer: Peer, number: int) -> None:
        self._send(peer, m.Welcome(number=number, at=self._wall()))

    def remind(self, peer: Peer) -> None:
        """A worker that is not admitted sends a heartbeat: it may not know that the manager is there, anew."""
        due = self._clock.now - peer.asked > self._heartbeat
        if self.run and peer.number is None and peer.key not in self._arrived and due:
            peer.asked = self._clock.now
            self._send(peer, m.ManagerHello(run=self.run))

    def forget(self, peer: Peer) -> None:
        """A worker is gone, or shall be: it is not admitted any more, nor waits to be."""
        if self._blob_server is not None:
            self._blob_server.shut_out(peer.key)
        self._arrived.pop(peer.key, None)

    def _setup_message(self) -> bytes:
        """The setup; signed anew where the log has grown."""
        head = self.head
        if self._setup is None or self._setup[0] != head:
            setup = m.Setup(
                version=m.VERSION,
                begin=self._begin,
                head=head,
                program_blob=self._blob,
                program_size=len(self._program),
                program=self._inline,
                fields=self._served.fields,
                updates_as_blobs=self._updates_as_blobs,
                blobs=self._blob_server.urls if self._blob_server is not None else [],
                certificate=self._blob_server.fingerprint if self._blob_server is not None else b"",
            )
            self._setup = head, m.record(sign_setup(setup, self._served.key))
        return self._setup[1]

    def _note(self, seen: TreeSize) -> str:
        """A tree head of the log on the disk, as the log has it: the same signature over the same bytes."""
        return sign_head(Head(origin_of(self.run), seen.size, seen.root), self._served.key) if seen.size else ""

    def _send(self, peer: Peer, what: m.Message) -> None:
        self._outbox.send(peer.key, m.record(what))

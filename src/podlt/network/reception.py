"""How workers come to a run: they are told what there is to do, and ask to be admitted."""

from __future__ import annotations

import time

import numpy as np

from podlt import crypto
from podlt.engine.interface import Job, Member
from podlt.network import messages as m
from podlt.network.depot import Depot
from podlt.network.link import ManagerLink
from podlt.network.peers import Attention, Peer
from podlt.protocol.signatures import JOIN


class Reception:
    """Greets whoever comes, and keeps who wants to be admitted.

    Args:
        job: of the run; link: to the workers; arithmetic: the digest that a worker's own must be; clock: the manager's
        attention; beat: how often, in seconds, a worker is told to join that does not; depot, large: as the engine's.
    """

    def __init__(
        self,
        job: Job,
        link: ManagerLink,
        arithmetic: str,
        clock: Attention,
        beat: float,
        depot: Depot | None,
        large: int,
    ) -> None:
        self._job, self._link, self._arithmetic = job, link, arithmetic
        self._clock, self._beat, self._depot, self._large = clock, beat, depot, large
        self._run, self._setup = b"", b""
        program = job.program.to_bytes()
        self._program = np.frombuffer(program, np.uint8)
        self._blob = crypto.blob_digest(program)
        self._arrived: dict[bytes, Member] = {}
        self._known: set[bytes] = set()
        if depot is not None and len(program) > large:
            depot.offer(self._blob, self._program, self._known)

    def begin(self, run: bytes) -> None:
        """Says that the manager is there; who works for this run already will join again."""
        self._run = run
        setup = m.Setup(
            version=m.VERSION,
            run=run,
            program_digest=self._job.program.digest,
            program_blob=self._blob,
            program_size=len(self._program),
            program=self._program.tobytes() if len(self._program) <= m.INLINE else b"",
            fields=self._job.fields,
            block_lines=self._job.block_lines,
            local_steps=self._job.local_steps,
            local_lr=self._job.local_lr,
            arithmetic=self._arithmetic,
            large=self._large,
            blobs=self._depot.urls if self._depot is not None else [],
            certificate=self._depot.fingerprint if self._depot is not None else b"",
        )
        self._setup = m.record(m.signed(setup, self._job.key))
        self._link.publish(m.record(m.Announce(run=run)))

    def arrived(self) -> list[Member]:
        """Who asked to be admitted since the last call."""
        arrived, self._arrived = list(self._arrived.values()), {}
        return arrived

    def program(self, digest: bytes) -> np.ndarray | None:
        """The program's bytes, by their digest."""
        return self._program if digest == self._blob else None

    def greet(self, peer: Peer, hello: m.Hello) -> None:
        """Somebody wants to know what there is to do."""
        if hello.version != m.VERSION:
            reason = f"this manager speaks version {m.VERSION}, and the worker version {hello.version}: update podlt"
            self._send(peer, m.Refused(reason=reason))
        elif self._setup:
            self._known.add(peer.key)
            self._link.send(peer.key, self._setup)

    def join(self, peer: Peer, join: m.Join) -> None:
        """Takes a request to join; one that was admitted already has lost the answer, or its link for a while."""
        if join.run != self._run or self._clock.now < peer.returns:
            return
        if join.arithmetic != self._arithmetic or join.differing:
            where = f"; the first operation that differs is {join.differing}" if join.differing else ""
            self._send(peer, m.Refused(reason=f"this machine computes other bits than the run needs{where}"))
            return
        if not crypto.is_signed(peer.key, JOIN, self._run, join.signature):
            self._send(peer, m.Refused(reason="the signature on joining does not hold"))
            return
        peer.process = join.process
        if peer.number is not None:
            self._welcome(peer, peer.number)
        else:
            self._arrived[peer.key] = Member(peer.key, join.signature)

    def admitted(self, peer: Peer, number: int) -> None:
        """A worker is admitted, as this number: it may fetch what is for all."""
        if self._depot is not None:
            self._depot.admitted.add(peer.key)
        self._welcome(peer, number)

    def _welcome(self, peer: Peer, number: int) -> None:
        self._send(peer, m.Welcome(number=number, at=time.time_ns() // 10**6))

    def remind(self, peer: Peer) -> None:
        """A worker that is not admitted gives a sign of life: it may not know that the manager is there, anew."""
        due = self._clock.now - peer.asked > self._beat
        if self._run and peer.number is None and peer.key not in self._arrived and due:
            peer.asked = self._clock.now
            self._send(peer, m.Announce(run=self._run))

    def forget(self, peer: Peer) -> None:
        """A worker is gone, or shall be: it is not admitted any more, nor waits to be."""
        if self._depot is not None:
            self._depot.shut_out(peer.key)
        self._arrived.pop(peer.key, None)

    def _send(self, peer: Peer, what: m.Message) -> None:
        self._link.send(peer.key, m.record(what))

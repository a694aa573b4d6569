"""A worker process: several identities, one program, one copy of the parameters, over any link that may lose messages.

It does what the manager's messages ask for, one after another, and answers from memory what it is asked again. A second
thread says every two seconds that it is there, also while a task is computed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import torch

from podlt.crypto import SigningKey
from podlt.engine.adversary import Execute, cheating
from podlt.errors import InvalidProofError, PodltError, StorageError
from podlt.network import checks, told
from podlt.network import messages as m
from podlt.network.answers import Answers, Asked
from podlt.network.hands import Hands
from podlt.network.journal import Journal
from podlt.network.link import WorkerLink
from podlt.network.pieces import Assembler
from podlt.network.transfer import BadBlobError
from podlt.program.validate import MAX_BYTES
from podlt.protocol.worker import Worker

STEP = 0.2
MAX_PROGRAM = 16 * 2**20

MOST_TOLD = 5
"""How many useless messages of the manager are worth a line."""


class Identity:
    """One of the identities: its key, and what it is in the run.

    Attributes:
        worker: its side of the protocol, once it was admitted; returns: not to join before then (seconds, monotonic).
    """

    def __init__(self, key: SigningKey) -> None:
        self.key, self.public = key, key.public
        self.worker: Worker | None = None
        self.execute: Execute
        self.returns = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """How a worker process ended: "complete", "stopped" (by the manager), "left" (by itself) or "refused"."""

    how: str
    reason: str


class Crew:
    """The identities of one process.

    Args:
        keys: their private keys; link: to the manager; manager: its public key; journal: for the owner;
        tell: is told what is worth a line; memory: the most bytes that a task may take;
        cheat: what all identities do instead of working (tests and demonstrations); leaving: says why to end, if so;
        beat: seconds between two signs of life.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        link: WorkerLink,
        manager: bytes,
        journal: Journal,
        *,
        tell: told.Teller = told.nobody,
        memory: int = MAX_BYTES,
        threads: int = 1,
        cheat: str = "",
        leaving: Callable[[], str] = lambda: "",
        beat: float = m.BEAT,
    ) -> None:
        self._link, self._manager, self._journal, self._tell = link, manager, journal, tell
        self._identities = {key.public: Identity(key) for key in keys}
        self._memory, self._threads, self._cheat, self._leaving = memory, threads, cheat, leaving
        self._every = beat
        self._process = secrets.token_bytes(8)
        self._setup: m.Setup | None = None
        self._hands: Hands | None = None
        self._arithmetic = checks.Arithmetic("")
        self._assembler = Assembler(MAX_PROGRAM, MAX_PROGRAM)
        self._answers = Answers()
        self._held = self._coming = b""
        self._last_piece = 0.0
        self._noise = 0
        self._asked_at = -1e9
        self._outcome: Outcome | None = None
        self._stop = threading.Event()
        self.doing = "connecting"

    def run(self) -> Outcome:
        """Works until the run ends, everybody is refused, or it is time to leave.

        Raises:
            EngineError: the link was refused, or is lost for good; InvalidProofError: the manager sent what no run
                can have.
        """
        beats = threading.Thread(target=self._beat, name="podlt-beat", daemon=True)
        beats.start()
        try:
            while self._outcome is None:
                busy = self._answers.ready(self._held) is not None
                for key, raw in self._link.receive(0.0 if busy else STEP):
                    self._take(key, raw)
                self._work()
                self._ask()
                if reason := self._leaving():
                    self._outcome = Outcome("left", reason)
            return self._outcome
        finally:
            self._stop.set()
            beats.join()
            self.doing = f"ended: {self._outcome.how}" if self._outcome is not None else "ended"
            for public in self._identities:
                self._link.send(public, m.record(m.Leave(reason=self._outcome.reason[:200] if self._outcome else "")))
            self._journal.save(self.doing, False)

    # -- what the manager says ---------------------------------------------------------------------------------------

    def _take(self, key: bytes | None, raw: bytes) -> None:
        identity = self._identities.get(key) if key is not None else None
        if not raw:  # a link was made (anew): the manager may have lost us meanwhile
            if self._setup is None:
                self._hello()
            elif identity is not None:
                self._join(identity)
            return
        try:
            self._hear(identity, m.from_manager(raw))
        except (InvalidProofError, StorageError, BadBlobError) as error:
            if self._hands is None:
                raise
            self._noise += 1
            if self._noise <= MOST_TOLD:
                self._tell(told.Warned(reason=f"ignored a message of the manager: {error}"))

    def _hear(self, identity: Identity | None, said: m.Down | m.Piece) -> None:
        """Takes one message; `identity` is None where it is for all."""
        if self._hands is None and isinstance(said, m.Parameters | m.Open | m.Paid):
            return  # about a run of which this process knows nothing yet
        if isinstance(said, m.Piece):
            self._piece(said)
        elif isinstance(said, m.Parameters):
            self._parameters(said.digest, said.size)
        elif isinstance(said, m.Open):
            self._open(identity, said)
        elif isinstance(said, m.Paid):
            self._paid(said)
        elif isinstance(said, m.Announce):
            self._announced(identity, said)
        elif isinstance(said, m.Setup):
            self._set_up(said)
        elif isinstance(said, m.Finished):
            self._finished(said)
        elif identity is not None:
            self._take_own(identity, said)

    def _take_own(self, identity: Identity, said: m.Down) -> None:
        """Takes what is said to one identity alone."""
        if isinstance(said, m.Work):
            self._dealt(identity, said)
        elif isinstance(said, m.Send):
            for body in self._answers.pieces(identity.public, said):
                self._link.send(identity.public, body)
        elif isinstance(said, m.Welcome):
            self._welcome(identity, said)
        elif isinstance(said, m.Dismissed):
            identity.returns = time.monotonic() + said.seconds
            self._tell(told.LetGo(public_key=identity.public.hex(), seconds=said.seconds, reason=said.reason))
        elif isinstance(said, m.Refused):
            self._refused(identity, said.reason)

    def _announced(self, identity: Identity | None, said: m.Announce) -> None:
        """The manager is there, perhaps anew: it may not know us any more."""
        if self._setup is None or self._setup.run != said.run:
            return self._hello()
        for one in [identity] if identity is not None else list(self._identities.values()):
            self._join(one)
        return None

    def _set_up(self, setup: m.Setup) -> None:
        """Takes what there is to do: fetches the program, checks this machine, and joins."""
        if self._setup is not None and self._setup.run == setup.run:
            return
        if setup.version != m.VERSION or not m.is_from(setup, self._manager):
            raise InvalidProofError("what there is to do is not signed by the manager of the invitation")
        self._setup, self._hands = setup, None
        self._journal.begin(setup.run)
        if setup.program_size > MAX_PROGRAM:
            raise InvalidProofError(f"a program of {setup.program_size} bytes is longer than {MAX_PROGRAM}")
        self._assembler = Assembler(MAX_PROGRAM, MAX_PROGRAM)
        if setup.program:
            self._programmed(setup, setup.program)
        else:
            self._coming = setup.program_blob
            self._assembler.announce(setup.program_blob, setup.program_size)

    def _programmed(self, setup: m.Setup, program: bytes) -> None:
        self.doing = "checking this machine"
        self._tell(told.Preparing(what="checking this machine"))
        self._hands = hands = Hands(setup, program, self._memory)
        self._tell(
            told.Learned(
                run=setup.run.hex(),
                state=len(hands.state),
                block_lines=setup.block_lines,
                arithmetic=hands.arithmetic,
            )
        )
        exact = hands.arithmetic.startswith(checks.EXACT)
        torch.set_num_threads(self._threads if exact else 1)
        self._arithmetic = checks.measured(hands.arithmetic)
        most = hands.line_bytes * setup.block_lines
        self._assembler = Assembler(max(len(hands.state), most), 4 * most + 2**20)
        for identity in self._identities.values():
            identity.execute = cheating(self._cheat, hands.honest, identity.key.seed()) if self._cheat else hands.honest
            self._join(identity)
        self.doing = "joining"

    def _join(self, identity: Identity) -> None:
        if self._hands is None or self._setup is None or time.monotonic() < identity.returns:
            return
        join = m.Join(
            run=self._setup.run,
            signature=Worker(0, identity.key, self._setup.run).join(),
            process=self._process,
            arithmetic=self._arithmetic.digest,
            differing=self._arithmetic.differing,
        )
        self._link.send(identity.public, m.record(join))

    def _welcome(self, identity: Identity, said: m.Welcome) -> None:
        assert self._setup is not None
        if identity.worker is not None and identity.worker.number == said.number:
            return
        identity.worker = Worker(said.number, identity.key, self._setup.run)
        self._journal.admitted(identity.public, said.number)
        self._tell(told.Joined(worker=said.number, public_key=identity.public.hex()))
        self.doing = "waiting for a task"
        if warning := checks.clock_warning(said.at, time.time_ns() // 10**6):
            self._tell(told.Warned(reason=warning))

    def _refused(self, identity: Identity, reason: str) -> None:
        self._tell(told.Refused(public_key=identity.public.hex(), reason=reason))
        del self._identities[identity.public]
        self._answers.drop(identity.public)
        self._link.drop(identity.public)
        if not self._identities:
            self._outcome = Outcome("refused", reason)

    def _finished(self, said: m.Finished) -> None:
        if said.outcome == "complete":
            self._outcome = Outcome("complete", said.reason)
        else:
            self.doing = "waiting for the manager"
            self._tell(told.Stopped(reason=said.reason))

    def _paid(self, said: m.Paid) -> None:
        moved = self._journal.paid(said)
        if moved:
            self.doing = f"round {said.round} is in the log; waiting for a task"

    # -- work --------------------------------------------------------------------------------------------------------

    def _dealt(self, identity: Identity, work: m.Work) -> None:
        if self._hands is None or identity.worker is None:
            return
        self._hands.check_work(work)
        for update in self._answers.turn(work.task.round):
            self._hands.give_back(update)
        answered = self._answers.again(identity.public, work)
        if answered:
            for body in answered:
                self._link.send(identity.public, body)
            return
        lines = np.frombuffer(work.lines, np.uint8) if work.lines else None
        self._answers.ask(Asked(identity.public, work, lines))
        if lines is None:
            self._assembler.announce(work.blob, work.size)
            self._last_piece = time.monotonic()
        if work.task.parameters != self._held:
            self._parameters(work.task.parameters, len(self._hands.state))

    def _parameters(self, digest: bytes, size: int) -> None:
        """Makes room for parameters that come; what they overwrite is not needed any more."""
        if self._hands is None or digest in (self._held, self._coming):
            return
        if size != len(self._hands.state):
            raise InvalidProofError("parameters of another size", expected=len(self._hands.state), actual=size)
        if self._coming:
            self._assembler.forget(self._coming)
        self._hands.let_go()
        self._held, self._coming, self._last_piece = b"", digest, time.monotonic()
        self._assembler.announce(digest, size, self._hands.state)

    def _piece(self, said: m.Piece) -> None:
        self._last_piece = time.monotonic()
        whole = self._assembler.take(said.data)
        if whole is None:
            return
        digest = bytes(said.data[:32])
        if self._hands is None:
            assert self._setup is not None
            self._coming = b""
            self._programmed(self._setup, whole.tobytes())
        elif digest == self._coming:
            self._held, self._coming = digest, b""
            self._hands.hold()
        else:
            self._answers.lines(digest, whole)

    def _work(self) -> None:
        """Executes one task, if there is one whose inputs are all here."""
        asked = self._answers.ready(self._held)
        if asked is None or self._hands is None:
            return
        identity = self._identities[asked.key]
        work, worker = asked.work, identity.worker
        assert asked.lines is not None
        if worker is None:
            self._answers.failed(asked)
            return
        self.doing = f"round {work.task.round}: computing {work.count} lines"
        try:
            done = self._hands.execute(work.task, work.count, asked.lines, self._held, identity.execute)
        except (PodltError, RuntimeError, IndexError, ValueError) as error:
            self._answers.failed(asked)
            failed = m.CannotDo(attempt=work.attempt, origin=work.origin, reason=str(error)[:1000])
            self._link.send(asked.key, m.record(failed))
            self._tell(told.Failed(round=work.task.round, reason=str(error)[:1000]))
            return
        committed = worker.commit(work.origin, work.task, done.digest)
        for body in self._answers.done(asked, committed, done):
            self._link.send(asked.key, body)
        self._journal.done(asked.key)
        self.doing = f"round {work.task.round}: done, waiting"

    def _open(self, asked: Identity | None, said: m.Open) -> None:
        """Opens what was committed to; who is asked by name says also that there is nothing (any more)."""
        for identity in self._identities.values() if asked is None else [asked]:
            if identity.worker is None:
                continue
            mine = self._answers.origins(identity.public, said.attempt)
            opened = [o for o in identity.worker.open(said.round) if o.origin in mine]
            if opened or asked is not None:
                self._link.send(identity.public, m.record(m.Openings(attempt=said.attempt, opened=opened)))

    # -- signs of life -----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """The second thread: says that it is there, and writes the status file."""
        while True:
            if self._setup is None:
                self._hello()
            else:
                for public in list(self._identities):
                    attempt, in_hand = self._answers.in_hand(public)
                    self._link.send(public, m.record(m.Beat(attempt=attempt, in_hand=in_hand)))
            self._journal.save(self.doing, self._link.connected)
            if self._stop.wait(self._every):
                return

    def _hello(self) -> None:
        for public in list(self._identities)[:1]:
            self._link.send(public, m.record(m.Hello(version=m.VERSION)))

    def _ask(self) -> None:
        """Asks for pieces that should have come."""
        now = time.monotonic()
        if now - max(self._last_piece, self._asked_at) < self._every / 2 or not self._identities:
            return
        wanted = [self._coming] if self._coming else []
        wanted += self._answers.missing_lines()
        for digest in wanted:
            ranges = self._assembler.missing(digest)
            if ranges:
                self._asked_at = now
                key = self._answers.owner(digest) or next(iter(self._identities))
                self._link.send(key, m.record(m.Want(digest=digest, ranges=ranges)))

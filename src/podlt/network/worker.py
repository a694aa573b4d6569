"""A worker process: several identities, one program, one copy of the parameters, over any link that may lose messages.

It does what the manager's messages ask for, one after another, and answers from memory what it is asked again. A second
thread says every two seconds that it is there, also while a task is computed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
from podlt.network.intake import Intake, ProgramIntake
from podlt.network.journal import Journal
from podlt.network.link import WorkerLink
from podlt.network.porter import Porter
from podlt.network.transfer import BadBlobError
from podlt.program.validate import MAX_BYTES
from podlt.protocol.worker import Worker

STEP, SHORT_STEP = 0.2, 0.02
"""How long to wait for messages at a time, in seconds; and while something comes beside them."""

MAX_PROGRAM = 16 * 2**20

ENDING = 5.0
"""Seconds at a run's end in which a worker still asks for receipts that it has missed."""

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
        self._intake: Intake | ProgramIntake | None = None
        self._porter: Porter | None = None
        self._failures = 0
        self._answers = Answers()
        self._noise = 0
        self._fresh = True
        self._outcome: Outcome | None = None
        self._ending: tuple[Outcome, float] | None = None
        self._caught_up = -1e9
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
                for key, raw in self._link.receive(self._patience()):
                    self._take(key, raw)
                self._work()
                self._ask()
                self._catch_up()
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
            if self._porter is not None:
                self._porter.close()

    def _patience(self) -> float:
        """How long to wait for messages."""
        if self._answers.ready(self._held) is not None:
            return 0.0
        return SHORT_STEP if self._porter is not None and self._porter.busy else STEP

    @property
    def _held(self) -> bytes:
        """The digest of the parameters that are here, if they are."""
        return self._intake.held if isinstance(self._intake, Intake) else b""

    # -- what the manager says ---------------------------------------------------------------------------------------

    def _take(self, key: bytes | None, raw: bytes) -> None:
        identity = self._identities.get(key) if key is not None else None
        if not raw:  # a link was made (anew): the manager may have lost us meanwhile
            if self._setup is None:
                self._hello()
            elif identity is not None:
                self._join(identity)
            return
        with self._told_if_useless():
            self._hear(identity, m.from_manager(raw))

    @contextmanager
    def _told_if_useless(self) -> Iterator[None]:
        """What the manager sends in vain is told, at first; nothing else comes of it once there is a run."""
        try:
            yield
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
            if self._intake is not None:
                self._intake.piece(said.data)
                self._programmed()
        elif isinstance(said, m.Parameters):
            if isinstance(self._intake, Intake):
                self._intake.announced(said)
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
            self._send_update(identity, said)
        elif isinstance(said, m.Welcome):
            self._welcome(identity, said)
        elif isinstance(said, m.Missed):
            self._reminded(identity, said)
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
        if self._porter is not None:
            self._porter.close()
        keys = [identity.key for identity in self._identities.values()]
        self._porter = Porter(setup.blobs, setup.certificate, keys) if setup.blobs else None
        self._answers.beside = setup.beside
        self._intake = ProgramIntake(setup, self._porter, keys[0].public, MAX_PROGRAM)
        self._programmed()

    def _programmed(self) -> None:
        """Checks this machine and joins, once the program is here."""
        setup = self._setup
        if setup is None or not isinstance(self._intake, ProgramIntake) or not self._intake.program:
            return
        self.doing = "checking this machine"
        self._tell(told.Preparing(what="checking this machine"))
        self._hands = hands = Hands(setup, self._intake.program, self._memory, self._journal.folder)
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
        self._intake = Intake(
            setup,
            hands,
            self._answers,
            self._porter,
            self._anybody,
            self._every,
            lambda line: self._tell(told.Warned(reason=line)),
        )
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
            self._journal.expect(said.entries)
            if self._ending is None:
                self._ending = Outcome("complete", said.reason), time.monotonic() + ENDING
        else:
            self.doing = "waiting for the manager"
            self._tell(told.Stopped(reason=said.reason))

    def _paid(self, said: m.Paid) -> None:
        moved = self._journal.paid(said)
        if moved:
            self.doing = "the last round is in the log; waiting for a task"

    def _reminded(self, identity: Identity, said: m.Missed) -> None:
        self._journal.missed(identity.public, said)
        self._caught_up = -1e9  # there may be more: ask at once

    def _catch_up(self) -> None:
        """Asks for receipts that were missed; when the run has ended, and nothing is missing any more, ends."""
        now = time.monotonic()
        if now - self._caught_up < self._every / 2:
            return
        self._caught_up = now
        behind = self._journal.behind()
        if self._ending is not None and (not behind or now > self._ending[1]):
            self._outcome = self._ending[0]
        for public, first in behind.items():
            identity = self._identities.get(public)
            if identity is not None and identity.worker is not None:
                self._link.send(public, m.record(m.Behind(first=first)))

    # -- work --------------------------------------------------------------------------------------------------------

    def _dealt(self, identity: Identity, work: m.Work) -> None:
        if self._hands is None or identity.worker is None or not isinstance(self._intake, Intake):
            return
        self._hands.check_work(work)
        self._turn(work.task.round)
        answered = self._answers.again(identity.public, work)
        if answered:
            for body in answered:
                self._link.send(identity.public, body)
            return
        lines = np.frombuffer(work.lines, np.uint8) if work.lines else None
        asked = Asked(identity.public, work, lines)
        self._answers.ask(asked)
        if lines is None:
            self._intake.lines(asked)
        self._intake.needed(work.task.parameters)

    def _turn(self, round: int) -> None:
        """A task of a round came: what belongs to the one before is not needed any more."""
        freed = self._answers.turn(round)
        if freed is None or self._hands is None or not isinstance(self._intake, Intake):
            return
        self._intake.turn()
        for key, digest, update in freed:
            if self._porter is not None:
                self._porter.cancel(key, digest)
            self._hands.give_back(update)

    def _send_update(self, identity: Identity, said: m.Send) -> None:
        """Sends an update, or what did not come of it."""
        if self._porter is not None and (known := self._answers.large(identity.public, said)) is not None:
            self._porter.send(identity.public, *known)
            return
        for body in self._answers.pieces(identity.public, said):
            self._link.send(identity.public, body)

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
        if self._fresh:
            self._fresh = False
            self._tell(told.FirstTask(round=work.task.round, lines=work.count, seconds=done.compute))
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
        """Takes what came beside the messages, and asks for what should have come."""
        if self._intake is None or not self._identities:
            return
        for ended in self._porter.ended() if self._porter is not None else []:
            self._failures += ended.error is not None
            with self._told_if_useless():
                self._intake.ended(ended)
        self._programmed()
        for key, want in self._intake.wants():
            self._link.send(key, m.record(want))

    def _anybody(self) -> bytes:
        """One of the identities, for what is for all: another one after each failure."""
        admitted = [key for key, identity in self._identities.items() if identity.worker is not None]
        among = admitted or list(self._identities)
        return among[self._failures % len(among)]

"""A worker process: several identities, one program, one copy of the parameters, over any link that may lose messages.

It does what the manager's messages ask for, one after another, and answers from memory what it is asked again. A second
thread says every two seconds that it is there, also while a task is computed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from podlt.crypto import SigningKey
from podlt.errors import PodltError
from podlt.execution.adversary import cheating
from podlt.network import messages as m
from podlt.network.link import WorkerLink
from podlt.network.run_setup import open_setup
from podlt.network.worker import events, preflight
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.catching_up import CatchingUp
from podlt.network.worker.identity import Identity, WorkerExit
from podlt.network.worker.joining import Joining
from podlt.network.worker.leaving import GracefulShutdown
from podlt.network.worker.run import SHORT_STEP, STEP, USELESS, WorkerRun
from podlt.program.validate import MAX_BYTES

SELDOM = 1.0
"""Seconds between two questions what there is to do, where each of many identities has a reason to ask."""

MOST_TOLD = 5  # useless messages of the manager that are worth a line


class WorkerProcess:
    """The identities of one process.

    Args:
        keys: their private keys; link: to the manager; manager: its public key; journal: for the owner;
        tell: is told what is worth a line; memory: the most bytes that a task may take;
        least_reward: credits a line below which it does not join;
        cheat: what all identities do instead of working (tests and demonstrations); leaving: says why to end, if so;
        beat: seconds between two signs of life.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        link: WorkerLink,
        manager: bytes,
        journal: WorkerBooks,
        *,
        tell: events.Teller = events.nobody,
        memory: int = MAX_BYTES,
        threads: int = 1,
        least_reward: int = 0,
        cheat: str = "",
        leaving: Callable[[], str] = lambda: "",
        beat: float = m.HEARTBEAT_SECONDS,
    ) -> None:
        self._link, self._manager, self._journal, self._tell = link, manager, journal, tell
        self._identities = {key.public: Identity(key) for key in keys}
        self._memory, self._threads, self._cheat, self._leaving = memory, threads, cheat, leaving
        self._every = beat
        self._joining = Joining(link, journal, tell, least_reward)
        self._bench: WorkerRun | None = None
        self._noise = 0
        self._fresh = True
        self._outcome: WorkerExit | None = None
        self._greeted = -1e9
        self._done = -1
        self._departure = GracefulShutdown(journal, tell)
        self._receipts = CatchingUp(link, journal, beat)
        self._stop = threading.Event()
        self.doing = "connecting"

    def run(self) -> WorkerExit:
        """Works until the run ends, everybody is refused, or it is time to leave.

        Raises:
            EngineError: the link was refused, or is lost for good; InvalidProofError: the manager sent what no run
                can have.
        """
        beats = threading.Thread(target=self._beat, name="podlt-beat", daemon=True)
        beats.start()
        try:
            while self._outcome is None:
                for key, raw in self._link.receive(self._silence_timeout()):
                    if self._identities and self._outcome is None:
                        self._take(key, raw)
                if self._outcome is None:
                    self._go_on()
            return self._outcome
        finally:
            self._stop.set()
            beats.join()
            self.doing = f"ended: {self._outcome.how}" if self._outcome is not None else "ended"
            for public in self._identities:
                self._link.send(public, m.record(m.Leave(reason=self._outcome.reason[:200] if self._outcome else "")))
            self._journal.save(self.doing, False)
            if self._bench is not None:
                self._bench.close()

    def _silence_timeout(self) -> float:
        """How many seconds to wait for messages; who leaves has tasks that it does not begin."""
        if self._bench is None:
            return STEP
        if self._departure.begun:
            return SHORT_STEP
        return self._bench.silence_timeout()

    def _go_on(self) -> None:
        """Does what is next, if anything is."""
        self._work()
        self._ask()
        self._outcome = self._receipts.ask(self._identities) or self._outcome
        if reason := self._leaving():
            self._departure.begin(reason, self._done)
            if self._departure.is_over() or not self._link.connected:
                self._outcome = WorkerExit("left", reason)

    # -- what the manager says ---------------------------------------------------------------------------------------

    def _take(self, key: bytes | None, raw: bytes) -> None:
        identity = self._identities.get(key) if key is not None else None
        if not raw:  # a link was made (anew): the manager may have lost us meanwhile
            self._hello(seldom=self._bench is not None)
            if identity is not None:
                self._join(identity)
            return
        try:
            self._hear(identity, m.from_manager(raw))
        except USELESS as error:
            if self._bench is None or self._bench.hands is None:
                raise
            self._warn(f"ignored a message of the manager: {error}")

    def _warn(self, reason: str) -> None:
        self._noise += 1
        if self._noise <= MOST_TOLD:
            self._tell(events.Warned(reason=reason))

    def _hear(self, identity: Identity | None, said: m.Down | m.Chunk) -> None:
        """Takes one message; `identity` is None where it is for all."""
        bench = self._bench
        if isinstance(said, m.Parameters | m.OpenCommitments | m.Receipts) and (bench is None or bench.hands is None):
            return  # about a run of which this process knows nothing yet
        if isinstance(said, m.Chunk):
            if bench is not None:
                bench.piece(said.data)
                self._begin(bench)
        elif isinstance(said, m.Parameters) and bench is not None:
            bench.announced(said)
        elif isinstance(said, m.OpenCommitments):
            self._open(identity, said)
        elif isinstance(said, m.Receipts):
            if self._receipts.paid(said):
                self.doing = "the last round is in the log; waiting for a task"
        elif isinstance(said, m.ManagerHello):
            self._announced(identity, said)
        elif isinstance(said, m.Setup):
            self._set_up(said)
        elif isinstance(said, m.RunFinished):
            self._finished(said)
        elif identity is not None:
            self._take_own(identity, said)

    def _take_own(self, identity: Identity, said: m.Down) -> None:
        """Takes what is said to one identity alone."""
        if isinstance(said, m.DealTask):
            if identity.worker is None:  # it was admitted, and its welcome was lost: it asks for another
                self._join(identity)
            elif self._bench is not None:
                self._answer(identity, self._bench.dealt(identity.public, said))
        elif isinstance(said, m.ResendUpdate):
            if self._bench is not None:
                self._answer(identity, self._bench.send(identity.public, said))
        elif isinstance(said, m.Offer):
            self._offered(identity, said)
        elif isinstance(said, m.Welcome):
            if self._bench is not None and self._joining.welcomed(identity, self._bench.setup.run, said):
                self.doing = "waiting for a task"
        elif isinstance(said, m.MissedReceipts):
            self._receipts.missed(identity, said)
        elif isinstance(said, m.Dismissed):
            identity.returns = time.monotonic() + said.seconds
            self._tell(events.LetGo(public_key=identity.public.hex(), seconds=said.seconds, reason=said.reason))
        elif isinstance(said, m.JoinRefused):
            self._refused(identity, said.reason)

    def _announced(self, identity: Identity | None, said: m.ManagerHello) -> None:
        """The manager is there, perhaps anew: it may not know us any more, and send what is large by other ways."""
        self._hello(seldom=identity is not None)
        if self._bench is not None and self._bench.setup.run == said.run:
            for one in [identity] if identity is not None else list(self._identities.values()):
                self._join(one)

    def _set_up(self, said: m.Setup) -> None:
        """Takes what there is to do: shows the terms, fetches the program, checks this machine, and joins.

        Raises:
            InvalidProofError, NotCheckedError: as `open_setup` and `Joining.begin`.
        """
        setup = open_setup(said, self._manager)
        before = self._bench
        known = before is not None and before.setup.run == setup.run
        if known and before is not None and before.moved(setup):
            self._journal.shown(setup.message.head)
            return
        if before is not None:
            before.close()
            self._bench = None
        if not known:
            self._done = -1
            if reason := self._joining.begin(setup, self._identities.values()):
                self._outcome = WorkerExit("declined", reason)
                return
        keys = [identity.key for identity in self._identities.values()]
        folder = self._journal.folder
        self._bench = WorkerRun(setup, keys, folder, self._memory, self._every, self._anybody, self._warn)
        self._begin(self._bench)

    def _begin(self, bench: WorkerRun) -> None:
        """Checks this machine and joins, once the program is here."""
        if not bench.begin():
            return
        hands, setup = bench.hands, bench.setup
        assert hands is not None
        self.doing = "checking this machine"
        torch.set_num_threads(self._threads if hands.arithmetic.startswith(preflight.EXACT) else 1)
        self._joining.check_machine(setup, len(hands.state), hands.arithmetic)
        for identity in self._identities.values():
            identity.execute = cheating(self._cheat, hands.honest, identity.key.seed()) if self._cheat else hands.honest
            self._join(identity)
        self.doing = "joining"

    def _join(self, identity: Identity) -> None:
        if self._bench is not None and self._bench.hands is not None:
            self._joining.ask(identity, self._bench.setup.run)

    def _offered(self, identity: Identity, said: m.Offer) -> None:
        """Signs the terms of joining, unless it is about to leave; errors as `Joining.offered`."""
        if self._bench is not None and self._bench.hands is not None and not self._departure.begun:
            self._joining.offered(identity, self._bench.setup, said)

    def _refused(self, identity: Identity, reason: str) -> None:
        self._tell(events.Refused(public_key=identity.public.hex(), reason=reason))
        del self._identities[identity.public]
        if self._bench is not None:
            self._bench.answers.drop(identity.public)
        self._link.drop(identity.public)
        if not self._identities:
            self._outcome = WorkerExit("refused", reason)

    def _finished(self, said: m.RunFinished) -> None:
        if said.outcome == "complete":
            self._receipts.complete(said)
        else:
            self.doing = "waiting for the manager"
            self._tell(events.Stopped(reason=said.reason))

    # -- work --------------------------------------------------------------------------------------------------------

    def _answer(self, identity: Identity, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._link.send(identity.public, body)

    def _work(self) -> None:
        """Executes one task, if there is one whose inputs are all here."""
        bench = self._bench
        asked = bench.ready() if bench is not None else None
        if asked is None or bench is None or bench.hands is None:
            return
        if not self._departure.allows(asked.work.task.round):
            return
        identity = self._identities[asked.key]
        work, worker = asked.work, identity.worker
        assert asked.lines is not None
        if worker is None:
            bench.answers.failed(asked)
            return
        self.doing = f"round {work.task.round}: computing {work.count} lines"
        try:
            done = bench.hands.execute(work.task, work.count, asked.lines, bench.held, identity.execute)
        except (PodltError, RuntimeError, IndexError, ValueError, MemoryError) as error:
            bench.answers.failed(asked)
            reason = (str(error) or type(error).__name__)[:1000]
            failed = m.TaskFailed(deal_id=work.deal_id, seat=work.seat, reason=reason)
            self._link.send(asked.key, m.record(failed))
            self._tell(events.Failed(round=work.task.round, reason=reason))
            return
        committed = worker.commit(work.seat, work.task, done.digest)
        self._answer(identity, bench.answers.done(asked, committed, done))
        self._journal.done(asked.key)
        self._done = work.task.round
        if self._fresh:
            self._fresh = False
            self._tell(events.FirstTask(round=work.task.round, lines=work.count, seconds=done.compute))
        self.doing = f"round {work.task.round}: done, waiting"

    def _open(self, asked: Identity | None, said: m.OpenCommitments) -> None:
        """Opens what was committed to; who is asked by name says also that there is nothing (any more)."""
        for identity in self._identities.values() if asked is None else [asked]:
            if identity.worker is None or self._bench is None:
                continue
            mine = self._bench.answers.origins(identity.public, said.deal_id)
            opened = [o for o in identity.worker.open(said.round) if o.seat in mine]
            if opened or asked is not None:
                self._link.send(identity.public, m.record(m.Openings(deal_id=said.deal_id, opened=opened)))

    # -- signs of life -----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """The second thread: says that it is there, and writes the status file."""
        while True:
            bench = self._bench
            if bench is None:
                self._hello()
            else:
                for public in list(self._identities):
                    deal_id, in_hand = bench.answers.in_hand(public)
                    self._link.send(public, m.record(m.Heartbeat(deal_id=deal_id, in_hand=in_hand)))
            self._journal.save(self.doing, self._link.connected)
            if self._stop.wait(self._every):
                return

    def _hello(self, seldom: bool = False) -> None:
        """Asks what there is to do: for all identities; `seldom`: not where that was done just now."""
        now = time.monotonic()
        if seldom and now - self._greeted < SELDOM:
            return
        self._greeted = now
        for public in list(self._identities)[:1]:
            self._link.send(public, m.record(m.Hello(version=m.VERSION)))

    def _ask(self) -> None:
        """Takes what came beside the messages, and asks for what should have come."""
        if self._bench is not None and self._identities:
            for key, want in self._bench.asks():
                self._link.send(key, m.record(want))
            if self._bench.is_lost():
                self._hello()
            self._begin(self._bench)

    def _anybody(self, failures: int) -> bytes:
        """One of the identities, for what is for all."""
        admitted = [key for key, identity in self._identities.items() if identity.worker is not None]
        among = admitted or list(self._identities)
        return among[failures % len(among)]

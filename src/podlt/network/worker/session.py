"""What a worker process does with the manager's messages, one after another, over a link that may lose any of them.

It replies from memory to what it is asked again, and asks again for what does not come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from podlt.crypto import SigningKey
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.network import messages as m
from podlt.network.blobs.client import BlobTransfers
from podlt.network.link import WorkerLink
from podlt.network.run_setup import open_setup
from podlt.network.worker import events
from podlt.network.worker.books import WorkerBooks
from podlt.network.worker.catching_up import NEVER, CatchingUp
from podlt.network.worker.identity import Identities, Identity, OwnerSettings, WorkerExit
from podlt.network.worker.joining import Joining
from podlt.network.worker.leaving import GracefulShutdown
from podlt.network.worker.replies import Requested
from podlt.network.worker.run import RECEIVE_SECONDS, SHORT_RECEIVE_SECONDS, USELESS, WorkerRun

HELLO_SECONDS = 1.0
"""Least seconds between two hellos, where each of many identities has a reason to send one."""

MAX_WARNINGS = 5
"""How many useless messages of the manager are worth a warning."""

NEEDS_RUNTIME = (m.Parameters, m.OpenCommitments, m.Receipts)
"""Messages to all workers that are about a run of which a process without a runtime knows nothing yet."""


class WorkerSession:
    """The identities of one process, and the run that they work for. Only `send_heartbeats` is for other threads.

    Args:
        keys: their private keys.
        link: to the manager.
        manager: its public key.
        books: for the owner.
        settings: the owner's.
        listener: gets what is worth a line.
        leaving: says why to end, if so.
        heartbeat: seconds between two heartbeats.

    Attributes:
        doing: what it does at present, for its owner.
        outcome: how it ended, once it did.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        link: WorkerLink,
        manager: bytes,
        books: WorkerBooks,
        settings: OwnerSettings = OwnerSettings(),  # noqa: B008 (frozen)
        *,
        listener: events.WorkerListener = events.ignore,
        leaving: Callable[[], str] = lambda: "",
        heartbeat: float = m.HEARTBEAT_SECONDS,
    ) -> None:
        self.link, self._manager, self.books, self._emit = link, manager, books, listener
        self._settings, self.heartbeat = settings, heartbeat
        self._identities = Identities(keys)
        self._joining = Joining(link, books, listener, settings.least_reward)
        self._run: WorkerRun | None = None
        self._warnings = 0
        self._is_first_task = True
        self.outcome: WorkerExit | None = None
        self._greeted = NEVER
        self._last_round = -1
        self._shutdown = GracefulShutdown(leaving, books, listener)
        self._receipts = CatchingUp(link, books, heartbeat)
        self.doing = "connecting"
        self._handlers: Mapping[type, Callable[[Identity | None, Any], None]] = {
            m.Chunk: self._take_chunk,
            m.Parameters: self._take_parameters,
            m.OpenCommitments: self._open,
            m.Receipts: self._take_receipts,
            m.ManagerHello: self._greet_manager,
            m.Setup: self._set_up,
            m.RunFinished: self._finish,
        }
        self._identity_handlers: Mapping[type, Callable[[Identity, Any], None]] = {
            m.DealTask: self._take_task,
            m.ResendUpdate: self._resend,
            m.Offer: self._sign,
            m.Welcome: self._take_welcome,
            m.MissedReceipts: self._receipts.missed,
            m.Dismissed: self._take_dismissal,
            m.JoinRefused: self._take_refusal,
        }

    # -- for the process ---------------------------------------------------------------------------------------------

    def receive_seconds(self) -> float:
        """How many seconds to wait for messages; who leaves has tasks that it does not begin."""
        if self._run is None:
            return RECEIVE_SECONDS
        if self._shutdown.begun:
            return SHORT_RECEIVE_SECONDS
        return self._run.receive_seconds()

    def receive(self, key: bytes | None, raw: bytes) -> None:
        """Takes a message.

        Args:
            key: of the identity that it is for, if it is not for all.
            raw: its bytes; none where a link was made (anew).

        Raises:
            InvalidProofError: the manager sent what no run can have, before this process began to be of use.
        """
        if not self._identities or self.outcome is not None:
            return
        identity = self._identities.get(key) if key is not None else None
        if not raw:  # the manager may have lost us meanwhile
            self._hello(seldom=self._run is not None)
            if identity is not None:
                self._ask_to_join(identity)
            return
        try:
            self._handle(identity, m.from_manager(raw))
        except USELESS as error:
            if self._runtime is None:
                raise
            self._warn(f"ignored a message of the manager: {error}")

    def go_on(self) -> None:
        """Does what is next, if anything is."""
        if self.outcome is not None:
            return
        self._let_go()
        if self._run is not None and (requested := self._run.ready()) is not None:
            self._work(self._run, requested)
        self._request()
        complete = self._receipts.ask(self._identities) or self.outcome
        self.outcome = self._shutdown.check(self._last_round, self.link.connected, self._identities) or complete

    def _let_go(self) -> None:
        """Where some identities still wait for a check, those that passed theirs leave before."""
        ready = self._shutdown.ready(self._last_round, self._identities)
        for public in ready if len(ready) < len(self._identities) else []:
            self.link.send(public, m.record(m.Leave(reason="its work was checked")))
            del self._identities[public]
            if self._run is not None:
                self._run.replies.drop(public)

    def send_heartbeats(self) -> None:
        """Says that it is there, and writes the status file; on any thread."""
        run = self._run
        if run is None:
            self._hello()
        else:
            for public in list(self._identities):
                deal_id, in_hand = run.replies.in_hand(public)
                self.link.send(public, m.record(m.Heartbeat(deal_id=deal_id, in_hand=in_hand)))
        self.books.save(self.doing, self.link.connected)

    def close(self) -> None:
        """Says goodbye for all identities, and ends what is under way."""
        self.doing = f"ended: {self.outcome.how}" if self.outcome is not None else "ended"
        for public in self._identities:
            self.link.send(public, m.record(m.Leave(reason=self.outcome.reason[:200] if self.outcome else "")))
        self.books.save(self.doing, False)
        if self._run is not None:
            self._run.close()

    @property
    def _runtime(self) -> WorkerRuntime | None:
        return self._run.runtime if self._run is not None else None

    # -- messages to all workers -------------------------------------------------------------------------------------

    def _warn(self, reason: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self._emit(events.Warned(reason=reason))

    def _handle(self, identity: Identity | None, message: m.Down | m.Chunk) -> None:
        """Takes one message; `identity` is None where it is for all."""
        kind = type(message)
        if kind in NEEDS_RUNTIME and self._runtime is None:
            return
        if kind in self._handlers:
            self._handlers[kind](identity, message)
        elif identity is not None and kind in self._identity_handlers:
            self._identity_handlers[kind](identity, message)

    def _take_chunk(self, identity: Identity | None, chunk: m.Chunk) -> None:
        if self._run is not None:
            self._run.chunk(chunk.data)
            self._load(self._run)

    def _take_parameters(self, identity: Identity | None, coming: m.Parameters) -> None:
        if self._run is not None:
            self._run.announced(coming)

    def _open(self, asked: Identity | None, message: m.OpenCommitments) -> None:
        """Opens what was committed to; who is asked by name says also that there is nothing (any more)."""
        for identity in self._identities.values() if asked is None else [asked]:
            if identity.worker is None or self._run is None:
                continue
            seats = self._run.replies.seats(identity.public, message.deal_id)
            opened = [one for one in identity.worker.open(message.round) if one.seat in seats]
            if opened or asked is not None:
                self.link.send(identity.public, m.record(m.Openings(deal_id=message.deal_id, opened=opened)))

    def _take_receipts(self, identity: Identity | None, paid: m.Receipts) -> None:
        if self._receipts.paid(paid):
            self.doing = "the last round is in the log; waiting for a task"

    def _greet_manager(self, identity: Identity | None, hello: m.ManagerHello) -> None:
        """The manager is there, perhaps anew: it may not know us any more, and send large blobs by other ways."""
        self._hello(seldom=identity is not None)
        if self._run is not None and self._run.setup.run == hello.run:
            for one in [identity] if identity is not None else list(self._identities.values()):
                self._ask_to_join(one)

    def _set_up(self, identity: Identity | None, message: m.Setup) -> None:
        """Takes what there is to do: shows the terms, fetches the program, checks this machine, and joins.

        Raises:
            InvalidProofError: as `open_setup` and `Joining.begin`.
            NotCheckedError: as `open_setup`.
        """
        setup = open_setup(message, self._manager)
        before = self._run
        known = before is not None and before.setup.run == setup.run
        if known and before is not None and before.server_moved(setup):
            self.books.shown(setup.message.head)
            return
        if before is not None:
            before.close()
            self._run = None
        if not known:
            self._last_round = -1
            if reason := self._joining.begin(setup, self._identities.values()):
                self.outcome = WorkerExit("declined", reason)
                return
        keys = [identity.key for identity in self._identities.values()]
        transfers = BlobTransfers(message.blobs, message.certificate, keys) if message.blobs else None
        folder, any_key, given = self.books.folder, self._identities.any_key, self._settings
        self._run = WorkerRun(setup, transfers, folder, given.memory, given.device, self.heartbeat, any_key, self._warn)
        self._load(self._run)

    def _load(self, run: WorkerRun) -> None:
        """Checks this machine and asks to join, once the program is here."""
        if not run.load():
            return
        runtime = run.runtime
        assert runtime is not None
        self.doing = "checking this machine"
        self._joining.check_machine(run.setup, runtime, self._settings.threads)
        for identity in self._identities.values():
            self._add(runtime, identity)
            self._ask_to_join(identity)
        self.doing = "joining"

    def _add(self, runtime: WorkerRuntime, identity: Identity) -> None:
        """The runtime executes an identity's tasks, if it was admitted."""
        if identity.worker is not None:
            runtime.add(identity.worker, cheat=self._settings.cheat, secret=identity.key.seed())

    def _ask_to_join(self, identity: Identity) -> None:
        if self._run is not None and self._runtime is not None:
            self._joining.ask(identity, self._run.setup.run)

    def _finish(self, identity: Identity | None, finished: m.RunFinished) -> None:
        if finished.outcome == "complete":
            self._receipts.complete(finished)
        else:
            self.doing = "waiting for the manager"
            self._emit(events.Stopped(reason=finished.reason))

    # -- messages to one identity ------------------------------------------------------------------------------------

    def _take_task(self, identity: Identity, work: m.DealTask) -> None:
        if identity.worker is None:  # it was admitted, and its welcome was lost: it asks for another
            self._ask_to_join(identity)
        elif self._run is not None:
            self._send(identity, self._run.dealt(identity.public, work))

    def _resend(self, identity: Identity, wanted: m.ResendUpdate) -> None:
        if self._run is not None:
            self._send(identity, self._run.resend(identity.public, wanted))

    def _sign(self, identity: Identity, offer: m.Offer) -> None:
        """Signs the terms of joining, unless it is about to leave; errors as `Joining.offered`."""
        if self._run is not None and self._runtime is not None and not self._shutdown.begun:
            self._joining.offered(identity, self._run.setup, offer)

    def _take_welcome(self, identity: Identity, welcome: m.Welcome) -> None:
        if self._run is not None and self._joining.welcomed(identity, self._run.setup.run, welcome):
            if self._runtime is not None:
                self._add(self._runtime, identity)
            self.doing = "waiting for a task"

    def _take_dismissal(self, identity: Identity, dismissed: m.Dismissed) -> None:
        identity.returns = time.monotonic() + dismissed.seconds
        public_key = identity.public.hex()
        self._emit(events.LetGo(public_key=public_key, seconds=dismissed.seconds, reason=dismissed.reason))

    def _take_refusal(self, identity: Identity, refused: m.JoinRefused) -> None:
        self._emit(events.Refused(public_key=identity.public.hex(), reason=refused.reason))
        del self._identities[identity.public]
        if self._run is not None:
            self._run.replies.drop(identity.public)
        self.link.drop(identity.public)
        if not self._identities:
            self.outcome = WorkerExit("refused", refused.reason)

    # -- work --------------------------------------------------------------------------------------------------------

    def _send(self, identity: Identity, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self.link.send(identity.public, body)

    def _work(self, run: WorkerRun, requested: Requested) -> None:
        """Executes one task, whose inputs are all here."""
        work = requested.work
        round = work.task.round
        if not self._shutdown.allows(round):
            return
        identity = self._identities[requested.key]
        if identity.worker is None:
            run.replies.failed(requested)
            return
        self.doing = f"round {round}: computing {work.count} lines"
        executed, messages = run.work(requested, identity.worker.number)
        self._send(identity, messages)
        if isinstance(executed, str):
            self._emit(events.Failed(round=round, reason=executed))
            return
        self.books.done(requested.key)
        self._last_round = round
        if self._is_first_task:
            self._is_first_task = False
            self._emit(events.FirstTask(round=round, lines=work.count, seconds=executed.compute))
        self.doing = f"round {round}: done, waiting"

    def _request(self) -> None:
        """Takes transfers that ended, and asks for what should have come."""
        if self._run is not None and self._identities:
            for key, request in self._run.requests():
                self.link.send(key, m.record(request))
            if self._run.server_is_lost():
                self._hello()
            self._load(self._run)

    def _hello(self, seldom: bool = False) -> None:
        """Asks what there is to do: for all identities; `seldom`: not where that was done just now."""
        now = time.monotonic()
        if seldom and now - self._greeted < HELLO_SECONDS:
            return
        self._greeted = now
        for public in list(self._identities)[:1]:
            self.link.send(public, m.record(m.Hello(version=m.VERSION)))

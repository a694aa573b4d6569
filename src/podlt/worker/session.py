"""What a worker does with the manager's messages, one after another, over a link that may lose any of them.

It replies from memory to what it is asked again, and asks again for what does not come. It is sans-IO: a driver gives
it messages, results and the time, and does what `effects` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from podlt.crypto import SigningKey
from podlt.engine.isolated.interface import (
    LoadRefused,
    ProgramLoaded,
    TaskExecuted,
    TaskNotExecuted,
    UpdateFingerprinted,
)
from podlt.engine.isolated.records import AdmitCheat
from podlt.network.blobs.client import TransferEnded
from podlt.wire import messages as m
from podlt.wire.run_setup import open_setup
from podlt.worker import events
from podlt.worker.books import WorkerBooks
from podlt.worker.catching_up import CatchingUp
from podlt.worker.effects import DropKey, Effect, SaveStatus, SendMessage
from podlt.worker.fingerprints import FingerprintReplies
from podlt.worker.identity import NEVER, Identities, Identity, OwnerSettings, WorkerExit
from podlt.worker.joining import Joining
from podlt.worker.leaving import GracefulShutdown
from podlt.worker.moderation import Moderator, Warnings
from podlt.worker.opening import ReceivedReceipts
from podlt.worker.run import USELESS, WorkerRun
from podlt.worker.tasks import Tasks

HELLO_SECONDS = 1.0
"""Least seconds between two hellos, where each of many identities has a reason to send one."""

MAX_EVENTS = 20
"""How many events of a kind are told in a minute, besides four for each identity."""

MAX_RUNS = 16
"""How many runs of its manager a process works for, one after another: each takes files, and loads a program."""

LONGEST_SUSPENSION = 86_400
"""Seconds after which an identity asks again, whatever the manager said."""

NEEDS_PROGRAM = (m.Parameters, m.OpenCommitments, m.GetFingerprints, m.Receipts, m.MissedReceipts)
"""Messages about a run of which a process without its program knows nothing yet."""


class WorkerSession:
    """The identities of one process, and the run that they work for.

    Args:
        keys: their private keys.
        manager: its public key.
        books: for the owner.
        settings: the owner's.
        listener: gets what is worth an example.
        leaving: says why to end, if so.
        heartbeat: seconds between two heartbeats.
        process: 8 bytes that no other process has.
        wall: gives milliseconds since 1970.

    Attributes:
        doing: what it does at present, for its owner.
        outcome: how it ended, once it did.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        manager: bytes,
        books: WorkerBooks,
        settings: OwnerSettings = OwnerSettings(),  # noqa: B008 (frozen)
        *,
        process: bytes,
        wall: Callable[[], int],
        listener: events.WorkerListener = events.ignore,
        leaving: Callable[[], str] = lambda: "",
        heartbeat: float = m.HEARTBEAT_SECONDS,
    ) -> None:
        self._manager, self.books = manager, books
        self._emit = listener = Moderator(listener, MAX_EVENTS + 4 * len(keys))
        self._settings, self._heartbeat = settings, heartbeat
        self._effects: list[Effect] = []
        self._came: float | None = None  # when something did, that tasks may wait for
        self._perform = self._effects.append
        self._identities = Identities(keys)
        self._joining = Joining(self._perform, books, listener, settings.least_reward, process, wall)
        self._run: WorkerRun | None = None
        self._warn, self._runs = Warnings(listener), 0
        self.outcome: WorkerExit | None = None
        self._greeted = self._beat = NEVER
        self._tasks = Tasks(self._perform, books, listener, self._say)
        self._shutdown = GracefulShutdown(leaving, books, listener)
        self._receipts = CatchingUp(self._perform, books, heartbeat)
        self._fingerprints = FingerprintReplies(self._perform)
        self._bound = ReceivedReceipts(manager, self._perform, books, self._warn)
        self.doing = "connecting"
        self._handlers: Mapping[type, Callable[[Identity | None, Any, float], None]] = {
            m.Parameters: self._take_parameters,
            m.Receipts: self._take_receipts,
            m.GetFingerprints: self._fingerprint,
            m.ManagerHello: self._greet_manager,
            m.Setup: self._set_up,
            m.RunFinished: self._finish,
        }
        self._identity_handlers: Mapping[type, Callable[[Identity, Any, float], None]] = {
            m.DealTask: self._take_task,
            m.OpenCommitments: self._open,
            m.UploadUpdate: self._upload,
            m.Offer: self._sign,
            m.Welcome: self._take_welcome,
            m.MissedReceipts: self._receipts.missed,
            m.Dismissed: self._take_dismissal,
            m.JoinRefused: self._take_refusal,
        }

    # -- for the driver ----------------------------------------------------------------------------------------------

    def receive(self, key: bytes | None, raw: m.Raw, now: float) -> None:
        """Takes a message.

        Args:
            key: of the identity that it is for, if it is not for all.
            raw: its bytes; none where a link was made (anew).
            now: seconds, monotonic.

        Raises:
            InvalidProofError: the manager sent what no run can have, before this process began to be of use.
        """
        if not self._identities or self.outcome is not None:
            return
        identity = self._identities.get(key) if key is not None else None
        if not raw:  # the manager may have lost us meanwhile
            self._hello(now, seldom=self._run is not None)
            if identity is not None:
                self._ask_to_join(identity, now)
            return
        try:
            self._handle(identity, m.from_manager(raw), now)
        except USELESS as error:
            if self._run is None:
                raise
            self._warn(f"ignored a message of the manager: {error}")
        self._came = now

    def tick(self, now: float, connected: bool = True) -> None:
        """Does what is due; to be called several times a heartbeat.

        Args:
            now: seconds, monotonic.
            connected: whether the link is.
        """
        if self.outcome is not None:
            return
        self._emit.tick(now)
        if now - self._beat >= self._heartbeat:
            self._beat = now
            self._send_heartbeats(now)
        self._request(now)
        self._work(now)
        complete = self._receipts.ask(self._identities, now) or self.outcome
        escrow = self._run.setup.begin.escrow if self._run is not None else 0
        self.outcome = self._shutdown.check(self._tasks.last_round, connected, escrow, now) or complete

    def effects(self) -> list[Effect]:
        """What is to be done since the last call, in this order; tasks begin with what came at once."""
        if self._came is not None:
            self._work(self._came)
        self._bound.flush()
        found = self._effects[:]
        self._effects.clear()
        return found

    def loaded(self, result: ProgramLoaded | LoadRefused, now: float) -> None:
        """A program can be executed here: checks this machine and asks to join. Or it cannot.

        Raises:
            PodltError: why it cannot.
        """
        if isinstance(result, LoadRefused):
            raise result.error
        if self._run is None or not self._run.was_loaded(result):
            return
        self._joining.checked(self._run.setup, result)
        for identity in self._identities.values():
            self._admit(identity)
            self._ask_to_join(identity, now)
        self.doing = "joining"

    def executed(self, result: TaskExecuted | TaskNotExecuted, now: float) -> None:
        """A task was executed, or failed."""
        self._tasks.ended(self._run, self._identities, result)
        self._came = now

    def fingerprinted(self, result: UpdateFingerprinted) -> None:
        """The fingerprint of an update was worked out."""
        self._fingerprints.found(result)

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A transfer ended."""
        if self._run is None:
            return
        try:
            self._run.transferred(ended, now)
        except USELESS as error:
            self._warn(str(error))
        self._load(self._run)
        self._came = now

    def close(self) -> None:
        """Says goodbye for all identities."""
        self.doing = f"ended: {self.outcome.how}" if self.outcome is not None else "ended"
        for public in self._identities:
            self._perform(
                SendMessage(public, m.record(m.Leave(reason=self.outcome.reason[:200] if self.outcome else "")))
            )
        self._perform(SaveStatus(self.doing))

    # -- now and then ------------------------------------------------------------------------------------------------

    def _send_heartbeats(self, now: float) -> None:
        """Says that it is there, and has the status file written."""
        run = self._run
        if run is None:
            self._hello(now)
        else:
            for public in self._identities:
                deal_id, in_hand = run.replies.in_hand(public)
                self._perform(SendMessage(public, m.record(m.Heartbeat(deal_id=deal_id, in_hand=in_hand))))
        self._perform(SaveStatus(self.doing))

    def _drop(self, public: bytes) -> None:
        del self._identities[public]
        if self._run is not None:
            self._run.replies.drop(public)

    def _request(self, now: float) -> None:
        """Asks for what should have come."""
        if self._run is not None and self._identities:
            for key, request in self._run.requests(now):
                self._perform(SendMessage(key, m.record(request)))
            if self._run.server_is_lost():
                self._hello(now)

    def _hello(self, now: float, seldom: bool = False) -> None:
        """Asks what there is to do: for all identities; `seldom`: not where that was done just now."""
        if seldom and now - self._greeted < HELLO_SECONDS:
            return
        self._greeted = now
        for public in list(self._identities)[:1]:
            self._perform(SendMessage(public, m.record(m.Hello(version=m.VERSION))))

    # -- messages to all workers -------------------------------------------------------------------------------------

    @property
    def _is_loaded(self) -> bool:
        return self._run is not None and self._run.loaded is not None

    def _handle(self, identity: Identity | None, message: m.Down, now: float) -> None:
        """Takes one message; `identity` is None where it is for all."""
        kind = type(message)
        if kind in NEEDS_PROGRAM and not self._is_loaded:
            return
        if kind in self._handlers:
            self._handlers[kind](identity, message, now)
        elif identity is not None and kind in self._identity_handlers:
            self._identity_handlers[kind](identity, message, now)

    def _take_parameters(self, identity: Identity | None, coming: m.Parameters, now: float) -> None:
        if self._run is not None:
            self._run.announced(coming, now)

    def _open(self, identity: Identity, message: m.OpenCommitments, now: float) -> None:
        """Opens what was committed to; errors as `ReceivedReceipts.open`."""
        if self._run is not None and identity.worker is not None:
            self._bound.open(identity, self._run, message)

    def _fingerprint(self, identity: Identity | None, asked: m.GetFingerprints, now: float) -> None:
        if self._run is not None:
            self._fingerprints.ask(list(self._identities.values()), self._run, asked)

    def _take_receipts(self, identity: Identity | None, paid: m.Receipts, now: float) -> None:
        if self.books.paid(paid):
            self.doing = "the last round is in the log; waiting for a task"

    def _greet_manager(self, identity: Identity | None, hello: m.ManagerHello, now: float) -> None:
        """The manager is there, perhaps anew: it may not know us any more, and send large blobs by other ways."""
        self._hello(now, seldom=identity is not None)
        if self._run is not None and self._run.setup.run == hello.run:
            for one in [identity] if identity is not None else list(self._identities.values()):
                self._ask_to_join(one, now)

    def _set_up(self, identity: Identity | None, message: m.Setup, now: float) -> None:
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
        self._run = None
        self._runs += 1
        if self._runs > MAX_RUNS:
            self.outcome = WorkerExit("declined", f"its manager named another run {MAX_RUNS} times")
            return
        if not known:
            self._tasks.last_round = -1
            if reason := self._joining.begin(setup, self._identities.values()):
                self.outcome = WorkerExit("declined", reason)
                return
        any_key = self._identities.any_key
        self._run = WorkerRun(setup, self._settings, self._heartbeat, any_key, self._perform, self._warn)
        self._load(self._run)

    def _load(self, run: WorkerRun) -> None:
        """Has the program loaded and this machine checked, once the program is here."""
        if run.load():
            self.doing = "checking this machine"
            self._emit(events.StepStarted(what=f"{self.doing} (a minute of processor time at its first use here)"))

    def _admit(self, identity: Identity) -> None:
        """What executes its tasks hears that an identity cheats, if it was admitted."""
        if identity.worker is not None and self._settings.cheat:
            secret = identity.key.derive("cheat/1")
            self._perform(AdmitCheat(number=identity.worker.number, cheat=self._settings.cheat, secret=secret))

    def _ask_to_join(self, identity: Identity, now: float) -> None:
        if self._run is not None and self._is_loaded:
            self._joining.ask(identity, self._run.setup.run, now)

    def _finish(self, identity: Identity | None, finished: m.RunFinished, now: float) -> None:
        if finished.outcome == "complete":
            self._receipts.complete(finished, now)
        else:
            self.doing = "waiting for the manager"
            self._emit(events.Stopped(reason=finished.reason))

    # -- messages to one identity ------------------------------------------------------------------------------------

    def _take_task(self, identity: Identity, work: m.DealTask, now: float) -> None:
        if identity.worker is None:  # it was admitted, and its welcome was lost: it asks for another
            self._ask_to_join(identity, now)
        elif self._run is not None and (reply := self._run.dealt(identity.public, work, now)) is not None:
            self._perform(SendMessage(identity.public, reply))

    def _upload(self, identity: Identity, wanted: m.UploadUpdate, now: float) -> None:
        if self._run is not None:
            self._run.upload(identity.public, wanted)

    def _sign(self, identity: Identity, offer: m.Offer, now: float) -> None:
        """Signs the terms of joining, unless it is about to leave; errors as `Joining.offered`."""
        if self._run is not None and self._is_loaded and not self._shutdown.begun:
            self._joining.offered(identity, self._run.setup, offer)

    def _take_welcome(self, identity: Identity, welcome: m.Welcome, now: float) -> None:
        if self._run is not None and self._joining.welcomed(identity, self._run.setup.run, welcome):
            self._admit(identity)
            self.doing = "waiting for a task"

    def _take_dismissal(self, identity: Identity, dismissed: m.Dismissed, now: float) -> None:
        seconds, public_key = min(dismissed.seconds, LONGEST_SUSPENSION), identity.public.hex()
        identity.returns = now + seconds
        if not self._shutdown.begun:  # who leaves by itself does not rejoin
            self._emit(events.LetGo(public_key=public_key, seconds=seconds, reason=dismissed.reason))

    def _take_refusal(self, identity: Identity, refused: m.JoinRefused, now: float) -> None:
        self._emit(events.Refused(public_key=identity.public.hex(), reason=refused.reason))
        self._drop(identity.public)
        self._perform(DropKey(identity.public))
        if not self._identities:
            self.outcome = WorkerExit("refused", refused.reason)

    # -- work --------------------------------------------------------------------------------------------------------

    def _work(self, now: float) -> None:
        """Has tasks executed whose inputs are all here."""
        self._came = None
        if self._run is not None:
            allows = partial(self._shutdown.allows, last_round=self._tasks.last_round)
            self._tasks.begin(self._run, self._identities, allows, now)

    def _say(self, doing: str) -> None:
        self.doing = doing

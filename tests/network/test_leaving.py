"""When a worker that is asked to leave goes: once its work was checked, or after a minute."""

from __future__ import annotations

import pytest

from podlt.network.worker import events
from podlt.network.worker.books import NoStore, WorkerBooks
from podlt.network.worker.leaving import LEAVE_SECONDS, GracefulShutdown
from podlt.protocol import entries as e

A, B = b"a" * 32, b"b" * 32


class Owner:
    """Asks to leave from a moment on, and hears what the worker says of it."""

    def __init__(self) -> None:
        self.reason = ""
        self.heard: list[events.WorkerEvent] = []
        self.books = WorkerBooks(NoStore(), [A, B], bytes(32))
        self.shutdown = GracefulShutdown(lambda: self.reason, self.books, self.heard.append)
        for number, key in enumerate((A, B)):
            self.books.admitted(key, number)

    def paid(self, round: int, *transfers: e.Transfer) -> None:
        """The log has a round's pay."""
        mine = {0: A.hex(), 1: B.hex()}
        self.books._note_checked(list(transfers), mine)
        for transfer in transfers:
            account = self.books.status.workers[mine[transfer.worker]]
            account.pending += transfer.amount if transfer.kind == "earn" else -transfer.amount
        self.books.settled = round


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_a_worker_leaves_once_its_work_was_checked(owner: Owner) -> None:
    owner.paid(0, e.Transfer("earn", 0, 5))
    assert owner.shutdown.check(0, True, [A], 0.0) is None and owner.shutdown.allows(7)
    owner.reason = "enough"
    assert owner.shutdown.check(0, True, [A], 0.0) is None
    assert [type(event) for event in owner.heard] == [events.Leaving]
    assert owner.shutdown.allows(1) and not owner.shutdown.allows(2), "whether round 1 was its last is not known yet"
    owner.paid(1, e.Transfer("earn", 0, 5))
    assert owner.shutdown.check(1, True, [A], 0.0) is None
    owner.paid(2, e.Transfer("earn", 0, 5), e.Transfer("vest", 0, 10))
    assert owner.shutdown.check(3, True, [A], 0.0) is None, "a round that it has worked in is not in the log yet"
    exit = owner.shutdown.check(2, True, [A], 0.0)
    assert exit is not None and (exit.how, exit.reason) == ("left", "enough")


def test_an_identity_that_was_checked_leaves_before_the_others(owner: Owner) -> None:
    owner.paid(0, e.Transfer("earn", 0, 5), e.Transfer("earn", 1, 5))
    assert owner.shutdown.ready(0, [A, B]) == []
    owner.reason = "enough"
    owner.shutdown.check(0, True, [A, B], 0.0)
    owner.paid(1, e.Transfer("earn", 0, 5), e.Transfer("earn", 1, 5), e.Transfer("vest", 1, 5))
    assert owner.shutdown.ready(1, [A, B]) == [B]
    assert owner.shutdown.ready(2, [A, B]) == []


@pytest.mark.parametrize("connected", [True, False])
def test_nobody_waits_for_a_check_without_end_or_without_a_connection(owner: Owner, connected: bool) -> None:
    owner.paid(0, e.Transfer("earn", 0, 5))
    owner.reason = "enough"
    assert (owner.shutdown.check(0, connected, [A], 5.0) is None) == connected
    assert owner.shutdown.check(0, True, [A], 5.0 + LEAVE_SECONDS) is None
    assert owner.shutdown.check(0, True, [A], 5.1 + LEAVE_SECONDS) is not None


def test_who_has_earned_nothing_leaves_at_once(owner: Owner) -> None:
    owner.reason = "enough"
    assert owner.shutdown.check(-1, True, [A], 0.0) is not None and not owner.heard

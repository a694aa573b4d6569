"""When a worker that is asked to leave goes: once what it has done is in the log, or after a minute."""

from __future__ import annotations

import pytest

from podlt.worker import events
from podlt.worker.books import NoStore, WorkerBooks
from podlt.worker.leaving import LEAVE_SECONDS, GracefulShutdown

KEY, ESCROW = b"a" * 32, 50


class Owner:
    """Asks to leave from a moment on, and hears what the worker says of it."""

    def __init__(self) -> None:
        self.reason = ""
        self.heard: list[events.WorkerEvent] = []
        self.books = WorkerBooks(NoStore(), [KEY], bytes(32))
        self.shutdown = GracefulShutdown(lambda: self.reason, self.books, self.heard.append)
        self.books.admitted(KEY, 0)

    def paid(self, round: int, amount: int) -> None:
        """The log has a round's pay."""
        self.books.status.workers[KEY.hex()].pending += amount
        self.books.settled = round


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_a_worker_leaves_once_its_work_is_in_the_log_and_says_when_it_vests(owner: Owner) -> None:
    owner.paid(0, 5)
    assert owner.shutdown.check(1, True, ESCROW, 0.0) is None and owner.shutdown.allows(7, 1)
    owner.reason = "enough"
    assert owner.shutdown.check(1, True, ESCROW, 0.0) is None
    assert owner.heard == [events.Leaving(reason="enough", seconds=LEAVE_SECONDS, pending=5, rounds=ESCROW)]
    assert "5 credits are pending: they vest 50 rounds after it left" in str(owner.heard[0])
    assert owner.shutdown.allows(1, 1) and not owner.shutdown.allows(2, 1), (
        "whether round 1 was its last is not known yet"
    )
    owner.paid(1, 5)
    exit = owner.shutdown.check(1, True, ESCROW, 0.0)
    assert exit is not None and (exit.how, exit.reason) == ("left", "enough")


def test_pay_that_is_pending_holds_nobody_up(owner: Owner) -> None:
    owner.paid(3, 100)
    owner.reason = "enough"
    assert owner.shutdown.check(3, True, ESCROW, 0.0) is not None
    assert owner.heard == [events.Leaving(reason="enough", seconds=0.0, pending=100, rounds=ESCROW)]
    assert "once" not in str(owner.heard[0])


@pytest.mark.parametrize("connected", [True, False])
def test_nobody_waits_for_a_round_without_end_or_without_a_connection(owner: Owner, connected: bool) -> None:
    owner.paid(0, 5)
    owner.reason = "enough"
    assert (owner.shutdown.check(1, connected, ESCROW, 5.0) is None) == connected
    assert owner.shutdown.check(1, True, ESCROW, 5.0 + LEAVE_SECONDS) is None
    assert owner.shutdown.check(1, True, ESCROW, 5.1 + LEAVE_SECONDS) is not None


def test_who_has_earned_nothing_leaves_at_once(owner: Owner) -> None:
    owner.reason = "enough"
    assert owner.shutdown.check(-1, True, ESCROW, 0.0) is not None and not owner.heard

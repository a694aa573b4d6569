"""Integer credits by double entry. Pay is held in escrow, first in first out: it vests once younger pay is there.

A conviction costs as many credits as an escrow holds, whenever it comes: what is in escrow, and, where the worker may
come back, the first credits that it earns then. Else a fault early in a run would cost next to nothing.

Accounts: the treasury (the manager's; it goes negative by what it owes and has paid), and for each worker those for
pending and vested credits, for the deposit that the manager holds, and for what it gave back of it. Every transfer
takes from one account what it gives to another, so the sum of all accounts is always zero. docs/SPEC.md, 4.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from podlt.errors import InvalidProofError
from podlt.protocol.entries import Transfer


class Account(msgspec.Struct):
    """A worker's credits.

    Attributes:
        pending: in escrow: may still be forfeited.
        vested: its own.
        forfeited: what it lost: these three are all that it earned.
        deposit: what the manager holds of it.
        returned: its own again.
        seized: what it lost: all that it brought.
    """

    pending: int = 0
    vested: int = 0
    forfeited: int = 0
    deposit: int = 0
    returned: int = 0
    seized: int = 0


class Ledger:
    """All accounts of a run.

    Args:
        escrow: how many younger credits vest one.
    """

    def __init__(self, escrow: int = 0) -> None:
        self.treasury = 0
        self.taken = 0
        """All deposits that were ever taken."""

        self.pending = 0
        """Credits that are pending, of all workers together."""

        self.held = 0
        """Deposits that are held, of all workers together."""

        self.accounts: dict[int, Account] = {}
        self._escrow = escrow
        self._credits: dict[int, deque[int]] = {}
        self._owes: dict[int, int] = {}

    def open(self, worker: int) -> None:
        """Opens a worker's account, once."""
        self.accounts.setdefault(worker, Account())

    def deposit(self, worker: int, amount: int) -> None:
        """Takes a deposit, besides what is held already."""
        self.treasury -= amount
        self.taken += amount
        self.held += amount
        self.accounts[worker].deposit += amount

    def credits(self, worker: int) -> list[int]:
        """What is in a worker's escrow, the oldest credit first."""
        return list(self._credits.get(worker, ()))

    def owes(self, worker: int) -> int:
        """How many of a convicted worker's next credits are forfeited as it earns them."""
        return self._owes.get(worker, 0)

    def owed(
        self, earned: Mapping[int, Sequence[int]], convicted: Collection[int], gone: Iterable[int]
    ) -> list[Transfer]:
        """The transfers that a round owes.

        Args:
            earned: worker -> its credits of this round, in the order of the seats.
            convicted: who was convicted in it.
            gone: who has been away for so long that all that is pending of it vests.

        Returns:
            Earnings, then vestings, forfeits and seizures, each ascending by worker, none of zero.
        """
        vest: dict[int, int] = {}
        earn, forfeit = [], {worker: self.accounts[worker].pending for worker in convicted}
        for worker in sorted(set(earned).difference(convicted)):
            credits, owes = earned[worker], self.owes(worker)
            earn.append(Transfer("earn", worker, sum(credits)))
            forfeit[worker] = sum(credits[:owes])
            waiting = [*self._credits.get(worker, ()), *credits[owes:]]
            vest[worker] = sum(waiting[: max(0, len(waiting) - self._escrow)])
        vest |= {worker: self.accounts[worker].pending for worker in gone}
        return [
            *(t for t in earn if t.amount),
            *(Transfer("vest", w, amount) for w, amount in sorted(vest.items()) if amount),
            *(Transfer("forfeit", w, amount) for w, amount in sorted(forfeit.items()) if amount),
            *(Transfer("seize", w, a) for w in sorted(convicted) if (a := self.accounts[w].deposit)),
        ]

    def pay(
        self, transfers: Iterable[Transfer], earned: Mapping[int, Sequence[int]], convicted: Collection[int]
    ) -> None:
        """Moves the credits of a round, and has its credits wait in escrow. Arguments as `owed`."""
        for worker, amounts in earned.items():
            if worker not in convicted:
                owes = self.owes(worker)
                self._credits.setdefault(worker, deque()).extend(amounts[owes:])
                if owes:
                    self._owes[worker] = max(0, owes - len(amounts))
        for worker in convicted:
            self._owes[worker] = self._escrow - len(self._credits.get(worker, ()))
        self.post(transfers)
        for worker in earned:
            held = self._credits.get(worker, deque())
            while len(held) > self._escrow:
                held.popleft()

    def post(self, transfers: Iterable[Transfer]) -> None:
        """Moves credits.

        Raises:
            InvalidProofError: an account would go below zero.
        """
        for transfer in transfers:
            account = self.accounts[transfer.worker]
            pending, held = account.pending, account.deposit
            self.treasury += move(account, transfer)
            self.pending += account.pending - pending
            self.held += account.deposit - held
            if account.pending == 0 and transfer.kind in ("vest", "forfeit"):
                self._credits.pop(transfer.worker, None)

    def total(self) -> int:
        """The sum of all accounts, worked out anew: always zero."""
        return self.treasury + sum(a.pending + a.vested + a.deposit + a.returned for a in self.accounts.values())


def move(account: Account, transfer: Transfer) -> int:
    """Books a transfer in its worker's account; returns what the treasury gets by it.

    Raises:
        InvalidProofError: an account would go below zero.
    """
    kind, amount = transfer.kind, transfer.amount
    if kind == "earn":
        account.pending += amount
        return -amount
    held = account.pending if kind in ("vest", "forfeit") else account.deposit
    if amount > held:
        name = "pending" if kind in ("vest", "forfeit") else "in deposit"
        raise InvalidProofError(f"worker {transfer.worker} has {held} {name}, not {amount}")
    if kind == "vest":
        account.pending -= amount
        account.vested += amount
        return 0
    if kind == "return":
        account.deposit -= amount
        account.returned += amount
        return 0
    if kind == "forfeit":
        account.pending -= amount
        account.forfeited += amount
    else:
        account.deposit -= amount
        account.seized += amount
    return amount

"""Integer credits by double entry: pay is pending until its worker has passed a later check.

Accounts: the treasury (the manager's; it goes negative by what it owes and has paid), and for each worker those for
pending and vested credits, for the deposit that the manager holds, and for what it gave back of it. Every transfer
takes from one account what it gives to another, so the sum of all accounts is always zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podlt.errors import InvalidProofError
from podlt.protocol.entries import Transfer


class Account(msgspec.Struct):
    """A worker's credits.

    Attributes:
        pending: may still be forfeited.
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
    """All accounts of a run."""

    def __init__(self) -> None:
        self.treasury = 0
        self.taken = 0
        """All deposits that were ever taken."""

        self.pending = 0
        """Credits that are pending, of all workers together."""

        self.accounts: dict[int, Account] = {}

    def open(self, worker: int) -> None:
        """Opens a worker's account, once."""
        self.accounts.setdefault(worker, Account())

    def deposit(self, worker: int, amount: int) -> None:
        """Takes a deposit, besides what is held already."""
        self.treasury -= amount
        self.taken += amount
        self.accounts[worker].deposit += amount

    def settle(
        self,
        earned: Mapping[int, int],
        passed: Iterable[int],
        evicted: Iterable[int],
        left: Mapping[int, int],
        *,
        last: bool,
    ) -> list[Transfer]:
        """The transfers that a round owes.

        Args:
            earned: worker -> credits for its tasks of this round.
            passed: who passed this round's check.
            evicted: who was convicted in it.
            left: worker that withdrew -> what is pending of it for work that was compared, due at the closing check.
            last: the closing check, which also vests what was earned with it.

        Returns:
            Earnings, then vestings, forfeits and seizures, each ascending by worker, none of zero.
        """
        gone = set(evicted)
        earn = [Transfer("earn", w, earned[w]) for w in sorted(earned) if w not in gone and earned[w]]
        now = {t.worker: t.amount for t in earn} if last else {}
        vest = {w: self.accounts[w].pending + now.get(w, 0) for w in set(passed) - gone}
        vest |= left if last else {}
        forfeit = [(w, self.accounts[w].pending) for w in sorted(gone)]
        seize = [(w, self.accounts[w].deposit) for w in sorted(gone)]
        return [
            *earn,
            *(Transfer("vest", w, amount) for w, amount in sorted(vest.items()) if amount),
            *(Transfer("forfeit", w, amount) for w, amount in forfeit if amount),
            *(Transfer("seize", w, amount) for w, amount in seize if amount),
        ]

    def post(self, transfers: Iterable[Transfer]) -> None:
        """Moves the credits.

        Raises:
            InvalidProofError: an account would go below zero.
        """
        for transfer in transfers:
            account = self.accounts[transfer.worker]
            before = account.pending
            self.treasury += move(account, transfer)
            self.pending += account.pending - before

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

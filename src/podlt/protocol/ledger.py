"""Integer credits by double entry: pay is pending until its worker has passed a later check.

Accounts: the treasury (the manager's; it goes negative by what it owes and has paid), and for each worker one for
pending and one for vested credits. Every transfer takes from one account what it gives to another, so the sum of all
accounts is always zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podlt.errors import InvalidProofError
from podlt.protocol.entries import Transfer


class Account(msgspec.Struct):
    """A worker's credits: `pending` may still be forfeited, `vested` is its own; `forfeited` is what it lost."""

    pending: int = 0
    vested: int = 0
    forfeited: int = 0


class Ledger:
    """All accounts of a run."""

    def __init__(self) -> None:
        self.treasury = 0
        self.accounts: dict[int, Account] = {}

    def open(self, worker: int) -> None:
        """Opens a worker's account, once."""
        self.accounts.setdefault(worker, Account())

    def settle(
        self, earned: Mapping[int, int], passed: Iterable[int], evicted: Iterable[int], *, last: bool
    ) -> list[Transfer]:
        """The transfers that a round owes.

        Args:
            earned: worker -> credits for its tasks of this round; passed: who passed this round's check;
            evicted: who was convicted in it; last: the closing check, which also vests what was earned with it.

        Returns:
            Earnings, then vestings, then forfeits, each ascending by worker, none of zero.
        """
        gone = set(evicted)
        earn = [Transfer("earn", w, earned[w]) for w in sorted(earned) if w not in gone and earned[w]]
        now = {t.worker: t.amount for t in earn} if last else {}
        vest = [(w, self.accounts[w].pending + now.get(w, 0)) for w in sorted(set(passed) - gone)]
        forfeit = [(w, self.accounts[w].pending) for w in sorted(gone)]
        return [
            *earn,
            *(Transfer("vest", w, amount) for w, amount in vest if amount),
            *(Transfer("forfeit", w, amount) for w, amount in forfeit if amount),
        ]

    def post(self, transfers: Iterable[Transfer]) -> None:
        """Moves the credits.

        Raises:
            InvalidProofError: a pending account would go below zero.
        """
        for transfer in transfers:
            account = self.accounts[transfer.worker]
            amount = transfer.amount
            if transfer.kind == "earn":
                self.treasury -= amount
                account.pending += amount
                continue
            if amount > account.pending:
                raise InvalidProofError(f"worker {transfer.worker} has {account.pending} pending, not {amount}")
            account.pending -= amount
            if transfer.kind == "vest":
                account.vested += amount
            else:
                self.treasury += amount
                account.forfeited += amount
        assert self.total() == 0

    def total(self) -> int:
        """The sum of all accounts: always zero."""
        return self.treasury + sum(a.pending + a.vested for a in self.accounts.values())

"""The accounts of a second verifier, written from docs/SPEC.md alone (3.13, 4.4): each credit in escrow by itself."""

from __future__ import annotations

from second_draws import need

MOST = 2**63 - 1
Transfer = list[str | int]


class Accounts:
    """The treasury's account, and four of each worker: what is pending is its credits in escrow, the oldest first."""

    def __init__(self, escrow: int, most: int) -> None:
        self.escrow = escrow
        self.treasury = 0
        self.credits: dict[int, list[int]] = {}
        self.owed: dict[int, int] = {}
        self.vested: dict[int, int] = {}
        self.deposit: dict[int, int] = {}
        self.returned: dict[int, int] = {}
        self.most = 0
        self.allow(most)

    def allow(self, more: int) -> None:
        """3.1, 3.2, 3.17: what can be paid and deposited in all."""
        self.most += more
        need(self.most <= MOST, "PAYMENTS", "more than the accounts can hold")

    def add(self, worker: int) -> None:
        self.credits[worker] = []
        self.vested[worker] = self.deposit[worker] = self.returned[worker] = 0

    def pending(self, worker: int) -> int:
        return sum(self.credits[worker])

    def take_deposit(self, worker: int, amount: int) -> None:
        """3.2"""
        self.allow(amount)
        self.treasury -= amount
        self.deposit[worker] += amount

    def pay(self, earned: dict[int, list[int]], leaving: list[int], convicted: set[int]) -> list[Transfer]:
        """4.4: pays, and what that is as transfers. `earned`: credits of those not convicted; `leaving`: 4.4, vest."""
        earn = [["earn", w, sum(credits)] for w, credits in sorted(earned.items())]
        lost = {w: self.withhold(w, credits) for w, credits in earned.items()}
        out = {w: len(self.credits[w]) for w in leaving}
        out |= {w: max(0, len(self.credits[w]) - self.escrow) for w in earned}
        vest = [["vest", w, self.vest(w, number)] for w, number in sorted(out.items())]
        for w in convicted:
            lost[w] = self.pending(w)
            self.owed[w] = self.escrow - len(self.credits[w])
            self.treasury += self.pending(w)
            self.credits[w] = []
        forfeit = [["forfeit", w, amount] for w, amount in sorted(lost.items())]
        seize = [["seize", w, self.deposit[w]] for w in sorted(convicted)]
        for w in convicted:
            self.treasury += self.deposit[w]
            self.deposit[w] = 0
        self.check()
        return [transfer for transfer in earn + vest + forfeit + seize if transfer[2] != 0]

    def withhold(self, worker: int, credits: list[int]) -> int:
        """4.4: takes what a worker earned into its escrow, but for what it owes: what that comes to."""
        owed = min(self.owed.get(worker, 0), len(credits))
        self.owed[worker] = self.owed.get(worker, 0) - owed
        self.treasury -= sum(credits[owed:])
        self.credits[worker] += credits[owed:]
        return sum(credits[:owed])

    def vest(self, worker: int, number: int) -> int:
        """The oldest `number` credits: what they come to."""
        amount = sum(self.credits[worker][:number])
        del self.credits[worker][:number]
        self.vested[worker] += amount
        return amount

    def release(self, kind: str, worker: int, amount: int) -> None:
        """3.13"""
        if kind == "vest":
            need(amount == self.pending(worker) > 0, "PAYMENTS", "not all that is pending")
            self.vest(worker, len(self.credits[worker]))
        else:
            need(amount == self.deposit[worker] > 0, "PAYMENTS", "not the whole deposit")
            self.deposit[worker] -= amount
            self.returned[worker] += amount
        self.check()

    def empty(self) -> bool:
        """3.12: nothing is pending, and no deposit is held."""
        return not any(self.deposit.values()) and not any(self.pending(w) for w in self.credits)

    def check(self) -> None:
        held = sum(self.pending(w) + self.vested[w] + self.deposit[w] + self.returned[w] for w in self.credits)
        need(self.treasury + held == 0, "PAYMENTS", "accounts")

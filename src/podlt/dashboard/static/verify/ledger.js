// Credits by double entry (docs/SPEC.md, 4.4): pay is in escrow, the oldest credit first.
podltVerify.define("ledger", function (use) {
  "use strict";
  const { Broken, CLAIM } = use("claims");

  // What each kind of transfer takes from, and gives to; "treasury" is the manager's, the others are the worker's.
  const MOVES = {
    earn: ["treasury", "pending"],
    vest: ["pending", "vested"],
    forfeit: ["pending", "treasury"],
    seize: ["deposit", "treasury"],
    return: ["deposit", "returned"],
  };
  const ascending = (numbers) => [...numbers].sort((a, b) => a - b);
  const sum = (amounts) => amounts.reduce((all, amount) => all + amount, 0n);

  class Ledger {
    constructor(escrow) {
      this.escrow = escrow;
      this.treasury = 0n;
      this.taken = 0n; // all deposits that were ever taken
      this.pending = 0n; // of all workers together
      this.held = 0n; // deposits of all workers together
      this.accounts = new Map();
      this.credits = new Map(); // worker -> its credits in escrow, the oldest first
      this.owes = new Map(); // worker -> how many of its next credits are forfeited as it earns them
    }

    open(worker) {
      if (!this.accounts.has(worker)) {
        this.accounts.set(worker, { pending: 0n, vested: 0n, deposit: 0n, returned: 0n });
      }
    }

    deposit(worker, amount) {
      this.treasury -= amount;
      this.taken += amount;
      this.held += amount;
      this.accounts.get(worker).deposit += amount;
    }

    // What a round owes. earned: worker -> its credits, in the order of the seats; gone: whose pending credits vest.
    owed(earned, convicted, gone) {
      const transfers = [];
      const say = (kind, worker, amount) => amount > 0n && transfers.push({ kind, worker, amount });
      const paid = ascending(earned.keys()).filter((worker) => !convicted.has(worker));
      for (const worker of paid) say("earn", worker, sum(earned.get(worker)));
      const vest = new Map();
      const forfeit = new Map();
      for (const worker of convicted) forfeit.set(worker, this.accounts.get(worker).pending);
      for (const worker of paid) {
        const owes = this.owes.get(worker) ?? 0;
        forfeit.set(worker, sum(earned.get(worker).slice(0, owes)));
        const waiting = [...(this.credits.get(worker) ?? []), ...earned.get(worker).slice(owes)];
        vest.set(worker, sum(waiting.slice(0, Math.max(0, waiting.length - this.escrow))));
      }
      for (const worker of gone) vest.set(worker, this.accounts.get(worker).pending);
      for (const worker of ascending(vest.keys())) say("vest", worker, vest.get(worker));
      for (const worker of ascending(forfeit.keys())) say("forfeit", worker, forfeit.get(worker));
      for (const worker of ascending(convicted)) say("seize", worker, this.accounts.get(worker).deposit);
      return transfers;
    }

    pay(transfers, earned, convicted) {
      for (const [worker, amounts] of earned) {
        if (convicted.has(worker)) continue;
        const owes = this.owes.get(worker) ?? 0;
        this.credits.set(worker, [...(this.credits.get(worker) ?? []), ...amounts.slice(owes)]);
        if (owes) this.owes.set(worker, Math.max(0, owes - amounts.length));
      }
      // A conviction costs `escrow` credits, whenever it comes: those that are not there yet are owed.
      for (const worker of convicted) this.owes.set(worker, this.escrow - (this.credits.get(worker)?.length ?? 0));
      this.post(transfers);
      for (const worker of earned.keys()) {
        const held = this.credits.get(worker);
        if (held && held.length > this.escrow) this.credits.set(worker, held.slice(held.length - this.escrow));
      }
    }

    post(transfers) {
      for (const { kind, worker, amount } of transfers) {
        const account = this.accounts.get(worker);
        const [from, to] = MOVES[kind];
        if (from !== "treasury" && amount > account[from]) {
          throw new Broken(CLAIM.PAYMENTS, `worker ${worker} has ${account[from]} ${from}, not ${amount}`);
        }
        for (const [name, change] of [[from, -amount], [to, amount]]) {
          if (name === "treasury") this.treasury += change;
          else account[name] += change;
          if (name === "pending") this.pending += change;
          if (name === "deposit") this.held += change;
        }
        if (account.pending === 0n && from === "pending") this.credits.delete(worker);
      }
    }

    total() {
      let total = this.treasury;
      for (const { pending, vested, deposit, returned } of this.accounts.values()) {
        total += pending + vested + deposit + returned;
      }
      return total;
    }
  }

  return { Ledger };
});

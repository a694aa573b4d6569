// What a run is after some prefix of its log, and what follows from that. What may happen next is in the families.
podltVerify.define("state", function (use) {
  "use strict";
  const { isZero } = use("bytes");
  const { Roster, slotOf, workerOf } = use("roster");
  const { need, CLAIM } = use("claims");
  const { digest } = use("sha256");
  const { u64 } = use("bytes");
  const { lengthOf, planned, sparesOf } = use("draws");
  const MAX_INT = 2n ** 63n - 1n;
  const MOST_PAID = 4n; // 3.1: how often an example can be paid for in an epoch
  const WORKERS = 2 ** 20;

  // A seat and one who holds its task, as one number: these ascend as the pairs do.
  const place = (seat, holder) => seat * WORKERS + holder;

  const mostPaid = (begin, epochs) => MOST_PAID * begin.reward * begin.examples * epochs;

  // The round in progress. `revealed` is null until its secret and results are known.
  class RoundState {
    constructor(open, seats, beacon) {
      this.open = open;
      this.seats = seats; // how many there are
      this.beacon = beacon;
      this.lengthOf = lengthOf(open.examples, open.shards.length);
      this.tasks = [];
      this.again = new Map(); // seat -> those to whom its task was dealt again and who have not left
      this.taken = new Map(); // worker -> the seats whose tasks were dealt again to it
      this.moves = []; // who left ({ left }) and what was dealt again ({ seat, holder }), in the order of the log
      this.departed = new Set();
      this.bound = new Set();
      this.commitments = new Map(); // place -> the commitment
      this.committed = new Map(); // holder -> the seats to whose tasks it is committed
      this.applied = false;
      this.revealed = null;
    }

    holders(seat) {
      const first = workerOf(seat);
      return [...(this.departed.has(first) ? [] : [first]), ...(this.again.get(seat) ?? [])];
    }

    isCommitted(seat) {
      return this.holders(seat).some((holder) => this.commitments.has(place(seat, holder)));
    }

    dealAgain(seat, holder) {
      this.moves.push({ seat, holder });
      append(this.again, seat, holder);
      append(this.taken, holder, seat);
    }

    commit({ seat, holder, commitment }) {
      this.commitments.set(place(seat, holder), commitment);
      append(this.committed, holder, seat);
      this.bound.add(holder);
    }

    leave(worker) {
      this.moves.push({ left: worker });
      this.departed.add(worker);
      for (const seat of this.taken.get(worker) ?? []) {
        const holders = this.again.get(seat);
        holders.splice(holders.indexOf(worker), 1);
      }
      for (const seat of this.committed.get(worker) ?? []) this.commitments.delete(place(seat, worker));
      this.taken.delete(worker);
      this.committed.delete(worker);
    }
  }

  function append(map, key, value) {
    const list = map.get(key);
    if (list) list.push(value);
    else map.set(key, [value]);
  }

  class RunFacts {
    constructor() {
      this.index = 0;
      this.at = 0n;
      this.begin = null;
      this.run = null;
      this.options = null;
      this.roster = new Roster();
      this.ledger = null;
      this.beacon = null;
      this.shares = []; // of those who joined for the first time since the last reveal
      this.parameters = null;
      this.secret = null;
      this.round = this.resumes = 0;
      this.epoch = this.offset = this.measured = this.epochs = this.payable = 0n;
      this.partMeasured = false;
      this.ended = null;
      this.current = null;
      this.leavers = []; // [round, worker], in the order of the rounds
      this.leaversPaid = 0; // how many of them were paid, or need not be looked at again
      this.pendingLevels = new Map(); // worker -> the level that it has once the round is paid
      this.shared = null; // in which round levels were last changed
      this.refunded = new Set(); // active workers that were given their deposit back, at an end that may be none
      this.closed = null;
    }

    get workers() {
      return this.roster.workers;
    }

    get activeCount() {
      return this.roster.size - (this.current ? this.current.departed.size : 0);
    }

    // Whether every epoch is done, or training was ended early.
    get isTrained() {
      return this.epochs <= this.epoch;
    }

    // 3.14
    get isMeasureDue() {
      const part = this.isTrained && this.offset > 0n && !this.partMeasured;
      return !isZero(this.begin.test) && (this.measured < this.epoch || part);
    }

    // 4.1: what the next round must be, or null where training is over.
    upcoming() {
      if (this.isTrained) return null;
      const active = this.activeCount;
      const enough = active >= (this.options.preset === "classic" ? 3 : 1);
      need(enough, CLAIM.PROGRESS, `${active} workers are too few for a round`);
      const { total, usual } = this.roster.weights;
      return planned(this.begin, this.offset, total - this.spares(this.round, total), usual);
    }

    spares(round, seats) {
      return sparesOf(this.begin, this.options, round, seats);
    }

    // Whether the round has this seat: its worker was active when the round opened, as nobody joins within one.
    isSeat(seat) {
      const worker = workerOf(seat);
      const wasThere = this.roster.isActive(worker) || this.current.departed.has(worker);
      return wasThere && slotOf(seat) < this.roster.weight(worker);
    }

    leave(worker) {
      const known = this.workers.get(worker);
      known.status = "withdrawn";
      known.left = this.round;
      this.leavers.push([this.round, worker]);
    }

    // 2.3: the digest of the task of a shard.
    task(shard) {
      const { open, tasks } = this.current;
      if (!tasks[shard]) {
        const { begin } = this;
        const examples = open.shards[shard];
        const number = u64(open.round);
        const randomness = digest("randomness/1", begin.seed, number, examples);
        tasks[shard] = digest("task/1", this.run, number, begin.program, open.parameters, examples, randomness);
      }
      return tasks[shard];
    }

    // 4.4: workers that left `escrow` rounds ago or earlier, and did not come back.
    goneLong() {
      const found = new Set();
      for (let i = this.leaversPaid; i < this.leavers.length; i++) {
        const [left, worker] = this.leavers[i];
        if (left + this.options.escrow > this.round) break;
        const known = this.workers.get(worker);
        if (known.status === "withdrawn" && known.left === left) found.add(worker);
      }
      return found;
    }

    // 3.2: how large a deposit the run can still take.
    room() {
      return MAX_INT - mostPaid(this.begin, this.payable) - this.ledger.taken;
    }

    // 3.13: the deposit that may be given back to a worker now.
    returnable(worker) {
      const account = this.ledger.accounts.get(worker);
      const known = this.workers.get(worker);
      if (known.status === "evicted") return 0n;
      const long = known.left + this.options.escrow <= this.round;
      const waited = known.status !== "active" && account.pending === 0n && long;
      return this.isTrained || waited ? account.deposit : 0n;
    }

    // 3.13: what is pending of a worker, once training is over.
    vestable(worker) {
      return this.isTrained ? this.ledger.accounts.get(worker).pending : 0n;
    }
  }

  return { RunFacts, RoundState, place, mostPaid, MAX_INT };
});

// Who works in a run, and in the order of the keys (docs/SPEC.md, 2.7).
podltVerify.define("roster", function (use) {
  "use strict";
  const { latin1 } = use("bytes");
  const FEW = 300; // up to so many changes are put into their place one by one, more are sorted in

  const SPREAD = 5;
  const SLOT = 2 ** 20;

  // 2.7: a worker's seats are numbered from its own number on; and whose a seat is, and which of its worker's.
  const seatOf = (worker, slot) => slot * SLOT + worker;
  const workerOf = (seat) => seat % SLOT;
  const slotOf = (seat) => Math.floor(seat / SLOT);

  // 2.10: how many seats the workers of each level have; `usual` is that of level 0.
  class Weights {
    constructor(counts) {
      const present = [...counts].filter(([, count]) => count > 0).map(([level]) => level);
      this.base = present.length ? Math.max(Math.min(...present), Math.max(...present) - SPREAD) : 0;
      this.total = [...counts].reduce((sum, [level, count]) => sum + count * this.of(level), 0);
      this.usual = this.of(0);
    }

    of(level) {
      return 2 ** Math.max(0, level - this.base);
    }
  }

  class Roster {
    constructor() {
      this.workers = new Map();
      this.numbers = new Map(); // key -> number
      this.sorted = [];
      this.added = new Set();
      this.removed = new Set();
      this.levels = new Map(); // level -> how many active workers have it
      this.known = null; // the weights that follow from these
      this.seats = null; // how many seats there are up to each worker, in the order
    }

    get weights() {
      this.known ??= new Weights(this.levels);
      return this.known;
    }

    weight(number) {
      return this.weights.of(this.workers.get(number).level);
    }

    // The seat at a place of all seats, in the order of the workers' keys.
    seatAt(place) {
      if (this.weights.total === this.size) return this.at(place);
      if (!this.seats) {
        let end = 0;
        this.seats = this.order.map((name) => (end += this.weight(this.numbers.get(name))));
      }
      const worker = placeOf(this.seats, place + 1);
      return seatOf(this.at(worker), place - (worker ? this.seats[worker - 1] : 0));
    }

    // Whether at least half of the workers would have a level of 0 or more, if some had these (worker -> level).
    isUsual(levels) {
      let usual = 0;
      for (const [level, count] of this.levels) if (level >= 0) usual += count;
      for (const [number, level] of levels) usual += (level >= 0) - (this.workers.get(number).level >= 0);
      return 2 * usual >= this.size;
    }

    setLevel(number, level) {
      const known = this.workers.get(number);
      if (known.status === "active") {
        this.count(known.level, -1);
        this.count(level, 1);
      }
      known.level = level;
    }

    count(level, change) {
      this.levels.set(level, (this.levels.get(level) ?? 0) + change);
      this.known = this.seats = null;
    }

    get size() {
      return this.sorted.length + this.added.size - this.removed.size;
    }

    // The keys of those that were active when the round opened, or now between rounds, ascending.
    get order() {
      if (this.added.size || this.removed.size) this.settle();
      return this.sorted;
    }

    settle() {
      if (this.removed.size > FEW) {
        this.sorted = this.sorted.filter((name) => !this.removed.has(name));
      } else {
        for (const name of this.removed) this.sorted.splice(placeOf(this.sorted, name), 1);
      }
      if (this.added.size > FEW) {
        this.sorted = [...this.sorted, ...this.added].sort((a, b) => (a < b ? -1 : 1));
      } else {
        for (const name of this.added) this.sorted.splice(placeOf(this.sorted, name), 0, name);
      }
      this.added.clear();
      this.removed.clear();
    }

    at(place) {
      return this.numbers.get(this.order[place]);
    }

    number(key) {
      return this.numbers.get(latin1(key));
    }

    // Who runs a worker: a name, or its number where it has none, and is nobody else's.
    operator(number) {
      return this.workers.get(number).operator || number;
    }

    add(number, key, operator, entry) {
      const name = latin1(key);
      let known = this.workers.get(number);
      if (!known) {
        known = { name, key: key.slice(), operator, left: 0, leftBound: 0, convictions: 0, checksPassed: 0, level: 0 };
        this.workers.set(number, known);
        this.numbers.set(name, number);
      }
      known.status = "active";
      this.count(known.level, 1);
      known.joined = entry;
      if (!this.removed.delete(name)) this.added.add(name);
    }

    remove(numbers) {
      for (const number of numbers) {
        const { name, level } = this.workers.get(number);
        this.count(level, -1);
        if (!this.added.delete(name)) this.removed.add(name);
      }
    }

    isActive(number) {
      return this.workers.get(number)?.status === "active";
    }

    active() {
      const found = this.order.map((name) => this.numbers.get(name)).filter((number) => this.isActive(number));
      return found.sort((a, b) => a - b);
    }
  }

  // Where a key stands in a sorted list, or would.
  function placeOf(sorted, name) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return { Roster, placeOf, slotOf, workerOf };
});

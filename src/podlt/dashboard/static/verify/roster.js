// Who works in a run, and in the order of the keys (docs/SPEC.md, 2.7).
podltVerify.define("roster", function (use) {
  "use strict";
  const { latin1 } = use("bytes");
  const FEW = 300; // up to so many changes are put into their place one by one, more are sorted in

  class Roster {
    constructor() {
      this.workers = new Map();
      this.numbers = new Map(); // key -> number
      this.sorted = [];
      this.added = new Set();
      this.removed = new Set();
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
        known = { name, key: key.slice(), operator, left: 0, leftBound: 0, convictions: 0, checksPassed: 0 };
        this.workers.set(number, known);
        this.numbers.set(name, number);
      }
      known.status = "active";
      known.joined = entry;
      if (!this.removed.delete(name)) this.added.add(name);
    }

    remove(numbers) {
      for (const number of numbers) {
        const { name } = this.workers.get(number);
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

  return { Roster, placeOf };
});

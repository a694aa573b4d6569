// Who has which task: docs/SPEC.md, 2.7 to 2.9 and 4.1, 4.2.
podltVerify.define("draws", function (use) {
  "use strict";
  const { Dice } = use("dice");
  const { digest } = use("sha256");
  const { u64 } = use("bytes");
  const { placeOf } = use("roster");
  const MILLION = 1_000_000;
  const SEPARATIONS = 64;
  const THROWS = 16;

  const least = (a, b) => (a < b ? a : b);
  const ceil = (a, b) => (a + b - 1n) / b;

  // 3.1: how many rounds so many epochs can have at most.
  function mostRounds(begin, epochs) {
    const each = begin.fragment_lines;
    return epochs * ceil(begin.lines, each > 0n ? least(begin.block_lines, each) : begin.block_lines);
  }

  // 2.8: `active` workers, in a round of this number.
  function sparesOf(begin, options, round, active) {
    if (options.preset === "classic") return options.spares;
    const whole = MILLION + options.checked;
    const share = active * options.checked;
    const few = Math.min(active >> 1, Math.max(options.checked > 0 ? 1 : 0, Math.floor(share / whole)));
    const many = Math.min(active >> 1, Math.ceil(share / whole));
    const rest = few < many ? share % whole : 0;
    if (!rest) return few;
    return few + (new Dice(digest("spares/1", begin.seed, u64(round))).below(whole) < rest ? 1 : 0);
  }

  // 4.1: lines and fragments of the next round, at an offset of the epoch, with so many useful workers.
  function planned(begin, offset, useful) {
    const many = BigInt(useful);
    const each = begin.fragment_lines;
    const want = each > 0n ? least(begin.block_lines, many * each) : begin.block_lines;
    const lines = least(want, begin.lines - offset);
    return { lines, fragments: Number(least(many, lines)) };
  }

  // 4.2: the lengths of the fragments: [of the longer ones, of the others, how many are longer].
  function lengthOf(lines, fragments) {
    const many = BigInt(fragments);
    const size = lines / many;
    const longer = Number(lines % many);
    return (fragment) => (fragment < longer ? size + 1n : size);
  }

  // 2.7: seat -> fragment, the fragments that are checked, and those that are the manager's own.
  function deal(dice, options, roster, spares, fragments) {
    const order = roster.order;
    const workers = dice.sample(order.length, fragments + spares).map((place) => roster.at(place));
    const seats = new Map();
    if (options.preset === "classic") {
      const checked = dice.below(fragments);
      workers.forEach((worker, j) => seats.set(worker, j < fragments ? j : checked));
      return { seats, checked: [checked], own: [] };
    }
    const checked = dice.sample(fragments, Math.min(spares, fragments));
    separate(dice, roster, workers, fragments, checked);
    for (let j = 0; j < fragments + checked.length; j++) seats.set(workers[j], j < fragments ? j : checked[j - fragments]);
    const want = fragments * options.own;
    const more = dice.below(MILLION) < want % MILLION ? 1 : 0;
    const own = dice.sample(fragments, Math.min(options.own_most, fragments, Math.floor(want / MILLION) + more));
    return { seats, checked, own };
  }

  // 2.7 (c)
  function separate(dice, roster, workers, fragments, checked) {
    const barred = new Set(checked);
    checked.forEach((fragment, i) => {
      const spare = fragments + i;
      const operator = roster.operator(workers[fragment]);
      if (roster.operator(workers[spare]) !== operator) return;
      for (let tries = 0; tries < SEPARATIONS; tries++) {
        const other = dice.below(fragments);
        if (barred.has(other) || roster.operator(workers[other]) === operator) continue;
        [workers[spare], workers[other]] = [workers[other], workers[spare]];
        return;
      }
    });
  }

  // 2.9: replays who left a round and which tasks were dealt again, in the order of the log.
  class Redealer {
    constructor(secret, seats, roster) {
      this.secret = secret;
      this.seats = seats;
      this.roster = roster;
      this.gone = new Set();
      this.dealt = new Map(); // fragment -> those who have a task of it, and are still there
      for (const [seat, fragment] of seats) this.dealt.set(fragment, (this.dealt.get(fragment) ?? new Set()).add(seat));
      this.more = new Map(); // worker -> the fragments of the tasks that were dealt again to it
      this.times = new Map();
      this.left = null; // keys of those who are still there, once somebody asked for all of them
    }

    leave(worker) {
      this.gone.add(worker);
      const had = [...(this.more.get(worker) ?? [])];
      if (this.seats.has(worker)) had.push(this.seats.get(worker));
      for (const fragment of had) this.dealt.get(fragment).delete(worker);
      const place = this.left ? this.place(worker) : -1;
      if (place >= 0) this.left.splice(place, 1);
    }

    // The new holder of the task of a seat, or null if nobody may take it.
    deal(seat) {
      const times = this.times.get(seat) ?? 0;
      const dice = new Dice(digest("redeal/1", this.secret, u64(seat), u64(times)));
      const fragment = this.seats.get(seat);
      const dealt = this.dealt.get(fragment);
      const operators = new Set([...dealt].map((worker) => this.roster.operator(worker)));
      const first = this.draw(dice, dealt, operators);
      if (first === null) return null;
      const second = this.draw(dice, dealt, operators);
      const holder = this.tasks(second) < this.tasks(first) ? second : first;
      this.times.set(seat, times + 1);
      this.more.set(holder, [...(this.more.get(holder) ?? []), fragment]);
      dealt.add(holder);
      return holder;
    }

    tasks(worker) {
      return (this.seats.has(worker) ? 1 : 0) + (this.more.get(worker)?.length ?? 0);
    }

    draw(dice, dealt, operators) {
      const { roster } = this;
      let secondBest = null;
      for (let throws = 0; throws < THROWS; throws++) {
        const worker = roster.at(dice.below(roster.order.length));
        if (this.gone.has(worker) || dealt.has(worker)) continue;
        if (!operators.has(roster.operator(worker))) return worker;
        secondBest ??= worker;
      }
      if (secondBest !== null) return secondBest;
      this.left ??= roster.order.filter((name) => !this.gone.has(roster.numbers.get(name)));
      const barred = [...dealt].map((worker) => this.place(worker)).filter((place) => place >= 0);
      if (this.left.length === barred.length) return null;
      let place = dice.below(this.left.length - barred.length);
      for (const each of barred.sort((a, b) => a - b)) if (place >= each) place += 1;
      return roster.numbers.get(this.left[place]);
    }

    place(worker) {
      const { name } = this.roster.workers.get(worker);
      const place = placeOf(this.left, name);
      return this.left[place] === name ? place : -1;
    }
  }

  return { MILLION, mostRounds, sparesOf, planned, lengthOf, deal, Redealer };
});

// Who has which task: docs/SPEC.md, 2.7 to 2.9 and 4.1, 4.2.
podltVerify.define("draws", function (use) {
  "use strict";
  const { Dice } = use("dice");
  const { digest } = use("sha256");
  const { u64 } = use("bytes");
  const { placeOf, workerOf } = use("roster");
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

  // 2.8: of so many seats, in a round of this number.
  function sparesOf(begin, options, round, seats) {
    if (options.preset === "classic") return options.spares;
    const whole = MILLION + options.checked;
    const share = seats * options.checked;
    const few = Math.min(seats >> 1, Math.max(options.checked > 0 ? 1 : 0, Math.floor(share / whole)));
    const many = Math.min(seats >> 1, Math.ceil(share / whole));
    const rest = few < many ? share % whole : 0;
    if (!rest) return few;
    return few + (new Dice(digest("spares/1", begin.seed, u64(round))).below(whole) < rest ? 1 : 0);
  }

  // 4.1: lines and fragments of the next round, at an offset of the epoch, with so many useful seats, of which a worker of
  // level 0 has `usual`.
  function planned(begin, offset, useful, usual) {
    const many = BigInt(useful);
    const each = begin.fragment_lines;
    const shared = (many * each) / BigInt(usual);
    const want = each > 0n ? least(begin.block_lines, shared > each ? shared : each) : begin.block_lines;
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
    const { total } = roster.weights;
    const drawn = dice.sample(total, fragments + spares).map((place) => roster.seatAt(place));
    const seats = new Map();
    if (options.preset === "classic") {
      const checked = dice.below(fragments);
      drawn.forEach((seat, j) => seats.set(seat, j < fragments ? j : checked));
      return { seats, checked: [checked], own: [] };
    }
    const checked = dice.sample(fragments, Math.min(spares, fragments));
    const idle = separate(dice, roster, drawn, fragments, checked);
    for (let j = 0; j < fragments; j++) seats.set(drawn[j], j);
    checked.forEach((fragment, i) => idle.has(fragment) || seats.set(drawn[fragments + i], fragment));
    const most = options.own_most * Math.floor(total / roster.size);
    const want = fragments * options.own;
    const more = dice.below(MILLION) < want % MILLION ? 1 : 0;
    const own = dice.sample(fragments, Math.min(most, fragments, Math.floor(want / MILLION) + more));
    return { seats, checked: checked.filter((fragment) => !idle.has(fragment)), own };
  }

  // 2.7 (c): changes places of the seats drawn; the fragments that are not checked after all.
  function separate(dice, roster, drawn, fragments, checked) {
    const barred = new Set(checked);
    const idle = new Set();
    const operatorOf = (seat) => roster.operator(workerOf(drawn[seat]));
    checked.forEach((fragment, i) => {
      const spare = fragments + i;
      const worker = workerOf(drawn[fragment]);
      const operator = operatorOf(fragment);
      if (operatorOf(spare) !== operator) return;
      let fellow = -1;
      for (let tries = 0; tries < SEPARATIONS && fellow < 0; tries++) {
        const other = dice.below(fragments);
        if (!barred.has(other) && operatorOf(other) !== operator) fellow = other;
      }
      if (fellow < 0) {
        if (workerOf(drawn[spare]) !== worker) return;
        fellow = drawn.findIndex((seat, j) => j < fragments && !barred.has(j) && workerOf(seat) !== worker);
      }
      if (fellow < 0) idle.add(fragment);
      else [drawn[spare], drawn[fellow]] = [drawn[fellow], drawn[spare]];
    });
    return idle;
  }

  // 2.9: replays who left a round and which tasks were dealt again, in the order of the log.
  class Redealer {
    constructor(secret, seats, roster) {
      this.secret = secret;
      this.seats = seats;
      this.roster = roster;
      this.gone = new Set();
      this.dealt = new Map(); // fragment -> those who have a task of it, and are still there
      this.own = new Map(); // worker -> the fragments of the tasks that were dealt to it at first
      for (const [seat, fragment] of seats) {
        const worker = workerOf(seat);
        this.dealt.set(fragment, (this.dealt.get(fragment) ?? new Set()).add(worker));
        this.own.set(worker, [...(this.own.get(worker) ?? []), fragment]);
      }
      this.more = new Map(); // worker -> the fragments of the tasks that were dealt again to it
      this.times = new Map();
      this.left = null; // keys of those who are still there, once somebody asked for all of them
    }

    leave(worker) {
      this.gone.add(worker);
      const had = [...(this.own.get(worker) ?? []), ...(this.more.get(worker) ?? [])];
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
      const { roster } = this;
      const less = this.tasks(second) * roster.weight(first) < this.tasks(first) * roster.weight(second);
      const holder = less ? second : first;
      this.times.set(seat, times + 1);
      this.more.set(holder, [...(this.more.get(holder) ?? []), fragment]);
      dealt.add(holder);
      return holder;
    }

    tasks(worker) {
      return (this.own.get(worker)?.length ?? 0) + (this.more.get(worker)?.length ?? 0);
    }

    draw(dice, dealt, operators) {
      const { roster } = this;
      let secondBest = null;
      for (let throws = 0; throws < THROWS; throws++) {
        const worker = workerOf(roster.seatAt(dice.below(roster.weights.total)));
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

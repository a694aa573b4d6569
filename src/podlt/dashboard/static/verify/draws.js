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
    const each = begin.shard_size;
    return epochs * ceil(begin.examples, each > 0n ? least(begin.batch_size, each) : begin.batch_size);
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

  // 4.1: examples and shards of the next round, at an offset of the epoch, with so many useful seats, of which a worker of
  // level 0 has `usual`.
  function planned(begin, offset, useful, usual) {
    const many = BigInt(useful);
    const each = begin.shard_size;
    const shared = (many * each) / BigInt(usual);
    const want = each > 0n ? least(begin.batch_size, shared > each ? shared : each) : begin.batch_size;
    const examples = least(want, begin.examples - offset);
    return { examples, shards: Number(least(many, examples)) };
  }

  // 4.2: the lengths of the shards: [of the longer ones, of the others, how many are longer].
  function lengthOf(examples, shards) {
    const many = BigInt(shards);
    const size = examples / many;
    const longer = Number(examples % many);
    return (shard) => (shard < longer ? size + 1n : size);
  }

  // 2.7: seat -> shard, the shards that are checked, and those that are the manager's own.
  function deal(dice, options, roster, spares, shards) {
    const { total } = roster.weights;
    const classic = options.preset === "classic";
    const repeated = classic ? spares : Math.min(spares, shards);
    const drawn = dice.sample(total, shards + repeated).map((place) => roster.seatAt(place));
    const seats = new Map();
    if (classic) {
      const checked = dice.below(shards);
      drawn.forEach((seat, j) => seats.set(seat, j < shards ? j : checked));
      return { seats, checked: [checked], own: [] };
    }
    const checked = dice.sample(shards, repeated);
    const idle = separate(dice, roster, drawn, shards, checked);
    for (let j = 0; j < shards; j++) seats.set(drawn[j], j);
    checked.forEach((shard, i) => idle.has(shard) || seats.set(drawn[shards + i], shard));
    const most = options.own_most * Math.floor(total / roster.size);
    const want = shards * options.own;
    const more = dice.below(MILLION) < want % MILLION ? 1 : 0;
    const own = dice.sample(shards, Math.min(most, shards, Math.floor(want / MILLION) + more));
    return { seats, checked: checked.filter((shard) => !idle.has(shard)), own };
  }

  // 2.7 (c): changes places of the seats drawn; the shards that are not checked after all.
  function separate(dice, roster, drawn, shards, checked) {
    const barred = new Set(checked);
    const idle = new Set();
    const operatorOf = (seat) => roster.operator(workerOf(drawn[seat]));
    checked.forEach((shard, i) => {
      const spare = shards + i;
      const worker = workerOf(drawn[shard]);
      const operator = operatorOf(shard);
      if (operatorOf(spare) !== operator) return;
      let fellow = -1;
      for (let tries = 0; tries < SEPARATIONS && fellow < 0; tries++) {
        const other = dice.below(shards);
        if (!barred.has(other) && operatorOf(other) !== operator) fellow = other;
      }
      if (fellow < 0) {
        if (workerOf(drawn[spare]) !== worker) return;
        fellow = drawn.findIndex((seat, j) => j < shards && !barred.has(j) && workerOf(seat) !== worker);
      }
      if (fellow < 0) idle.add(shard);
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
      this.dealt = new Map(); // shard -> those who have a task of it, and are still there
      this.own = new Map(); // worker -> the shards of the tasks that were dealt to it at first
      for (const [seat, shard] of seats) {
        const worker = workerOf(seat);
        this.dealt.set(shard, (this.dealt.get(shard) ?? new Set()).add(worker));
        this.own.set(worker, [...(this.own.get(worker) ?? []), shard]);
      }
      this.more = new Map(); // worker -> the shards of the tasks that were dealt again to it
      this.times = new Map();
      this.left = null; // keys of those who are still there, once somebody asked for all of them
    }

    leave(worker) {
      this.gone.add(worker);
      const had = [...(this.own.get(worker) ?? []), ...(this.more.get(worker) ?? [])];
      for (const shard of had) this.dealt.get(shard).delete(worker);
      const place = this.left ? this.place(worker) : -1;
      if (place >= 0) this.left.splice(place, 1);
    }

    // The new holder of the task of a seat, or null if nobody may take it.
    deal(seat) {
      const times = this.times.get(seat) ?? 0;
      const dice = new Dice(digest("redeal/1", this.secret, u64(seat), u64(times)));
      const shard = this.seats.get(seat);
      const dealt = this.dealt.get(shard);
      const operators = new Set([...dealt].map((worker) => this.roster.operator(worker)));
      const first = this.draw(dice, dealt, operators);
      if (first === null) return null;
      const second = this.draw(dice, dealt, operators);
      const { roster } = this;
      const less = this.tasks(second) * roster.weight(first) < this.tasks(first) * roster.weight(second);
      const holder = less ? second : first;
      this.times.set(seat, times + 1);
      this.more.set(holder, [...(this.more.get(holder) ?? []), shard]);
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

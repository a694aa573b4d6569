// A run as its messages tell it: all rounds are kept, and the run is known as it was after any of them.
"use strict";
(() => {
  const P = window.podlt;
  const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const VALUE = new Map([...DIGITS].map((digit, place) => [digit, place]));

  /** Calls with worker and amount for each amount that the recorder packed. */
  P.unpack = (packed, call) => {
    if (!packed) return;
    for (let worker = 0; worker < packed.s.length; worker += 1) {
      const digit = VALUE.get(packed.s[worker]);
      if (digit) call(worker, packed.p[digit - 1]);
    }
    for (const [worker, amount] of Object.entries(packed.x ?? {})) call(Number(worker), amount);
  };

  /** How many tasks a worker did in a round. */
  P.tasksIn = (round, worker) => {
    if (!round.jobs) return "ucokx".includes(round.cells[worker] ?? " ") ? 1 : 0;
    const digit = VALUE.get(round.jobs.s[worker] ?? "0");
    return round.jobs.x?.[worker] ?? (digit ? round.jobs.p[digit - 1] : 0);
  };

  P.share = (level) => (level < 0 ? `1/${2 ** -level}` : `×${2 ** level}`);

  /** The run after some messages. */
  class State {
    constructor() {
      this.workers = [];
      this.treasury = 0;
      this.measured = null;
      this.closed = null;
      this.totals = { tasks: 0, useful: 0, agree: 0, own: 0, dis: 0, clips: 0, examples: 0, convicted: 0, left: 0 };
    }

    worker(number) {
      return (this.workers[number] ??= {
        number,
        status: "active",
        operator: "",
        key: "",
        tasks: 0,
        checks: 0,
        earned: 0,
        pending: 0,
        vested: 0,
        forfeited: 0,
        deposit: 0,
        returned: 0,
        seized: 0,
        convictions: 0,
        clipped: 0,
        lastRound: -1,
        level: 0,
        caught: -1,
        why: "",
      });
    }

    move(message) {
      const moves = {
        earn: (worker, amount) => {
          worker.pending += amount;
          worker.earned += amount;
        },
        vest: (worker, amount) => {
          worker.pending -= amount;
          worker.vested += amount;
        },
        forfeit: (worker, amount) => {
          worker.pending -= amount;
          worker.forfeited += amount;
        },
        seize: (worker, amount) => {
          worker.deposit -= amount;
          worker.seized += amount;
        },
        return: (worker, amount) => {
          worker.deposit -= amount;
          worker.returned += amount;
        },
      };
      for (const [kind, move] of Object.entries(moves))
        P.unpack(message[kind], (number, amount) => move(this.worker(number), amount));
      this.treasury = message.tr;
    }

    join(message) {
      const [number, key, operator, deposit] = message.w;
      const worker = this.worker(number);
      Object.assign(worker, { status: "active", key, operator });
      worker.deposit += deposit;
      this.treasury -= deposit;
    }

    leave(message) {
      const worker = this.worker(message.w);
      worker.status = "withdrawn";
      worker.why = message.why;
      this.totals.left += 1;
    }

    round(message) {
      const { cells } = message;
      for (let number = 0; number < cells.length; number += 1) {
        const cell = cells[number];
        if (cell === " " || cell === "-" || cell === "g") continue;
        const worker = this.worker(number);
        if (!message.jobs) worker.tasks += 1;
        worker.lastRound = message.r;
        if (!message.jobs && (cell === "c" || cell === "o")) worker.checks += 1;
        if (cell === "k") worker.clipped += 1;
      }
      P.unpack(message.jobs, (number, count) => (this.worker(number).tasks += count));
      P.unpack(message.compared, (number, count) => (this.worker(number).checks += count));
      this.move(message);
      for (const [number, status] of message.out ?? []) {
        const worker = this.worker(number);
        Object.assign(worker, { status, caught: worker.caught < 0 ? message.r : worker.caught });
        worker.convictions += 1;
        this.totals.convicted += 1;
      }
      const { totals } = this;
      totals.tasks += message.tasks;
      totals.useful += message.frag;
      totals.agree += message.agree;
      totals.own += message.own;
      totals.dis += message.dis?.length ?? 0;
      totals.clips += message.clip?.length ?? 0;
      totals.examples += message.n;
    }

    shares(message) {
      for (const [number, level] of message.lv) this.worker(number).level = level;
    }

    release(message) {
      this.move(message);
    }

    measure(message) {
      this.measured = message;
    }

    close(message) {
      this.closed = message;
    }

    resume() {
      this.closed = null;
    }

    amend() {
      this.closed = null;
    }
  }

  P.Run = class {
    constructor() {
      Object.assign(this, {
        header: {},
        begin: null,
        log: [],
        rounds: [],
        places: [],
        figures: new Map(),
        measures: [],
        newest: {},
        epochs: 0,
        width: 0,
        version: 0,
      });
      Object.assign(this, {
        spent: { seconds: 0, compute: 0, proof: 0, rounds: 0 },
        fakes: new Map(),
        closed: null,
        between: [],
      });
      this.walk = { place: 0, state: new State() };
      this.takers = {
        begin: (m) => {
          this.begin = m;
          this.epochs = m.epochs;
        },
        round: (m) => {
          this.places.push(this.log.length - 1);
          this.rounds.push(m);
          this.width = Math.max(this.width, m.cells.length);
        },
        join: (m) => {
          this.width = Math.max(this.width, m.w[0] + 1);
        },
        measure: (m) => this.measures.push(m),
        amend: (m) => {
          this.epochs = m.epochs;
          this.closed = null;
        },
        resume: () => {
          this.closed = null;
        },
        close: (m) => {
          this.closed = m;
        },
      };
    }

    take(messages) {
      for (const message of messages) {
        if (message.t === "header") this.header = message;
        else if (message.t === "figures") this.measured(message);
        else if (message.r === undefined && message.t !== "begin")
          this.newest[message.t] = { ...message, came: Date.now() };
        else {
          this.log.push(message);
          this.takers[message.t]?.(message);
        }
      }
      this.version += 1;
    }

    /** What no entry binds, of one round. */
    measured(figures) {
      const before = this.figures.get(figures.r);
      this.figures.set(figures.r, figures);
      if (before) return;
      this.spent.seconds += figures.s;
      this.spent.compute += figures.c;
      this.spent.proof += figures.p;
      this.spent.rounds += 1;
      for (const [which, name] of [
        ["f", "given"],
        ["a", "applied"],
      ]) {
        for (const worker of figures[which] ?? []) {
          const known = this.fakes.get(worker) ?? { first: figures.r, given: 0, applied: 0 };
          known[name] += 1;
          known.first = Math.min(known.first, figures.r);
          this.fakes.set(worker, known);
        }
      }
    }

    /** The run after round `index` of those that there are; after everything where it is the last, or null. */
    at(index) {
      const last = index === null || index >= this.rounds.length - 1;
      const stop = last ? this.log.length : this.places[index] + 1;
      if (stop < this.walk.place) this.walk = { place: 0, state: new State() };
      const { state } = this.walk;
      for (; this.walk.place < stop; this.walk.place += 1) {
        const message = this.log[this.walk.place];
        state[message.t]?.(message);
      }
      return state;
    }

    total() {
      return this.begin ? this.begin.examples * this.epochs : 0;
    }

    done(index) {
      const round = this.rounds[index ?? this.rounds.length - 1];
      return round && this.begin ? round.ep * this.begin.examples + round.off + round.n : 0;
    }

    /** Examples a second over the last rounds, by the manager's clock in the log. */
    speed(count = 40) {
      const some = this.rounds.slice(-count);
      if (some.length < 2) return NaN;
      const seconds = (some.at(-1).at - some[0].at) / 1000;
      return seconds > 0 ? some.slice(1).reduce((sum, round) => sum + round.n, 0) / seconds : NaN;
    }

    get cheats() {
      return this.header.cheats ?? {};
    }
  };
})();

// The terms of a run, and its ends: begin, amend, measure, resume, close. docs/SPEC.md, 3.1, 3.11, 3.12, 3.14, 3.17.
podltVerify.define("rules_terms", function (use) {
  "use strict";
  const { need, CLAIM } = use("claims");
  const { digest } = use("sha256");
  const { equal, utf8 } = use("bytes");
  const { Ledger } = use("ledger");
  const { MAX_INT, mostPaid } = use("state");
  const { MILLION, mostRounds } = use("draws");
  const { isBefore, isTable, parse } = use("documents");
  const MAX_ROUNDS = 2n ** 40n;
  const MOST = 2n ** 20n; // of clip and escrow

  const CLASSIC = { spares: 2n, checked: 0n, own: 0n, own_most: 0n, clip: 0n, first_fault: "evict" };

  // 3.1: what is wrong with the options; "" if nothing is.
  function faultOf(begin) {
    if (begin.preset === "classic") {
      const same = Object.entries(CLASSIC).every(([name, value]) => begin[name] === value);
      return same && begin.escrow <= MOST ? "" : "classic has other options";
    }
    if (begin.spares !== 1n) return "guarded has one spare for a checked shard";
    const shares = begin.checked <= MILLION && begin.own <= MILLION;
    return shares && begin.clip <= MOST && begin.escrow <= MOST ? "" : "an option is out of its range";
  }

  function begin(state, entry) {
    need(state.begin === null, CLAIM.PROGRESS, "a second begin");
    const some = entry.examples > 0n && entry.epochs > 0n && entry.batch_size > 0n;
    need(some, CLAIM.PROGRESS, "a run without examples");
    const fault = faultOf(entry);
    need(!fault, CLAIM.PROGRESS, fault);
    const one = entry.local_steps === 1n && entry.local_lr === null;
    const several = entry.local_steps > 1n && entry.local_lr !== null && entry.local_lr > 0 && entry.local_lr < Infinity;
    need(one || several, CLAIM.PROGRESS, "local_steps and local_lr do not fit");
    const rounds = mostRounds(entry, entry.epochs);
    need(rounds <= MAX_ROUNDS, CLAIM.PROGRESS, "more rounds than can be numbered");
    need(entry.chain_length >= rounds, CLAIM.DRAWS, "the chain is too short");
    need(mostPaid(entry, entry.epochs) <= MAX_INT, CLAIM.PAYMENTS, "more pay than an account can hold");
    state.begin = entry;
    state.run = entry.identity;
    state.options = { preset: entry.preset, first_fault: entry.first_fault };
    for (const name of ["spares", "checked", "own", "own_most", "clip", "escrow"]) state.options[name] = Number(entry[name]);
    state.ledger = new Ledger(state.options.escrow);
    state.epochs = state.payable = entry.epochs;
    state.parameters = entry.parameters;
    state.secret = entry.chain_end;
    state.beacon = digest("beacon/1", state.run);
  }

  function amend(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "terms are amended between rounds only");
    const left = entry.epochs - state.epoch;
    need(left >= 0n, CLAIM.PROGRESS, "more epochs are done than there are to be");
    need(left > 0n || !state.closed, CLAIM.OUTCOME, "a complete run is amended to train no more");
    const rounds = BigInt(state.round) + mostRounds(state.begin, left);
    need(rounds <= MAX_ROUNDS, CLAIM.PROGRESS, "more rounds than can be numbered");
    const raw = utf8(entry.optimizer);
    need(!raw.length || isTable(parse(raw)), CLAIM.TERMS, "optimizer: not a document");
    state.payable += entry.epochs + 1n;
    need(state.room() >= 0n, CLAIM.PAYMENTS, "more pay than an account can hold");
    if (left > 0n) {
      // Nobody had to wait for more: whoever goes on brings its deposit, and signs a head over this entry.
      const refunded = [...state.refunded].filter((worker) => state.roster.isActive(worker)).sort((a, b) => a - b);
      const leaving = state.closed ? state.roster.active() : refunded;
      for (const worker of leaving) {
        state.leave(worker);
        state.workers.get(worker).joined = state.index;
      }
      state.roster.remove(leaving);
      state.closed = null;
      state.refunded.clear();
    }
    state.epochs = entry.epochs;
    state.ended = left > 0n ? null : entry;
  }

  function measure(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "figures are logged between rounds only");
    need(state.isMeasureDue, CLAIM.PROGRESS, "no figures are due");
    need(entry.epoch === state.measured, CLAIM.PROGRESS, "figures of another epoch");
    const same = equal(entry.test, state.begin.test) && equal(entry.parameters, state.parameters);
    need(same, CLAIM.PROGRESS, "figures of another test set, or of other parameters");
    const names = entry.figures.map((figure) => figure.name);
    const ordered = names.every((name, i) => !i || isBefore(names[i - 1], name));
    need(ordered, CLAIM.PROGRESS, "the figures are not in order");
    const finite = entry.figures.every((figure) => Number.isFinite(figure.value));
    need(finite, CLAIM.PROGRESS, "a figure is not finite");
    if (state.measured < state.epoch) state.measured += 1n;
    else state.partMeasured = true;
  }

  function resume(state) {
    need(!state.current, CLAIM.PROGRESS, "a run resumes between rounds only");
    state.resumes += 1;
    state.closed = null;
  }

  function close(state, entry) {
    need(!state.current, CLAIM.OUTCOME, "the run was closed within a round");
    if (entry.outcome === "complete") {
      need(state.isTrained && !state.isMeasureDue, CLAIM.OUTCOME, "the run is not complete");
      const held = state.ledger.pending + state.ledger.held;
      need(held === 0n, CLAIM.OUTCOME, "pay and deposits were not released to their owners");
    }
    state.closed = entry;
  }

  return { begin, amend, measure, resume, close };
});

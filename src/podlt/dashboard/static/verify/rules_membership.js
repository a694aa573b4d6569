// Who works in a run: join and withdraw. their levels. docs/SPEC.md, 3.2, 3.3 and 3.19.
podltVerify.define("rules_membership", function (use) {
  "use strict";
  const { need, CLAIM } = use("claims");
  const { equal } = use("bytes");
  const SHARES_EVERY = 8; // rounds between two entries that change levels, at least
  const MOST_LEFT_BOUND = 10; // beyond the rounds in which a worker passed a check

  function join(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "a worker joins between rounds only");
    need(entry.seen <= state.index, CLAIM.SIGNATURES, "a head was seen before it was there");
    const known = state.workers.get(entry.worker);
    if (!known) {
      need(state.roster.number(entry.key) === undefined, CLAIM.PROGRESS, "the key belongs to another worker");
      state.shares.push(entry.share.slice());
    } else {
      const away = known.status === "withdrawn" || known.status === "suspended";
      const allowed = away && known.leftBound < MOST_LEFT_BOUND + known.checksPassed;
      const back = allowed && equal(known.key, entry.key) && known.operator === entry.operator;
      need(back, CLAIM.PROGRESS, `worker ${entry.worker} cannot join again`);
      need(entry.seen > known.joined, CLAIM.SIGNATURES, `worker ${entry.worker} signed this before it joined last`);
    }
    need(entry.deposit <= state.room(), CLAIM.PAYMENTS, "too large a deposit for an account");
    state.roster.add(entry.worker, entry.key, entry.operator, state.index);
    state.refunded.delete(entry.worker);
    state.ledger.open(entry.worker);
    state.ledger.deposit(entry.worker, entry.deposit);
  }

  function withdraw(state, entry) {
    need(state.roster.isActive(entry.worker), CLAIM.PROGRESS, "no such active worker");
    const round = state.current;
    need(!round?.revealed, CLAIM.PROGRESS, "a worker withdraws before the reveal, or between rounds");
    state.leave(entry.worker);
    if (!round) {
      state.roster.remove([entry.worker]);
      return;
    }
    round.leave(entry.worker);
    if (round.bound.has(entry.worker)) state.workers.get(entry.worker).leftBound += 1;
  }

  // 3.19
  function shares(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "levels change between rounds only");
    need(state.options.preset !== "classic", CLAIM.PROGRESS, "in classic all workers have equal shares");
    need(entry.round === state.round, CLAIM.PROGRESS, "levels of another round");
    const may = state.shared === null || state.round >= state.shared + SHARES_EVERY;
    need(may, CLAIM.PROGRESS, `levels changed less than ${SHARES_EVERY} rounds before`);
    const { levels } = entry;
    const ordered = levels.length > 0 && levels.every(({ worker }, i) => !i || levels[i - 1].worker < worker);
    need(ordered, CLAIM.PROGRESS, "levels out of order");
    for (const { worker, level } of levels) {
      need(state.roster.isActive(worker), CLAIM.PROGRESS, `worker ${worker} is not active`);
      const known = state.workers.get(worker).level;
      need(level !== known && level <= known + 1, CLAIM.PROGRESS, `worker ${worker} cannot get this level`);
    }
    const changes = new Map(levels.map(({ worker, level }) => [worker, level]));
    need(state.roster.isUsual(changes), CLAIM.PROGRESS, "more than half of the workers have a level below 0");
    state.pendingLevels = changes;
    state.shared = entry.round;
  }

  return { join, shares, withdraw };
});

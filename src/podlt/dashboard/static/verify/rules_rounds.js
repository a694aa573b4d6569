// The first half of a round: open, redeal, commit, reveal. docs/SPEC.md, 3.4 to 3.7.
podltVerify.define("rules_rounds", function (use) {
  "use strict";
  const { need, CLAIM } = use("claims");
  const { digest, digestAll } = use("sha256");
  const { equal, fromLatin1, latin1 } = use("bytes");
  const { Dice } = use("dice");
  const { deal, Redealer } = use("draws");
  const { workerOf } = use("roster");
  const { RoundState, place } = use("state");

  function open(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "the round before is not paid");
    need(!state.isMeasureDue, CLAIM.PROGRESS, "the figures of the epoch before are missing");
    need(entry.round === state.round, CLAIM.PROGRESS, "round out of order");
    need(entry.attempt === BigInt(state.resumes), CLAIM.PROGRESS, "another attempt");
    const due = state.upcoming();
    need(due, CLAIM.PROGRESS, "a round after the last one");
    const here = entry.epoch === state.epoch && entry.offset === state.offset;
    const same = here && entry.examples === due.examples && entry.shards.length === due.shards;
    need(same, CLAIM.PROGRESS, "the round takes other examples than the plan");
    need(equal(entry.parameters, state.parameters), CLAIM.PROGRESS, "the round starts from other parameters");
    const shares = state.shares.map(latin1).sort().map(fromLatin1);
    state.current = new RoundState(entry, state.roster.weights.total, digestAll("beacon/1", [state.beacon, ...shares]));
  }

  function redeal(state, entry) {
    const round = beforeReveal(state, entry.round);
    need(state.isSeat(entry.seat), CLAIM.PROGRESS, "no such task");
    const holders = round.holders(entry.seat);
    const late = state.options.preset === "guarded" && holders.length === 1 && !round.isCommitted(entry.seat);
    need(!holders.length || late, CLAIM.PROGRESS, `the task of seat ${entry.seat} is neither lost nor late`);
    const able = state.roster.isActive(entry.holder) && !holders.includes(entry.holder);
    need(able, CLAIM.PROGRESS, `worker ${entry.holder} cannot take the task`);
    round.dealAgain(entry.seat, entry.holder);
  }

  function commit(state, entry) {
    const round = beforeReveal(state, entry.round);
    const places = entry.commitments.map((one) => place(one.seat, one.holder));
    need(places.length && ascend(places), CLAIM.OPENINGS, "commitments out of order");
    for (const one of entry.commitments) {
      const fresh = state.isSeat(one.seat) && !round.commitments.has(place(one.seat, one.holder));
      need(fresh, CLAIM.OPENINGS, `no commitment to the task of seat ${one.seat} is due`);
      const holds = workerOf(one.seat) === one.holder && !round.departed.has(one.holder);
      const has = holds || round.again.get(one.seat)?.includes(one.holder);
      need(has, CLAIM.OPENINGS, `worker ${one.holder} does not hold the task of seat ${one.seat}`);
      round.commit(one);
    }
  }

  function reveal(state, entry) {
    const round = beforeReveal(state, entry.round);
    const link = digest("secret/1", entry.secret);
    need(equal(link, state.secret), CLAIM.DRAWS, "the secret is not the chain's");
    const roles = rolesOf(state, entry.secret);
    const seats = new Set([...round.commitments.keys()].map((one) => Math.floor(one / 2 ** 20)));
    const same = seats.size === roles.seats.size && [...seats].every((seat) => roles.seats.has(seat));
    need(same, CLAIM.DRAWS, "the commitments are not those of the tasks dealt");
    checkRedealt(state, round, roles.seats, entry.secret);
    const due = [...round.commitments.keys()].sort((a, b) => a - b);
    const all = entry.openings.length === due.length && entry.openings.every((o, i) => place(o.seat, o.holder) === due[i]);
    need(all, CLAIM.OPENINGS, "the openings are not those of the commitments");
    const answers = new Map(); // shard -> holder -> the update's digest
    for (const { seat, holder, update, salt } of entry.openings) {
      const shard = roles.seats.get(seat);
      const found = digest("commitment/1", state.task(shard), state.workers.get(holder).key, update, salt);
      const opens = equal(found, round.commitments.get(place(seat, holder)));
      need(opens, CLAIM.OPENINGS, `worker ${holder}'s commitment to the task of seat ${seat} opens to something else`);
      if (!answers.has(shard)) answers.set(shard, new Map());
      answers.get(shard).set(holder, latin1(update));
    }
    const several = [...answers].filter(([, found]) => found.size > 1).map(([shard]) => shard);
    const own = new Set(roles.own);
    const toJudge = new Set([...several, ...roles.checked, ...roles.own]);
    const opened = entry.openings.map(({ seat, holder }) => ({ seat, holder }));
    round.revealed = { seats: roles.seats, opened, answers, own, toJudge, verdicts: new Map() };
    state.secret = entry.secret;
    state.beacon = digestAll("beacon/1", [round.beacon, ...entry.openings.map((o) => o.salt)]);
    state.shares = [];
  }

  // 2.7: who has which task of the round in progress.
  function rolesOf(state, secret) {
    const { open: opened, seats, beacon } = state.current;
    const dice = new Dice(digest("draw/1", secret, beacon));
    return deal(dice, state.options, state.roster, state.spares(opened.round, seats), opened.shards.length);
  }

  // 2.9: whether each task was dealt again to whom the secret says.
  function checkRedealt(state, round, seats, secret) {
    if (!round.moves.length) return;
    const replay = new Redealer(secret, seats, state.roster);
    for (const { left, seat, holder } of round.moves) {
      if (left !== undefined) {
        replay.leave(left);
        continue;
      }
      need(seats.has(seat), CLAIM.DRAWS, "a task was dealt again that nobody had");
      const message = `the task of seat ${seat} was dealt again to another than was drawn`;
      need(replay.deal(seat) === holder, CLAIM.DRAWS, message);
    }
  }

  function inProgress(state, number) {
    need(state.current, CLAIM.PROGRESS, "no round is in progress");
    need(state.current.open.round === number, CLAIM.PROGRESS, "entry of another round");
    return state.current;
  }

  function beforeReveal(state, number) {
    const round = inProgress(state, number);
    need(!round.revealed, CLAIM.PROGRESS, "the round was revealed already");
    return round;
  }

  function afterReveal(state, number) {
    const round = inProgress(state, number);
    need(round.revealed, CLAIM.PROGRESS, "the round was not revealed yet");
    return round;
  }

  const ascend = (numbers) => numbers.every((number, i) => !i || numbers[i - 1] < number);

  return { open, redeal, commit, reveal, afterReveal };
});

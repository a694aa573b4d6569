// The second half of a round: verdict, apply, pay; and release, between rounds. docs/SPEC.md, 3.8 to 3.10, 3.13, 4.3, 4.4.
podltVerify.define("rules_judging", function (use) {
  "use strict";
  const { need, CLAIM } = use("claims");
  const { latin1 } = use("bytes");
  const { afterReveal } = use("rules_rounds");

  // Who gave another result than the accepted one, ascending.
  function differing(results, accepted) {
    return [...results].filter(([, update]) => update !== accepted).map(([worker]) => worker).sort((a, b) => a - b);
  }

  // 4.3: the judgement on results, where the manager found `executed` if it executed the task.
  function judge(results, votes, own, executed) {
    const counts = new Map();
    for (const update of results.values()) counts.set(update, (counts.get(update) ?? 0) + 1);
    let best = null;
    for (const [update, times] of counts) if (best === null || times > counts.get(best)) best = update;
    if (counts.size === 1 && (!own || executed === best)) {
      return { outcome: "agree", reason: own ? "own" : "compared", accepted: best, convicted: [] };
    }
    if (counts.size > 1 && votes && results.size === 3 && counts.get(best) === 2) {
      return { outcome: "vote", reason: "compared", accepted: best, convicted: differing(results, best) };
    }
    const reason = counts.size > 1 ? "differ" : "own";
    return { outcome: "referee", reason, accepted: executed, convicted: differing(results, executed) };
  }

  function verdict(state, entry) {
    const round = afterReveal(state, entry.round);
    const { answers, own, toJudge, verdicts } = round.revealed;
    need(!round.applied, CLAIM.PROGRESS, "the round's update was applied already");
    need(entry.shard < round.open.shards.length, CLAIM.VERDICTS, "no such shard");
    need(!verdicts.has(entry.shard), CLAIM.VERDICTS, "a second verdict on a shard");
    const results = answers.get(entry.shard);
    const accepted = latin1(entry.accepted);
    let due;
    if (entry.reason === "suspect") {
      due = { outcome: "referee", reason: "suspect", accepted, convicted: differing(results, accepted) };
    } else {
      need(toJudge.has(entry.shard), CLAIM.VERDICTS, "no verdict on the shard is due");
      due = judge(results, state.options.preset === "classic", own.has(entry.shard), accepted);
    }
    const said = entry.outcome === due.outcome && entry.reason === due.reason && accepted === due.accepted;
    const same = said && String(entry.convicted) === String(due.convicted);
    need(same, CLAIM.VERDICTS, "another verdict than the results give");
    verdicts.set(entry.shard, entry);
  }

  function judged(state, number) {
    const round = afterReveal(state, number);
    const { toJudge, verdicts } = round.revealed;
    const all = [...toJudge].every((shard) => verdicts.has(shard));
    need(all, CLAIM.VERDICTS, "the round's check has no verdict");
    return round;
  }

  function apply(state, entry) {
    const round = judged(state, entry.round);
    need(!round.applied, CLAIM.PROGRESS, "no update is due");
    need(Number.isFinite(entry.loss), CLAIM.PROGRESS, "the loss is not finite");
    const parts = entry.clipped;
    const fitting = parts.every(({ shard, part }, i) => {
      const before = parts[i - 1];
      const later = !before || shard > before.shard || (shard === before.shard && part > before.part);
      return later && shard < round.open.shards.length;
    });
    need(fitting, CLAIM.PROGRESS, "what was clipped is not in order");
    need(state.options.clip > 0 || !parts.length, CLAIM.PROGRESS, "nothing is clipped in this run");
    round.applied = true;
    state.parameters = entry.parameters.slice();
  }

  // Worker -> its credits of the round in progress, in the order of the seats.
  function earnedIn(state, { lengthOf, revealed }) {
    const earned = new Map();
    for (const { seat, holder } of revealed.opened) {
      const credit = state.begin.reward * lengthOf(revealed.seats.get(seat));
      if (!earned.has(holder)) earned.set(holder, []);
      earned.get(holder).push(credit);
    }
    return earned;
  }

  function pay(state, entry) {
    const round = judged(state, entry.round);
    need(round.applied, CLAIM.PROGRESS, "the round's update is not applied");
    const { answers, toJudge, verdicts } = round.revealed;
    const convicted = new Set([...verdicts.values()].flatMap((one) => one.convicted));
    const earned = earnedIn(state, round);
    const owed = state.ledger.owed(earned, convicted, state.goneLong());
    need(sameTransfers(entry.transfers, owed), CLAIM.PAYMENTS, "the round pays other than the rules owe");
    state.ledger.pay(owed, earned, convicted);
    const passed = new Set([...toJudge].flatMap((shard) => [...answers.get(shard).keys()]));
    for (const worker of passed) if (!convicted.has(worker)) state.workers.get(worker).checksPassed += 1;
    for (const worker of convicted) convict(state, worker);
    state.roster.remove([...convicted, ...round.departed]);
    endRound(state, round.open.examples);
  }

  // 4.3: the first conviction suspends, if the run's options say so; any other evicts.
  function convict(state, worker) {
    const known = state.workers.get(worker);
    const last = state.options.first_fault === "evict" || known.convictions > 0;
    known.status = last ? "evicted" : "suspended";
    known.convictions += 1;
    known.left = state.round + 1;
  }

  function endRound(state, examples) {
    const { leavers } = state;
    while (state.leaversPaid < leavers.length && leavers[state.leaversPaid][0] + state.options.escrow <= state.round) {
      state.leaversPaid += 1;
    }
    for (const [worker, level] of state.pendingLevels) state.roster.setLevel(worker, level);
    state.pendingLevels = new Map();
    state.current = null;
    state.round += 1;
    state.partMeasured = false;
    state.offset += examples;
    if (state.offset === state.begin.examples) {
      state.epoch += 1n;
      state.offset = 0n;
    }
  }

  function sameTransfers(said, owed) {
    const same = (a, b) => a.kind === b.kind && a.worker === b.worker && a.amount === b.amount;
    return said.length === owed.length && said.every((one, i) => same(one, owed[i]));
  }

  function release(state, entry) {
    need(!state.current, CLAIM.PROGRESS, "pay and deposits are released between rounds only");
    const { transfers } = entry;
    const order = transfers.map(({ kind, worker }) => (kind === "return" ? 2 ** 20 : 0) + worker);
    const ordered = order.length > 0 && order.every((place, i) => !i || order[i - 1] < place);
    const known = ordered && transfers.every(({ worker }) => state.workers.has(worker));
    need(known, CLAIM.PAYMENTS, "pay and deposits are released to known workers, in order");
    for (const { kind, worker, amount } of transfers) {
      const most = kind === "vest" ? state.vestable(worker) : state.returnable(worker);
      const whole = (kind === "vest" || kind === "return") && amount === most && amount > 0n;
      need(whole, CLAIM.PAYMENTS, `worker ${worker} is given other than it may be`);
    }
    state.ledger.post(transfers);
    for (const { kind, worker } of transfers) {
      if (kind === "return" && state.roster.isActive(worker)) state.refunded.add(worker);
    }
  }

  return { verdict, apply, pay, release };
});

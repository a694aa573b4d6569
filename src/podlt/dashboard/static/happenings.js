// What happened in a run, line by line, and what its fakes did.
"use strict";
(() => {
  const P = window.podlt;

  /** Everything that was found, the newest first: a line each. */
  P.happenings = (run, index) => {
    const found = [];
    const last = run.rounds[index]?.r ?? Infinity;
    const to = index >= run.rounds.length - 1 ? Infinity : last;
    for (const message of run.log) {
      if (message.r > to) break;
      if (message.t === "round")
        for (const dispute of message.dis ?? [])
          for (const worker of dispute.con) found.push({ kind: "convicted", message, worker });
      if (message.t === "round" && message.dis)
        for (const dispute of message.dis) if (!dispute.con.length) found.push({ kind: "dispute", message });
      if (message.t === "leave") found.push({ kind: "leave", message });
      if (["resume", "amend", "close", "measure", "shares"].includes(message.t))
        found.push({ kind: message.t, message });
    }
    return found.reverse();
  };

  P.happeningLine = (run, one) => {
    const { message, worker } = one;
    const texts = {
      convicted: () => {
        const status = (message.out ?? []).find(([number]) => number === worker)?.[1] ?? "convicted";
        const cheat = run.cheats[worker];
        return [
          P.el("i", { class: "cell convicted", text: "✕", "aria-hidden": "true" }),
          P.el("button.link", {
            type: "button",
            text: `worker ${worker} convicted`,
            "data-round": message.r,
            "data-worker": worker,
          }),
          `${status}${cheat ? `; simulates ${cheat}` : ""}`,
        ];
      },
      dispute: () => ["", "a shard was decided by the manager; nobody was convicted"],
      leave: () => [
        P.el("i", { class: "cell gone", text: "–", "aria-hidden": "true" }),
        `worker ${message.w} withdrew: ${message.why}`,
      ],
      shares: () => [
        "",
        `shares by measured speed: ${message.lv
          .slice(0, 12)
          .map(([number, level]) => `worker ${number} ${P.share(level)}`)
          .join(", ")}${message.lv.length > 12 ? ", …" : ""}`,
      ],
      resume: () => ["", "the manager resumed the run"],
      amend: () => ["", `terms changed: ${message.why} (${message.epochs} epochs)`],
      close: () => ["", `${message.outcome}${message.why ? `: ${message.why}` : ""}`],
      measure: () => [
        "",
        `epoch ${message.ep + 1}: ${Object.entries(message.m)
          .map(([name, value]) => `${name} ${P.figure(name, value)}`)
          .join(", ")}`,
      ],
    };
    const round = ["convicted", "dispute", "leave"].includes(one.kind) ? message.r : message.r - 1;
    return P.el(
      "li",
      {},
      P.el("span.when", { text: `round ${Math.max(round, 0)}` }),
      P.el(
        "span",
        {},
        texts[one.kind]().map((part) => [part, " "]),
      ),
    );
  };

  P.MOST_EXAMPLES = 60;

  /** Plain words on what each simulated cheater gained, and what its fakes did to the model. */
  P.damage = (run, state) => {
    const cheaters = Object.entries(run.cheats).map(([number, kind]) => ({
      number: Number(number),
      kind,
      worker: state.workers[number],
      fakes: run.fakes.get(Number(number)),
    }));
    if (!cheaters.length) return null;
    const applied = cheaters.reduce((sum, one) => sum + (one.fakes?.applied ?? 0), 0);
    const given = cheaters.reduce((sum, one) => sum + (one.fakes?.given ?? 0), 0);
    const sentence = (one) => {
      if (!one.fakes) return "has not cheated yet.";
      const caught = one.worker?.caught ?? -1;
      const how =
        caught >= 0
          ? `was caught in round ${caught}, after ${P.plural(caught - one.fakes.first + 1, "round")} as a cheater`
          : "is not caught yet";
      const lost = one.worker?.forfeited ? `; it lost ${P.plural(one.worker.forfeited, "credit")}` : "";
      const gained = one.worker?.vested
        ? ` and keeps ${P.plural(one.worker.vested, "credit")}`
        : caught >= 0
          ? " and gained nothing"
          : "";
      return `${how}${lost}${gained}. ${one.fakes.applied} of its ${P.plural(one.fakes.given, "fake")} went into the model.`;
    };
    return [
      P.el("p", {
        text: given
          ? `${applied} of ${P.plural(given, "fake")} went into the model before their workers were caught: ${P.percent(applied / Math.max(1, state.totals.useful), 2)} of its ${P.int(state.totals.useful)} updates. They stay in it; the test figures are those of the model with them.`
          : "Nobody has cheated yet.",
      }),
      P.el(
        "ul.cheaters",
        {},
        cheaters
          .slice(0, 20)
          .map((one) => P.el("li", {}, P.el("b", { text: `Worker ${one.number}` }), ` (${one.kind}) ${sentence(one)}`)),
      ),
      P.el("p.soft", {
        text: "Who simulates a cheat is the manager's word, and no part of the proof: an audit finds fakes by executing their tasks again.",
      }),
    ];
  };
})();

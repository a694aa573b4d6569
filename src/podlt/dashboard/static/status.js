// Where a run is, and its figures at a glance.
"use strict";
(() => {
  const P = window.podlt;

  P.runPath = (run) => run.header.path ?? "RUN";

  P.epochText = (run, index) => {
    const round = run.rounds[index ?? run.rounds.length - 1];
    return round ? `epoch ${round.ep + 1} of ${run.epochs}` : "";
  };

  /** Where a run is: a word, a kind for its colour, and more for people. */
  P.status = (run) => {
    const phase = run.newest.phase;
    if (run.newest.broken) return { word: "log breaks the rules", kind: "bad" };
    if (run.closed) {
      const stopped = run.closed.outcome !== "complete";
      const more = run.closed.why || (run.closed.early && `ended early: ${run.closed.early}`);
      return { word: run.closed.outcome, kind: stopped ? "warn" : "good", more };
    }
    if (phase?.what === "ended") return { word: "stopped", kind: "warn", more: phase.why || "its process has ended" };
    if (phase?.what === "waiting for workers")
      return { word: "waiting for workers", kind: "warn", more: `${phase.done} of ${phase.total} are there` };
    if (phase && phase.what !== "training") return { word: "preparing", kind: "live", more: phase.what };
    if (phase) return { word: "training", kind: "live" };
    return {
      word: "not finished",
      kind: "warn",
      more: run.rounds.length ? `last round at ${P.time(run.rounds.at(-1).at)}` : "",
    };
  };

  const tile = (label, value, note, mark) =>
    P.el(
      "div.tile",
      {},
      P.el("div.label", {}, label, mark && " ", mark),
      P.el("div.value", { text: value }),
      P.el("div.note", {}, note),
    );

  const mainFigure = (metrics) => {
    const names = Object.keys(metrics ?? {});
    return (
      ["accuracy", "auc"].find((name) => names.includes(name)) ??
      names.find((name) => !name.startsWith("val_") && name !== "loss") ??
      names.find((name) => name === "loss")
    );
  };

  P.tiles = (run, index, state) => {
    const round = run.rounds[index];
    const { totals } = state;
    const name = mainFigure(state.measured?.m);
    const spare = totals.tasks ? (totals.tasks - totals.useful) / totals.tasks : NaN;
    const active = state.workers.filter((worker) => worker?.status === "active").length;
    const speed = run.spent.seconds
      ? totals.examples / run.rounds.slice(0, index + 1).reduce((sum, one) => sum + (run.figures.get(one.r)?.s ?? 0), 0)
      : NaN;
    const shown = [];
    if (name)
      shown.push(
        tile(
          `test ${name}`,
          P.figure(name, state.measured.m[name]),
          `after epoch ${state.measured.ep + 1}, in the log`,
        ),
      );
    shown.push(
      tile(
        "training loss",
        P.num(round?.loss),
        round ? `round ${round.r}, ${P.epochText(run, index)}` : "no round yet",
      ),
    );
    shown.push(
      tile(
        "examples / s",
        Number.isFinite(speed) ? P.int(speed) : "–",
        P.plural(totals.examples, "example") + " so far",
        P.word(),
      ),
    );
    shown.push(
      tile(
        "workers",
        `${active} / ${run.width}`,
        totals.left ? `${P.plural(totals.left, "withdrawal")}, no fraud` : "nobody withdrew",
      ),
    );
    shown.push(tile("checked, equal", P.int(totals.agree), `${P.int(totals.own)} executed by the manager`));
    shown.push(
      tile(
        "convicted",
        P.int(totals.convicted),
        totals.convicted ? "each can be repeated: below" : "no result differed",
        null,
      ),
    );
    const share = run.spent.compute ? run.spent.proof / (run.spent.compute + run.spent.proof) : NaN;
    shown.push(
      tile(
        "cost of the proof",
        P.percent(spare),
        `of the tasks repeat another${Number.isFinite(share) ? `; ${P.percent(share, 0)} of the work is hashes, signatures, log` : ""}`,
      ),
    );
    if (run.newest.disk)
      shown.push(
        tile("disk", P.bytes(run.newest.disk.bytes), run.begin ? `${P.int((round?.e?.[1] ?? 0) + 1)} log entries` : ""),
      );
    return shown;
  };
})();

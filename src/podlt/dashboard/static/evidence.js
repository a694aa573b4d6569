// What a conviction rests on, and the life of a worker.
"use strict";
(() => {
  const P = window.podlt;

  /** The evidence of a conviction, and how to repeat it. */
  P.evidence = (run, round, worker) => {
    const disputes = (round.dis ?? []).filter((one) => one.con.includes(worker));
    if (!disputes.length) return P.openWorker(run, round, worker);
    const path = P.runPath(run);
    const why = {
      own: "the manager executes this shard whatever the results are",
      differ: "two results differed, so the manager executed the task",
      suspect: "the update stood out, so the manager executed the task",
      compared: "three results were compared",
    };
    P.dialog(
      `Worker ${worker} was convicted in round ${round.r}`,
      disputes.map((one) => [
        P.el("p", {
          text: `Its result for shard ${one.f} (examples ${P.int(one.n[0])} to ${P.int(one.n[1])} of the epoch's order) is not the accepted one. Decided by ${one.by === "vote" ? "two of three results" : "the manager's own execution"}: ${why[one.why] ?? one.why}.`,
        }),
        P.el(
          "div.scroll",
          { tabindex: "0" },
          P.el(
            "table",
            {},
            P.el(
              "thead",
              {},
              P.el(
                "tr",
                {},
                ["who", "result (digest of the update)", "commitment that it signed", ""].map((text) =>
                  P.el("th", { text }),
                ),
              ),
            ),
            P.el(
              "tbody",
              {},
              one.by === "referee" &&
                P.el(
                  "tr",
                  {},
                  P.el("td", { text: "manager" }),
                  P.el("td", {}, P.el("code", { text: one.acc })),
                  P.el("td", { text: "–" }),
                  P.el("td", { text: "accepted" }),
                ),
              one.ans.map(([who, seat, operator, , update, commitment]) =>
                P.el(
                  "tr",
                  {},
                  P.el("td", {
                    text: `worker ${who}${operator ? ` (${operator})` : ""}${seat === who ? "" : `, for worker ${seat}`}`,
                  }),
                  P.el("td", {}, P.el("code", { text: update })),
                  P.el("td", {}, P.el("code", { text: commitment })),
                  P.el(
                    "td",
                    {},
                    one.con.includes(who)
                      ? P.el("b.bad", { text: "✕ differs: convicted" })
                      : update === one.acc
                        ? "= equal"
                        : "differs",
                  ),
                ),
              ),
            ),
          ),
        ),
        P.el(
          "dl",
          {},
          P.el("dt", { text: "task" }),
          P.el("dd", {}, P.el("code", { text: one.task })),
          P.el("dt", { text: "log entry" }),
          P.el("dd", {
            text: `${P.int(one.entry)} (the verdict); the round is entries ${P.int(round.e[0])} to ${P.int(round.e[1])}`,
          }),
        ),
      ]),
      P.el("h3", { text: "Repeat it" }),
      P.el("p", {
        text: "The task is a pure function of what the log names. Whoever has the data executes it again and gets the same bits:",
      }),
      P.code(`podlt audit ${path} --round ${round.r}`),
      P.code(`podlt show ${path} round ${round.r}`),
    );
  };

  P.openWorker = (run, round, number) => {
    const index = run.rounds.indexOf(round);
    const worker = run.at(index < 0 ? null : index).worker(number);
    const kind = P.KINDS.get(round?.cells[number] ?? " ");
    const past = P.el(
      "div.past",
      { role: "img", "aria-label": `Rounds of worker ${number}` },
      run.rounds.slice(-240).map((one) =>
        P.el("i", {
          class: `cell ${P.KINDS.get(one.cells[number] ?? " ").colour}`,
          title: `round ${one.r}: ${P.KINDS.get(one.cells[number] ?? " ").name}`,
        }),
      ),
    );
    const facts = {
      status: worker.status + (worker.why ? `: ${worker.why}` : ""),
      operator: worker.operator || "nobody else's",
      [`in round ${round?.r ?? "–"}`]: `${kind.name}${kind.text ? `: ${kind.text}` : ""}`,
      tasks: `${P.int(worker.tasks)}, ${P.int(worker.checks)} of them compared and equal`,
      credits: `${P.int(worker.vested)} vested, ${P.int(worker.pending)} in escrow, ${P.int(worker.forfeited)} forfeited`,
      deposit:
        worker.deposit || worker.returned || worker.seized
          ? `${P.int(worker.deposit)} held, ${P.int(worker.returned)} returned, ${P.int(worker.seized)} seized`
          : "",
      key: worker.key,
    };
    const caught = run.rounds.filter((one) => (one.out ?? []).some(([who]) => who === number));
    P.dialog(
      `Worker ${number}`,
      P.el(
        "dl",
        {},
        Object.entries(facts)
          .filter(([, text]) => text)
          .map(([name, text]) => [
            P.el("dt", { text: name }),
            P.el("dd", {}, name === "key" ? P.el("code", { text }) : text),
          ]),
      ),
      P.el("h3", { text: run.rounds.length > 240 ? "Its last 240 rounds" : "Its rounds" }),
      past,
      caught.map((one) =>
        P.el(
          "p",
          {},
          P.el("button.link", {
            type: "button",
            text: `convicted in round ${one.r}: the evidence`,
            on: { click: () => P.evidence(run, one, number) },
          }),
        ),
      ),
      P.code(`podlt show ${P.runPath(run)} worker ${number}`),
    );
  };
})();

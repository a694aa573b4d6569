// Workers as rows, with the ledger: credits by double entry, whose sum is always zero.
"use strict";
(() => {
  const P = window.podlt;

  P.workers = (run, page) => {
    const ledger = P.el("p.ledger");
    const filter = P.el("input", {
      type: "search",
      placeholder: "number, operator, key or status",
      "aria-label": "Which workers",
    });
    const open = (row) => P.openWorker(run, run.rounds[page.index ?? run.rounds.length - 1], row.number);
    const seen = (row, place) => row.seen?.[place] ?? null;
    const columns = [
      {
        key: "number",
        title: "worker",
        number: true,
        show: (row) =>
          P.el("button.link", {
            type: "button",
            text: row.number,
            "aria-label": `Worker ${row.number}`,
            on: { click: () => open(row) },
          }),
      },
      { key: "operator", title: "operator", show: (row) => row.operator || "–" },
      {
        key: "status",
        title: "status",
        show: (row) =>
          P.el("span", {
            class: `status ${row.status}`,
            text:
              { active: "● active", suspended: "✕ suspended", evicted: "✕ evicted", withdrawn: "– withdrawn" }[
                row.status
              ] ?? row.status,
            title: row.why,
          }),
      },
      {
        key: "level",
        title: "share",
        number: true,
        note: "tasks a round, beside the usual worker's",
        show: (row) => P.share(row.level),
      },
      { key: "tasks", title: "tasks", number: true },
      { key: "checks", title: "checks", number: true, note: "compared with another result, and equal" },
      { key: "clipped", title: "clipped", number: true },
      { key: "pending", title: "in escrow", number: true },
      { key: "vested", title: "vested", number: true },
      { key: "forfeited", title: "forfeited", number: true },
      { key: "deposit", title: "deposit", number: true },
      {
        key: "speed",
        title: "examples/s °",
        number: true,
        note: "unproven: as the manager sees it",
        of: (row) => seen(row, 3),
        show: (row) => (row.seen ? P.int(row.seen[3]) : "–"),
      },
      {
        key: "silent",
        title: "last seen °",
        number: true,
        note: "unproven: seconds since anything came from it",
        of: (row) => seen(row, 7),
        show: (row) => (row.seen ? `${P.span(row.seen[7])} ago` : row.lastRound < 0 ? "–" : `round ${row.lastRound}`),
      },
      {
        key: "faults",
        title: "faults °",
        number: true,
        note: "unproven: tasks that were late, commitments that it did not open, messages that were malformed",
        of: (row) => (row.seen ? row.seen[4] + row.seen[8] + row.seen[9] : null),
      },
      {
        key: "conformance",
        title: "conformance",
        note: "a worker is admitted only if its machine gives the golden vectors of the arithmetic",
        of: () => "passed",
        show: () => "passed at joining",
      },
      { key: "key", title: "key", show: (row) => P.el("code", { text: P.short(row.key), title: row.key }) },
    ];
    const table = P.table("Workers", columns, "number");
    filter.addEventListener("input", () => draw());
    const draw = () => {
      const state = run.at(page.index);
      const live = new Map((run.newest.seen?.w ?? []).map((one) => [one[0], one]));
      const wanted = filter.value.trim().toLowerCase();
      const rows = state.workers.filter(Boolean).map((worker) => ({
        ...worker,
        seen: page.index === null ? live.get(worker.number) : undefined,
        class: worker.convictions ? "convicted" : null,
      }));
      const sum = rows.reduce(
        (total, row) => total + row.pending + row.vested + row.deposit + row.returned,
        state.treasury,
      );
      const total = (name) => P.int(rows.reduce((all, row) => all + row[name], 0));
      P.fill(
        ledger,
        "Treasury ",
        P.el("b", { text: P.int(state.treasury) }),
        `; in escrow `,
        P.el("b", { text: total("pending") }),
        "; vested ",
        P.el("b", { text: total("vested") }),
        "; forfeited ",
        P.el("b", { text: total("forfeited") }),
        "; all accounts sum to ",
        P.el("b", { text: P.int(sum) }),
        ".",
      );
      table.show(
        rows.filter(
          (row) =>
            !wanted ||
            [String(row.number), row.operator.toLowerCase(), row.status, row.key].some((text) =>
              text === row.number ? text === wanted : text.includes(wanted),
            ),
        ),
      );
    };
    const box = P.card(
      "Workers and ledger",
      ledger,
      P.el("div.filter", {}, filter),
      table.box,
      P.el("p.soft", { text: "° unproven: the manager's word, not in the log." }),
      P.code(`podlt ledger ${P.runPath(run)} --csv`),
    );
    let shown = "";
    return {
      box,
      show: () => {
        const key = `${run.version} ${page.index}`;
        if (key === shown) return;
        shown = key;
        draw();
      },
    };
  };
})();

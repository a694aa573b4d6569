// A folder of runs: the figures of each side by side, and their test figures in one chart.
"use strict";
(() => {
  const P = window.podlt;
  const COLOURS = ["accent", "second", "third", "cell-clipped", "cell-own", "soft"];

  P.runs = (data) => {
    const metric = (row) =>
      row.metrics
        ? (["accuracy", "auc"].find((name) => name in row.metrics) ?? Object.keys(row.metrics)[0])
        : undefined;
    const columns = [
      {
        key: "name",
        title: "run",
        show: (row) => P.el("a", { href: `#/run/${encodeURIComponent(row.name)}`, text: row.name }),
      },
      {
        key: "status",
        title: "status",
        of: (row) => row.error ?? row.status,
        show: (row) => (row.error ? P.el("span.bad", { text: row.error }) : row.status),
      },
      { key: "started", title: "started", show: (row) => (row.started ? P.time(row.started).slice(0, 16) : null) },
      { key: "model", title: "model", show: (row) => row.model || null },
      { key: "data", title: "data", show: (row) => row.data || null },
      {
        key: "epochs",
        title: "epochs",
        number: true,
        of: (row) => row.epochs?.[0],
        show: (row) => (row.epochs ? row.epochs.join(" / ") : null),
      },
      { key: "rounds", title: "rounds", number: true },
      {
        key: "figure",
        title: "test",
        number: true,
        of: (row) => row.metrics?.[metric(row)],
        show: (row) => (metric(row) ? `${metric(row)} ${P.figure(metric(row), row.metrics[metric(row)])}` : null),
      },
      {
        key: "loss",
        title: "training loss",
        number: true,
        show: (row) => (typeof row.loss === "number" ? P.num(row.loss) : null),
      },
      {
        key: "speed",
        title: "examples/s °",
        number: true,
        note: "unproven: the manager's word",
        show: (row) => (row.speed ? P.int(row.speed) : null),
      },
      {
        key: "workers",
        title: "workers",
        number: true,
        of: (row) => row.workers?.[1],
        show: (row) => (row.workers ? row.workers.join(" / ") : null),
      },
      { key: "convicted", title: "convicted", number: true },
      {
        key: "spare",
        title: "repeated",
        number: true,
        note: "tasks that repeat another",
        show: (row) => (row.spare === undefined ? null : P.percent(row.spare)),
      },
      { key: "disk", title: "disk", number: true, show: (row) => (row.disk ? P.bytes(row.disk) : null) },
    ];
    const table = P.table("Runs", columns, "name");
    const chart = P.chart({
      title: "Test figures",
      x: "epoch",
      value: (found, axis) =>
        axis && P.isPercent(shown) ? `${+(100 * found).toPrecision(4)}%` : P.figure(shown, found),
      note: () => "of the runs that have the most usual one",
    });
    let shown = "";
    const box = P.el(
      "div.overview",
      {},
      P.el("section.card.wide.runs", {}, P.el("h2", { text: "Runs" }), table.box),
      P.el("div.wide", {}, chart.box),
    );
    return {
      box,
      show: () => {
        const rows = data.newest.runs?.rows ?? [];
        table.show(rows);
        const names = rows.map(metric).filter(Boolean);
        const name = [...new Set(names)].sort(
          (a, b) => names.filter((one) => one === b).length - names.filter((one) => one === a).length,
        )[0];
        shown = name ?? "";
        const some = rows.filter((row) => row.series?.some(([, metrics]) => name in metrics)).slice(0, COLOURS.length);
        const x = [...new Set(some.flatMap((row) => row.series.map(([epoch]) => epoch)))].sort((a, b) => a - b);
        chart.show({
          x,
          lines: some.map((row, place) => ({
            label: `${row.name}: ${name}`,
            colour: COLOURS[place],
            points: x.length < 40,
            values: x.map((epoch) => row.series.find(([one]) => one === epoch)?.[1][name] ?? null),
          })),
        });
      },
    };
  };
})();

// The lines of the charts: loss, test figures, seconds; and where the work went.
"use strict";
(() => {
  const P = window.podlt;

  const losses = (run) => {
    const rounds = P.thin(run.rounds, 3000);
    const x = rounds.map((one) => one.r);
    const raw = rounds.map((one) => one.loss);
    const tested = new Map(run.measures.filter((one) => "loss" in one.m).map((one) => [one.r - 1, one.m.loss]));
    const held = new Map(run.measures.filter((one) => "val_loss" in one.m).map((one) => [one.r - 1, one.m.val_loss]));
    for (const one of run.figures.values()) if (one.m && "val_loss" in one.m) held.set(one.r, one.m.val_loss);
    const all = [...new Set([...x, ...tested.keys(), ...held.keys()])].sort((a, b) => a - b);
    const put = (keys, values) => {
      const found = new Map(keys.map((key, place) => [key, values[place]]));
      return all.map((key) => found.get(key) ?? null);
    };
    const lines = [
      { label: "training", values: put(x, raw), colour: "accent", thin: true },
      { label: "smoothed", values: put(x, P.smooth(raw)), colour: "accent" },
    ];
    if (tested.size)
      lines.push({ label: "test", values: all.map((key) => tested.get(key) ?? null), colour: "second", points: true });
    if (held.size)
      lines.push({
        label: "validation",
        values: all.map((key) => held.get(key) ?? null),
        colour: "third",
        points: true,
        dash: [4, 3],
      });
    return { x: all, lines };
  };

  const shares = (run) => {
    const names = [...new Set(run.measures.flatMap((one) => Object.keys(one.m)))].filter(
      (name) => !name.endsWith("loss"),
    );
    const good = names
      .filter((name) =>
        P.isShare(
          name,
          run.measures.map((one) => one.m[name] ?? 0),
        ),
      )
      .slice(0, 4);
    const colours = ["second", "third", "accent", "soft"];
    return {
      x: run.measures.map((one) => one.ep + 1),
      percent: good.every(P.isPercent),
      lines: good.map((name, place) => ({
        label: name,
        values: run.measures.map((one) => one.m[name] ?? null),
        colour: colours[place],
        points: true,
        dash: name.startsWith("val_") ? [4, 3] : undefined,
      })),
    };
  };

  const times = (run) => {
    const found = P.thin(
      [...run.figures.values()].sort((a, b) => a.r - b.r),
      3000,
    );
    if (!found.length) return { x: [], lines: [] };
    const raw = found.map((one) => one.s);
    const cap = [...raw].sort((a, b) => a - b)[Math.floor(0.98 * (raw.length - 1))] * 1.6;
    const cut = raw.map((value) => Math.min(value, cap));
    return {
      x: found.map((one) => one.r),
      lines: [
        { label: "seconds a round", values: cut, colour: "accent", thin: true },
        { label: "smoothed", values: P.smooth(cut), colour: "accent" },
      ],
    };
  };

  const work = (run) => {
    const { compute, proof, seconds, rounds } = run.spent;
    if (!compute) return null;
    const share = proof / (compute + proof);
    return P.el(
      "div.split",
      {},
      P.el(
        "div.bar",
        { role: "img", "aria-label": `${P.percent(1 - share)} tasks, ${P.percent(share)} proof` },
        P.el("span.tasks", { "data-share": (1 - share).toFixed(3) }),
        P.el("span.proof", { "data-share": share.toFixed(3) }),
      ),
      P.el("p.soft", {
        text: `Work over all processes: ${P.span(compute)} executing tasks (${P.percent(1 - share, 0)}), ${P.span(proof)} hashes, signatures, comparisons (${P.percent(share, 0)}). ${P.plural(rounds, "round")} took ${P.span(seconds)}.`,
      }),
    );
  };

  P.curves = { losses, shares, times, work };
})();

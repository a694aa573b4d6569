// Line charts, by uPlot, in the page's colours. A click goes to that round.
"use strict";
(() => {
  const P = window.podlt;

  /** The exponential mean of a sequence, without a bias towards zero at its start (Kingma and Ba, 2015, section 3). */
  P.smooth = (values, rate = 0.12) => {
    let [mean, weight] = [0, 0];
    return values.map((value) => {
      if (value === null) return null;
      mean += rate * (value - mean);
      weight += rate * (1 - weight);
      return mean / weight;
    });
  };

  /** Between the marks of an axis of rounds or epochs: there is nothing between two of them. */
  const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((factor) => factor * 10 ** power));

  /** Every n-th of a sequence of points, where there are more than a screen shows. */
  P.thin = (points, most = 4000) => {
    const step = Math.ceil(points.length / most);
    return step > 1 ? points.filter((_, place) => place % step === 0 || place === points.length - 1) : points;
  };

  /**
   * A chart of lines. `show({x, lines})` draws: each line has label, values, colour (of the theme), and dash, points, thin.
   * Options: title, note, x (the axis' name), value(v), click(x).
   */
  P.chart = ({ title, note, x, value = P.num, click }) => {
    const legend = P.el("div.legend");
    const holder = P.el("div.plot", { role: "img", "aria-label": title });
    const empty = P.el("p.empty", { text: "Nothing yet." });
    const said = P.el("span.soft", {});
    const box = P.el("section.card.chart", {}, P.el("h2", {}, title, " ", said), legend, holder, empty);
    let [plot, data, shape] = [null, null, ""];
    const high = () => Math.round(190 * P.scale());

    const axis = (more) => ({
      stroke: P.colour("soft"),
      font: `${Math.round(11 * P.scale())}px system-ui, sans-serif`,
      size: 46 * P.scale(),
      gap: 4,
      grid: { stroke: P.colour("grid"), width: 1 },
      ticks: { stroke: P.colour("grid"), width: 1, size: 4 },
      ...more,
    });
    const make = () => {
      plot?.destroy();
      const series = data.lines.map((line) => ({
        label: line.label,
        stroke: P.colour(line.colour),
        width: line.thin ? 1 : 2,
        dash: line.dash,
        spanGaps: true,
        alpha: line.thin ? 0.45 : 1,
        points: { show: Boolean(line.points), size: 6, fill: P.colour("card"), stroke: P.colour(line.colour) },
      }));
      const ticks = (self, found) =>
        found.map((tick) =>
          tick >= 1e6 ? `${tick / 1e6}M` : tick >= 1e4 ? `${tick / 1e3}k` : String(+tick.toPrecision(6)),
        );
      const room = (self, low, high) => {
        if (low === null) return [0, 1];
        const pad = (high - low || Math.abs(high) || 1) * 0.06;
        return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
      };
      const options = {
        width: Math.max(120, holder.clientWidth),
        height: high(),
        series: [{}, ...series],
        scales: { x: { time: false }, y: { range: room } },
        axes: [
          axis({ values: ticks, incrs: WHOLE, size: 24 * P.scale(), space: 60 * P.scale() }),
          axis({ values: (self, found) => found.map((tick) => value(tick, true)), size: 50 * P.scale() }),
        ],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
        hooks: { setCursor: [(self) => say(self.cursor.idx)] },
      };
      plot = new window.uPlot(options, [data.x, ...data.lines.map((line) => line.values)], holder);
      if (click)
        plot.over.addEventListener("click", () => {
          if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) click(plot.data[0][plot.cursor.idx]);
        });
    };
    const say = (place) => {
      const at = place ?? null;
      P.fill(
        legend,
        data.lines.map((line) => {
          const found = at === null ? line.values.findLast((one) => one !== null) : line.values[at];
          const mark = P.el("i", { class: `line ${line.dash ? "dashed" : ""} ${line.colour}` });
          return P.el("span.key", {}, mark, `${line.label} `, P.el("b", { text: value(found ?? NaN) }));
        }),
        P.el("span.soft.at", { text: at === null ? "" : `${x} ${P.int(data.x[at])}` }),
      );
    };
    new ResizeObserver(() => {
      if (plot && holder.clientWidth > 0) plot.setSize({ width: holder.clientWidth, height: high() });
    }).observe(holder);
    P.onTheme.push(() => {
      if (data && plot) make();
    });
    return {
      box,
      show: (found) => {
        data = found;
        said.textContent = note ? note(found) : "";
        const some = found.x.length > 0 && found.lines.length > 0;
        empty.hidden = some;
        holder.hidden = legend.hidden = !some;
        if (!some) return;
        const now = JSON.stringify(found.lines.map((line) => [line.label, line.colour]));
        if (!plot || now !== shape) {
          shape = now;
          make();
        } else plot.setData([found.x, ...found.lines.map((line) => line.values)]);
        say(null);
      },
    };
  };
})();

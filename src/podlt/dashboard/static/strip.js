// The proof as a picture: rounds from left to right, workers from top to bottom, and what each was in each round.
"use strict";
(() => {
  const P = window.podlt;

  /** What a worker was in a round, by the recorder's letter; of several in one dot, the last here is shown. */
  P.KINDS = new Map([
    [" ", { rank: 0, name: "not there", mark: "", colour: "none" }],
    ["-", { rank: 1, name: "idle", mark: "", colour: "idle" }],
    [
      "u",
      {
        rank: 2,
        name: "useful",
        mark: "",
        colour: "useful",
        text: "its update went into the model; nobody compared it",
      },
    ],
    [
      "c",
      {
        rank: 3,
        name: "checked",
        mark: "=",
        colour: "checked",
        text: "another worker executed the same task, and the results are equal",
      },
    ],
    [
      "o",
      {
        rank: 4,
        name: "own",
        mark: "m",
        colour: "own",
        text: "the manager executed the same task itself, and the results are equal",
      },
    ],
    ["g", { rank: 5, name: "gone", mark: "–", colour: "gone", text: "left within the round; no fraud" }],
    [
      "k",
      {
        rank: 6,
        name: "clipped",
        mark: "↓",
        colour: "clipped",
        text: "its update was far larger than the others and was scaled down",
      },
    ],
    [
      "x",
      {
        rank: 7,
        name: "convicted",
        mark: "✕",
        colour: "convicted",
        text: "gave another result than its task's, by the manager's own execution",
      },
    ],
  ]);
  const BY_RANK = [...P.KINDS.keys()];
  const SHOWN = ["u", "c", "o", "k", "x", "g"];

  P.legend = (counts) =>
    P.el(
      "ul.keys",
      {},
      SHOWN.map((letter) => {
        const kind = P.KINDS.get(letter);
        const mark = P.el("i", { class: `cell ${kind.colour}`, text: kind.mark, "aria-hidden": "true" });
        return P.el(
          "li",
          { title: kind.text },
          mark,
          kind.name,
          counts && P.el("b", { text: ` ${P.int(counts[letter] ?? 0)}` }),
        );
      }),
    );

  P.count = (cells) => {
    const counts = {};
    for (const cell of cells) counts[cell] = (counts[cell] ?? 0) + 1;
    return counts;
  };

  const tasks = (round, worker) => {
    const count = P.tasksIn(round, worker);
    return count > 1 ? `, ${count} tasks` : "";
  };

  const rgb = (text) => {
    const found = /^#(..)(..)(..)$/.exec(text) ?? ["", "88", "88", "88"];
    return found.slice(1).map((part) => parseInt(part, 16));
  };

  /** The ranks of all cells in so many columns and rows: where several share one, the highest. */
  const ranks = (run, columns, rows) => {
    const { rounds, width } = run;
    const found = new Uint8Array(columns * rows);
    const rankOf = new Map([...P.KINDS].map(([letter, kind]) => [letter.charCodeAt(0), kind.rank]));
    const place = Array.from({ length: width }, (_, worker) => Math.floor((worker * rows) / width) * columns);
    for (let index = 0; index < rounds.length; index += 1) {
      const column = Math.floor((index * columns) / Math.max(rounds.length, 1));
      const { cells } = rounds[index];
      for (let worker = 0; worker < cells.length; worker += 1) {
        const rank = rankOf.get(cells.charCodeAt(worker)) ?? 0;
        const at = place[worker] + column;
        if (rank > found[at]) found[at] = rank;
      }
    }
    return found;
  };

  P.strip = (run, { select, open }) => {
    let at = null;
    let frame = { left: 44, top: 6, width: 0, height: 0, columns: 1 };
    let drawn = "";
    let image = null;
    const view = P.canvas("Rounds against workers", (canvas, width) => draw(canvas, width));
    view.box.classList.add("strip");

    const paint = (ratio) => {
      const { rounds } = run;
      const columns = Math.min(rounds.length, Math.max(1, Math.floor(frame.width * ratio)));
      const rows = Math.min(run.width, Math.max(1, Math.floor(frame.height * ratio)));
      const found = ranks(run, columns, rows);
      const colours = BY_RANK.map((letter) =>
        letter === " " ? null : rgb(P.colour(`cell-${P.KINDS.get(letter).colour}`)),
      );
      const pixels = new ImageData(columns, rows);
      for (let place = 0; place < found.length; place += 1) {
        const colour = colours[found[place]];
        if (colour) pixels.data.set([...colour, 255], 4 * place);
      }
      image = document.createElement("canvas");
      [image.width, image.height] = [columns, rows];
      image.getContext("2d").putImageData(pixels, 0, 0);
    };

    const draw = (canvas, width) => {
      const count = run.rounds.length;
      const workers = Math.max(run.width, 1);
      const high = Math.round(
        P.scale() * Math.max(120, Math.min(workers * 7, Math.min(window.innerHeight * 0.5, 560))),
      );
      frame = { left: 44 * P.scale(), top: 8, height: high, wide: width - 44 * P.scale() - 8 };
      frame.width = Math.max(1, Math.min(frame.wide, count * 14 * P.scale()));
      const context = P.context(canvas, width, high + 34 * P.scale());
      context.fillStyle = P.colour("well");
      context.fillRect(frame.left, frame.top, frame.wide, high);
      if (!count) return;
      const ratio = window.devicePixelRatio || 1;
      const key = [run.version, frame.width, high, ratio, P.colour("ink")].join();
      if (key !== drawn) {
        paint(ratio);
        drawn = key;
      }
      context.imageSmoothingEnabled = false;
      context.drawImage(image, frame.left, frame.top, frame.width, high);
      gaps(context, count, workers);
      marks(context, count, workers);
      axes(context, count, workers);
      const chosen = at ?? count - 1;
      const x = frame.left + (chosen * frame.width) / count;
      context.strokeStyle = P.colour("ink");
      context.lineWidth = 1.5;
      context.strokeRect(x - 0.5, frame.top - 3, Math.max(frame.width / count, 2) + 1, high + 6);
    };

    /** Lines between cells, where these are large enough. */
    const gaps = (context, count, workers) => {
      const [wide, high] = [frame.width / count, frame.height / workers];
      context.fillStyle = P.colour("well");
      if (wide >= 5)
        for (let index = 1; index < count; index += 1)
          context.fillRect(frame.left + index * wide - 0.5, frame.top, 1, frame.height);
      if (high >= 5)
        for (let worker = 1; worker < workers; worker += 1)
          context.fillRect(frame.left, frame.top + worker * high - 0.5, frame.width, 1);
    };

    /** A cross in a ring at each conviction: seen however small a cell is. */
    const marks = (context, count, workers) => {
      const size = P.scale() * Math.max(3.5, Math.min(7, 0.5 * Math.min(frame.width / count, frame.height / workers)));
      for (let index = 0; index < count; index += 1) {
        for (const [worker] of run.rounds[index].out ?? []) {
          const x = frame.left + ((index + 0.5) * frame.width) / count;
          const y = frame.top + ((worker + 0.5) * frame.height) / workers;
          context.beginPath();
          context.arc(x, y, size + 1.5, 0, 7);
          context.fillStyle = P.colour("cell-convicted");
          context.fill();
          context.lineWidth = 1;
          context.strokeStyle = P.colour("card");
          context.stroke();
          context.beginPath();
          const arm = size * 0.55;
          context.moveTo(x - arm, y - arm);
          context.lineTo(x + arm, y + arm);
          context.moveTo(x + arm, y - arm);
          context.lineTo(x - arm, y + arm);
          context.lineWidth = 1.6;
          context.strokeStyle = "#ffffff";
          context.stroke();
        }
      }
    };

    const axes = (context, count, workers) => {
      context.fillStyle = P.colour("soft");
      context.font = `${Math.round(11 * P.scale())}px system-ui, sans-serif`;
      context.textBaseline = "middle";
      context.textAlign = "right";
      const step = nice(workers / Math.max(2, Math.floor(frame.height / (40 * P.scale()))));
      for (let worker = 0; worker < workers; worker += step)
        context.fillText(String(worker), frame.left - 6, frame.top + ((worker + 0.5) * frame.height) / workers);
      context.textAlign = "center";
      context.textBaseline = "top";
      const first = run.rounds[0].r;
      const stride = nice(count / Math.max(2, Math.floor(frame.width / (70 * P.scale()))));
      for (let index = 0; index < count; index += stride)
        context.fillText(
          String(first + index),
          frame.left + ((index + 0.5) * frame.width) / count,
          frame.top + frame.height + 6,
        );
      context.textAlign = "left";
      context.fillText("round", 2, frame.top + frame.height + 6);
    };

    const nice = (step) => {
      const power = 10 ** Math.floor(Math.log10(Math.max(step, 1)));
      return Math.max(
        1,
        [1, 2, 5, 10].map((factor) => factor * power).find((found) => found >= step),
      );
    };

    const hit = (event) => {
      const place = view.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - place.left - frame.left, event.clientY - place.top - frame.top];
      const count = run.rounds.length;
      if (!count || x < 0 || x >= frame.width || y < 0 || y >= frame.height) return null;
      const [wide, high] = [frame.width / count, frame.height / run.width];
      let [index, worker] = [Math.floor(x / wide), Math.floor(y / high)];
      const near = (place, other) => Math.abs((place + 0.5) * wide - x) < 7 && Math.abs((other + 0.5) * high - y) < 7;
      const reach = Math.ceil(7 / wide);
      for (let place = Math.max(0, index - reach); place <= Math.min(count - 1, index + reach); place += 1) {
        for (const [other] of run.rounds[place].out ?? []) if (near(place, other)) [index, worker] = [place, other];
      }
      return { index, worker, round: run.rounds[index], cell: run.rounds[index].cells[worker] ?? " " };
    };
    view.canvas.addEventListener("pointermove", (event) => {
      const found = hit(event);
      view.canvas.style.cursor = found ? "pointer" : "default";
      const kind = found && P.KINDS.get(found.cell);
      P.tip(
        event,
        found &&
          [
            `round ${found.round.r}, worker ${found.worker}`,
            kind.name + tasks(found.round, found.worker),
            found.cell === "x" ? "click: the evidence" : null,
          ].filter(Boolean),
      );
    });
    view.canvas.addEventListener("pointerleave", (event) => P.tip(event, null));
    view.canvas.addEventListener("click", (event) => {
      const found = hit(event);
      if (!found) return;
      select(found.index);
      if (found.cell === "x") open(found.round, found.worker);
    });
    return {
      box: view.box,
      show: (index) => {
        at = index;
        view.again();
      },
    };
  };

  /** One round, large: a square for each worker. */
  P.squares = (run, { open }) => {
    let round = null;
    let grid = { columns: 1, size: 1, gap: 1 };
    const view = P.canvas("Workers in this round", (canvas, width) => draw(canvas, width));
    view.box.classList.add("squares");

    const layout = (width) => {
      const workers = Math.max(run.width, 1);
      const most = Math.min(44 * P.scale(), width);
      let size = most;
      const high = 264 * P.scale();
      while (size > 4 && Math.ceil(workers / Math.floor(width / size)) * size > high) size -= 0.5;
      const columns = Math.max(1, Math.floor(width / size));
      return { columns, size, gap: size > 14 ? 3 : size > 7 ? 1.5 : 0.5, rows: Math.ceil(workers / columns) };
    };

    const draw = (canvas, width) => {
      grid = layout(width);
      const context = P.context(canvas, width, grid.rows * grid.size + 1);
      if (!round) return;
      context.textAlign = "center";
      for (let worker = 0; worker < run.width; worker += 1) {
        const kind = P.KINDS.get(round.cells[worker] ?? " ");
        const x = (worker % grid.columns) * grid.size;
        const y = Math.floor(worker / grid.columns) * grid.size;
        const side = grid.size - grid.gap;
        if (kind.colour === "none" || kind.colour === "gone") {
          context.strokeStyle = P.colour(kind.colour === "gone" ? "cell-gone" : "line");
          context.lineWidth = kind.colour === "gone" && grid.size > 10 ? 2 : 1;
          context.strokeRect(x + 1, y + 1, Math.max(side - 2, 1), Math.max(side - 2, 1));
        } else {
          context.fillStyle = P.colour(`cell-${kind.colour}`);
          context.beginPath();
          context.roundRect(x, y, side, side, grid.size > 14 ? 4 : 0);
          context.fill();
        }
        if (grid.size < 20) continue;
        context.fillStyle = P.colour(
          ["none", "gone", "idle", "useful"].includes(kind.colour) ? "cell-ink" : "cell-strong",
        );
        context.font = `${Math.round(grid.size * 0.27)}px system-ui, sans-serif`;
        context.textBaseline = kind.mark ? "top" : "middle";
        context.fillText(String(worker), x + side / 2, y + (kind.mark ? side * 0.1 : side / 2 + 0.5));
        if (!kind.mark) continue;
        context.font = `700 ${Math.round(grid.size * 0.4)}px system-ui, sans-serif`;
        context.textBaseline = "alphabetic";
        context.fillText(kind.mark, x + side / 2, y + side * 0.86);
      }
    };
    const hit = (event) => {
      const place = view.canvas.getBoundingClientRect();
      const [column, row] = [event.clientX - place.left, event.clientY - place.top].map((offset) =>
        Math.floor(offset / grid.size),
      );
      const worker = row * grid.columns + column;
      return round && column >= 0 && column < grid.columns && worker >= 0 && worker < run.width ? worker : null;
    };
    view.canvas.addEventListener("pointermove", (event) => {
      const worker = hit(event);
      const kind = worker === null ? null : P.KINDS.get(round.cells[worker] ?? " ");
      view.canvas.style.cursor = worker === null ? "default" : "pointer";
      P.tip(event, kind && [`worker ${worker}: ${kind.name}${tasks(round, worker)}`, kind.text].filter(Boolean));
    });
    view.canvas.addEventListener("pointerleave", (event) => P.tip(event, null));
    view.canvas.addEventListener("click", (event) => {
      const worker = hit(event);
      if (worker !== null) open(round, worker);
    });
    return {
      box: view.box,
      show: (found) => {
        round = found;
        const counts = found ? P.count(found.cells) : {};
        const said = SHOWN.filter((letter) => counts[letter])
          .map((letter) => `${counts[letter]} ${P.KINDS.get(letter).name}`)
          .join(", ");
        view.canvas.setAttribute("aria-label", found ? `Round ${found.r}: ${said}` : "No round yet");
        view.again();
      },
    };
  };
})();

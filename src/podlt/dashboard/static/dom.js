// What the other files use: elements, numbers for people, colours of the theme. All text goes in as text, never as HTML.
"use strict";
window.podlt = {};
(() => {
  const P = window.podlt;

  /** An element. `attributes`: class, text, on (event -> handler), and attributes; children may be text, null or arrays. */
  P.el = (name, attributes = {}, ...children) => {
    const [tag, ...classes] = name.split(".");
    const made = document.createElement(tag || "div");
    if (classes.length) made.className = classes.join(" ");
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.classList.add(...value.split(" ").filter(Boolean));
      else if (key === "text") made.textContent = value;
      else if (key === "on")
        for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return made;
  };

  /** Replaces what is in an element, unless it says the same already: so that focus and selection stay. */
  P.fill = (parent, ...children) => {
    const box = document.createElement(parent.tagName);
    box.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    if (parent.innerHTML !== box.innerHTML) parent.replaceChildren(...box.childNodes);
  };

  P.code = (text) => {
    const done = P.el("button.copy", { type: "button", text: "copy", "aria-label": `Copy: ${text}` });
    done.addEventListener("click", () => {
      navigator.clipboard?.writeText(text).then(
        () => {
          done.textContent = "copied";
        },
        () => {
          done.textContent = "select it";
        },
      );
    });
    return P.el("span.command", {}, P.el("code", { text }), done);
  };

  P.word = () => P.el("span.word", { text: "unproven", title: "The manager's word: no entry of the log binds it." });

  const grouped = new Intl.NumberFormat("en-US");
  P.int = (value) => grouped.format(Math.round(value));
  P.num = (value, digits = 4) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size >= 10000) return P.int(value);
    return size >= 100 ? value.toFixed(1) : size && size < 0.001 ? value.toExponential(2) : value.toFixed(digits);
  };
  P.percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)}%` : "–");
  P.bytes = (count) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = 0;
    while (count >= 1024 && place < units.length - 1) {
      count /= 1024;
      place += 1;
    }
    return `${place ? count.toFixed(1) : count} ${units[place]}`;
  };
  P.span = (seconds) => {
    if (!Number.isFinite(seconds) || seconds < 0) return "–";
    if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
    if (seconds < 10) return `${seconds.toFixed(1)} s`;
    if (seconds < 60) return `${Math.round(seconds)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  };
  P.time = (millis) =>
    millis > 0 && millis < 8e15 ? new Date(millis).toISOString().slice(0, 19).replace("T", " ") + " UTC" : "–";
  P.short = (hex, count = 12) => (hex.length > count ? `${hex.slice(0, count)}…` : hex);
  P.plural = (count, noun, ending = "s") => `${P.int(count)} ${noun}${count === 1 ? "" : ending}`;
  P.isShare = (name, values) => name !== "loss" && values.every((value) => value >= 0 && value <= 1);
  P.isPercent = (name) => /accuracy|recall|precision|f1/i.test(name);
  P.figure = (name, value) => (P.isPercent(name) ? P.percent(value, 2) : P.num(value));

  /** How large text is, beside that of an ordinary screen: canvases follow it. */
  P.scale = () => Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / 14);

  let colours = null;
  P.colour = (name) => {
    colours ??= getComputedStyle(document.documentElement);
    return colours.getPropertyValue(`--${name}`).trim();
  };
  P.onTheme = [];
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = null;
    for (const call of P.onTheme) call();
  });

  /** A canvas as sharp as the screen, drawn again when its place changes its size. */
  P.canvas = (label, draw) => {
    const canvas = P.el("canvas", { role: "img", "aria-label": label });
    const box = P.el("div.canvas", {}, canvas);
    const again = () => {
      const width = box.clientWidth;
      if (width > 0) draw(canvas, width);
    };
    new ResizeObserver(again).observe(box);
    P.onTheme.push(again);
    return { box, canvas, again };
  };
  P.context = (canvas, width, height) => {
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
    }
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  };

  P.tip = (event, lines) => {
    const tip = document.getElementById("tip");
    tip.hidden = !lines;
    if (!lines) return;
    P.fill(
      tip,
      lines.map((line, place) => P.el(place ? "div" : "div.first", { text: line })),
    );
    const [wide, high] = [tip.offsetWidth, tip.offsetHeight];
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - wide - 8))}px`;
    tip.style.top = `${event.clientY + 18 + high > window.innerHeight ? event.clientY - high - 10 : event.clientY + 18}px`;
  };

  P.dialog = (title, ...children) => {
    const dialog = document.getElementById("dialog");
    const close = P.el("button.close", { type: "button", text: "Close", on: { click: () => dialog.close() } });
    dialog.replaceChildren(
      P.el("div.dialog-head", {}, P.el("h2", { id: "dialog-title", text: title }), close),
      P.el("div.dialog-body", {}, children),
    );
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  document.getElementById("dialog").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) event.currentTarget.close();
  });

  /** A table that sorts by a click on a head. columns: {key, title, of(row), show(row), number, note}. */
  P.table = (caption, columns, start) => {
    let [by, down, rows] = [start ?? columns[0].key, false, []];
    const head = P.el("tr");
    const body = P.el("tbody");
    const table = P.el("table", {}, P.el("caption.hidden", { text: caption }), P.el("thead", {}, head), body);
    const draw = () => {
      const column = columns.find((one) => one.key === by);
      const value = column.of ?? ((row) => row[column.key]);
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order =
          x === y ? 0 : x === null || x === undefined ? 1 : y === null || y === undefined ? -1 : x < y ? -1 : 1;
        return down ? -order : order;
      });
      P.fill(
        head,
        columns.map((one) => {
          const sort = one.key === by ? (down ? "descending" : "ascending") : null;
          const mark = sort ? (down ? " ▾" : " ▴") : "";
          const button = P.el("button", {
            type: "button",
            text: one.title + mark,
            title: one.note,
            "data-key": one.key,
          });
          return P.el(one.number ? "th.number" : "th", { scope: "col", "aria-sort": sort }, button);
        }),
      );
      body.replaceChildren(
        ...sorted.map((row) =>
          P.el(
            "tr",
            { class: row.class },
            columns.map((one) => {
              const shown = one.show ? one.show(row) : (one.of ?? ((each) => each[one.key]))(row);
              const cell = P.el(one.number ? "td.number" : "td", { "data-label": one.title });
              cell.append(
                shown === null || shown === undefined ? "–" : typeof shown === "number" ? P.int(shown) : shown,
              );
              return cell;
            }),
          ),
        ),
      );
    };
    head.addEventListener("click", (event) => {
      const key = event.target.closest("button")?.dataset.key;
      if (!key) return;
      down = key === by ? !down : Boolean(columns.find((one) => one.key === key).number);
      by = key;
      draw();
      head.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
    });
    return {
      box: P.el("div.scroll", { tabindex: "0", role: "region", "aria-label": caption }, table),
      show: (found) => {
        rows = found;
        draw();
      },
    };
  };

  P.card = (title, ...children) => P.el("section.card", {}, title && P.el("h2", {}, title), children);
})();

// What a check found: the conclusion, whose run it is, the claims, what no check can tell, and the entries one by one.
podltVerify.define("page_results", function (use) {
  "use strict";
  const { CLAIM, FAILS, HOLDS, NOT_CHECKED } = use("claims");
  const { element, fill, shown } = use("dom");
  const { grouped } = use("report");
  const PAGE = 50;
  const MARKS = { [HOLDS]: "✓", [FAILS]: "✗", [NOT_CHECKED]: "–" };
  const CLASSES = { [HOLDS]: "pv-holds", [FAILS]: "pv-fails", [NOT_CHECKED]: "pv-open" };

  // Claims about what the reader knows already: on a page that is typed, not an option.
  const GIVEN = new Set([CLAIM.MANAGER, CLAIM.CONTINUITY, CLAIM.WITNESSES]);

  const code = (text) => element("code", {}, shown(text));

  // One line: how many claims hold, fail, were not checked.
  function conclusion({ findings, failure, isRecord }) {
    const number = (outcome) => findings.filter((one) => one.outcome === outcome).length;
    const asked = findings.filter((one) => one.asked && one.outcome === NOT_CHECKED).length;
    const fails = number(FAILS);
    const parts = [`${number(HOLDS)} claims hold`, ...(fails ? [`${fails} FAIL`] : [])];
    parts.push(`${number(NOT_CHECKED)} were not checked` + (asked ? ` (${asked} of these asked for)` : ""));
    const line = element("p", { class: `pv-conclusion ${fails ? "pv-fails" : "pv-holds"}` }, parts.join(", "));
    const record = "One worker: a record of a training; no result was compared with another's.";
    if (!failure) return isRecord ? [line, element("p", {}, record)] : [line];
    const { title } = findings.find(({ claim }) => claim === failure.claim);
    const first = `First of all: claim ${failure.claim} fails, ${title}: ${shown(failure.text)}`;
    return [line, element("p", { class: "pv-first" }, first)];
  }

  function facts(report) {
    const names = { run: "run", manager: "manager's key", recipe: "recipe", data: "data", parameters: "parameters" };
    const rows = Object.entries(report.facts).map(([name, value]) => [element("dt", {}, names[name]), element("dd", {}, code(value))]);
    return element("dl", { class: "pv-facts" }, rows.flat());
  }

  function claims(findings) {
    const rows = findings.map(({ claim, outcome, title, figure, why, remedy }) => {
      const how = GIVEN.has(claim) ? "say it above" : code(remedy);
      const about = outcome === NOT_CHECKED ? [why, ...(remedy ? [": ", how] : [])] : [outcome === FAILS ? why : figure];
      const cells = [
        element("td", { class: "pv-number" }, String(claim)),
        element("td", { class: CLASSES[outcome] }, `${MARKS[outcome]} ${outcome}`),
        element("td", {}, title),
        element("td", { class: outcome === FAILS ? "pv-bad" : "pv-soft" }, about.map((part) => (typeof part === "string" ? shown(part) : part))),
      ];
      return element("tr", { "data-claim": String(claim), "data-outcome": outcome }, cells);
    });
    const heads = ["no.", "outcome", "claim", "what was looked at"].map((name) => element("th", { scope: "col" }, name));
    return element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows));
  }

  function section(title, ...children) {
    return element("section", {}, element("h3", {}, title), children);
  }

  // An entry's path: how its hash leads to the root that the manager signed.
  function path({ leaf, steps, root, size, leads }) {
    const rows = steps.map(({ hash, left }) => element("li", {}, left ? "with, on its left, " : "with, on its right, ", code(hash)));
    const end = leads ? "leads to the root over " : "does NOT lead to the root over ";
    return element(
      "div", { class: "pv-path" },
      element("p", {}, "leaf hash ", code(leaf)), element("ol", {}, rows),
      element("p", { class: leads ? "pv-holds" : "pv-fails" }, `${end}${grouped(size)} entries: `, code(root)),
    );
  }

  // The entries of the log, some at a time.
  class Entries {
    constructor(report, ask) {
      this.report = report;
      this.ask = ask;
      this.first = 0;
      this.rows = element("tbody", {});
      this.where = element("span", { class: "pv-soft" });
      this.detail = element("div", { class: "pv-detail", tabindex: "-1" });
      this.number = element("input", { type: "number", id: "pv-goto", min: "0", max: String(Math.max(0, report.entries - 1)), value: "0" });
      this.before = element("button", { type: "button", click: () => this.move(this.first - PAGE) }, "Earlier");
      this.after = element("button", { type: "button", click: () => this.move(this.first + PAGE) }, "Later");
      const go = element("button", { type: "submit" }, "Show");
      const form = element("form", { class: "pv-form", submit: (event) => this.jump(event) }, element("label", { for: "pv-goto" }, "entry"), this.number, go);
      const heads = ["entry", "kind", "about", "manager's clock"].map((name) => element("th", { scope: "col" }, name));
      const table = element("table", {}, element("thead", {}, element("tr", {}, heads)), this.rows);
      const bar = element("div", { class: "pv-bar" }, this.before, this.after, this.where, form);
      this.box = section("Entries", bar, this.detail, element("div", { class: "pv-scroll" }, table));
    }

    start() {
      this.move(0);
      const { failure } = this.report;
      if (failure && failure.entry !== null && failure.entry < this.report.entries) this.open(failure.entry);
    }

    move(first) {
      const last = Math.max(0, this.report.entries - 1);
      this.first = Math.max(0, Math.min(first, last - (last % PAGE)));
      this.before.disabled = this.first === 0;
      this.after.disabled = this.first + PAGE > last;
      this.ask({ type: "list", first: this.first, most: PAGE });
    }

    jump(event) {
      event.preventDefault();
      const index = Math.floor(Number(this.number.value));
      if (!(index >= 0 && index < this.report.entries)) return;
      this.move(index - (index % PAGE));
      this.open(index);
    }

    open(index) {
      this.ask({ type: "describe", index });
    }

    list(rows) {
      const last = this.first + rows.length - 1;
      this.where.textContent = rows.length ? `${grouped(this.first)} to ${grouped(last)} of ${grouped(this.report.entries)}` : "none";
      const made = rows.map(({ index, kind, about, at }) => {
        const button = element("button", { type: "button", class: "pv-link", click: () => this.open(index) }, grouped(index));
        const when = at > 0 && at < 8.64e15 ? new Date(at).toISOString().replace("T", " ").slice(0, 19) : "";
        return element("tr", {}, [button, shown(kind), shown(about), when].map((cell) => element("td", {}, cell)));
      });
      fill(this.rows, made);
    }

    entry(entry) {
      const fields = JSON.stringify(entry.fields, null, 2);
      fill(
        this.detail, element("h4", {}, `Entry ${grouped(entry.index)}: ${shown(entry.kind)}`), path(entry),
        element("pre", { tabindex: "0", "aria-label": "the entry's fields" }, fields.split("\n").map(shown).join("\n")),
      );
      this.detail.focus();
    }
  }

  // ask: sends a request to the worker that has the bundle; its answers come by `list` and `entry`.
  function results(report, ask) {
    const entries = new Entries(report, ask);
    const unknown = report.unknown.map((sentence) => element("li", {}, shown(sentence)));
    const box = element(
      "div", {},
      section("What the check came to", conclusion(report), facts(report)),
      section("Claims", element("div", { class: "pv-scroll" }, claims(report.findings))),
      section("What no check of a log can tell", element("ul", {}, unknown)),
      entries.box,
    );
    return { box, start: () => entries.start(), list: (rows) => entries.list(rows), entry: (one) => entries.entry(one) };
  }

  return { results };
});

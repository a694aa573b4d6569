// The page of who lends a machine: what it does, what it has earned, what it gives, and three buttons.
"use strict";
(() => {
  const P = window.podlt;

  P.Lender = class {
    constructor() {
      Object.assign(this, { header: {}, newest: {}, version: 0 });
    }

    take(messages) {
      for (const message of messages) {
        if (message.t === "header") this.header = message;
        else this.newest[message.t] = { ...message, came: Date.now() };
      }
      this.version += 1;
    }
  };

  const tile = (label, value, note) =>
    P.el(
      "div.tile",
      {},
      P.el("div.label", { text: label }),
      P.el("div.value", { text: value }),
      P.el("div.note", { text: note }),
    );

  P.lender = (data, page) => {
    const doing = P.el("p.doing");
    const failed = P.el("p.bad", { role: "alert", hidden: true });
    const press = (action) =>
      fetch("action", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ action }),
      }).then(
        (answer) => {
          failed.hidden = answer.ok;
          if (!answer.ok)
            failed.textContent = `Refused (${answer.status}): open the page by the address that the command printed.`;
        },
        () => {
          failed.hidden = false;
          failed.textContent = "The worker does not answer.";
        },
      );
    const pause = P.el("button.action", { type: "button" });
    pause.addEventListener("click", () => press(data.newest.paused?.paused ? "resume" : "pause"));
    const stop = P.el("button.action.stop", { type: "button", text: "Stop after this round" });
    stop.addEventListener("click", () => {
      stop.disabled = true;
      press("stop");
    });
    const figures = P.el("section.tiles", { "aria-label": "Figures" });
    const run = P.el("dl.facts");
    const limits = P.el("dl.facts");
    const commands = P.el("div.commands");
    const lines = P.el("ol.events");
    const columns = [
      { key: "number", title: "worker", number: true, show: (row) => (row.number < 0 ? "–" : P.int(row.number)) },
      { key: "state", title: "state" },
      { key: "tasks", title: "tasks", number: true },
      { key: "vested", title: "vested", number: true },
      { key: "pending", title: "pending", number: true },
      { key: "forfeited", title: "forfeited", number: true },
      { key: "deposit", title: "deposit", number: true },
      { key: "upto", title: "receipts up to entry", number: true },
      { key: "key", title: "key", show: (row) => P.el("code", { text: P.short(row.key), title: row.key }) },
    ];
    const table = P.table("Identities", columns, "number");
    const box = P.el(
      "div.overview",
      {},
      P.el("section.card.wide", {}, P.el("h2", { text: "Now" }), doing, P.el("div.actions", {}, pause, stop), failed),
      figures,
      P.el("section.card.half", {}, P.el("h2", { text: "What runs" }), run),
      P.el("section.card.half", {}, P.el("h2", { text: "What you give" }), limits),
      P.el("section.card.wide", {}, P.el("h2", { text: "Identities and receipts" }), table.box, commands),
      P.el("section.card.wide", {}, P.el("h2", { text: "What happened" }), lines),
    );
    return {
      box,
      show: () => {
        const { progress, ended, terms, learned, status, invited, phase, paused } = data.newest;
        const over =
          phase?.what === "ended" ||
          ["complete", "refused", "declined"].includes(ended?.how) ||
          Boolean(ended && paused?.stopping);
        const now = over ? (ended ?? progress) : progress;
        P.fill(
          doing,
          over
            ? `Ended: ${ended?.reason || ended?.how || phase?.why || "the process is gone"}.`
            : paused?.paused
              ? "Paused by you: it works on when you resume it."
              : paused?.stopping
                ? "Stopping once its round is in the log, so that it is paid."
                : (now?.doing ?? "Starting."),
        );
        P.fill(pause, paused?.paused ? "Resume" : "Pause after this round");
        pause.disabled = over || Boolean(paused?.stopping);
        stop.disabled = over || Boolean(paused?.stopping);
        P.fill(
          figures,
          tile("vested", P.int(now?.vested ?? 0), "credits, yours for good"),
          tile(
            "pending",
            P.int(now?.pending ?? 0),
            terms ? `vests after ${terms.escrow} more tasks each` : "a conviction would forfeit it",
          ),
          tile("tasks", P.int(now?.tasks ?? 0), "done in this run"),
          tile(
            "uptime",
            P.span((Date.now() - data.header.started) / 1000),
            now?.connected === false ? "not connected" : now ? "connected" : "connecting",
          ),
          tile(
            "load",
            status?.load?.[0] !== undefined ? status.load[0].toFixed(2) : "–",
            `of ${data.header.cores ?? "?"} cores, last minute`,
          ),
        );
        const facts = {
          Run: terms?.run ?? learned?.run,
          Model: learned && `${P.bytes(learned.state)} with the optimiser's state, ${learned.arithmetic} arithmetic`,
          Pay:
            terms &&
            `${P.plural(terms.reward, "credit")} an example; ${P.int(terms.examples)} examples, ${P.plural(terms.epochs, "epoch")}, ${P.int(terms.rounds)} rounds at most`,
          Manager: terms?.manager ?? invited?.manager,
          Server: invited?.servers?.join(", "),
        };
        P.fill(
          run,
          Object.entries(facts)
            .filter(([, text]) => text)
            .map(([name, text]) => [P.el("dt", { text: name }), P.el("dd", { text })]),
        );
        P.fill(
          limits,
          Object.entries(data.header.limits ?? {}).map(([name, text]) => [
            P.el("dt", { text: name }),
            P.el("dd", { text }),
          ]),
        );
        const states = data.newest.identities?.of ?? {};
        table.show(
          Object.entries(status?.workers ?? {}).map(([key, one]) => ({
            ...one,
            key,
            state: states[key]?.state?.replaceAll("_", " ") ?? "–",
          })),
        );
        P.fill(
          commands,
          P.el("p.soft", {
            text: "Receipts prove what you earned: compare them with the log that the manager publishes.",
          }),
          P.code(`podlt receipts RUN --folder ${data.header.limits?.Folder ?? "~/.podlt"}`),
        );
        P.fill(
          lines,
          [...(data.newest.lines?.lines ?? [])]
            .reverse()
            .map((one) =>
              P.el(
                "li",
                { class: one.warns ? "bad" : null },
                P.el("span.when", { text: new Date(one.at).toTimeString().slice(0, 8) }),
                P.el("span", { text: one.text }),
              ),
            ),
        );
      },
    };
  };
})();

// The overview: figures, the proof as a picture, the newest round, curves, what happened, and what is trained.
"use strict";
(() => {
  const P = window.podlt;

  P.facts = (run) => {
    const { begin, header } = run;
    const rules =
      begin &&
      (begin.preset === "classic"
        ? "classic: one shard of a round goes to 3 workers, and two outvote the third"
        : `${begin.preset}: ${P.percent(begin.checked / 1e6)} of the shards${begin.checked ? " (at least one a round)" : ""} go to a second worker, ${P.percent(begin.own / 1e6)} to the manager itself; updates beyond ${begin.clip || "no"} times the median are clipped; a first conviction ${begin.first_fault === "suspend" ? "suspends" : "evicts"}`);
    const found = { ...(header.facts ?? {}) };
    if (begin)
      Object.assign(found, {
        Examples: `${P.int(begin.examples)}, ${P.plural(run.epochs, "epoch")}`,
        Rules: rules,
        Escrow: `a credit vests once its worker has ${P.int(begin.escrow)} younger ones, ${P.int(begin.escrow)} rounds after it left, or at the end; ${P.plural(begin.reward, "credit")} an example`,
        Started: P.time(begin.at),
      });
    for (const [name, text] of Object.entries(run.newest.witnesses?.of ?? {})) found[`Witness ${name}`] = text;
    const digests = begin ? { Run: begin.run, ...begin.digests } : {};
    return [
      P.el(
        "dl.facts",
        {},
        Object.entries(found).map(([name, text]) => [P.el("dt", { text: name }), P.el("dd", { text })]),
      ),
      P.el(
        "details",
        {},
        P.el("summary", { text: "Digests" }),
        P.el(
          "dl.facts",
          {},
          Object.entries(digests).map(([name, text]) => [
            P.el("dt", { text: name }),
            P.el("dd", {}, P.el("code", { text })),
          ]),
        ),
      ),
    ];
  };

  P.overview = (run, page) => {
    const box = P.el("div.overview");
    const figures = P.el("section.tiles", { "aria-label": "Figures" });
    const select = (index) => page.select(index);
    const open = (round, worker) =>
      round.out?.some(([who]) => who === worker) ? P.evidence(run, round, worker) : P.openWorker(run, round, worker);
    const strip = P.strip(run, { select, open });
    const squares = P.squares(run, { open });
    const slider = P.el("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Round" });
    const live = P.el("button.live", { type: "button", text: "Newest" });
    const back = P.el("button", { type: "button", text: "‹", "aria-label": "Round before" });
    const on = P.el("button", { type: "button", text: "›", "aria-label": "Next round" });
    slider.addEventListener("input", () => select(Number(slider.value)));
    live.addEventListener("click", () => page.select(null));
    back.addEventListener("click", () => select(Math.max(0, (page.index ?? run.rounds.length - 1) - 1)));
    on.addEventListener("click", () =>
      select(Math.min(run.rounds.length - 1, (page.index ?? run.rounds.length - 1) + 1)),
    );
    const counts = P.el("div");
    const named = P.el("h2");
    const said = P.el("p.said");
    const list = P.el("ol.events");
    list.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-round]");
      const round = button && run.rounds.find((one) => one.r === Number(button.dataset.round));
      if (round) P.evidence(run, round, Number(button.dataset.worker));
    });
    const toRound = (r) => select(run.rounds.findIndex((one) => one.r === r));
    const loss = P.chart({
      title: "Loss",
      x: "round",
      click: toRound,
      note: (found) => (found.lines.length > 2 ? "training against test" : "training"),
    });
    let inPercent = true; // unless a figure among them is none, such as a cost of one's own
    const tests = P.chart({
      title: "Test figures",
      x: "epoch",
      value: (found, axis) =>
        inPercent
          ? axis
            ? P.percent(found, 1).replace(".0%", "%")
            : P.percent(found, 2)
          : P.num(found, axis ? 2 : 4),
      note: () => "as logged after each epoch",
    });
    const pace = P.chart({
      title: "Seconds a round",
      x: "round",
      click: toRound,
      value: (found) => P.span(found),
      note: () => "the manager's word",
    });
    const spent = P.el("div");
    const facts = P.el("div");
    const harm = P.el("div");
    const harmCard = P.el("section.card.harm", { hidden: true }, P.el("h2", { text: "What the fakes did" }), harm);
    pace.box.append(spent);
    box.append(
      figures,
      P.el(
        "section.card.proof",
        {},
        P.el("h2", {}, "The proof ", P.el("span.soft", { text: "a row for each worker, a column for each round" })),
        counts,
        strip.box,
        P.el("div.scrub", {}, back, slider, on, live),
      ),
      P.el("section.card.newest", {}, named, said, squares.box),
      loss.box,
      tests.box,
      pace.box,
      P.card("What happened", list),
      harmCard,
      P.el("section.card.what", {}, P.el("h2", { text: "What is trained" }), facts),
    );
    return {
      box,
      show: () => {
        const last = run.rounds.length - 1;
        const index = Math.min(page.index ?? last, last);
        const state = run.at(page.index === null ? null : index);
        const round = run.rounds[index];
        P.fill(figures, P.tiles(run, index, state));
        slider.max = String(Math.max(last, 0));
        slider.value = String(Math.max(index, 0));
        slider.disabled = back.disabled = on.disabled = last < 1;
        slider.setAttribute("aria-valuetext", round ? `round ${round.r}` : "no round yet");
        live.setAttribute("aria-pressed", String(page.index === null));
        P.fill(counts, P.legend(round ? P.count(round.cells) : null));
        strip.show(page.index === null ? null : index);
        squares.show(round);
        P.fill(
          named,
          round ? `Round ${P.int(round.r)} ` : "No round yet ",
          P.el("span.soft", {
            text: round ? `${page.index === null ? "the newest, " : ""}${P.epochText(run, index)}` : "",
          }),
        );
        P.fill(
          said,
          round
            ? `${P.plural(round.n, "example")} in ${P.plural(round.frag, "shard")} for ${P.plural(round.w, "worker")}; ${P.plural(round.agree, "comparison")} equal, ${P.int(round.own)} executed by the manager${round.dis ? `, ${P.plural(round.dis.length, "dispute")}` : ""}${round.clip ? `, ${P.int(round.clip.length)} clipped` : ""}; loss ${P.num(round.loss)}.`
            : "Rounds appear here as they are written to the log.",
        );
        loss.show(P.curves.losses(run));
        const shares = P.curves.shares(run);
        inPercent = shares.percent;
        tests.show(shares);
        pace.show(P.curves.times(run));
        P.fill(spent, P.curves.work(run));
        for (const bar of spent.querySelectorAll("[data-share]")) bar.style.flexGrow = bar.dataset.share;
        const found = P.happenings(run, index);
        P.fill(
          list,
          found.slice(0, P.MOST_EXAMPLES).map((one) => P.happeningLine(run, one)),
          found.length > P.MOST_EXAMPLES && P.el("li.soft", { text: `and ${P.int(found.length - P.MOST_EXAMPLES)} before` }),
          !found.length && P.el("li.soft", { text: "Nothing out of the ordinary." }),
        );
        const words = P.damage(run, state);
        harmCard.hidden = !words;
        if (words) P.fill(harm, words);
        P.fill(facts, P.facts(run));
      },
    };
  };
})();

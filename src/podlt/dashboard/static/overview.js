// What a run does, at a glance: figures, the proof as a picture, the newest round, curves, and what was found.
"use strict";
(() => {
  const P = window.podlt;

  P.runPath = (run) => run.header.path ?? "RUN";

  P.epochText = (run, index) => {
    const round = run.rounds[index ?? run.rounds.length - 1];
    return round ? `epoch ${round.ep + 1} of ${run.epochs}` : "";
  };

  /** Where a run is: a word, a kind for its colour, and more for people. */
  P.status = (run) => {
    const phase = run.newest.phase;
    if (run.newest.broken) return { word: "log breaks the rules", kind: "bad" };
    if (run.closed) {
      const stopped = run.closed.outcome !== "complete";
      const more = run.closed.why || (run.closed.early && `ended early: ${run.closed.early}`);
      return { word: run.closed.outcome, kind: stopped ? "warn" : "good", more };
    }
    if (phase?.what === "ended") return { word: "stopped", kind: "warn", more: phase.why || "its process has ended" };
    if (phase?.what === "waiting for workers") return { word: "waiting for workers", kind: "warn", more: `${phase.done} of ${phase.total} are there` };
    if (phase && phase.what !== "training") return { word: "preparing", kind: "live", more: phase.what };
    if (phase) return { word: "training", kind: "live" };
    return { word: "not finished", kind: "warn", more: run.rounds.length ? `last round at ${P.time(run.rounds.at(-1).at)}` : "" };
  };

  const tile = (label, value, note, mark) => P.el("div.tile", {}, P.el("div.label", {}, label, mark && " ", mark), P.el("div.value", { text: value }), P.el("div.note", {}, note));

  const mainFigure = (metrics) => {
    const names = Object.keys(metrics ?? {});
    return ["accuracy", "auc"].find((name) => names.includes(name)) ?? names.find((name) => !name.startsWith("val_") && name !== "loss") ?? names.find((name) => name === "loss");
  };

  const tiles = (run, index, state) => {
    const round = run.rounds[index];
    const { totals } = state;
    const name = mainFigure(state.measured?.m);
    const spare = totals.tasks ? (totals.tasks - totals.useful) / totals.tasks : NaN;
    const active = state.workers.filter((worker) => worker?.status === "active").length;
    const speed = run.spent.seconds ? totals.lines / run.rounds.slice(0, index + 1).reduce((sum, one) => sum + (run.figures.get(one.r)?.s ?? 0), 0) : NaN;
    const shown = [];
    if (name) shown.push(tile(`test ${name}`, P.figure(name, state.measured.m[name]), `after epoch ${state.measured.ep + 1}, in the log`));
    shown.push(tile("training loss", P.num(round?.loss), round ? `round ${round.r}, ${P.epochText(run, index)}` : "no round yet"));
    shown.push(tile("examples / s", Number.isFinite(speed) ? P.int(speed) : "–", P.plural(totals.lines, "example") + " so far", P.word()));
    shown.push(tile("workers", `${active} / ${run.width}`, totals.left ? `${P.plural(totals.left, "withdrawal")}, no fraud` : "nobody withdrew"));
    shown.push(tile("checked, equal", P.int(totals.agree), `${P.int(totals.own)} executed by the manager`));
    shown.push(tile("convicted", P.int(totals.convicted), totals.convicted ? "each can be repeated: below" : "no result differed", null));
    const share = run.spent.compute ? run.spent.proof / (run.spent.compute + run.spent.proof) : NaN;
    shown.push(tile("cost of the proof", P.percent(spare), `of the tasks repeat another${Number.isFinite(share) ? `; ${P.percent(share, 0)} of the work is hashes, signatures, log` : ""}`));
    if (run.newest.disk) shown.push(tile("disk", P.bytes(run.newest.disk.bytes), run.begin ? `${P.int((round?.e?.[1] ?? 0) + 1)} log entries` : ""));
    return shown;
  };

  /** Everything that was found, the newest first: a line each. */
  const happenings = (run, index) => {
    const found = [];
    const last = run.rounds[index]?.r ?? Infinity;
    const to = index >= run.rounds.length - 1 ? Infinity : last;
    for (const message of run.log) {
      if (message.r > to) break;
      if (message.t === "round") for (const dispute of message.dis ?? []) for (const worker of dispute.con) found.push({ kind: "convicted", message, worker });
      if (message.t === "round" && message.dis) for (const dispute of message.dis) if (!dispute.con.length) found.push({ kind: "dispute", message });
      if (message.t === "leave") found.push({ kind: "leave", message });
      if (["resume", "amend", "close", "measure"].includes(message.t)) found.push({ kind: message.t, message });
    }
    return found.reverse();
  };

  const line = (run, one) => {
    const { message, worker } = one;
    const texts = {
      convicted: () => {
        const status = (message.out ?? []).find(([number]) => number === worker)?.[1] ?? "convicted";
        const cheat = run.cheats[worker];
        return [
          P.el("i", { class: "cell convicted", text: "✕", "aria-hidden": "true" }),
          P.el("button.link", { type: "button", text: `worker ${worker} convicted`, "data-round": message.r, "data-worker": worker }),
          `${status}${cheat ? `; simulates ${cheat}` : ""}`,
        ];
      },
      dispute: () => ["", "a fragment was decided by the manager; nobody was convicted"],
      leave: () => [P.el("i", { class: "cell gone", text: "–", "aria-hidden": "true" }), `worker ${message.w} withdrew: ${message.why}`],
      resume: () => ["", "the manager resumed the run"],
      amend: () => ["", `terms changed: ${message.why} (${message.epochs} epochs)`],
      close: () => ["", `${message.outcome}${message.why ? `: ${message.why}` : ""}`],
      measure: () => ["", `epoch ${message.ep + 1}: ${Object.entries(message.m).map(([name, value]) => `${name} ${P.figure(name, value)}`).join(", ")}`],
    };
    const round = ["convicted", "dispute", "leave"].includes(one.kind) ? message.r : message.r - 1;
    return P.el("li", {}, P.el("span.when", { text: `round ${Math.max(round, 0)}` }), P.el("span", {}, texts[one.kind]().map((part) => [part, " "])));
  };

  const MOST_LINES = 60;

  /** Plain words on what each simulated cheater gained, and what its fakes did to the model. */
  const damage = (run, state) => {
    const cheaters = Object.entries(run.cheats).map(([number, kind]) => ({ number: Number(number), kind, worker: state.workers[number], fakes: run.fakes.get(Number(number)) }));
    if (!cheaters.length) return null;
    const applied = cheaters.reduce((sum, one) => sum + (one.fakes?.applied ?? 0), 0);
    const given = cheaters.reduce((sum, one) => sum + (one.fakes?.given ?? 0), 0);
    const sentence = (one) => {
      if (!one.fakes) return "has not cheated yet.";
      const caught = one.worker?.caught ?? -1;
      const how = caught >= 0 ? `was caught in round ${caught}, after ${P.plural(caught - one.fakes.first + 1, "round")} as a cheater` : "is not caught yet";
      const lost = one.worker?.forfeited ? `; it lost ${P.plural(one.worker.forfeited, "credit")}` : "";
      const gained = one.worker?.vested ? ` and keeps ${P.plural(one.worker.vested, "credit")}` : caught >= 0 ? " and gained nothing" : "";
      return `${how}${lost}${gained}. ${one.fakes.applied} of its ${P.plural(one.fakes.given, "fake")} went into the model.`;
    };
    return [
      P.el("p", { text: given ? `${applied} of ${P.plural(given, "fake")} went into the model before their workers were caught: ${P.percent(applied / Math.max(1, state.totals.useful), 2)} of its ${P.int(state.totals.useful)} updates. They stay in it; the test figures are those of the model with them.` : "Nobody has cheated yet." }),
      P.el("ul.cheaters", {}, cheaters.slice(0, 20).map((one) => P.el("li", {}, P.el("b", { text: `Worker ${one.number}` }), ` (${one.kind}) ${sentence(one)}`))),
      P.el("p.soft", { text: "Who simulates a cheat is the manager's word, and no part of the proof: an audit finds fakes by executing their tasks again." }),
    ];
  };

  /** The evidence of a conviction, and how to repeat it. */
  P.evidence = (run, round, worker) => {
    const disputes = (round.dis ?? []).filter((one) => one.con.includes(worker));
    if (!disputes.length) return P.openWorker(run, round, worker);
    const path = P.runPath(run);
    const why = { own: "the manager executes this fragment whatever the results are", differ: "two results differed, so the manager executed the task", suspect: "the update stood out, so the manager executed the task", compared: "three results were compared" };
    P.dialog(`Worker ${worker} was convicted in round ${round.r}`, disputes.map((one) => [
      P.el("p", { text: `Its result for fragment ${one.f} (examples ${P.int(one.n[0])} to ${P.int(one.n[1])} of the epoch's order) is not the accepted one. Decided by ${one.by === "vote" ? "two of three results" : "the manager's own execution"}: ${why[one.why] ?? one.why}.` }),
      P.el("div.scroll", { tabindex: "0" }, P.el("table", {}, P.el("thead", {}, P.el("tr", {}, ["who", "result (digest of the update)", "commitment that it signed", ""].map((text) => P.el("th", { text })))), P.el("tbody", {},
        one.by === "referee" && P.el("tr", {}, P.el("td", { text: "manager" }), P.el("td", {}, P.el("code", { text: one.acc })), P.el("td", { text: "–" }), P.el("td", { text: "accepted" })),
        one.ans.map(([who, seat, operator, , update, commitment]) => P.el("tr", {}, P.el("td", { text: `worker ${who}${operator ? ` (${operator})` : ""}${seat === who ? "" : `, for worker ${seat}`}` }), P.el("td", {}, P.el("code", { text: update })), P.el("td", {}, P.el("code", { text: commitment })),
          P.el("td", {}, one.con.includes(who) ? P.el("b.bad", { text: "✕ differs: convicted" }) : update === one.acc ? "= equal" : "differs")))))),
      P.el("dl", {}, P.el("dt", { text: "task" }), P.el("dd", {}, P.el("code", { text: one.task })), P.el("dt", { text: "log entry" }), P.el("dd", { text: `${P.int(one.entry)} (the verdict); the round is entries ${P.int(round.e[0])} to ${P.int(round.e[1])}` })),
    ]), P.el("h3", { text: "Repeat it" }), P.el("p", { text: "The task is a pure function of what the log names. Whoever has the data executes it again and gets the same bits:" }), P.code(`podlt audit ${path} --round ${round.r}`), P.code(`podlt show ${path} round ${round.r}`));
  };

  P.openWorker = (run, round, number) => {
    const index = run.rounds.indexOf(round);
    const worker = run.at(index < 0 ? null : index).worker(number);
    const kind = P.KINDS.get(round?.cells[number] ?? " ");
    const past = P.el("div.past", { role: "img", "aria-label": `Rounds of worker ${number}` }, run.rounds.slice(-240).map((one) => P.el("i", { class: `cell ${P.KINDS.get(one.cells[number] ?? " ").colour}`, title: `round ${one.r}: ${P.KINDS.get(one.cells[number] ?? " ").name}` })));
    const facts = {
      status: worker.status + (worker.why ? `: ${worker.why}` : ""), operator: worker.operator || "nobody else's", [`in round ${round?.r ?? "–"}`]: `${kind.name}${kind.text ? `: ${kind.text}` : ""}`,
      tasks: `${P.int(worker.tasks)}, ${P.int(worker.checks)} of them compared and equal`, credits: `${P.int(worker.vested)} vested, ${P.int(worker.pending)} in escrow, ${P.int(worker.forfeited)} forfeited`,
      deposit: worker.deposit || worker.returned || worker.seized ? `${P.int(worker.deposit)} held, ${P.int(worker.returned)} returned, ${P.int(worker.seized)} seized` : "", key: worker.key,
    };
    const caught = run.rounds.filter((one) => (one.out ?? []).some(([who]) => who === number));
    P.dialog(`Worker ${number}`, P.el("dl", {}, Object.entries(facts).filter(([, text]) => text).map(([name, text]) => [P.el("dt", { text: name }), P.el("dd", {}, name === "key" ? P.el("code", { text }) : text)])),
      P.el("h3", { text: run.rounds.length > 240 ? "Its last 240 rounds" : "Its rounds" }), past,
      caught.map((one) => P.el("p", {}, P.el("button.link", { type: "button", text: `convicted in round ${one.r}: the evidence`, on: { click: () => P.evidence(run, one, number) } }))),
      P.code(`podlt show ${P.runPath(run)} worker ${number}`));
  };

  const losses = (run) => {
    const rounds = P.thin(run.rounds, 3000);
    const x = rounds.map((one) => one.r);
    const raw = rounds.map((one) => one.loss);
    const tested = new Map(run.measures.filter((one) => "loss" in one.m).map((one) => [one.r - 1, one.m.loss]));
    const held = new Map(run.measures.filter((one) => "val_loss" in one.m).map((one) => [one.r - 1, one.m.val_loss]));
    for (const one of run.figures.values()) if (one.m && "val_loss" in one.m) held.set(one.r, one.m.val_loss);
    const all = [...new Set([...x, ...tested.keys(), ...held.keys()])].sort((a, b) => a - b);
    const put = (keys, values) => { const found = new Map(keys.map((key, place) => [key, values[place]])); return all.map((key) => found.get(key) ?? null); };
    const lines = [{ label: "training", values: put(x, raw), colour: "accent", thin: true }, { label: "smoothed", values: put(x, P.smooth(raw)), colour: "accent" }];
    if (tested.size) lines.push({ label: "test", values: all.map((key) => tested.get(key) ?? null), colour: "second", points: true });
    if (held.size) lines.push({ label: "validation", values: all.map((key) => held.get(key) ?? null), colour: "third", points: true, dash: [4, 3] });
    return { x: all, lines };
  };

  const shares = (run) => {
    const names = [...new Set(run.measures.flatMap((one) => Object.keys(one.m)))].filter((name) => !name.endsWith("loss"));
    const good = names.filter((name) => P.isShare(name, run.measures.map((one) => one.m[name] ?? 0))).slice(0, 4);
    const colours = ["second", "third", "accent", "soft"];
    return { x: run.measures.map((one) => one.ep + 1), lines: good.map((name, place) => ({ label: name, values: run.measures.map((one) => one.m[name] ?? null), colour: colours[place], points: true, dash: name.startsWith("val_") ? [4, 3] : undefined })) };
  };

  const times = (run) => {
    const found = P.thin([...run.figures.values()].sort((a, b) => a.r - b.r), 3000);
    if (!found.length) return { x: [], lines: [] };
    const raw = found.map((one) => one.s);
    const cap = [...raw].sort((a, b) => a - b)[Math.floor(0.98 * (raw.length - 1))] * 1.6;
    const cut = raw.map((value) => Math.min(value, cap));
    return { x: found.map((one) => one.r), lines: [{ label: "seconds a round", values: cut, colour: "accent", thin: true }, { label: "smoothed", values: P.smooth(cut), colour: "accent" }] };
  };

  const work = (run) => {
    const { compute, proof, seconds, rounds } = run.spent;
    if (!compute) return null;
    const share = proof / (compute + proof);
    return P.el("div.split", {}, P.el("div.bar", { role: "img", "aria-label": `${P.percent(1 - share)} tasks, ${P.percent(share)} proof` }, P.el("span.tasks", { "data-share": (1 - share).toFixed(3) }), P.el("span.proof", { "data-share": share.toFixed(3) })),
      P.el("p.soft", { text: `Work over all processes: ${P.span(compute)} executing tasks (${P.percent(1 - share, 0)}), ${P.span(proof)} hashes, signatures, comparisons (${P.percent(share, 0)}). ${P.plural(rounds, "round")} took ${P.span(seconds)}.` }));
  };

  P.facts = (run) => {
    const { begin, header } = run;
    const rules = begin && (begin.preset === "classic" ? "classic: one fragment of a round goes to 3 workers, and two outvote the third" : `${begin.preset}: ${P.percent(begin.checked / 1e6)} of the fragments go to a second worker, ${P.percent(begin.own / 1e6)} to the manager itself; updates beyond ${begin.clip || "no"} times the median are clipped; a first conviction ${begin.first_fault === "suspend" ? "suspends" : "evicts"}`);
    const found = { ...(header.facts ?? {}) };
    if (begin) Object.assign(found, { Examples: `${P.int(begin.lines)}, ${P.plural(run.epochs, "epoch")}`, Rules: rules, Escrow: `a credit vests once its worker has ${P.int(begin.escrow)} younger ones, ${P.int(begin.escrow)} rounds after it left, or at the end; ${P.plural(begin.reward, "credit")} an example`, Started: P.time(begin.at) });
    const digests = begin ? { Run: begin.run, ...begin.digests } : {};
    return [
      P.el("dl.facts", {}, Object.entries(found).map(([name, text]) => [P.el("dt", { text: name }), P.el("dd", { text })])),
      P.el("details", {}, P.el("summary", { text: "Digests" }), P.el("dl.facts", {}, Object.entries(digests).map(([name, text]) => [P.el("dt", { text: name }), P.el("dd", {}, P.el("code", { text }))]))),
    ];
  };

  P.overview = (run, page) => {
    const box = P.el("div.overview");
    const figures = P.el("section.tiles", { "aria-label": "Figures" });
    const select = (index) => page.select(index);
    const open = (round, worker) => (round.out?.some(([who]) => who === worker) ? P.evidence(run, round, worker) : P.openWorker(run, round, worker));
    const strip = P.strip(run, { select, open });
    const squares = P.squares(run, { open });
    const slider = P.el("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Round" });
    const live = P.el("button.live", { type: "button", text: "Newest" });
    const back = P.el("button", { type: "button", text: "‹", "aria-label": "Round before" });
    const on = P.el("button", { type: "button", text: "›", "aria-label": "Next round" });
    slider.addEventListener("input", () => select(Number(slider.value)));
    live.addEventListener("click", () => page.select(null));
    back.addEventListener("click", () => select(Math.max(0, (page.index ?? run.rounds.length - 1) - 1)));
    on.addEventListener("click", () => select(Math.min(run.rounds.length - 1, (page.index ?? run.rounds.length - 1) + 1)));
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
    const loss = P.chart({ title: "Loss", x: "round", click: toRound, note: (found) => (found.lines.length > 2 ? "training against test" : "training") });
    const tests = P.chart({ title: "Test figures", x: "epoch", value: (found, axis) => (axis ? P.percent(found, 1).replace(".0%", "%") : P.percent(found, 2)), note: () => "as logged after each epoch" });
    const pace = P.chart({ title: "Seconds a round", x: "round", click: toRound, value: (found) => P.span(found), note: () => "the manager's word" });
    const spent = P.el("div");
    const facts = P.el("div");
    const harm = P.el("div");
    const harmCard = P.el("section.card.harm", { hidden: true }, P.el("h2", { text: "What the fakes did" }), harm);
    pace.box.append(spent);
    box.append(figures,
      P.el("section.card.proof", {}, P.el("h2", {}, "The proof ", P.el("span.soft", { text: "a row for each worker, a column for each round" })), counts, strip.box, P.el("div.scrub", {}, back, slider, on, live)),
      P.el("section.card.newest", {}, named, said, squares.box),
      loss.box, tests.box, pace.box, P.card("What happened", list), harmCard, P.el("section.card.what", {}, P.el("h2", { text: "What is trained" }), facts));
    return {
      box,
      show: () => {
        const last = run.rounds.length - 1;
        const index = Math.min(page.index ?? last, last);
        const state = run.at(page.index === null ? null : index);
        const round = run.rounds[index];
        P.fill(figures, tiles(run, index, state));
        slider.max = String(Math.max(last, 0));
        slider.value = String(Math.max(index, 0));
        slider.disabled = back.disabled = on.disabled = last < 1;
        slider.setAttribute("aria-valuetext", round ? `round ${round.r}` : "no round yet");
        live.setAttribute("aria-pressed", String(page.index === null));
        P.fill(counts, P.legend(round ? P.count(round.cells) : null));
        strip.show(page.index === null ? null : index);
        squares.show(round);
        P.fill(named, round ? `Round ${P.int(round.r)} ` : "No round yet ", P.el("span.soft", { text: round ? `${page.index === null ? "the newest, " : ""}${P.epochText(run, index)}` : "" }));
        P.fill(said, round ? `${P.plural(round.n, "example")} in ${P.plural(round.frag, "fragment")} for ${P.plural(round.w, "worker")}; ${P.plural(round.agree, "comparison")} equal, ${P.int(round.own)} executed by the manager${round.dis ? `, ${P.plural(round.dis.length, "dispute")}` : ""}${round.clip ? `, ${P.int(round.clip.length)} clipped` : ""}; loss ${P.num(round.loss)}.` : "Rounds appear here as they are written to the log.");
        loss.show(losses(run));
        tests.show(shares(run));
        pace.show(times(run));
        P.fill(spent, work(run));
        for (const bar of spent.querySelectorAll("[data-share]")) bar.style.flexGrow = bar.dataset.share;
        const found = happenings(run, index);
        P.fill(list, found.slice(0, MOST_LINES).map((one) => line(run, one)), found.length > MOST_LINES && P.el("li.soft", { text: `and ${P.int(found.length - MOST_LINES)} before` }), !found.length && P.el("li.soft", { text: "Nothing out of the ordinary." }));
        const words = damage(run, state);
        harmCard.hidden = !words;
        if (words) P.fill(harm, words);
        P.fill(facts, P.facts(run));
      },
    };
  };
})();

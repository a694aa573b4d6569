// Begins: takes the data that is in the page, or asks the server for it and for what comes new; draws what changed.
"use strict";
(() => {
  const P = window.podlt;
  const DRAW_MILLIS = 120;
  const top = document.getElementById("top");
  const tabs = document.getElementById("tabs");
  const main = document.getElementById("main");
  const foot = document.getElementById("foot");

  /** What is shown: which run of a folder, which tab, and which round (null: the newest). */
  const page = {
    kind: "run",
    run: "",
    tab: "overview",
    index: null,
    data: null,
    views: {},
    link: "connecting",
    select: null,
  };
  page.select = (index) => {
    page.index = index === null || index >= page.data.rounds.length - 1 ? null : Math.max(0, index);
    draw();
  };

  const TABS = {
    run: [
      ["overview", "Overview", (data) => P.overview(data, page)],
      ["workers", "Workers", (data) => P.workers(data, page)],
      ["claims", "Claims", (data) => P.claims(data)],
      ["check", "Check", () => P.check()],
    ],
    lender: [["overview", "Worker", (data) => P.lender(data, page)]],
    runs: [["overview", "Runs", (data) => P.runs(data)]],
  };

  const header = () => {
    const { data } = page;
    const name = data.header.name ?? "podlt";
    document.title = `${name}: podlt`;
    if (page.kind !== "run") {
      P.fill(
        top,
        P.el("div.title", {}, P.el("h1", { text: page.kind === "runs" ? `Runs in ${name}` : "Your worker" }), pill()),
      );
      return;
    }
    const status = P.status(data);
    const facts = data.header.facts ?? {};
    const what = [
      facts.Model,
      facts.Data,
      data.header.parameters && P.plural(data.header.parameters, "parameter"),
      facts.Loss,
      facts.Optimiser,
    ]
      .filter(Boolean)
      .join(" · ");
    const [done, total] = [data.done(null), data.total()];
    const speed = data.speed();
    const going = status.kind === "live" && status.word === "training";
    const left = going && Number.isFinite(speed) && speed > 0 ? `${P.span((total - done) / speed)} left` : "";
    const share = total ? done / total : 0;
    const progress = P.el("progress", { max: "1", value: String(share), "aria-label": "Progress" });
    const counts = P.countClaims(data.newest.claims);
    const claims =
      data.newest.claims?.state === "verified"
        ? P.el("a", {
            href: tabHref("claims"),
            class: `pill ${counts.fails ? "bad" : "good"}`,
            text: counts.fails
              ? `✕ ${P.plural(counts.fails, "claim")} ${counts.fails === 1 ? "fails" : "fail"}`
              : `✓ ${counts.holds} claims hold, ${counts["not checked"]} not checked`,
          })
        : data.begin &&
          P.el("a.pill", {
            href: tabHref("claims"),
            text:
              data.newest.claims?.state === "running"
                ? `● ${data.newest.claims.by ?? "podlt verify"} is running`
                : "○ not checked yet",
          });
    P.fill(
      top,
      P.el(
        "div.title",
        {},
        page.run && P.el("a.up", { href: "#/", text: "← runs" }),
        P.el("h1", { text: name }),
        P.el("span", { class: `pill ${status.kind}`, text: `${status.kind === "live" ? "● " : ""}${status.word}` }),
        claims,
        pill(),
      ),
      P.el("p.subject", { text: what }),
      P.el(
        "div.progress",
        {},
        progress,
        P.el("span", {
          text: [
            data.rounds.length ? P.plural(data.rounds.at(-1).r + 1, "round") : "",
            P.epochText(data),
            total ? P.percent(share, share < 1 ? 1 : 0) : "",
            left,
            status.more,
          ]
            .filter(Boolean)
            .join(" · "),
        }),
      ),
      data.newest.broken &&
        P.el(
          "p.bad",
          { role: "alert" },
          `The log breaks the rules${data.newest.broken.entry !== null ? ` at entry ${data.newest.broken.entry}` : ""}: ${data.newest.broken.why} `,
          P.code(`podlt verify ${P.runPath(data)}`),
        ),
    );
  };

  const pill = () => {
    const words = {
      live: null,
      inside: null,
      connecting: ["warn", "connecting…"],
      lost: ["warn", "connection lost; retrying"],
      ended: ["", "server ended; the page keeps what it has"],
      token: ["bad", "needs the token of its address"],
    };
    const found = words[page.link];
    return found && P.el("span", { class: `pill ${found[0]}`, role: "status", text: found[1] });
  };

  const tabHref = (tab) => (page.run ? `#/run/${encodeURIComponent(page.run)}/${tab}` : `#/${tab}`);

  let [timer, next] = [0, 0];
  const draw = () => {
    if (timer) return;
    timer = setTimeout(
      () =>
        requestAnimationFrame(() => {
          timer = 0;
          const begun = performance.now();
          paint();
          next = performance.now() + Math.max(DRAW_MILLIS, 4 * (performance.now() - begun)); // a large run leaves time for clicks
        }),
      Math.max(0, next - performance.now()),
    );
  };

  const paint = () => {
    if (!page.data) return;
    header();
    const known = TABS[page.kind].filter(([tab]) => tab !== "check" || window.podltVerify);
    if (!known.some(([tab]) => tab === page.tab)) page.tab = "overview";
    P.fill(
      tabs,
      known.length > 1
        ? known.map(([tab, title]) =>
            P.el("a", { href: tabHref(tab), text: title, "aria-current": tab === page.tab ? "page" : null }),
          )
        : [],
    );
    const make = known.find(([tab]) => tab === page.tab)[2];
    const view = (page.views[page.tab] ??= make(page.data));
    if (main.firstChild !== view.box) main.replaceChildren(view.box);
    view.show();
    P.fill(
      foot,
      P.el(
        "p",
        {},
        P.word(),
        " stands beside what no entry of the log binds. This page shows; ",
        P.el("code", { text: "podlt verify" }),
        " and ",
        P.el("code", { text: "podlt audit" }),
        " check.",
      ),
    );
    main.dataset.drawn = String(page.data.version);
  };

  const fresh = (kind) => {
    page.kind = kind;
    page.data = kind === "run" ? new P.Run() : new P.Lender();
    page.views = {};
    page.index = null;
  };

  const take = (messages) => {
    page.data.take(messages);
    draw();
  };

  let events = null;
  const query = () => (page.run ? `?run=${encodeURIComponent(page.run)}` : "");

  const load = async () => {
    events?.close();
    const wanted = page.run;
    try {
      const answer = await fetch(`data${query()}`, { cache: "no-store" });
      if (answer.status === 403) return refused();
      if (!answer.ok) throw new Error(String(answer.status));
      const all = await answer.json();
      if (wanted !== page.run) return undefined;
      fresh(page.run ? "run" : all.kind);
      page.link = "live";
      take(all.messages);
      follow(`${all.stream}-${all.next}-${all.version}`);
    } catch {
      page.link = "lost";
      if (!page.data) fresh("run");
      draw();
      setTimeout(() => {
        if (wanted === page.run) load();
      }, 2000);
    }
    return undefined;
  };

  const refused = () => {
    fresh("run");
    page.link = "token";
    draw();
  };

  const follow = (mark) => {
    events = new EventSource(`events${query()}${page.run ? "&" : "?"}after=${encodeURIComponent(mark)}`);
    const mine = events;
    events.addEventListener("open", () => {
      page.link = "live";
      draw();
    });
    events.addEventListener("message", (event) => {
      if (mine === events) take(JSON.parse(event.data));
    });
    events.addEventListener("again", () => {
      if (mine === events) load();
    });
    events.addEventListener("end", () => {
      mine.close();
      if (mine === events) {
        page.link = "ended";
        draw();
      }
    });
    events.addEventListener("error", () => {
      if (mine !== events) return;
      page.link = "lost";
      draw();
      if (mine.readyState === EventSource.CLOSED) setTimeout(load, 2000);
    });
  };

  const route = () => {
    const parts = window.location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    const run = parts[0] === "run" ? (parts[1] ?? "") : "";
    page.tab = (parts[0] === "run" ? parts[2] : parts[0]) || "overview";
    const other = run !== page.run;
    page.run = run;
    return other;
  };

  const session = async () => {
    const token = /^#token=([\w-]+)$/.exec(window.location.hash)?.[1];
    if (!token) return;
    window.history.replaceState(null, "", window.location.pathname);
    await fetch("session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
  };

  const begin = async () => {
    const inside = document.getElementById("data");
    if (inside) {
      const all = JSON.parse(inside.textContent);
      fresh(all.kind);
      page.link = "inside";
      route();
      take(all.messages);
    } else {
      await session();
      route();
      await load();
    }
    window.addEventListener("hashchange", () => {
      if (route() && !inside) load();
      else {
        window.scrollTo(0, 0);
        draw();
      }
    });
    setInterval(() => {
      if (page.kind === "lender" || page.data?.newest.phase) draw();
    }, 1000);
  };
  begin();
})();

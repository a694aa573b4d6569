// What the run claims, and what checking it came to: holds, fails, not checked. The page itself checks nothing.
"use strict";
(() => {
  const P = window.podlt;
  const MARKS = { holds: "✓", fails: "✕", "not checked": "○" };

  P.countClaims = (claims) => {
    const counts = { holds: 0, fails: 0, "not checked": 0 };
    for (const row of claims?.rows ?? []) counts[row[3]] += 1;
    return counts;
  };

  P.claims = (run) => {
    const said = P.el("div");
    const body = P.el("tbody");
    const head = P.el(
      "tr",
      {},
      ["", "outcome", "claim", "what was looked at, or why not", "checked by"].map((text) =>
        P.el("th", { scope: "col", text }),
      ),
    );
    const table = P.el("table.claims", {}, P.el("thead", {}, head), body);
    const commands = P.el("div.commands");
    const box = P.card(
      "What the run claims",
      said,
      P.el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Claims" }, table),
      P.el("h3", { text: "Check it yourself" }),
      commands,
      P.el("p.soft", {
        text: "Do not trust a page: whoever made it may say anything. Run the commands. No check can tell whether two keys are two people.",
      }),
    );
    return {
      box,
      show: () => {
        const { claims } = run.newest;
        const counts = P.countClaims(claims);
        const verified = claims?.state === "verified";
        const by = claims?.by ?? "podlt verify";
        P.fill(
          said,
          P.el(
            "p.verdict",
            { class: counts.fails ? "bad" : "" },
            counts.fails
              ? `${P.plural(counts.fails, "claim")} ${counts.fails === 1 ? "fails" : "fail"}. `
              : verified
                ? "Nothing fails. "
                : "",
            `${P.plural(counts.holds, "claim")} ${counts.holds === 1 ? "holds" : "hold"}, ${P.int(counts["not checked"])} ${counts["not checked"] === 1 ? "was" : "were"} not checked.`,
          ),
          P.el("p.soft", {
            text: verified
              ? `${by}, ${P.time(claims.at)}.${by.includes("audit") ? "" : " Whether results are right is the audit's."}`
              : claims?.state === "running"
                ? `${by} is running…`
                : "Nothing was checked on this page yet.",
          }),
        );
        P.fill(
          body,
          (claims?.rows ?? []).map(([number, title, bound, outcome, figure, why, remedy, command]) =>
            P.el(
              "tr",
              { class: outcome.replace(" ", "-") },
              P.el("td.number", { text: number }),
              P.el("td.outcome", { class: outcome.replace(" ", "-") }, `${MARKS[outcome]} ${outcome}`),
              P.el("td", {}, title, P.el("div.soft", { text: bound })),
              P.el("td.soft", { text: why || figure }),
              P.el(
                "td",
                {},
                outcome === "holds"
                  ? P.el("code", { text: `podlt ${command}` })
                  : P.el("code", { text: remedy || `podlt ${command}` }),
              ),
            ),
          ),
        );
        const path = P.runPath(run);
        P.fill(
          commands,
          P.code(`podlt verify ${path}`),
          P.code(`podlt audit ${path} --fraction 0.05`),
          P.code(`podlt audit ${path} --fraction 1`),
        );
      },
    };
  };

  /** The tab in which a bundle is verified by this browser; null where the page came without those scripts. */
  P.check = () => {
    if (!window.podltVerify) return null;
    const place = P.el("div");
    const box = P.card("Check a bundle in this browser", place);
    let mounted = false;
    return {
      box,
      show: () => {
        if (!mounted) {
          mounted = true;
          window.podltVerify.mount(place, {});
        }
      },
    };
  };
})();

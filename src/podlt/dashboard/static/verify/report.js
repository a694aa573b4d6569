// What a check reports besides outcomes: figures, whose run it is, and what no check can tell. docs/SPEC.md, 6.1.
podltVerify.define("report", function (use) {
  "use strict";
  const { CLAIM, HOLDS, FAILS, NOT_CHECKED, TABLE, finding } = use("claims");
  const { hex } = use("bytes");

  // 1234567 -> 1,234,567
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");

  // 1, "round" -> 1 round
  const counted = (number, noun, nouns = `${noun}s`) => `${grouped(number)} ${BigInt(number) === 1n ? noun : nouns}`;

  // Claim -> how much of it was looked at, given the run, the tree, and what was counted.
  const FIGURES = {
    FORM: (state, tree) => counted(tree.size, "entry", "entries"),
    TREE: (state, tree) => `root ${hex(tree.root()).slice(0, 16)} over ${counted(tree.size, "entry", "entries")}`,
    HEADS: (state, tree, n) => counted(n.heads, "tree head"),
    MANAGER: (state) => (state.begin ? `manager ${hex(state.begin.manager)}` : ""),
    CONTINUITY: () => "it is over the entries of this log",
    SIGNATURES: (state, tree, n) => counted(n.signatures, "signature"),
    PROGRESS: ({ round, epoch, workers, resumes }, tree, n) => {
      const shares = n.shares ? `, shares changed ${counted(n.shares, "time")}` : "";
      const anew = `; resumed ${counted(resumes, "time")}, each of which may have begun a round anew`;
      const there = [counted(round, "round"), counted(epoch, "epoch"), counted(workers.size, "worker")].join(", ");
      return there + shares + (resumes ? anew : "");
    },
    DRAWS: (state, tree, n) => `${counted(n.reveal, "draw")}, ${counted(n.redeal, "task")} dealt again`,
    OPENINGS: (state, tree, n) => counted(n.openings, "opening"),
    VERDICTS: (state, tree, n) => {
      const own = `${grouped(n.referee)} by the manager's own execution`;
      return `${counted(n.agree, "proof")}, ${counted(n.vote, "vote")}, ${own}; ${grouped(n.evicted)} evicted`;
    },
    PAYMENTS: ({ ledger }, tree, n) => {
      const [taken, owed] = ledger ? [ledger.taken, -ledger.treasury] : [0n, 0n];
      const deposits = taken > 0n ? `, ${grouped(taken)} in deposits` : "";
      return `${counted(n.transfers, "transfer")}, ${counted(owed, "credit")} owed or paid${deposits}`;
    },
    OUTCOME: ({ closed, ended }) => {
      if (!closed) return "the run goes on";
      if (closed.outcome === "complete" && ended) return `complete, ended early: ${ended.reason}`;
      return `${closed.outcome} ${closed.reason}`.trim();
    },
  };

  // Counts of what was looked at; a kind that did not occur counts 0.
  const counter = () => new Proxy({}, { get: (counts, name) => counts[name] ?? 0 });

  // Counts an entry; `state` is the run before it.
  function count(n, entry, state) {
    const add = (name, more = 1) => {
      n[name] += more;
    };
    add(entry.kind);
    const more = {
      withdraw: () => add("rescued", state.current?.bound.has(entry.worker) ? 1 : 0),
      open: () => add("shards", entry.shards.length),
      reveal: () => add("openings", entry.openings.length),
      verdict: () => {
        add(entry.outcome);
        add("convicted", entry.convicted.length);
      },
      pay: () => add("transfers", entry.transfers.length),
      release: () => add("transfers", entry.transfers.length),
    };
    more[entry.kind]?.();
  }

  // The row of a claim. given: { failure, found, managerKey, head, signatures, state, tree, counts }.
  function findingOf(claim, given) {
    const { failure, found, state, tree, counts } = given;
    const [name] = TABLE[claim - 1];
    const figure = FIGURES[name]?.(state, tree, counts) ?? "";
    if (failure?.claim === claim) {
      return finding(claim, FAILS, { figure: claim === CLAIM.CONTINUITY ? "" : figure, why: failure.text });
    }
    if (found.has(claim)) return found.get(claim);
    const open = (why, more = {}) => finding(claim, NOT_CHECKED, { why, ...more });
    if (claim === CLAIM.WITNESSES && given.signatures) {
      return given.seen.finding(given.witnesses, given.documents.witnesses, tree.size, !failure);
    }
    if (claim > CLAIM.MODEL && claim !== CLAIM.WITNESSES) {
      return open("needs PyTorch and the data", { remedy: "podlt audit RUN --fraction 1", asked: false });
    }
    if (claim === CLAIM.MANAGER && !given.managerKey) {
      return open("no key was given", { figure, remedy: "--manager-key HEX", asked: false });
    }
    if (claim === CLAIM.CONTINUITY && !given.head) {
      return open("no head was given: another log may have been shown to others", { remedy: "--head FILE", asked: false });
    }
    if (claim === CLAIM.MODEL) return open("only the log was given");
    if (failure) return open("the log was not read to its end", { figure });
    const signed = [CLAIM.HEADS, CLAIM.SIGNATURES, CLAIM.WITNESSES].includes(claim);
    if (signed && !given.signatures) {
      return open("this browser cannot check Ed25519 signatures on this page", { figure, remedy: "podlt verify FILE" });
    }
    return finding(claim, HOLDS, { figure });
  }

  // Whose run it is, as far as the log says it.
  function facts({ begin, run, parameters }) {
    if (!begin) return {};
    return {
      run: hex(run), manager: hex(begin.manager), recipe: hex(begin.recipe),
      data: `${hex(begin.data)}, ${grouped(begin.examples)} examples`, parameters: hex(parameters),
    };
  }

  // What a log cannot show, in sentences: verifying it leaves this open whatever holds.
  function unknown(state, n, isSimulated) {
    const compared = n.agree + n.vote + n.referee;
    const isRecord = state.workers.size === 1; // then nobody's results were compared with another's
    const people = "that keys and operators are different people: the manager, too, may have workers of its own";
    const sentences = isRecord ? [] : [people];
    if (state.options?.own) sentences.push("that the manager executed its own share of the tasks");
    const alone = `that its one worker computed anything: a record, in which nothing was compared (${grouped(compared)} of `;
    const executed = `${grouped(n.shards)} results were executed by the manager); podlt reproduce trains it again`;
    sentences.push(
      isRecord
        ? alone + executed
        : `that results which nobody compared, or executed again, were computed: ${grouped(compared)} shards were, of ` +
          grouped(n.shards),
    );
    if (n.rescued) {
      sentences.push(
        `whether ${grouped(n.rescued)} of ${grouped(n.withdraw)} withdrawn workers were gone: they had answered, ` +
          "and were let go before it was revealed who is checked",
      );
    } else if (n.withdraw) {
      sentences.push(`whether the ${grouped(n.withdraw)} withdrawn workers were really gone`);
    }
    if (state.ledger?.taken > 0n) sentences.push("whether deposits were really paid, or given back");
    if (isSimulated) return ["anything about training: the recipe says that this run was simulated", ...sentences];
    return [...sentences, "that the log was not simulated: only an audit executes its tasks"];
  }

  // 0: all that was asked for holds; 1: something fails; 4: something asked for was not checked.
  function exitCode(findings) {
    if (findings.some(({ outcome }) => outcome === FAILS)) return 1;
    return findings.some(({ outcome, asked }) => asked && outcome === NOT_CHECKED) ? 4 : 0;
  }

  return { count, counter, exitCode, facts, findingOf, grouped, unknown };
});
